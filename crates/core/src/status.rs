//! From what the nodes report to the status of a policy.
//!
//! Every selected node has one `Standing`; a `Tally` counts them; the conditions are read off the tallies.

mod conditions;
mod tally;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use notrack_api as api;
use notrack_api::condition::{ACCEPTED, PROGRAMMED, READY, STALLED};

use crate::evidence::{self, cut};
use crate::hazard::{Cause, Finding};
use conditions::{Verdict, conditions};
use tally::{Figures, Tally};

/// For so long after its creation a node that joins later may be anything but programmed without turning Ready
/// False, in seconds: an autoscaler at work is no failure.
const GRACE: i64 = 300;
/// An agent is silent after so many reports that did not come, and this much delay, in seconds.
const MISSED_REPORTS: i64 = 3;
const DELAY: i64 = 60;
/// Bounds of the schema, in items and in characters.
const MAX_HAZARDS: usize = 32;
const MAX_EVIDENCE: usize = 512;
/// What so many nodes see is told; the rest is counted.
const MAX_NODES_WITH_HAZARDS: usize = 10;
const MAX_REASON: usize = 64;

/// What is known of one selected node.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.uid`.
    pub uid: &'a str,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub created: Option<i64>,
    /// Digest of the RuleSet that the node is to run now. `None`: no rules.
    pub planned_digest: Option<&'a str>,
    /// How often the agent is to report.
    pub report_every_seconds: u32,
    /// The NodePlan's status, if there is a plan.
    pub status: Option<&'a api::NodePlanStatus>,
}

/// What is known of the policy.
#[derive(Clone, Copy, Debug)]
pub struct PolicyView<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.uid`.
    pub uid: &'a str,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether it only counts.
    pub audit: bool,
    /// Whether its time is over.
    pub expired: bool,
    /// What the compile found; those of other policies are passed over.
    pub findings: &'a [Finding],
    /// The status until now.
    pub previous: Option<&'a api::NoTrackPolicyStatus>,
}

/// The status of a policy on the nodes that it selects. Their order makes no difference.
pub fn aggregate_status<'a>(
    policy: &PolicyView<'_>,
    selected: impl Iterator<Item = NodeView<'a>>,
    now: Timestamp,
) -> api::NoTrackPolicyStatus {
    let ready_since = ready_since(policy);
    let (mut all, mut judged, mut figures) = (Tally::default(), Tally::default(), Figures::default());
    let mut seen_by_nodes = BTreeMap::new();
    for node in selected {
        let standing = standing(policy, &node, now);
        all.add(node.name, standing);
        if !(standing.is_unsettled() && joined_later(&node, ready_since, now)) {
            judged.add(node.name, standing);
        }
        if !matches!(standing, Standing::Unavailable(_)) {
            figures.add(policy, &node);
            seen_by_nodes.extend(of_node(policy, &node));
        }
    }
    api::NoTrackPolicyStatus {
        observed_generation: Some(policy.generation),
        conditions: conditions(policy, &all, &judged, now),
        reasons: all.reasons(),
        nodes: Some(all.counts),
        hazards: hazards(policy, seen_by_nodes),
        pressure: figures.pressure(),
        traffic: figures.traffic,
    }
}

/// The status of an object that cannot be parsed or is not valid. It tells nothing of the nodes: what they run is
/// not of this generation.
pub fn refused_status(
    generation: i64,
    problems: &[String],
    previous: Option<&api::NoTrackPolicyStatus>,
    now: Timestamp,
) -> api::NoTrackPolicyStatus {
    let message = match problems {
        [] => "the policy is not valid".to_owned(),
        [one] => one.clone(),
        // The number first: the end may be cut.
        several => format!("{} problems: {}", several.len(), several.join("; ")),
    };
    let invalid = |holds| Verdict { holds, reason: "Invalid".to_owned(), message: message.clone() };
    let conditions = [(ACCEPTED, false), (PROGRAMMED, false), (READY, false), (STALLED, true)]
        .into_iter()
        .map(|(type_, holds)| invalid(holds).condition(type_, generation, previous, now))
        .collect();
    api::NoTrackPolicyStatus {
        observed_generation: Some(generation),
        conditions,
        ..api::NoTrackPolicyStatus::default()
    }
}

/// Says of a status that the policy will not come into force without a change, whatever the nodes report.
pub fn refuse(
    status: &mut api::NoTrackPolicyStatus,
    reason: &str,
    message: &str,
    previous: Option<&api::NoTrackPolicyStatus>,
    now: Timestamp,
) {
    let generation = status.observed_generation.unwrap_or_default();
    for (type_, holds) in [(ACCEPTED, false), (READY, false), (STALLED, true)] {
        let verdict = Verdict { holds, reason: reason.to_owned(), message: message.to_owned() };
        let condition = verdict.condition(type_, generation, previous, now);
        match status.conditions.iter_mut().find(|known| known.type_ == type_) {
            Some(known) => *known = condition,
            None => status.conditions.push(condition),
        }
    }
}

/// How a policy stands on one node, and why where it is not as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing<'a> {
    Programmed {
        engaged: bool,
        why: Option<&'a str>,
    },
    Pending(&'a str),
    Blocked(&'a str),
    Failed(&'a str),
    Unavailable(&'a str),
    /// Expired, and the node does not run it any more.
    Ended,
}

impl<'a> Standing<'a> {
    fn is_unsettled(self) -> bool {
        matches!(self, Standing::Pending(_) | Standing::Blocked(_) | Standing::Failed(_))
    }
}

fn standing<'a>(policy: &PolicyView<'_>, node: &NodeView<'a>, now: Timestamp) -> Standing<'a> {
    let Some((status, reported)) = report(node) else { return Standing::Unavailable("NoAgent") };
    if now.as_second() - reported > MISSED_REPORTS * i64::from(node.report_every_seconds) + DELAY {
        return Standing::Unavailable("AgentSilent");
    }
    let current =
        |entry: &&api::PolicyOnNode| is_of(policy, entry) && entry.generation == Some(policy.generation);
    if let Some(entry) = status.policies.iter().find(current) {
        return reported_standing(policy, entry);
    }
    let another = status.policies.iter().any(|entry| entry.name == policy.name);
    let programmed = status.programmed_digest.as_deref().filter(|digest| !digest.is_empty());
    let settled = programmed == node.planned_digest && holds(&status.conditions, PROGRAMMED).is_some();
    match (another || !settled, policy.expired, node.planned_digest) {
        (true, ..) => Standing::Pending("Pending"),
        (false, true, _) => Standing::Ended,
        // A node that is to run no rules at all holds no policy, whatever it agrees with.
        (false, false, None) => Standing::Pending("Pending"),
        // The list has room for the worst alone: one that is left out is among the good ones.
        (false, false, Some(_)) => Standing::Programmed { engaged: !policy.audit, why: None },
    }
}

/// What the agent of this very node has reported, and when: never that of an earlier node of the same name.
fn report<'a>(node: &NodeView<'a>) -> Option<(&'a api::NodePlanStatus, i64)> {
    let status = node.status.filter(|status| status.node_uid.as_deref() == Some(node.uid))?;
    Some((status, status.reported_at.as_ref()?.0.as_second()))
}

fn is_of(policy: &PolicyView<'_>, entry: &api::PolicyOnNode) -> bool {
    entry.name == policy.name && entry.uid.as_deref() == Some(policy.uid)
}

fn reported_standing<'a>(policy: &PolicyView<'_>, entry: &'a api::PolicyOnNode) -> Standing<'a> {
    let why = |fallback| word(entry.reason.as_deref().unwrap_or_default()).unwrap_or(fallback);
    let part = |whole| Some(why(whole)).filter(|reason| *reason != whole);
    match entry.state.as_str() {
        // The reason says what took a part of it, if anything did.
        "Programmed" => Standing::Programmed { engaged: !policy.audit, why: part("Programmed") },
        "Auditing" => Standing::Programmed { engaged: false, why: part("Auditing") },
        "Ineffective" => Standing::Programmed { engaged: false, why: Some(why("Ineffective")) },
        state @ ("Refused" | "Blocked") => Standing::Blocked(why(state)),
        "Expired" if policy.expired => Standing::Ended,
        // The node's clock is ahead, or its labels are behind.
        "Expired" => Standing::Pending("Expired"),
        "NotSelected" => Standing::Pending("NotSelected"),
        state => Standing::Failed(why(word(state).unwrap_or("Failed"))),
    }
}

/// A text that the API server takes as a reason. With one that it does not take, one odd agent could keep the
/// status of a policy from being written at all.
fn word(text: &str) -> Option<&str> {
    let good = text.len() <= MAX_REASON
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | ':'));
    good.then_some(text)
}

/// Since when the policy is Ready as it now is, in seconds since 1970.
fn ready_since(policy: &PolicyView<'_>) -> Option<i64> {
    let previous = policy.previous.filter(|status| status.observed_generation == Some(policy.generation))?;
    holds(&previous.conditions, READY).map(|ready| ready.last_transition_time.0.as_second())
}

fn joined_later(node: &NodeView<'_>, ready_since: Option<i64>, now: Timestamp) -> bool {
    match (node.created, ready_since) {
        (Some(created), Some(since)) => created > since && now.as_second().saturating_sub(created) < GRACE,
        _ => false,
    }
}

/// The condition, if it is True.
fn holds<'a>(conditions: &'a [api::Condition], type_: &str) -> Option<&'a api::Condition> {
    conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == api::ConditionStatus::True)
}

/// The policy's findings, the gravest first.
fn own_findings<'a>(policy: &PolicyView<'a>) -> Vec<&'a Finding> {
    let mut own: Vec<&Finding> =
        policy.findings.iter().filter(|finding| finding.policy == policy.name).collect();
    own.sort_by_key(|finding| (Reverse(finding.effect), *finding));
    own
}

/// What a node alone can see of a policy, by the node's name.
fn of_node<'a>(policy: &PolicyView<'_>, node: &NodeView<'a>) -> Option<(&'a str, &'a [api::HazardFound])> {
    let (status, _) = report(node)?;
    let entry = status.policies.iter().find(|entry| is_of(policy, entry))?;
    (!entry.hazards.is_empty()).then_some((node.name, entry.hazards.as_slice()))
}

/// Those of the policy itself, then those that nodes see, by the nodes' names.
fn hazards(
    policy: &PolicyView<'_>,
    seen_by_nodes: BTreeMap<&str, &[api::HazardFound]>,
) -> Vec<api::HazardFound> {
    let mut found = own_hazards(policy);
    for (node, hazards) in seen_by_nodes.into_iter().take(MAX_NODES_WITH_HAZARDS) {
        let room = MAX_HAZARDS.saturating_sub(found.len());
        found.extend(hazards.iter().take(room).map(|hazard| {
            let evidence = hazard.evidence.as_deref().unwrap_or_default();
            let evidence = Some(cut(&format!("on node {node}: {evidence}"), MAX_EVIDENCE));
            api::HazardFound { evidence, ..hazard.clone() }
        }));
    }
    found
}

fn own_hazards(policy: &PolicyView<'_>) -> Vec<api::HazardFound> {
    let mut found: Vec<api::HazardFound> = Vec::new();
    for finding in own_findings(policy) {
        let Cause::Hazard(kind) = finding.cause else { continue };
        let hazard = api::HazardFound {
            code: kind.code(),
            flow: (!finding.flow.is_empty()).then(|| finding.flow.clone()),
            evidence: Some(evidence::within(finding, MAX_EVIDENCE)),
        };
        // Each class of nodes finds its own; most find the same.
        if !found.contains(&hazard) {
            found.push(hazard);
        }
        if found.len() == MAX_HAZARDS {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests;
