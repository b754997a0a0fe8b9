//! The one way from policies to the kernel and back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notrack_core::compile::{RuleSet, RuleSetDigest};
use notrack_core::diff::{CounterValue, Observed, diff, renew};
use notrack_core::facts::{NodeFacts, Tracked};
use notrack_core::hazard::Finding;
use notrack_core::host::Adapter;
use notrack_core::nf::Table;
use notrack_core::rules::{Rendered, render};
use notrack_netlink::adapters::Present;
use notrack_netlink::nft::{Nft, NftError};
use notrack_netlink::socket::NetlinkError;

use crate::evict::Stop;
use crate::facts::{self, Observations};
use crate::handover::{Before, Handover};
use crate::host::HostWatch;
use crate::intent::Intent;
use crate::lasting::{Earlier, Lasting};
use crate::resolver;
use crate::ssh::Ssh;

mod error;
mod kernel;

pub use error::EngineError;
use kernel::Kernel;

/// How often it is looked up at least who tracks.
const TRACKING_LOOKUP: Duration = Duration::from_secs(60);

/// What the kernel runs, as it was read back.
#[derive(Clone, Debug)]
pub struct Programmed {
    /// What was asked for.
    pub rule_set: RuleSet,
    /// The digest under which a cluster knows it.
    pub wanted: Option<String>,
    /// The node as it was then.
    pub facts: NodeFacts,
    /// The table that was asked for, and is there.
    pub table: Arc<Table>,
    /// Digest of what was read back; `None` where no table is there, because no policy needs one.
    pub digest: Option<RuleSetDigest>,
    /// What was subtracted, refused or warned about.
    pub findings: Vec<Finding>,
    /// Policies with at least one tuple in the table.
    pub policies: BTreeSet<String>,
    /// Whether the kernel was changed since what was read back before it.
    pub changed: bool,
}

/// Settings that do not change while an agent lives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Labels of this node.
    pub labels: BTreeMap<String, String>,
    /// The port of the agent's own server.
    pub own_port: Option<u16>,
    /// How long the kernel keeps the rules without an agent. `None`: for ever.
    pub lease: Option<Duration>,
    /// Whether the agent lives on, and so can own the table.
    pub owns_table: bool,
}

/// Drives nf_tables.
pub struct Engine<N = Nft> {
    nft: N,
    settings: Settings,
    /// Ends what is evicted for a table that is about to change.
    eviction: Stop,
    /// Whether the node tracks, as of a generation of the ruleset and a moment.
    tracked: Option<(u32, Instant, Tracked)>,
    ssh: Ssh,
    lasting: Lasting,
    host: HostWatch,
    /// The generation at which what is programmed was last seen in the kernel.
    seen: Option<u32>,
    /// Whether something was committed that has not been read back.
    in_doubt: bool,
    /// The table whose commit was tried last, and not read back: what lives was handed over to it already.
    tried: Option<Table>,
}

impl Engine {
    /// Opens nf_tables of this network namespace.
    pub fn open(settings: Settings, eviction: Stop) -> Result<Engine, NftError> {
        let nft = if settings.owns_table { Nft::open()? } else { Nft::open_without_owning()? };
        Ok(Engine::with(nft, settings, eviction))
    }
}

impl<N: Kernel> Engine<N> {
    fn with(nft: N, settings: Settings, eviction: Stop) -> Engine<N> {
        Engine {
            nft,
            settings,
            eviction,
            tracked: None,
            ssh: Ssh::default(),
            lasting: Lasting::default(),
            host: HostWatch::default(),
            seen: None,
            in_doubt: false,
            tried: None,
        }
    }

    /// The node's facts now. `is_new` tells that nobody has looked yet for what these rules may harm: then nothing is
    /// taken from an earlier look.
    pub fn facts(
        &mut self,
        intent: &Intent,
        is_new: bool,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<NodeFacts, EngineError> {
        let tracked = self.tracked()?;
        if !self.lasting.is_adopted() {
            let observed = self.observe()?;
            self.lasting.adopt(observed.as_ref());
        }
        if is_new || self.lasting.is_due() {
            self.lasting.forget_ended()?;
        }
        let generation = self.generation()?;
        let mut kept = intent.kept.clone();
        let asked = intent.asked.iter().cloned().chain(resolver::kept());
        kept.extend(asked.filter(|server| intent.concerns(server, addresses)));
        kept.sort();
        kept.dedup();
        Ok(facts::read(Observations {
            addresses: addresses.clone(),
            labels: &self.settings.labels,
            ssh: self.ssh.ports(&intent.rule_set, is_new),
            own_port: self.settings.own_port,
            tracked,
            kept,
            host: self.host.host(generation, &intent.rule_set, addresses, is_new)?,
            lasting: self.lasting.tuples(),
        }))
    }

    /// Who tracks depends on the ruleset: asked again when that has changed, and now and then, because legacy
    /// iptables rules change without a new generation of nf_tables.
    fn tracked(&mut self) -> Result<Tracked, EngineError> {
        let generation = self.generation()?;
        if let Some((known, since, tracked)) = self.tracked
            && known == generation
            && since.elapsed() < TRACKING_LOOKUP
        {
            return Ok(tracked);
        }
        let tracked = notrack_netlink::facts::tracked()?;
        self.tracked = Some((generation, Instant::now(), tracked));
        Ok(tracked)
    }

    /// Renders, applies and reads back. Nothing is written where the kernel already runs it. `before` is the table that
    /// this agent has read back last.
    pub fn reconcile(
        &mut self,
        intent: &Intent,
        facts: &NodeFacts,
        before: Option<&Table>,
    ) -> Result<Programmed, EngineError> {
        let before = before.filter(|_| !self.in_doubt);
        let earlier = match before {
            Some(table) => Earlier::Table(table),
            None => Earlier::of(self.observe()?.as_ref()),
        };
        let mut facts = facts.clone();
        let (mut rendered, present) = self.complete(intent, &mut facts)?;
        let interfaces = facts.host.surroundings.interfaces.clone();
        // First those that are there, then those that came until the rules were in place.
        for is_again in [false, true] {
            let lasts = self.lasting.begin(&intent.rule_set, &interfaces, &rendered.table, &earlier)?;
            if lasts {
                facts.lasting = self.lasting.tuples();
                rendered = render(&intent.rule_set, &facts, self.settings.lease)?;
            }
            if lasts || !is_again {
                self.apply(&rendered.table, &facts, before)?;
            }
        }
        self.remove_adapters(present, &rendered.adapters)?;
        let observed = self.read_back(&rendered.table)?;
        self.tried = None;
        Ok(Programmed {
            rule_set: intent.rule_set.clone(),
            wanted: intent.digest.clone(),
            facts,
            table: Arc::new(rendered.table),
            digest: observed.map(|observed| observed.digest()),
            findings: rendered.findings,
            policies: rendered.programmed,
            changed: std::mem::take(&mut self.in_doubt),
        })
    }

    /// Renders, and adds the rules that the host's own firewall needs for it. They come before the bypass, because alone
    /// they accept nothing. Where they cannot be added, the policies that need them are blocked, and no others. Returns
    /// the rules that were there before, too: those that nobody needs any more go after the bypass.
    fn complete(
        &mut self,
        intent: &Intent,
        facts: &mut NodeFacts,
    ) -> Result<(Rendered, BTreeSet<Present>), EngineError> {
        let rendered = render(&intent.rule_set, facts, self.settings.lease)?;
        let present = self.nft.adapters()?;
        let is_there = |adapter: &Adapter| {
            let comment = adapter.comment();
            present.iter().any(|rule| rule.comment == comment)
        };
        let missing: Vec<Adapter> =
            rendered.adapters.iter().filter(|adapter| !is_there(adapter)).cloned().collect();
        if missing.is_empty() {
            return Ok((rendered, present));
        }
        let Err(error) = self.nft.change_adapters(&missing, &BTreeSet::new()) else {
            return Ok((rendered, present));
        };
        tracing::warn!("the host's firewall cannot be completed: {error}");
        facts.host = self.host.unadaptable(error.to_string());
        Ok((render(&intent.rule_set, facts, self.settings.lease)?, present))
    }

    /// Takes back what no policy needs any more, once nothing is bypassed for it.
    fn remove_adapters(
        &mut self,
        mut present: BTreeSet<Present>,
        wanted: &BTreeSet<Adapter>,
    ) -> Result<(), EngineError> {
        let wanted: BTreeSet<String> = wanted.iter().map(Adapter::comment).collect();
        present.retain(|rule| !wanted.contains(&rule.comment));
        if !present.is_empty() {
            self.nft.change_adapters(&[], &present)?;
        }
        Ok(())
    }

    fn apply(&mut self, table: &Table, facts: &NodeFacts, before: Option<&Table>) -> Result<(), EngineError> {
        let observed = self.observe()?;
        let transaction = diff(observed.as_ref(), table);
        if transaction.is_empty() {
            return Ok(());
        }
        let before = match (before, &observed) {
            (Some(table), _) => Before::Table(table),
            (None, Some(_)) => Before::Unknown,
            (None, None) => Before::Nothing,
        };
        let handover = Handover { before, next: table, tracked: facts.tracked, ephemeral: &facts.ephemeral };
        self.eviction.all();
        self.in_doubt = true;
        // Once: a kernel that refuses the commit again and again would get entries again and again, for connections that it
        // goes on to bypass.
        if self.tried.as_ref() != Some(table) {
            handover.ahead();
            self.tried = Some(table.clone());
        }
        match self.nft.commit(&transaction) {
            // The commit may have succeeded: reading back tells.
            Ok(()) | Err(NftError::Netlink(NetlinkError::NoBuffer { .. })) => {
                handover.behind();
                Ok(())
            }
            Err(error) => Err(EngineError::Commit(error)),
        }
    }

    fn observe(&mut self) -> Result<Option<Observed>, EngineError> {
        self.nft.observe().map_err(EngineError::Read)
    }

    fn generation(&mut self) -> Result<u32, EngineError> {
        self.nft.generation().map_err(EngineError::Read)
    }

    fn read_back(&mut self, table: &Table) -> Result<Option<Observed>, EngineError> {
        let generation = self.generation()?;
        let observed = self.observe()?;
        let rest = diff(observed.as_ref(), table);
        if !rest.is_empty() {
            return Err(EngineError::NotProgrammed { differences: rest.ops.len() });
        }
        self.seen = Some(generation);
        Ok(observed)
    }

    /// Whether a step has failed between a change and its reading back: nobody can say then what the kernel runs.
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Whether the kernel still runs a table, after a step has failed.
    pub fn runs(&mut self, table: &Table) -> bool {
        self.observe().is_ok_and(|observed| diff(observed.as_ref(), table).is_empty())
    }

    /// Whether anybody has committed to nf_tables since the rules were read back.
    pub fn is_disturbed(&mut self) -> Result<bool, EngineError> {
        let generation = self.generation()?;
        Ok(self.seen != Some(generation))
    }

    /// Gives the kernel lease its full time again.
    pub fn renew(&mut self, table: &Table) -> Result<(), EngineError> {
        let before = self.generation()?;
        self.nft.commit(&renew(table)).map_err(EngineError::Commit)?;
        let after = self.generation()?;
        // What others commit meanwhile is no part of what was seen.
        if self.seen == Some(before) && after == before.wrapping_add(1) {
            self.seen = Some(after);
        }
        Ok(())
    }

    /// Packets and bytes per counter.
    pub fn counters(&mut self) -> Result<BTreeMap<String, CounterValue>, EngineError> {
        self.nft.counters().map_err(EngineError::Read)
    }
}

#[cfg(test)]
mod tests;
