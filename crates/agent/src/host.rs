//! What else lives on the node: other programs' rules, what changes how packets go, connections that are translated. Read
//! anew when nf_tables changed, when the old iptables changed, when what is wanted changed, and now and then: ip sets change
//! and elements of sets run out without a word.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notrack_core::compile::RuleSet;
use notrack_core::guard::concerns;
use notrack_core::host::Host;
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

/// What was read last.
#[derive(Debug, Default)]
pub struct HostWatch {
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
            *self = HostWatch::default();
            return Ok(self.known.clone());
        }
        let due =
            |since: Option<Instant>, every| since.is_none_or(|since| now.duration_since(since) >= every);
        let looks = is_new || due(self.looked, LOOK);
        let legacy = match (&self.state, looks) {
            (Some((_, legacy)), false) => *legacy,
            _ => host::legacy_fingerprint(),
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
        if reads {
            next.rules = facts::rules()?;
            // What nobody has seen may be a firewall, or translate.
            if !next.rules.incomplete.is_empty() {
                return Err(EngineError::Unread(next.rules.incomplete.join("; ")));
            }
        }
        let rules_took = now.elapsed();
        if looks {
            next.surroundings = surroundings::read();
        }
        if looks_for_nat {
            let began = Instant::now();
            let flows = rule_set.policies().iter().flat_map(|policy| &policy.flows);
            (next.translated, next.more_translated) = facts::translated(concerns(flows, addresses))?;
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
