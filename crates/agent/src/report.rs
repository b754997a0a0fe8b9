//! What the agent tells: the custom resources' own status types, made of what was read back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use notrack_api as api;
use notrack_api::condition::{ACCEPTED, PROGRAMMED, READY};
use notrack_core::diff::CounterValue;
use notrack_core::hazard::{Cause, Effect, Finding, HazardKind};
use notrack_core::idle::Idle;
use notrack_core::policy::{Action, Mode, ValidatedPolicy};
use notrack_core::pressure::{Assessment, ConntrackSample, PressureLevel};
use notrack_core::rules::counter_name;
use serde::Serialize;

use crate::cluster::source::PlanSource;
use crate::engine::Programmed;

mod hazards;
mod node;
mod since;
mod verdict;

pub use since::{Object, Since};

use verdict::{Verdict, verdict};

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
    pub since: &'a mut Since,
    /// What is wrong with files.
    pub problems: Vec<String>,
    /// Entries deleted.
    pub evicted: u64,
    /// Entries that policies in mode Audit would have deleted.
    pub evictable: &'a BTreeMap<String, u64>,
    /// Policies that match nothing.
    pub idle: &'a Idle,
}

impl Facts<'_> {
    fn condition(
        &mut self,
        of: (&Object, &'static str),
        status: api::ConditionStatus,
        why: (&str, &str),
    ) -> api::Condition {
        self.since.condition(of, status, why, self.now)
    }
}

/// The condition of a type, where there is one.
pub fn condition_of<'a>(conditions: &'a [api::Condition], kind: &str) -> Option<&'a api::Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Makes the report.
pub fn report(mut facts: Facts<'_>) -> Report {
    let known = std::mem::take(&mut facts.policies);
    let mut policies = Vec::with_capacity(known.len());
    for policy in &known {
        policies.push(policy_report(&mut facts, policy));
    }
    let objects: BTreeSet<Object> = known.iter().map(|policy| Object::of(policy)).collect();
    facts.since.retain(|object| objects.contains(object));
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

/// What was found of a policy, that it is idle included.
fn found(facts: &Facts<'_>, policy: &ValidatedPolicy) -> Vec<Finding> {
    let all = facts.programmed.map_or(&[][..], |programmed| programmed.findings.as_slice());
    let own = all.iter().filter(|finding| finding.policy == policy.name).cloned();
    own.chain(facts.idle.finding(&policy.name, facts.now.as_second())).collect()
}

fn policy_report(facts: &mut Facts<'_>, policy: &ValidatedPolicy) -> PolicyReport {
    let state = state(facts, policy);
    let found = found(facts, policy);
    let Verdict { reason, message } = verdict(state, &found, facts.failure.as_ref());
    let is_programmed = matches!(state, State::Programmed | State::Auditing | State::Ineffective);
    let object = Object::of(policy);
    let conditions =
        [(ACCEPTED, state != State::Refused), (PROGRAMMED, is_programmed), (READY, state.is_good())]
            .map(|(kind, holds)| facts.condition((&object, kind), status(holds), (reason, &message)))
            .into();
    let of_hazard = |finding: &Finding| match finding.cause {
        Cause::Hazard(kind) => Some((kind, finding.effect)),
        Cause::Exception => None,
    };
    PolicyReport {
        name: policy.name.clone(),
        state,
        findings: found.iter().map(ToString::to_string).collect(),
        hazards: found.iter().filter_map(of_hazard).collect(),
        seen_here: hazards::seen_here(&found),
        status: api::NoTrackPolicyStatus {
            observed_generation: None,
            conditions,
            nodes: Some(api::NodeCounts {
                matched: u32::from(state != State::NotSelected),
                programmed: u32::from(is_programmed),
                engaged: u32::from(state == State::Programmed),
                blocked: u32::from(matches!(state, State::Refused | State::Blocked)),
                failed: u32::from(state == State::Failed),
                unavailable: 0,
            }),
            reasons: Vec::new(),
            hazards: hazards::all(&found),
            traffic: Some(traffic(facts, policy)),
            pressure: Some(api::HighestPressure {
                level: Some(level(facts.assessment.level)),
                highest_percent: Some(facts.sample.used_percent()),
                node: None,
            }),
        },
    }
}

fn traffic(facts: &Facts<'_>, policy: &ValidatedPolicy) -> api::Traffic {
    let counter = facts.counters.get(&counter_name(&policy.name)).copied().unwrap_or_default();
    api::Traffic {
        packets: counter.packets,
        bytes: counter.bytes,
        evictable_entries: facts.evictable.get(&policy.name).copied(),
    }
}

fn status(holds: bool) -> api::ConditionStatus {
    if holds { api::ConditionStatus::True } else { api::ConditionStatus::False }
}

fn level(level: PressureLevel) -> api::PressureLevel {
    match level {
        PressureLevel::Normal => api::PressureLevel::Normal,
        PressureLevel::Elevated => api::PressureLevel::Elevated,
        PressureLevel::High => api::PressureLevel::High,
        PressureLevel::Full => api::PressureLevel::Full,
    }
}
