//! The node's part of a report: the status of a NodePlan.

use std::cmp::Reverse;
use std::fs;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use notrack_api as api;
use notrack_api::condition::{PROGRAMMED, READY};
use notrack_core::policy::ValidatedPolicy;
use notrack_core::pressure::Trend;

use super::{Facts, Object, Plan, PolicyReport, condition_of, level, status};

/// The custom resource takes no more.
const MOST_POLICIES: usize = 40;

/// So many policies at most have in the status what was found.
const MOST_WITH_HAZARDS: usize = 8;

/// Another one means another kernel: its counters began anew.
static BOOT_ID: LazyLock<Option<String>> = LazyLock::new(|| {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
});

/// Of a node without a cluster.
pub(super) fn alone(facts: &mut Facts<'_>, policies: &[PolicyReport]) -> api::NodePlanStatus {
    let (reason, message) = match (&facts.failure, facts.programmed) {
        (Some((reason, message)), _) => (*reason, message.clone()),
        (None, Some(_)) => ("Programmed", "the kernel runs what the policies ask for, read back".to_owned()),
        (None, None) => ("Pending", "the policies were not read yet".to_owned()),
    };
    let good = status(facts.failure.is_none() && facts.programmed.is_some());
    let conditions = [PROGRAMMED, READY]
        .map(|kind| facts.condition((&Object::Node, kind), good, (reason, &message)))
        .into();
    let digest = facts.programmed.and_then(|programmed| programmed.digest.as_ref());
    api::NodePlanStatus {
        programmed_digest: digest.map(ToString::to_string),
        conditions,
        policies: worst(&[], policies),
        ..common(facts)
    }
}

/// Of a node of a cluster: Programmed is about the rules that the kernel runs, Ready about the plan as it is now too.
pub(super) fn in_cluster(
    facts: &mut Facts<'_>,
    plan: &Plan<'_>,
    known: &[Arc<ValidatedPolicy>],
    policies: &[PolicyReport],
) -> api::NodePlanStatus {
    let Plan { source, stands, addresses } = plan;
    let runs = facts.programmed.filter(|_| *stands);
    let trouble = source.trouble().map(|trouble| (trouble.reason(), trouble.to_string()));
    let failure = facts.failure.clone();
    let (programmed, reason, message) = match (&failure, runs, &trouble) {
        (Some((reason, message)), ..) => (api::ConditionStatus::False, *reason, message.clone()),
        (None, Some(_), _) => {
            let message = "the kernel runs the plan's rules, read back".to_owned();
            (api::ConditionStatus::True, "Programmed", message)
        }
        // An earlier agent's rules may be there.
        (None, None, Some((reason, message))) => (api::ConditionStatus::Unknown, *reason, message.clone()),
        (None, None, None) => {
            (api::ConditionStatus::Unknown, "Pending", "the plan was not seen yet".to_owned())
        }
    };
    let is_ready = programmed == api::ConditionStatus::True && trouble.is_none();
    let why = match trouble {
        Some(trouble) if failure.is_none() => trouble,
        _ => (reason, message.clone()),
    };
    let conditions = vec![
        api::Condition {
            observed_generation: source.followed(),
            ..facts.condition((&Object::Node, PROGRAMMED), programmed, (reason, &message))
        },
        api::Condition {
            observed_generation: source.seen(),
            ..facts.condition((&Object::Node, READY), status(is_ready), (why.0, &why.1))
        },
    ];
    let reachable = |address: &&IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unspecified(),
    };
    api::NodePlanStatus {
        observed_generation: source.seen(),
        node_uid: source.node_uid.clone(),
        boot_id: BOOT_ID.clone(),
        addresses: addresses
            .iter()
            .filter(reachable)
            .take(api::MOST_ADDRESSES)
            .map(ToString::to_string)
            .collect(),
        programmed_digest: runs.and_then(|programmed| programmed.wanted.clone()),
        conditions,
        policies: worst(known, policies),
        ..common(facts)
    }
}

/// What both have.
fn common(facts: &Facts<'_>) -> api::NodePlanStatus {
    let sample = facts.sample;
    api::NodePlanStatus {
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        reported_at: Some(api::Time(facts.now)),
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
        ..api::NodePlanStatus::default()
    }
}

/// The worst first, those with hazards before others, and no more than the custom resource takes.
fn worst(known: &[Arc<ValidatedPolicy>], policies: &[PolicyReport]) -> Vec<api::PolicyOnNode> {
    let mut worst: Vec<&PolicyReport> = policies.iter().collect();
    worst.sort_by_key(|policy| (Reverse(policy.state), policy.seen_here.is_empty(), &policy.name));
    let on_node = worst.into_iter().take(MOST_POLICIES).enumerate().map(|(place, policy)| {
        let traffic = policy.status.traffic.clone().unwrap_or_default();
        let ready = condition_of(&policy.status.conditions, READY);
        let object = known.iter().find(|known| known.name == policy.name);
        api::PolicyOnNode {
            name: policy.name.clone(),
            uid: object.and_then(|object| object.uid.clone()),
            generation: object.and_then(|object| object.generation),
            state: policy.state.name().to_owned(),
            reason: ready.map(|condition| condition.reason.clone()),
            packets: Some(traffic.packets),
            bytes: Some(traffic.bytes),
            evictable_entries: traffic.evictable_entries,
            hazards: if place < MOST_WITH_HAZARDS { policy.seen_here.clone() } else { Vec::new() },
        }
    });
    on_node.collect()
}

#[cfg(test)]
mod tests {
    use crate::report::State;

    use super::*;

    /// Each report goes through etcd: thousands of nodes write one every few minutes.
    #[test]
    fn a_plans_status_stays_small_whatever_was_found() {
        let hazard = api::HazardFound {
            code: "NT007".to_owned(),
            flow: Some("f".repeat(40)),
            evidence: Some("x".repeat(300)),
        };
        let policy = |number: usize| PolicyReport {
            name: format!("{number:0>20}"),
            state: State::Blocked,
            findings: Vec::new(),
            hazards: Vec::new(),
            seen_here: vec![hazard.clone(); 2],
            status: api::NoTrackPolicyStatus::default(),
        };
        let policies: Vec<PolicyReport> = (0..1000).map(policy).collect();
        let told = worst(&[], &policies);
        assert_eq!((told.len(), told.iter().filter(|policy| !policy.hazards.is_empty()).count()), (40, 8));
        let size = serde_json::to_string(&told).unwrap().len();
        assert!(size < 10_000, "{size} bytes");
    }
}
