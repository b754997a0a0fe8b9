//! The table of a node: base chains, the gate of the kernel lease, one look-up where its map is not empty, and
//! a pair of chains a policy.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::clause::{Clause, Clauses, Outcome, localise};
use super::page::{Pages, family_chain, owner, pages};
use super::sites::Half;
use super::writer::MOST_ELEMENTS;
use super::{lasting, limit};
use crate::compile::RuleSet;
use crate::facts::NodeFacts;
use crate::hazard::{Cause, Effect, Finding, HazardKind};
use crate::host::Adapter;
use crate::net::Family;
use crate::nf::{
    Base, Chain, Element, FieldType, Hook, Key, RawField, Rule, Set, SetSpec, Statement, Table, Verdict,
};
use crate::policy::{Action, Mode, ValidatedFlow, ValidatedPolicy};

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
        "the policies need {elements} or more map elements on this node, more than the {MOST_ELEMENTS} it takes"
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
    let Clauses { mut clauses, mut findings, mut adapters } = localise(rule_set, facts);
    let pages = loop {
        match pages(rule_set, facts, &clauses) {
            Ok(pages) => break pages,
            // One policy that does not fit keeps back no other, and nothing that a bypass must make way for.
            Err(error) => {
                let Some(policy) = overflowing(rule_set, facts, &clauses) else { return Err(error) };
                clauses.retain(|clause| clause.outcome != Outcome::Policy(policy));
                let Some(policy) = rule_set.policies().get(policy) else { return Err(error) };
                adapters.retain(|adapter| adapter.policy != policy.name);
                findings.extend(left_out(policy, &error));
            }
        }
    };
    let Pages { mut table, owners, hooks } = pages;
    for (hook, families) in &hooks {
        add_gate(&mut table, *hook, families, lease);
    }
    let mut programmed = BTreeSet::new();
    for (place, policy) in rule_set.policies().iter().enumerate() {
        if owners.contains(&place) {
            programmed.insert(policy.name.clone());
            add_policy_chains(&mut table, policy, facts);
        } else if !is_blocked(policy, &findings) && !is_left_out(policy, &findings) {
            findings.extend(nothing_left(policy, &findings));
        }
    }
    limit::add_chains(&mut table, rule_set);
    drop_unreferenced(&mut table);
    Ok(Rendered { table, findings, programmed, adapters })
}

/// The oldest policy with which, after all that are older, the table has too many elements. `None`: it has them without any.
fn overflowing(rule_set: &RuleSet, facts: &NodeFacts, clauses: &[Clause]) -> Option<usize> {
    let policies: BTreeSet<usize> = clauses.iter().filter_map(|clause| owner(clause.outcome)).collect();
    let policies: Vec<usize> = policies.into_iter().collect();
    let fits = |count: &usize| {
        let among = |clause: &&Clause| {
            owner(clause.outcome)
                .is_none_or(|place| policies.iter().take(*count).any(|known| *known == place))
        };
        let clauses: Vec<Clause> = clauses.iter().filter(among).cloned().collect();
        pages(rule_set, facts, &clauses).is_ok()
    };
    let counts: Vec<usize> = (0..=policies.len()).collect();
    let most = counts.partition_point(fits).checked_sub(1)?;
    policies.get(most).copied()
}

fn left_out(policy: &ValidatedPolicy, error: &RenderError) -> Vec<Finding> {
    let bypasses = policy.flows.iter().filter(|flow| flow.action == Action::NoTrack);
    let found = |flow: &ValidatedFlow| Finding {
        policy: policy.name.clone(),
        flow: flow.name.clone(),
        effect: Effect::Refused,
        cause: Cause::Hazard(HazardKind::TooLarge),
        evidence: error.to_string(),
    };
    bypasses.map(found).collect()
}

fn is_left_out(policy: &ValidatedPolicy, findings: &[Finding]) -> bool {
    let too_large = Cause::Hazard(HazardKind::TooLarge);
    findings.iter().any(|found| found.policy == policy.name && found.cause == too_large)
}

fn is_blocked(policy: &ValidatedPolicy, findings: &[Finding]) -> bool {
    findings.iter().any(|found| found.policy == policy.name && found.effect == Effect::Blocked)
}

/// A policy of which nothing is left is refused, for the first reason that took something of it.
fn nothing_left(policy: &ValidatedPolicy, findings: &[Finding]) -> Vec<Finding> {
    let bypasses = policy.flows.iter().filter(|flow| flow.action == Action::NoTrack);
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

pub(super) fn byte_set(field: FieldType, values: &[u8]) -> Set {
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
                if policy.may_keep_entries() {
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
