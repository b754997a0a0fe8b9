//! The table of a node: base chains, the gate of the kernel lease, one look-up where its map is not empty, and
//! a pair of chains a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::cells::{Cell, cells};
use super::clause::{Class, Outcome, localise};
use super::sites::{Half, Interfaces, View, sites};
use super::writer::{ClassCells, MOST_ELEMENTS, Purpose, Writer};
use super::{lasting, limit};
use crate::compile::RuleSet;
use crate::facts::NodeFacts;
use crate::hazard::{Cause, Effect, Finding, HazardKind};
use crate::host::Adapter;
use crate::net::Family;
use crate::nf::{
    Base, Chain, Direction, Element, FieldType, Hook, Key, RawField, Rule, Set, SetSpec, Statement, Table,
    Verdict,
};
use crate::policy::{Mode, ValidatedPolicy};

/// Behind defragmentation (-400), before other tools' raw chains (-300) and conntrack (-200).
pub const BYPASS_PRIORITY: i32 = -310;

/// TCP flag combinations that conntrack takes for valid (`tcp_valid_flags` in nf_conntrack_proto_tcp.c), of those
/// FIN 1, SYN 2, RST 4, ACK 16, URG 32, and that may belong to an untracked flow in either direction.
const FLAGS_BOTH_WAYS: [u8; 6] = [0x04, 0x14, 0x11, 0x31, 0x10, 0x30];
/// SYN and SYN+URG: a client opens.
const FLAGS_TO_SERVER: [u8; 2] = [0x02, 0x22];
/// SYN+ACK: a server answers.
const FLAGS_FROM_SERVER: [u8; 1] = [0x12];

/// Why a table was not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RenderError {
    /// The policies name too much.
    #[error(
        "the policies need {elements} or more map elements on this node, more than the {MOST_ELEMENTS} it takes: \
             name ranges of ports and prefixes rather than many single ones, or fewer of them"
    )]
    TooLarge {
        /// How many elements at least.
        elements: usize,
    },
}

/// A table and what there is to say about it.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The table. Empty where no policy has anything to bypass: then nothing of ours need be in the kernel.
    pub table: Table,
    /// What was subtracted, refused or is worth a warning.
    pub findings: Vec<Finding>,
    /// Names of the policies that have at least one tuple in the table.
    pub programmed: BTreeSet<String>,
    /// Rules that other programs' firewalls need for it.
    pub adapters: BTreeSet<Adapter>,
}

/// The named counter of a policy.
pub fn counter_name(policy: &str) -> String {
    format!("p-{policy}")
}

/// The chain that a policy's packets go to, per direction: which TCP flags fit depends on it.
pub(super) fn bypass_chain(policy: &ValidatedPolicy, half: Half) -> Arc<str> {
    format!("p-{}-{}", policy.name, half.suffix()).into()
}

/// Which way the packets go that a policy's chain bypasses; `None` for other chains.
pub fn half_of_chain(name: &str) -> Option<Half> {
    parts_of_chain(name).map(|(_, half)| half)
}

/// The policy that a chain belongs to; `None` for chains of none.
pub fn policy_of_chain(name: &str) -> Option<&str> {
    parts_of_chain(name).map(|(policy, _)| policy)
}

fn parts_of_chain(name: &str) -> Option<(&str, Half)> {
    let (policy, suffix) = name.strip_prefix("p-")?.rsplit_once('-')?;
    let half = Half::ALL.into_iter().find(|half| half.suffix() == suffix)?;
    Some((policy, half))
}

/// The chain that limits a policy's new connections.
pub(super) fn limit_chain(policy: &ValidatedPolicy) -> Arc<str> {
    format!("l-{}", policy.name).into()
}

/// Renders a rule set for a node. `lease` is how long the kernel keeps the rules without an agent; `None`: for ever.
pub fn render(
    rule_set: &RuleSet,
    facts: &NodeFacts,
    lease: Option<Duration>,
) -> Result<Rendered, RenderError> {
    let localised = localise(rule_set, facts);
    let mut table = Table::default();
    let mut elements = 0;
    let mut owners: BTreeSet<usize> = BTreeSet::new();
    let mut hooks: BTreeMap<Hook, Vec<Family>> = BTreeMap::new();
    for family in Family::ALL {
        let by_class: ClassCells =
            Class::ALL.into_iter().map(|class| (class, cells(&localised.clauses, class, family))).collect();
        owners.extend(by_class.values().flatten().flat_map(cell_owners));
        for hook in [Hook::Prerouting, Hook::Output] {
            let mut page = Page { table: &mut table, rule_set, facts, family, elements: &mut elements };
            if page.write(hook, &by_class)? {
                hooks.entry(hook).or_default().push(family);
            }
        }
        let mut page = Page { table: &mut table, rule_set, facts, family, elements: &mut elements };
        limit::write(&mut page, &by_class)?;
    }
    for (hook, families) in &hooks {
        add_gate(&mut table, *hook, families, lease);
    }
    let mut findings = localised.findings;
    let mut programmed = BTreeSet::new();
    for (place, policy) in rule_set.policies().iter().enumerate() {
        if owners.contains(&place) {
            programmed.insert(policy.name.clone());
            add_policy_chains(&mut table, policy, facts);
        } else if !is_blocked(policy, &findings) {
            findings.extend(nothing_left(policy, &findings));
        }
    }
    limit::add_chains(&mut table, rule_set);
    drop_unreferenced(&mut table);
    Ok(Rendered { table, findings, programmed, adapters: localised.adapters })
}

fn cell_owners(cell: &Cell) -> impl Iterator<Item = usize> {
    cell.stages.iter().flat_map(|stage| &stage.clients).filter_map(|(_, outcome)| match outcome {
        Outcome::Policy(place) => Some(*place),
        Outcome::Keep => None,
    })
}

fn is_blocked(policy: &ValidatedPolicy, findings: &[Finding]) -> bool {
    findings.iter().any(|found| found.policy == policy.name && found.effect == Effect::Blocked)
}

/// A policy of which nothing is left is refused, for the first reason that took something of it.
fn nothing_left(policy: &ValidatedPolicy, findings: &[Finding]) -> Vec<Finding> {
    let bypasses = policy.flows.iter().filter(|flow| flow.action == crate::policy::Action::NoTrack);
    bypasses
        .map(|flow| {
            let of_flow = |found: &&Finding| found.policy == policy.name && found.flow == flow.name;
            let taken = |found: &&Finding| found.effect != Effect::Warning;
            // A live translation is the proof of another reason, where there is one.
            let is_proof = |found: &Finding| found.cause == Cause::Hazard(HazardKind::LiveNAT);
            let own = findings.iter().filter(of_flow).filter(taken);
            let first = own.min_by_key(|found| (is_proof(found), found.cause));
            let nothing = "nothing of the flow is left to bypass on this node";
            Finding {
                policy: policy.name.clone(),
                flow: flow.name.clone(),
                effect: Effect::Refused,
                cause: first.map_or(Cause::Hazard(HazardKind::NothingMatches), |found| found.cause),
                evidence: first
                    .map_or_else(|| nothing.to_owned(), |found| format!("{nothing}: {}", found.evidence)),
            }
        })
        .collect()
}

/// One family's chains of the table.
pub(super) struct Page<'a> {
    pub table: &'a mut Table,
    pub rule_set: &'a RuleSet,
    pub facts: &'a NodeFacts,
    pub family: Family,
    pub elements: &'a mut usize,
}

impl Page<'_> {
    pub fn writer(&mut self, purpose: Purpose) -> Writer<'_> {
        Writer {
            table: self.table,
            rule_set: self.rule_set,
            purpose,
            family: self.family,
            elements: self.elements,
        }
    }

    /// Writes the chain of a hook; returns whether there is one.
    fn write(&mut self, hook: Hook, cells: &ClassCells) -> Result<bool, RenderError> {
        let direct = self.lookups(hook, Purpose::Bypass(View::Direct), View::Direct, cells)?;
        let icmp = self.write_icmp(hook, cells)?;
        if direct.is_empty() && icmp.is_none() {
            return Ok(false);
        }
        let mut rules = Vec::new();
        if let Some(chain) = icmp {
            let number = match self.family {
                Family::Ipv4 => 1,
                Family::Ipv6 => 58,
            };
            rules.push(Rule(vec![
                Statement::L4Proto(number),
                Statement::Verdict(Verdict::Goto(chain.into())),
            ]));
        }
        for (guard, lookup) in direct {
            rules.push(Rule([guard, vec![Statement::Family(self.family), lookup]].concat()));
        }
        self.table.chains.insert(family_chain(hook, self.family), Chain { base: None, rules });
        Ok(true)
    }

    /// The look-ups of a hook with the guard that each needs.
    fn lookups(
        &mut self,
        hook: Hook,
        purpose: Purpose,
        view: View,
        cells: &ClassCells,
    ) -> Result<Vec<(Vec<Statement>, Statement)>, RenderError> {
        let incoming = if hook == Hook::Prerouting { Direction::In } else { Direction::Out };
        let mut rules = Vec::new();
        for site in sites(hook, view) {
            let cells = cells.get(&site.class).map(Vec::as_slice).unwrap_or_default();
            let guard = match site.interfaces {
                Interfaces::All => Vec::new(),
                Interfaces::Loopback if self.reaches_itself(cells) => vec![Statement::Loopback(incoming)],
                Interfaces::Loopback => continue,
            };
            let lookups = self.writer(purpose).write(site.class, site.half, cells)?;
            rules.extend(lookups.into_iter().map(|lookup| (guard.clone(), lookup)));
        }
        Ok(rules)
    }

    /// Whether a server of the cells is this node itself, so that its packets pass the loopback device.
    fn reaches_itself(&self, cells: &[Cell]) -> bool {
        cells.iter().any(|cell| self.facts.addresses.iter().any(|address| cell.servers.contains(*address)))
    }

    /// The chain for ICMP errors about bypassed packets, found by the tuple that they embed.
    fn write_icmp(&mut self, hook: Hook, cells: &ClassCells) -> Result<Option<String>, RenderError> {
        let mut rules = Vec::new();
        // Version 4 with a header of five words, unfragmented or a first fragment; others stay tracked.
        let plain = match self.family {
            Family::Ipv4 => vec![bits(64, 8, 0xff, 0x45), bits(112, 16, 0x1fff, 0)],
            Family::Ipv6 => Vec::new(),
        };
        let mut shapes = vec![(Purpose::Bypass(View::Embedded), plain)];
        if self.family == Family::Ipv6 {
            // A first fragment: next header 44, offset 0.
            shapes.push((Purpose::BypassFragment, vec![bits(112, 8, 0xff, 44), bits(400, 16, 0xfff8, 0)]));
        }
        for (purpose, shape) in shapes {
            for (guard, lookup) in self.lookups(hook, purpose, View::Embedded, cells)? {
                rules.push(Rule([vec![self.icmp_error()], guard, shape.clone(), vec![lookup]].concat()));
            }
        }
        if rules.is_empty() {
            return Ok(None);
        }
        let name = format!("{}-icmp", family_chain(hook, self.family));
        self.table.chains.insert(name.clone(), Chain { base: None, rules });
        let (set, types, field) = match self.family {
            // destination-unreachable, time-exceeded, parameter-problem. Never redirects.
            Family::Ipv4 => ("icmp-errors4", [3, 11, 12].as_slice(), FieldType::IcmpType),
            // destination-unreachable, packet-too-big, time-exceeded, parameter-problem.
            Family::Ipv6 => ("icmp-errors6", [1, 2, 3, 4].as_slice(), FieldType::Icmpv6Type),
        };
        self.table.sets.insert(set.to_owned(), byte_set(field, types));
        Ok(Some(name))
    }

    fn icmp_error(&self) -> Statement {
        let (field, set) = match self.family {
            Family::Ipv4 => (RawField::IcmpType, "icmp-errors4"),
            Family::Ipv6 => (RawField::Icmpv6Type, "icmp-errors6"),
        };
        Statement::InSet { key: vec![field], set: set.into(), inverted: false }
    }
}

fn bits(offset: u16, bits: u16, mask: u16, value: u16) -> Statement {
    Statement::TransportBits { offset, bits, mask, value }
}

fn family_chain(hook: Hook, family: Family) -> String {
    format!("{}{}", hook.nft_name(), family.digit())
}

fn byte_set(field: FieldType, values: &[u8]) -> Set {
    let spec = SetSpec { key: vec![field], interval: false, verdicts: false, timeout: false };
    let elements =
        values.iter().map(|value| Element { key: Key::EMPTY.byte(*value), end: None, verdict: None });
    Set::new(spec, elements.collect())
}

const LEASE: &str = "lease-";

/// Whether a set of our table, by its name, is the kernel's lease of a hook.
pub fn is_lease(set: &str) -> bool {
    set.starts_with(LEASE)
}

/// The base chain of a hook: nothing but the lease, which leads to the family's chain while it lasts.
fn add_gate(table: &mut Table, hook: Hook, families: &[Family], lease: Option<Duration>) {
    let name = format!("{LEASE}{}", hook.nft_name());
    let spec = SetSpec { key: vec![FieldType::NfProto], interval: false, verdicts: true, timeout: true };
    let elements = families.iter().map(|family| Element {
        key: Key::EMPTY.byte(crate::nf::expr::nfproto(*family)),
        end: None,
        verdict: Some(Verdict::Goto(family_chain(hook, *family).into())),
    });
    let set = Set { lifetime: lease, ..Set::new(spec, elements.collect()) };
    table.sets.insert(name.clone(), set);
    let lookup = Statement::VerdictMap { key: vec![RawField::NfProto], map: name.into() };
    let base = Some(Base { hook, priority: BYPASS_PRIORITY });
    table.chains.insert(hook.nft_name().to_owned(), Chain { base, rules: vec![Rule(vec![lookup])] });
}

fn add_policy_chains(table: &mut Table, policy: &ValidatedPolicy, facts: &NodeFacts) {
    let counter = counter_name(&policy.name);
    table.counters.insert(counter.clone());
    for half in Half::ALL {
        let mut rules = Vec::new();
        if policy.compensation.strict_tcp_flags {
            let (set, ways) = match half {
                Half::ToServer => ("tcp-to-server", FLAGS_TO_SERVER.as_slice()),
                Half::FromServer => ("tcp-from-server", FLAGS_FROM_SERVER.as_slice()),
            };
            let flags = [ways, FLAGS_BOTH_WAYS.as_slice()].concat();
            table.sets.insert(set.to_owned(), byte_set(FieldType::TcpFlag, &flags));
            rules.push(Rule(vec![
                Statement::InSet { key: vec![RawField::TcpFlags], set: set.into(), inverted: true },
                Statement::Verdict(Verdict::Return),
            ]));
        }
        let count = Statement::Counter(counter.as_str().into());
        match policy.mode {
            Mode::Enforce => {
                if policy.keeps_entries {
                    rules.extend(lasting::rules(table, half, facts));
                }
                rules.push(Rule(vec![Statement::Notrack]));
                rules.push(Rule(if facts.tracked.ct_expression_is_free() {
                    vec![Statement::CtUntracked, count]
                } else {
                    vec![count]
                }));
                rules.push(Rule(vec![Statement::Verdict(Verdict::Accept)]));
            }
            Mode::Audit => rules.push(Rule(vec![count])),
        }
        table.chains.insert(bypass_chain(policy, half).to_string(), Chain { base: None, rules });
    }
}

/// Removes policy chains that nothing leads to (a policy may only be reached in one direction) and sets that no
/// rule uses.
fn drop_unreferenced(table: &mut Table) {
    let mut used: BTreeSet<Arc<str>> = BTreeSet::new();
    let targets =
        table.sets.values().flat_map(|set| &set.elements).filter_map(|element| element.verdict.as_ref());
    used.extend(targets.filter_map(|verdict| verdict.target().cloned()));
    for statement in table.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.0) {
        match statement {
            Statement::Verdict(verdict) => used.extend(verdict.target().cloned()),
            Statement::VerdictMap { map, .. } => {
                used.insert(map.clone());
            }
            Statement::InSet { set, .. } => {
                used.insert(set.clone());
            }
            _ => {}
        }
    }
    table.chains.retain(|name, chain| chain.base.is_some() || used.contains(name.as_str()));
    table.sets.retain(|name, _| used.contains(name.as_str()));
}
