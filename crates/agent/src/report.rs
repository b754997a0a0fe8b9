//! What the agent tells: the custom resources' own status types, made of what was read back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use notrack_api as api;
use notrack_core::diff::CounterValue;
use notrack_core::hazard::{Cause, Effect, Finding};
use notrack_core::index::Index;
use notrack_core::policy::{Action, Mode, ValidatedPolicy};
use notrack_core::pressure::{Assessment, ConntrackSample, PressureLevel, Trend};
use notrack_core::rules::counter_name;
use serde::Serialize;

use crate::engine::Programmed;

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

/// What a report is made of.
pub struct Facts<'a> {
    /// The policies known.
    pub index: &'a Index,
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
}

/// Makes the report.
pub fn report(mut facts: Facts<'_>) -> Report {
    let policies: Vec<PolicyReport> = facts
        .index
        .policies()
        .map(|policy| (policy.clone(), state(&facts, policy)))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(policy, state)| policy_report(&mut facts, &policy, state))
        .collect();
    let node = node_status(&mut facts, &policies);
    Report { node, policies, problems: facts.problems, evicted_entries: facts.evicted }
}

fn state(facts: &Facts<'_>, policy: &ValidatedPolicy) -> State {
    if policy.is_expired(facts.now.as_second()) {
        return State::Expired;
    }
    let Some(programmed) = facts.programmed else { return State::Failed };
    if !policy.selector.matches(&programmed.facts.labels) {
        return State::NotSelected;
    }
    // The kernel still runs the last good version: that of this policy counts, not another.
    let current = programmed.rule_set.policies().iter().any(|known| **known == *policy);
    match (current, facts.failure.is_some()) {
        (false, _) => State::Failed,
        // A policy of exceptions alone has nothing of its own in the table.
        (true, _) if bypasses(policy) && !programmed.policies.contains(&policy.name) => State::Refused,
        (true, _) if !programmed.facts.tracked.any() => State::Ineffective,
        (true, true) => State::Failed,
        (true, false) if policy.mode == Mode::Audit => State::Auditing,
        (true, false) => State::Programmed,
    }
}

fn bypasses(policy: &ValidatedPolicy) -> bool {
    policy.flows.iter().any(|flow| flow.action == Action::NoTrack)
}

fn policy_report(facts: &mut Facts<'_>, policy: &ValidatedPolicy, state: State) -> PolicyReport {
    let found: Vec<Finding> = facts
        .programmed
        .map(|programmed| {
            programmed.findings.iter().filter(|finding| finding.policy == policy.name).cloned().collect()
        })
        .unwrap_or_default();
    let counter = facts.counters.get(&counter_name(&policy.name)).copied().unwrap_or_default();
    let reason = match (state, &facts.failure) {
        (State::Failed, Some((reason, _))) => reason,
        (State::Ineffective, _) => "NotTracked",
        (State::Refused, _) => found
            .iter()
            .find(|finding| finding.effect == Effect::Refused)
            .map_or("NothingMatches", |finding| finding.cause.name()),
        _ => state.name(),
    };
    let message = match (state, &facts.failure) {
        (State::Failed, Some((_, message))) => message.clone(),
        (State::Failed, None) => "not read back from the kernel yet".to_owned(),
        (State::Ineffective, _) => "nothing in this network namespace tracks connections".to_owned(),
        (State::Expired, _) => "spec.expireTime has passed: its traffic is tracked again".to_owned(),
        (State::NotSelected, _) => "spec.nodeSelector does not select this node".to_owned(),
        (State::Auditing, _) => "counts what would be bypassed; changes nothing".to_owned(),
        (State::Programmed | State::Refused, _) => summary(&found),
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
        status: api::NoTrackPolicyStatus {
            observed_generation: None,
            conditions,
            nodes: Some(api::NodeCounts {
                matched: u32::from(selected),
                programmed: u32::from(programmed),
                engaged: u32::from(state == State::Programmed),
                blocked: u32::from(state == State::Refused),
                failed: u32::from(state == State::Failed),
                unavailable: 0,
            }),
            reasons: Vec::new(),
            hazards: found.iter().filter_map(hazard).take(32).collect(),
            traffic: Some(api::Traffic { packets: counter.packets, bytes: counter.bytes }),
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
    Some(api::HazardFound { code: kind.code(), flow: Some(finding.flow.clone()), evidence: Some(evidence) })
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

fn node_status(facts: &mut Facts<'_>, policies: &[PolicyReport]) -> api::NodePlanStatus {
    let (reason, message) = match (&facts.failure, facts.programmed) {
        (Some((reason, message)), _) => (*reason, message.clone()),
        (None, Some(_)) => ("Programmed", "the kernel runs what the policies ask for, read back".to_owned()),
        (None, None) => ("Pending", "the policies were not read yet".to_owned()),
    };
    let good = facts.failure.is_none() && facts.programmed.is_some();
    let good = status(good);
    let conditions = [api::condition::PROGRAMMED, api::condition::READY]
        .into_iter()
        .map(|kind| condition(facts, "", kind, good, reason, &message))
        .collect();
    // Worst first; the custom resource takes no more.
    let mut worst: Vec<&PolicyReport> = policies.iter().collect();
    worst.sort_by(|a, b| b.state.cmp(&a.state).then(a.name.cmp(&b.name)));
    let on_node = worst.into_iter().take(40).map(|policy| {
        let traffic = policy.status.traffic.clone().unwrap_or_default();
        let ready = policy.status.conditions.last();
        api::PolicyOnNode {
            name: policy.name.clone(),
            uid: None,
            generation: None,
            state: policy.state.name().to_owned(),
            reason: ready.map(|condition| condition.reason.clone()),
            packets: Some(traffic.packets),
            bytes: Some(traffic.bytes),
        }
    });
    let sample = facts.sample;
    api::NodePlanStatus {
        observed_generation: None,
        node_uid: None,
        boot_id: None,
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        reported_at: Some(api::Time(facts.now)),
        programmed_digest: facts
            .programmed
            .and_then(|programmed| programmed.digest.as_ref())
            .map(ToString::to_string),
        conditions,
        conntrack: Some(api::ConntrackFigures {
            entries: Some(sample.entries),
            max: Some(sample.max),
            used_percent: Some(sample.used_percent()),
            drops: Some(sample.drops),
            insert_failed: Some(sample.insert_failed),
            level: Some(level(facts.assessment.level)),
            trend: Some(match facts.assessment.trend {
                Trend::Falling => api::Trend::Falling,
                Trend::Steady => api::Trend::Steady,
                Trend::Rising => api::Trend::Rising,
            }),
        }),
        policies: on_node.collect(),
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
