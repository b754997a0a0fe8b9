//! What else lives on the node: other programs' rules, what changes how packets go, connections that are translated. Read
//! anew when nf_tables changed, when the old iptables changed, when what is wanted changed, and now and then: ip sets change
//! and elements of sets run out without a word.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notrack_core::compile::RuleSet;
use notrack_core::guard::concerns;
use notrack_core::host::{Host, HostRules, Surroundings, Translated};
use notrack_netlink::socket::NetlinkError;
use notrack_netlink::{facts, host, surroundings};

use crate::engine::EngineError;

/// The old iptables changes without a new generation of nf_tables, routing and devices without either: all are looked
/// at this often.
const LOOK: Duration = Duration::from_secs(5);
/// Rules are read again after so long though nothing tells that they changed.
const READ_AGAIN: Duration = Duration::from_secs(30);
/// Where others change nf_tables all the time, reading takes at most a tenth of the time.
const REST: u32 = 10;
/// Translated connections are looked for at least this often while a policy may name them, and this often where there
/// are some: what keeps a tuple tracked goes when the last of them does.
const NAT_LOOK: Duration = Duration::from_secs(30);
const NAT_LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Gives the translated connections that what is wanted of a node with these addresses may name, and whether there are
/// more than are listed.
type ReadTranslated = fn(&RuleSet, &BTreeSet<IpAddr>) -> Result<(Vec<Translated>, bool), NetlinkError>;

/// How each part is read.
#[derive(Clone, Copy, Debug)]
struct Readers {
    legacy: fn() -> u64,
    rules: fn() -> Result<HostRules, NetlinkError>,
    surroundings: fn() -> Surroundings,
    translated: ReadTranslated,
}

impl Default for Readers {
    /// The kernel, in the network namespace of the calling thread.
    fn default() -> Readers {
        Readers {
            legacy: host::legacy_fingerprint,
            rules: facts::rules,
            surroundings: surroundings::read,
            translated: |rule_set, addresses| {
                let flows = rule_set.policies().iter().flat_map(|policy| &policy.flows);
                facts::translated(concerns(flows, addresses))
            },
        }
    }
}

/// What was read last.
#[derive(Debug, Default)]
pub struct HostWatch {
    readers: Readers,
    known: Arc<Host>,
    /// The generation of nf_tables, and the digest of the old iptables.
    state: Option<(u32, u64)>,
    looked: Option<Instant>,
    read: Option<Instant>,
    /// Not to be read again before.
    rest_until: Option<Instant>,
    nat_looked: Option<Instant>,
    /// How long that took.
    nat_took: Duration,
}

impl HostWatch {
    /// What lives on the node, as of now or at most some seconds ago. A node without policies is not looked at.
    pub fn host(
        &mut self,
        generation: u32,
        rule_set: &RuleSet,
        addresses: &BTreeSet<IpAddr>,
        is_new: bool,
    ) -> Result<Arc<Host>, EngineError> {
        let now = Instant::now();
        if rule_set.policies().is_empty() {
            *self = HostWatch { readers: self.readers, ..HostWatch::default() };
            return Ok(self.known.clone());
        }
        let due =
            |since: Option<Instant>, every| since.is_none_or(|since| now.duration_since(since) >= every);
        let looks = is_new || due(self.looked, LOOK);
        let legacy = match (&self.state, looks) {
            (Some((_, legacy)), false) => *legacy,
            _ => (self.readers.legacy)(),
        };
        let state = Some((generation, legacy));
        let changed = self.state != state;
        let rests = self.rest_until.is_some_and(|until| now < until) && !is_new;
        let reads = (changed || due(self.read, READ_AGAIN)) && !rests;
        let again = if self.known.translated.is_empty() { NAT_LOOK } else { NAT_LOOK_AGAIN };
        let looks_for_nat =
            is_new || changed && reads || due(self.nat_looked, again.max(self.nat_took * REST));
        if !(reads || looks || looks_for_nat) {
            return Ok(self.known.clone());
        }
        let mut next = Host::clone(&self.known);
        if looks {
            // First: it costs little, and without it nothing else need be read.
            next.surroundings = (self.readers.surroundings)();
            // What nobody has seen may be a balancer, or a datapath of its own.
            if !next.surroundings.unknown.is_empty() {
                return Err(EngineError::Surroundings(next.surroundings.unknown.join("; ")));
            }
        }
        let began = Instant::now();
        if reads {
            next.rules = (self.readers.rules)()?;
            // What nobody has seen may be a firewall, or translate.
            if !next.rules.incomplete.is_empty() {
                return Err(EngineError::Unread(next.rules.incomplete.join("; ")));
            }
        }
        let rules_took = began.elapsed();
        if looks_for_nat {
            let began = Instant::now();
            (next.translated, next.more_translated) = (self.readers.translated)(rule_set, addresses)?;
            // Tried again: the other program may be done by now.
            next.unadaptable = None;
            self.nat_looked = Some(now);
            self.nat_took = began.elapsed();
        }
        // Not before nothing can fail any more: what is not kept was not read.
        if reads {
            self.state = state;
            self.read = Some(now);
            self.rest_until = Some(Instant::now() + rules_took * REST);
        }
        if looks {
            self.looked = Some(now);
        }
        if next != *self.known {
            self.known = Arc::new(next);
        }
        Ok(self.known.clone())
    }

    /// Notes that nothing can be added to other programs' firewalls, until they are looked at again.
    pub fn unadaptable(&mut self, why: String) -> Arc<Host> {
        self.known = Arc::new(Host { unadaptable: Some(why), ..Host::clone(&self.known) });
        self.nat_looked = Some(Instant::now());
        self.known.clone()
    }
}

#[cfg(test)]
mod tests {
    use notrack_core::manifest::parse;
    use notrack_core::policy::validate;

    use super::*;

    fn rule_set() -> RuleSet {
        let text = "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata: {name: p}\nspec:\n  nodeSelector: {}\n  \
                    mode: Enforce\n  flows:\n  - {name: f, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 80}]}\n";
        let policy = validate(&parse("p.yaml", text).manifests[0].policy).unwrap();
        RuleSet::new(vec![policy.into()], Vec::new())
    }

    fn readers() -> Readers {
        Readers {
            legacy: || 0,
            rules: || Ok(HostRules::default()),
            surroundings: Surroundings::default,
            translated: |_, _| Ok((Vec::new(), false)),
        }
    }

    #[test]
    fn what_cannot_be_read_of_the_node_is_no_fact() {
        let mut watch = HostWatch { readers: readers(), ..HostWatch::default() };
        let known = watch.host(1, &rule_set(), &BTreeSet::new(), true).unwrap();
        watch.readers.surroundings =
            || Surroundings { unknown: vec!["IPVS: no".to_owned()], ..Surroundings::default() };
        let error = watch.host(1, &rule_set(), &BTreeSet::new(), true).unwrap_err();
        assert_eq!(error.reason(), "FactsUnknown");
        assert!(error.to_string().contains("IPVS: no"), "{error}");
        assert!(
            watch.host(1, &rule_set(), &BTreeSet::new(), true).is_err(),
            "it is looked at again, not taken as read"
        );
        assert_eq!(watch.known, known);

        watch.readers.surroundings = Surroundings::default;
        assert_eq!(watch.host(1, &rule_set(), &BTreeSet::new(), true).unwrap(), known);
        watch.readers.rules =
            || Ok(HostRules { incomplete: vec!["set x".to_owned()], ..HostRules::default() });
        assert_eq!(watch.host(2, &rule_set(), &BTreeSet::new(), true).unwrap_err().reason(), "FactsUnknown");
        // Without a policy there is nothing to judge.
        assert!(watch.host(2, &RuleSet::new(Vec::new(), Vec::new()), &BTreeSet::new(), true).is_ok());
    }
}
