//! Connections that stay tracked under policies with `existingEntries: Keep`: those that are in the table when their
//! policy takes effect, until they leave it. The kernel's own rules hold them for the next agent.

use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notrack_core::compile::RuleSet;
use notrack_core::diff::Observed;
use notrack_core::host::Interface;
use notrack_core::nf::eval::evaluate;
use notrack_core::nf::expr::Expr;
use notrack_core::nf::{Hook, Table};
use notrack_core::packet::{Packet, Tuple, interface_matches};
use notrack_core::rules::{Half, half_of_chain, is_lease, lasting_of, policy_of_chain};
use notrack_netlink::conntrack::{Conntrack, Filter};
use notrack_netlink::facts;
use notrack_netlink::socket::NetlinkError;

/// How often those that have ended are forgotten at least.
const LOOKUP: Duration = Duration::from_secs(60);

/// What was bypassed until now.
#[derive(Debug)]
pub enum Earlier<'a> {
    /// What this table says.
    Table(&'a Table),
    /// What these chains of an earlier agent were led to.
    Chains(BTreeSet<String>),
}

impl Earlier<'_> {
    /// The chains of an earlier agent that bypass anything: none where the kernel's lease is over.
    pub fn of(observed: Option<&Observed>) -> Self {
        let leases = observed.into_iter().flat_map(|observed| &observed.sets);
        let mut leases = leases.filter(|(name, _)| is_lease(name)).peekable();
        if leases.peek().is_some() && leases.all(|(_, lease)| lease.elements.is_empty()) {
            return Earlier::Chains(BTreeSet::new());
        }
        let chains = observed.into_iter().flat_map(|observed| &observed.chains);
        let bypassing =
            chains.filter(|(_, chain)| chain.rules.iter().flatten().any(|expr| *expr == Expr::Notrack));
        Earlier::Chains(bypassing.map(|(name, _)| name.clone()).collect())
    }

    fn bypassed(&self, hook: Hook, packet: &Packet, chain: &str) -> bool {
        match self {
            Earlier::Table(table) => evaluate(table, hook, packet).untracked,
            Earlier::Chains(chains) => chains.contains(chain),
        }
    }
}

/// The connections.
#[derive(Debug, Default)]
pub struct Lasting {
    /// As their clients send.
    tuples: Arc<BTreeSet<Tuple>>,
    /// When they were last looked for in the table; `None` before anything was adopted.
    looked: Option<Instant>,
}

impl Lasting {
    /// As facts of the node.
    pub fn tuples(&self) -> Arc<BTreeSet<Tuple>> {
        self.tuples.clone()
    }

    /// Whether an earlier agent's are known.
    pub fn is_adopted(&self) -> bool {
        self.looked.is_some()
    }

    /// Takes over what an earlier agent left in the kernel.
    pub fn adopt(&mut self, observed: Option<&Observed>) {
        self.tuples = Arc::new(observed.map(lasting_of).unwrap_or_default());
        self.looked = Some(Instant::now());
    }

    /// Whether it is time to forget those that have ended.
    pub fn is_due(&self) -> bool {
        !self.tuples.is_empty() && self.looked.is_none_or(|looked| looked.elapsed() >= LOOKUP)
    }

    /// Forgets those that are no longer in the table.
    pub fn forget_ended(&mut self) -> Result<(), NetlinkError> {
        if self.tuples.is_empty() {
            return Ok(());
        }
        let mut living = BTreeSet::new();
        Conntrack::open()?.dump(&Filter::default(), |entry| {
            let both = facts::tuple(&entry.original).map(|tuple| [tuple, tuple.mirrored()]);
            living.extend(both.into_iter().flatten().filter(|tuple| self.tuples.contains(tuple)));
        })?;
        if living.len() < self.tuples.len() {
            self.tuples = Arc::new(living);
        }
        self.looked = Some(Instant::now());
        Ok(())
    }

    /// Adds the connections of the table that would be bypassed from now on and are to stay tracked: by policies that keep
    /// them, or by flows that name any of these interfaces. Returns whether there are any.
    pub fn begin(
        &mut self,
        rule_set: &RuleSet,
        interfaces: &[Interface],
        next: &Table,
        earlier: &Earlier<'_>,
    ) -> Result<bool, NetlinkError> {
        let policies = || rule_set.policies().iter();
        if !policies().any(|policy| policy.may_keep_entries()) {
            return Ok(false);
        }
        let keeping: BTreeSet<&str> =
            policies().filter(|policy| policy.keeps_entries).map(|policy| policy.name.as_str()).collect();
        let patterns = || policies().flat_map(|policy| &policy.flows).flat_map(|flow| &flow.interfaces);
        let is_named = |name: &&str| patterns().any(|pattern| interface_matches(pattern, name));
        let names: Vec<&str> =
            interfaces.iter().map(|interface| interface.name.as_str()).filter(is_named).collect();
        // A table of hundreds of thousands of entries is not read for nothing.
        if matches!(earlier, Earlier::Table(table) if *table == next) {
            return Ok(false);
        }
        let mut found = BTreeSet::new();
        Conntrack::open()?.dump(&Filter::default(), |entry| {
            let Some(tuple) = facts::tuple(&entry.original) else { return };
            // What matches on some interface alone is not evicted, so that it lasts whatever its policy says.
            for interface in iter::once("").chain(names.iter().copied()) {
                let packet = Packet::amid(tuple, interface);
                for hook in [Hook::Prerouting, Hook::Output] {
                    let Some(chain) = evaluate(next, hook, &packet).notrack_in else { continue };
                    let kept = !interface.is_empty()
                        && evaluate(next, hook, &Packet::amid(tuple, "")).notrack_in.is_none()
                        || policy_of_chain(&chain).is_some_and(|policy| keeping.contains(policy));
                    if kept && !earlier.bypassed(hook, &packet, &chain) {
                        let is_reply = half_of_chain(&chain) == Some(Half::FromServer);
                        found.insert(if is_reply { tuple.mirrored() } else { tuple });
                    }
                }
            }
        })?;
        if found.is_empty() {
            return Ok(false);
        }
        tracing::info!(connections = found.len(), "connections stay tracked until they end");
        Arc::make_mut(&mut self.tuples).extend(found);
        Ok(true)
    }
}
