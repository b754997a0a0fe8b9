//! What was read back from the kernel.

use std::collections::BTreeMap;

use crate::compile::RuleSetDigest;
use crate::nf::expr::Expr;
use crate::nf::{Base, Element, SetSpec, Table};

/// The content of our table as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Named counters and their values.
    pub counters: BTreeMap<String, CounterValue>,
    /// Sets and maps.
    pub sets: BTreeMap<String, ObservedSet>,
    /// Chains.
    pub chains: BTreeMap<String, ObservedChain>,
    /// Objects of kinds that we never make, by what the kernel calls them.
    pub foreign: Vec<String>,
}

/// What a counter has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterValue {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP header included.
    pub bytes: u64,
}

/// A set in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedSet {
    /// What it is made of.
    pub spec: SetSpec,
    /// How many elements it can take, where that is bounded.
    pub size: Option<u32>,
    /// The elements that have not expired, sorted.
    pub elements: Vec<Element>,
}

/// A chain in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedChain {
    /// Where it hangs.
    pub base: Option<Base>,
    /// Whether the chain's policy is accept; always so for chains that are only jumped to.
    pub accepts: bool,
    /// The expressions of the rules.
    pub rules: Vec<Vec<Expr>>,
}

impl Observed {
    /// Whether this is exactly the table.
    pub fn is(&self, table: &Table) -> bool {
        super::diff(Some(self), table).is_empty()
    }

    /// A digest of everything but the counters' values: what the kernel runs, named.
    pub fn digest(&self) -> RuleSetDigest {
        let Observed { counters, sets, chains, foreign } = self;
        let names: Vec<&String> = counters.keys().collect();
        let sets: Vec<_> = sets.iter().map(|(name, set)| (name, &set.spec, &set.elements)).collect();
        RuleSetDigest::of(format!("{names:?} {sets:?} {chains:?} {foreign:?}").as_bytes())
    }
}
