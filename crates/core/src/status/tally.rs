//! The nodes, counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use notrack_api as api;

use super::{NodeView, PolicyView, Standing, is_of};

/// Bounds of the schema.
const MAX_REASONS: usize = 16;
const MAX_EXAMPLES: usize = 10;
/// Integers of the API are signed: the API server would refuse the whole status for one that is greater.
const MAX_INTEGER: u64 = i64::MAX.unsigned_abs();

/// What a reason explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Blocking,
    Pending,
    Unavailable,
    Note,
}

impl<'a> Standing<'a> {
    fn why(self) -> Option<(Kind, &'a str)> {
        match self {
            Standing::Programmed { why, .. } => why.map(|why| (Kind::Note, why)),
            Standing::Pending(why) => Some((Kind::Pending, why)),
            Standing::Blocked(why) | Standing::Failed(why) => Some((Kind::Blocking, why)),
            Standing::Unavailable(why) => Some((Kind::Unavailable, why)),
            Standing::Ended => Some((Kind::Note, "Expired")),
        }
    }
}

/// How many nodes have a reason, and the first of them by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Group<'a> {
    count: u32,
    examples: BTreeSet<&'a str>,
}

impl<'a> Group<'a> {
    fn add(&mut self, count: u32, nodes: impl IntoIterator<Item = &'a str>) {
        self.count += count;
        for node in nodes {
            self.examples.insert(node);
            if self.examples.len() > MAX_EXAMPLES {
                self.examples.pop_last();
            }
        }
    }
}

/// Nodes counted by how the policy stands on them.
#[derive(Debug, Default)]
pub(super) struct Tally<'a> {
    pub(super) counts: api::NodeCounts,
    pub(super) pending: u32,
    pub(super) ended: u32,
    why: BTreeMap<(Kind, &'a str), Group<'a>>,
}

impl<'a> Tally<'a> {
    pub(super) fn add(&mut self, node: &'a str, standing: Standing<'a>) {
        let counts = &mut self.counts;
        counts.matched += 1;
        match standing {
            Standing::Programmed { engaged, .. } => {
                counts.programmed += 1;
                counts.engaged += u32::from(engaged);
            }
            Standing::Pending(_) => self.pending += 1,
            Standing::Blocked(_) => counts.blocked += 1,
            Standing::Failed(_) => counts.failed += 1,
            Standing::Unavailable(_) => counts.unavailable += 1,
            Standing::Ended => self.ended += 1,
        }
        if let Some(why) = standing.why() {
            self.why.entry(why).or_default().add(1, [node]);
        }
    }

    pub(super) fn available(&self) -> u32 {
        self.counts.matched - self.counts.unavailable
    }

    /// Nodes that need somebody to do something.
    pub(super) fn stuck(&self) -> u32 {
        self.counts.blocked + self.counts.failed
    }

    /// The reasons of some kinds, the most frequent first, then by name.
    pub(super) fn ranked(&self, kinds: &[Kind]) -> Vec<(&'a str, Group<'a>)> {
        let mut merged = BTreeMap::<&str, Group<'_>>::new();
        for ((_, reason), group) in self.why.iter().filter(|((kind, _), _)| kinds.contains(kind)) {
            merged.entry(reason).or_default().add(group.count, group.examples.iter().copied());
        }
        let mut ranked: Vec<_> = merged.into_iter().collect();
        ranked.sort_by_key(|(_, group)| Reverse(group.count));
        ranked
    }

    pub(super) fn reasons(&self) -> Vec<api::ReasonCount> {
        self.ranked(&[Kind::Blocking, Kind::Pending, Kind::Unavailable, Kind::Note])
            .into_iter()
            .take(MAX_REASONS)
            .map(|(reason, Group { count, examples })| api::ReasonCount {
                reason: reason.to_owned(),
                count,
                examples: examples.into_iter().map(str::to_owned).collect(),
            })
            .collect()
    }

    /// The three most frequent reasons with three nodes each, in words.
    pub(super) fn text(&self, kinds: &[Kind]) -> String {
        let part = |(reason, group): (&str, Group<'_>)| {
            let shown: Vec<&str> = group.examples.iter().copied().take(3).collect();
            let more = if shown.len() < group.count as usize { ", ..." } else { "" };
            format!("{reason} on {} ({}{more})", nodes(group.count), shown.join(", "))
        };
        self.ranked(kinds).into_iter().take(3).map(part).collect::<Vec<_>>().join(", ")
    }
}

/// Figures of the nodes that are available.
#[derive(Default)]
pub(super) struct Figures<'a> {
    pub(super) traffic: Option<api::Traffic>,
    fullest: Option<(Option<api::PressureLevel>, Option<u32>, Reverse<&'a str>)>,
}

impl<'a> Figures<'a> {
    pub(super) fn add(&mut self, policy: &PolicyView<'_>, node: &NodeView<'a>) {
        let Some(status) = node.status else { return };
        // Of any generation: packets that skipped tracking did so whatever the policy says by now.
        for entry in status.policies.iter().filter(|entry| is_of(policy, entry)) {
            if entry.packets.is_none() && entry.bytes.is_none() {
                continue;
            }
            let api::Traffic { packets, bytes, evictable_entries } = self.traffic.get_or_insert_default();
            if let Some(more) = entry.evictable_entries {
                let sum = evictable_entries.unwrap_or_default().saturating_add(more);
                *evictable_entries = Some(sum.min(MAX_INTEGER));
            }
            *packets = packets.saturating_add(entry.packets.unwrap_or(0)).min(MAX_INTEGER);
            *bytes = bytes.saturating_add(entry.bytes.unwrap_or(0)).min(MAX_INTEGER);
        }
        if let Some(table) = &status.conntrack
            && (table.level.is_some() || table.used_percent.is_some())
        {
            // Reversed: where two are as full, the first by name.
            self.fullest = self.fullest.max(Some((table.level, table.used_percent, Reverse(node.name))));
        }
    }

    pub(super) fn pressure(&self) -> Option<api::HighestPressure> {
        self.fullest.map(|(level, highest_percent, Reverse(node))| api::HighestPressure {
            level,
            highest_percent,
            node: Some(node.to_owned()),
        })
    }
}

pub(super) fn nodes(count: u32) -> String {
    format!("{count} node{}", if count == 1 { "" } else { "s" })
}
