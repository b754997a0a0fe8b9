//! What a node's own firewall and rules make of the wanted flows: which are left out, and what is added to that firewall.

use std::collections::BTreeSet;

use super::clause::Clause;
use crate::facts::NodeFacts;
use crate::guard::{
    Firewall, Found, Halted, encounters, firewall, let_in, masqueraded_ports, surroundings, travels, without,
};
use crate::hazard::{Cause, Effect, Finding};
use crate::host::Adapter;
use crate::host::journey::Journey;
use crate::host::region::{Ranges, Region};
use crate::policy::{Mode, ValidatedFlow, ValidatedPolicy};

/// A flow that asks for a bypass.
pub(super) struct Wanted<'a> {
    pub policy: &'a ValidatedPolicy,
    pub flow: &'a ValidatedFlow,
    pub clauses: Vec<Clause>,
}

/// What became of all of them.
#[derive(Default)]
pub(super) struct Guarded<'a> {
    pub findings: Vec<Finding>,
    pub adapters: BTreeSet<Adapter>,
    /// Policy and flow of those that are left out.
    pub without: BTreeSet<(&'a str, &'a str)>,
}

/// Judges the wanted flows by what the node's own rules do with them. `kept` stays tracked anyway, and what is `spared` does
/// for flows that name no interfaces.
pub(super) fn guard<'a>(
    wanted: &[Wanted<'a>],
    facts: &NodeFacts,
    kept: &[Clause],
    spared: &[Clause],
) -> Guarded<'a> {
    let mut guarded = Guarded::default();
    let mut blocked: BTreeSet<&str> = BTreeSet::new();
    let own = Ranges::from(facts.own_ranges());
    for Wanted { policy, flow, .. } in wanted {
        let spared = if flow.interfaces.is_empty() { spared } else { &[] };
        let tracked = || kept.iter().chain(spared);
        let (found, adapters) = judge(policy, flow, facts, &own, tracked);
        // An audited policy only counts: what speaks against it is told, and stops nothing.
        let acts = policy.mode == Mode::Enforce;
        for found in found {
            match found.effect {
                Effect::Blocked if acts => {
                    blocked.insert(&policy.name);
                }
                Effect::Refused if acts => {
                    guarded.without.insert((&policy.name, &flow.name));
                }
                _ => {}
            }
            guarded.findings.push(finding(policy, flow, found));
        }
        if acts {
            guarded.adapters.extend(adapters);
        }
    }
    guarded.adapters.retain(|adapter| !blocked.contains(adapter.policy.as_str()));
    let of_blocked = wanted.iter().filter(|wanted| blocked.contains(wanted.policy.name.as_str()));
    guarded.without.extend(of_blocked.map(|wanted| (wanted.policy.name.as_str(), wanted.flow.name.as_str())));
    guarded
}

fn judge<'c, K: Iterator<Item = &'c Clause>>(
    policy: &ValidatedPolicy,
    flow: &ValidatedFlow,
    facts: &NodeFacts,
    own: &Ranges,
    tracked: impl Fn() -> K,
) -> (BTreeSet<Found>, BTreeSet<Adapter>) {
    let mut found: BTreeSet<Found> = surroundings(policy, flow, facts).into_iter().collect();
    let (mut halted, mut refusing) = (Vec::new(), BTreeSet::new());
    let mut errors: Vec<Journey<'_>> = Vec::new();
    let rules = &facts.host.rules;
    if !rules.tables.is_empty() {
        found.extend(masqueraded_ports(flow, facts, own));
        for journey in travels(flow, facts, own) {
            for region in without(&journey, tracked()) {
                let part = Journey { region, ..journey.clone() };
                let report = part.make(rules);
                found.extend(encounters(&report, facts));
                let bypassed = |region: &Region| {
                    let part = Journey { region: region.clone(), ..journey.clone() };
                    !without(&part, tracked()).is_empty()
                };
                found.extend(let_in(&part, rules, bypassed, &mut refusing));
                if policy.compensation.icmp_errors {
                    // Those about TCP go the same ways as those about UDP.
                    for journey in part.errors(&report.let_in) {
                        if !errors.iter().any(|known| known.is_as(&journey)) {
                            errors.push(journey);
                        }
                    }
                }
                halted.push(Halted::new(part, report.stops));
            }
        }
    }
    halted.extend(errors.into_iter().map(|journey| {
        let stops = journey.make(rules).stops;
        Halted::new(journey, stops)
    }));
    let Firewall { found: dropped, adapters } = firewall(policy, &halted, facts);
    found.extend(dropped);
    (found.into_iter().map(|found| found.taken_by(flow)).collect(), adapters)
}

fn finding(policy: &ValidatedPolicy, flow: &ValidatedFlow, found: Found) -> Finding {
    let Found { effect, kind, evidence } = found;
    Finding {
        policy: policy.name.clone(),
        flow: flow.name.clone(),
        effect,
        cause: Cause::Hazard(kind),
        evidence,
    }
}
