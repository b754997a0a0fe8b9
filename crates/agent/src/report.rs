//! What the agent tells: the custom resources' own status types, made of what was read back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use notrack_api as api;
use notrack_core::diff::CounterValue;
use notrack_core::hazard::{Cause, Effect, Finding, HazardKind};
use notrack_core::idle::Idle;
use notrack_core::policy::{Action, Mode, ValidatedPolicy};
use notrack_core::pressure::{Assessment, ConntrackSample, PressureLevel};
use notrack_core::rules::counter_name;
use serde::Serialize;

use crate::cluster::source::PlanSource;
use crate::engine::Programmed;

mod node;

/// What an audited policy does.
const AUDITS: &str = "counts what would be bypassed; changes nothing";

/// What became of a policy on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Read back from the kernel and in effect.
    Programmed,
    /// Counts, as audit mode asks.
    Auditing,
    /// Programmed, but nothing on this node tracks what it names.
    Ineffective,
    /// Not for this node.
    NotSelected,
    /// Its time is over.
    Expired,
    /// Nothing of it can be bypassed here.
    Refused,
    /// Something on this node stands against it that its user can answer.
    Blocked,
    /// The kernel did not take it.
    Failed,
}

impl State {
    /// The name, as in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            State::Programmed => "Programmed",
            State::Auditing => "Auditing",
            State::Ineffective => "Ineffective",
            State::NotSelected => "NotSelected",
            State::Expired => "Expired",
            State::Refused => "Refused",
            State::Blocked => "Blocked",
            State::Failed => "Failed",
        }
    }

    /// Whether the policy does what its user wants of this node.
    pub fn is_good(self) -> bool {
        matches!(self, State::Programmed | State::Auditing | State::NotSelected)
    }
}

/// A policy's part of the report.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// `metadata.name`.
    pub name: String,
    /// What became of it.
    #[serde(serialize_with = "state_name")]
    pub state: State,
    /// Everything that was subtracted, refused or is worth a warning, in words.
    pub findings: Vec<String>,
    /// The same as hazards with their effects.
    #[serde(skip)]
    pub hazards: Vec<(HazardKind, Effect)>,
    /// The gravest of those that only the node can see.
    #[serde(skip)]
    pub seen_here: Vec<api::HazardFound>,
    /// As a NoTrackPolicy's `status`, for this one node.
    pub status: api::NoTrackPolicyStatus,
}

fn state_name<S: serde::Serializer>(state: &State, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.name())
}

/// What `/status` gives.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// As a NodePlan's `status`.
    pub node: api::NodePlanStatus,
    /// Every policy known.
    pub policies: Vec<PolicyReport>,
    /// What is wrong with files.
    pub problems: Vec<String>,
    /// Entries deleted from the table because their packets are bypassed now.
    pub evicted_entries: u64,
}

/// What a report of a cluster's node tells besides.
pub struct Plan<'a> {
    /// What is known of the plan.
    pub source: &'a PlanSource,
    /// Whether the kernel was last seen to run what is programmed.
    pub stands: bool,
    /// The node's own addresses.
    pub addresses: &'a BTreeSet<IpAddr>,
}

/// What a report is made of.
pub struct Facts<'a> {
    /// The policies known.
    pub policies: Vec<Arc<ValidatedPolicy>>,
    /// The node's labels, where they decide which policies are for it.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// The plan, on a node of a cluster.
    pub plan: Option<Plan<'a>>,
    /// What the kernel runs; `None` before the first success.
    pub programmed: Option<&'a Programmed>,
    /// Why the last attempt failed: reason and message.
    pub failure: Option<(&'static str, String)>,
    /// Counters by name.
    pub counters: &'a BTreeMap<String, CounterValue>,
    /// The table's figures.
    pub sample: ConntrackSample,
    /// What they mean.
    pub assessment: Assessment,
    /// Now.
    pub now: Timestamp,
    /// Since when each condition has its value.
    pub since: &'a mut BTreeMap<(String, String), (String, Timestamp)>,
    /// What is wrong with files.
    pub problems: Vec<String>,
    /// Entries deleted.
    pub evicted: u64,
    /// Entries that policies in mode Audit would have deleted.
    pub evictable: &'a BTreeMap<String, u64>,
    /// Policies that match nothing.
    pub idle: &'a Idle,
}

/// Makes the report.
pub fn report(mut facts: Facts<'_>) -> Report {
    let known = std::mem::take(&mut facts.policies);
    let mut policies = Vec::with_capacity(known.len());
    for policy in &known {
        let state = state(&facts, policy);
        policies.push(policy_report(&mut facts, policy, state));
    }
    let node = match facts.plan.take() {
        Some(plan) => node::in_cluster(&mut facts, &plan, &known, &policies),
        None => node::alone(&mut facts, &policies),
    };
    Report { node, policies, problems: facts.problems, evicted_entries: facts.evicted }
}

fn state(facts: &Facts<'_>, policy: &ValidatedPolicy) -> State {
    if policy.is_expired(facts.now.as_second()) {
        return State::Expired;
    }
    let Some(programmed) = facts.programmed else { return State::Failed };
    if facts.labels.is_some_and(|labels| !policy.selector.matches(labels)) {
        return State::NotSelected;
    }
    // The kernel still runs the last good version: that of this policy counts, not another.
    let current = programmed.rule_set.policies().iter().any(|known| **known == *policy);
    match (current, facts.failure.is_some()) {
        (false, _) => State::Failed,
        (true, _) if policy.mode == Mode::Enforce && is_blocked(programmed, policy) => State::Blocked,
        // A policy of exceptions alone has nothing of its own in the table.
        (true, _) if bypasses(policy) && !programmed.policies.contains(&policy.name) => State::Refused,
        (true, _) if !programmed.facts.tracked.any() => State::Ineffective,
        (true, true) => State::Failed,
        (true, false) if policy.mode == Mode::Audit => State::Auditing,
        (true, false) => State::Programmed,
    }
}

fn is_blocked(programmed: &Programmed, policy: &ValidatedPolicy) -> bool {
    let mut findings = programmed.findings.iter();
    findings.any(|found| found.policy == policy.name && found.effect == Effect::Blocked)
}

fn bypasses(policy: &ValidatedPolicy) -> bool {
    policy.flows.iter().any(|flow| flow.action == Action::NoTrack)
}

fn policy_report(facts: &mut Facts<'_>, policy: &ValidatedPolicy, state: State) -> PolicyReport {
    let mut found: Vec<Finding> = facts
        .programmed
        .map(|programmed| {
            programmed.findings.iter().filter(|finding| finding.policy == policy.name).cloned().collect()
        })
        .unwrap_or_default();
    let idle = facts.idle.finding(&policy.name, facts.now.as_second());
    let is_idle = idle.is_some();
    found.extend(idle);
    let counter = facts.counters.get(&counter_name(&policy.name)).copied().unwrap_or_default();
    let reason = match (state, &facts.failure) {
        (State::Failed, Some((reason, _))) => reason,
        (State::Ineffective, _) => "NotTracked",
        (State::Refused, _) => found
            .iter()
            .find(|finding| finding.effect == Effect::Refused)
            .map_or("NothingMatches", |finding| finding.cause.name()),
        (State::Blocked, _) => found
            .iter()
            .find(|finding| finding.effect == Effect::Blocked)
            .map_or(state.name(), |finding| finding.cause.name()),
        (State::Programmed | State::Auditing, _) if is_idle => HazardKind::NothingMatches.name(),
        // In effect, but not all of it: what took the rest is worth more than the state's name.
        (State::Programmed | State::Auditing, _) => found
            .iter()
            .find(|finding| finding.effect == Effect::Subtracted)
            .map_or(state.name(), |finding| finding.cause.name()),
        _ => state.name(),
    };
    let message = match (state, &facts.failure) {
        (State::Failed, Some((_, message))) => message.clone(),
        (State::Failed, None) => "not read back from the kernel yet".to_owned(),
        (State::Ineffective, _) => "nothing in this network namespace tracks connections".to_owned(),
        (State::Expired, _) => "spec.expireTime has passed: its traffic is tracked again".to_owned(),
        (State::NotSelected, _) => "spec.nodeSelector does not select this node".to_owned(),
        (State::Auditing, _) if found.is_empty() => AUDITS.to_owned(),
        (State::Auditing, _) => format!("{AUDITS}; {}", summary(&found)),
        (State::Programmed | State::Refused | State::Blocked, _) => summary(&found),
    };
    let programmed = matches!(state, State::Programmed | State::Auditing | State::Ineffective);
    let conditions = [
        (api::condition::ACCEPTED, status(state != State::Refused)),
        (api::condition::PROGRAMMED, status(programmed)),
        (api::condition::READY, status(state.is_good())),
    ]
    .into_iter()
    .map(|(kind, value)| condition(facts, &policy.name, kind, value, reason, &message))
    .collect();
    let selected = !matches!(state, State::NotSelected);
    PolicyReport {
        name: policy.name.clone(),
        state,
        findings: found.iter().map(ToString::to_string).collect(),
        hazards: found
            .iter()
            .filter_map(|finding| match finding.cause {
                Cause::Hazard(kind) => Some((kind, finding.effect)),
                Cause::Exception => None,
            })
            .collect(),
        seen_here: seen_here(&found),
        status: api::NoTrackPolicyStatus {
            observed_generation: None,
            conditions,
            nodes: Some(api::NodeCounts {
                matched: u32::from(selected),
                programmed: u32::from(programmed),
                engaged: u32::from(state == State::Programmed),
                blocked: u32::from(matches!(state, State::Refused | State::Blocked)),
                failed: u32::from(state == State::Failed),
                unavailable: 0,
            }),
            reasons: Vec::new(),
            hazards: found.iter().filter_map(hazard).take(32).collect(),
            traffic: Some(api::Traffic {
                packets: counter.packets,
                bytes: counter.bytes,
                evictable_entries: facts.evictable.get(&policy.name).copied(),
            }),
            pressure: Some(api::HighestPressure {
                level: Some(level(facts.assessment.level)),
                highest_percent: Some(facts.sample.used_percent()),
                node: None,
            }),
        },
    }
}

fn summary(found: &[Finding]) -> String {
    match found {
        [] => "all of its flows are in the kernel, read back".to_owned(),
        found => found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

fn status(holds: bool) -> api::ConditionStatus {
    if holds { api::ConditionStatus::True } else { api::ConditionStatus::False }
}

fn hazard(finding: &Finding) -> Option<api::HazardFound> {
    let Cause::Hazard(kind) = finding.cause else { return None };
    let evidence: String = finding.evidence.chars().take(512).collect();
    let flow = (!finding.flow.is_empty()).then(|| finding.flow.clone());
    Some(api::HazardFound { code: kind.code(), flow, evidence: Some(evidence) })
}

/// What the controller cannot see: it is in the node's own rules, devices or table. The gravest first.
fn seen_here(found: &[Finding]) -> Vec<api::HazardFound> {
    const MOST: usize = 2;
    // A plan's status stays small whatever the rules' texts are.
    const MOST_CHARACTERS: usize = 300;
    let is_own = |finding: &&Finding| {
        use HazardKind::{AnyPeer, ForgedPathMTU, HostPort, IPVS, LiveNAT, Masquerade, Multicast};
        let Cause::Hazard(kind) = finding.cause else { return false };
        match finding.effect {
            Effect::Blocked | Effect::Refused => true,
            Effect::Subtracted => matches!(kind, HostPort | IPVS | LiveNAT | Masquerade),
            // Those come from the policy alone.
            Effect::Warning => !matches!(kind, AnyPeer | ForgedPathMTU | Multicast),
        }
    };
    let mut own: Vec<&Finding> = found.iter().filter(is_own).collect();
    own.sort_by_key(|finding| Reverse(finding.effect));
    let mut hazards: Vec<api::HazardFound> = own.into_iter().filter_map(hazard).take(MOST).collect();
    for evidence in hazards.iter_mut().filter_map(|hazard| hazard.evidence.as_mut()) {
        *evidence = evidence.chars().take(MOST_CHARACTERS).collect();
    }
    hazards
}

/// A condition; its transition time moves only when its status does.
fn condition(
    facts: &mut Facts<'_>,
    object: &str,
    kind: &str,
    status: api::ConditionStatus,
    reason: &str,
    message: &str,
) -> api::Condition {
    let value = format!("{status:?}");
    let since = facts.since.entry((object.to_owned(), kind.to_owned())).or_insert((value.clone(), facts.now));
    if since.0 != value {
        *since = (value, facts.now);
    }
    api::Condition {
        type_: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.chars().take(1024).collect(),
        last_transition_time: api::Time(since.1),
        observed_generation: None,
    }
}

fn level(level: PressureLevel) -> api::PressureLevel {
    match level {
        PressureLevel::Normal => api::PressureLevel::Normal,
        PressureLevel::Elevated => api::PressureLevel::Elevated,
        PressureLevel::High => api::PressureLevel::High,
        PressureLevel::Full => api::PressureLevel::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_what_the_controller_cannot_see() {
        let found = |kind, effect| Finding {
            policy: "p".into(),
            flow: "f".into(),
            effect,
            cause: Cause::Hazard(kind),
            evidence: "x".repeat(400),
        };
        let codes = |found: &[Finding]| -> Vec<String> {
            let told = seen_here(found);
            assert!(told.iter().all(|hazard| hazard.evidence.as_ref().is_some_and(|text| text.len() == 300)));
            told.into_iter().map(|hazard| hazard.code).collect()
        };
        // The controller has the policy, and what is protected or a Service's.
        let known = [
            found(HazardKind::AnyPeer, Effect::Warning),
            found(HazardKind::ForgedPathMTU, Effect::Warning),
            found(HazardKind::ServiceEndpoint, Effect::Subtracted),
        ];
        assert_eq!(codes(&known), Vec::<String>::new());
        let here = [
            found(HazardKind::ForgedPathMTU, Effect::Warning),
            found(HazardKind::ForeignDataplane, Effect::Warning),
            found(HazardKind::HostPort, Effect::Subtracted),
            found(HazardKind::HostFirewallDrops, Effect::Blocked),
        ];
        assert_eq!(codes(&here[..2]), ["NT006"]);
        assert_eq!(codes(&here), ["NT007", "NT004"]);
    }
}
