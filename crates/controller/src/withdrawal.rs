//! The order that no node runs any rules any more, because the operator is about to be uninstalled.
//!
//! An agent cannot tell an uninstall from an upgrade, so the job that runs before an uninstall makes a Lease, and the
//! controller that leads then publishes plans without rules. The Lease belongs to the controllers' Deployment: it goes
//! with it, and the next installation knows nothing of it. Controllers that have seen it hold to it to their end. It also
//! runs out, so that an uninstall that somebody gave up leaves no cluster without its rules for good.

use jiff::{Span, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use notrack_api::condition::PROGRAMMED;
use notrack_api::{ConditionStatus, NodePlanSpec, NodePlanStatus};

/// The name of the Lease.
pub const LEASE: &str = "notrack-withdrawal";
/// How long it holds.
pub const LASTS_SECONDS: i32 = 600;
/// What policies give as the reason.
pub const REASON: &str = "Withdrawn";
/// How many nodes are named at most.
const MOST_NAMES: usize = 10;

/// Until when the order holds. A Lease without times is none.
pub fn end(lease: &Lease) -> Timestamp {
    let end = || {
        let spec = lease.spec.as_ref()?;
        let seconds = i64::from(spec.lease_duration_seconds?);
        spec.renew_time.as_ref()?.0.checked_add(Span::new().seconds(seconds)).ok()
    };
    end().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Whether a node has confirmed that its kernel runs no rules of ours, or never had an agent.
pub fn is_confirmed(spec: &NodePlanSpec, status: &NodePlanStatus, generation: Option<i64>) -> bool {
    // An agent that has failed, or has only just begun, names no rules either.
    let has_read_back = status.conditions.iter().any(|condition| {
        condition.type_ == PROGRAMMED
            && condition.status == ConditionStatus::True
            && condition.observed_generation == generation
    });
    let runs_nothing = status.programmed_digest.as_deref().unwrap_or_default().is_empty() && has_read_back;
    status.reported_at.is_none() || (spec.rule_set.is_none() && runs_nothing)
}

/// What every policy says while the order holds, and goes on to say when nobody is left to write it.
pub fn message(nodes: usize, mut unconfirmed: Vec<&str>) -> String {
    const WHY: &str = "the operator is being uninstalled";
    if unconfirmed.is_empty() {
        return format!("{WHY}: no node bypasses anything any more");
    }
    let clean = nodes - unconfirmed.len();
    let more = unconfirmed.len().saturating_sub(MOST_NAMES);
    unconfirmed.sort_unstable();
    unconfirmed.truncate(MOST_NAMES);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "{WHY}: {clean} of {nodes} nodes run no rules; not confirmed as this is written: {}{rest}. What is left there ends \
         with the kernel's lease (agent.keepWithoutAgent), at once with: notrack-agent remove, on the node",
        unconfirmed.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_order_holds_until_its_lease_is_over() {
        let lease = |spec| -> Lease {
            let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {}, "spec": spec});
            serde_json::from_value(object).unwrap()
        };
        let of = |spec| end(&lease(spec)).to_string();
        let spec = json!({"renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": LASTS_SECONDS});
        assert_eq!(of(spec), "2026-01-01T00:10:00Z");
        assert_eq!(of(json!({"renewTime": "2026-01-01T00:00:00.000000Z"})), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn nodes_that_have_not_confirmed_are_counted_and_ten_of_them_named() {
        assert!(message(3, vec![]).ends_with("no node bypasses anything any more"));
        let few = message(3, vec!["c", "b"]);
        assert!(few.contains("1 of 3 nodes run no rules") && few.contains("is written: b, c."), "{few}");
        let names: Vec<String> = (10..30).map(|number| format!("n{number}")).collect();
        let many = message(40, names.iter().map(String::as_str).collect());
        assert!(many.contains("20 of 40 nodes") && many.contains("n18, n19 and 10 more."), "{many}");
    }
}
