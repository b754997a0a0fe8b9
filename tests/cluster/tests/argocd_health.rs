//! The health checks of `deploy/argocd/argocd-cm.yaml`, as Argo CD evaluates them, without a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use notrack_cluster::{argocd, repository};
use notrack_lab::run_ok;
use serde_json::{Value, json};

const WAITING: &str = "Waiting for the controller";
const SUSPENDED: &str = "spec.expireTime has passed: its traffic is tracked again";
const BLOCKED: &str = "blocked or failed on 1 of 3 nodes that report: HostFirewallDrops on 1 node (node1)";

/// What Argo CD says of an object: health and message. Its exit status is 0 whatever that is.
fn health(object: &Value) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("object.yaml");
    fs::write(&file, object.to_string()).unwrap();
    let settings = repository().join("deploy/argocd/argocd-cm.yaml");
    let mut command = argocd().unwrap();
    command.args(["admin", "settings", "resource-overrides", "health"]).arg(&file);
    let said = run_ok(command.arg("--argocd-cm-path").arg(settings)).unwrap();
    let part = |title: &str| said.lines().find_map(|line| line.strip_prefix(title)).unwrap_or_default();
    assert!(said.starts_with("STATUS: "), "{said}");
    (part("STATUS: ").to_owned(), part("MESSAGE: ").to_owned())
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "observedGeneration": 2, "lastTransitionTime": "2026-11-23T20:00:00Z",
    })
}

/// A policy of generation 2, with a status of that generation.
fn policy(conditions: &[Value]) -> Value {
    json!({
        "apiVersion": "notrack.dev/v1alpha1",
        "kind": "NoTrackPolicy",
        "metadata": {"name": "edge", "uid": "8f2b3f8e-0d7f-4a55-9f5e-3f6f5e0f7a11", "generation": 2},
        "spec": {"nodeSelector": {}, "mode": "Enforce", "flows": []},
        "status": {
            "observedGeneration": 2,
            "conditions": conditions,
            "nodes": {"matched": 3, "programmed": 3, "engaged": 3, "blocked": 0, "failed": 0, "unavailable": 0},
        },
    })
}

fn plan(conditions: &[Value]) -> Value {
    let mut plan = policy(conditions);
    plan["kind"] = "NodePlan".into();
    plan
}

#[track_caller]
fn says(object: &Value, status: &str, message: &str) {
    assert_eq!(health(object), (status.to_owned(), message.to_owned()), "{object:#}");
}

#[test]
fn only_a_policy_that_is_ready_is_healthy() {
    for (reason, message) in [
        ("AllNodes", "in effect on 3 of 3 nodes"),
        ("ReadyWithUnavailableNodes", "in effect on 2 of 3 nodes; unavailable: NoAgent on 1 node (node3)"),
    ] {
        let (accepted, ready) = (
            condition("Accepted", "True", "Valid", "well-formed"),
            condition("Ready", "True", reason, message),
        );
        says(&policy(&[accepted, ready]), "Healthy", message);
    }
    // Of conditions without words the reason is told.
    says(&policy(&[condition("Ready", "True", "AllNodes", "")]), "Healthy", "AllNodes");
}

#[test]
fn a_policy_that_nobody_has_looked_at_is_progressing() {
    let mut new = policy(&[]);
    new["metadata"]["generation"] = 1.into();
    // As the API server makes it, by the definition's defaults.
    let unknown = |kind: &str| {
        json!({
            "type": kind, "status": "Unknown", "reason": "Pending", "message": WAITING,
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        })
    };
    new["status"] = json!({"conditions": [unknown("Accepted"), unknown("Programmed"), unknown("Ready")]});
    says(&new, "Progressing", WAITING);
    for status in [json!(null), json!({}), json!({"conditions": null}), json!({"observedGeneration": 1})] {
        new["status"] = status;
        says(&new, "Progressing", WAITING);
    }
    new.as_object_mut().unwrap().remove("status");
    says(&new, "Progressing", WAITING);
    says(&policy(&[unknown("Ready")]), "Progressing", WAITING);
    says(&policy(&[condition("Accepted", "True", "Valid", "well-formed")]), "Progressing", WAITING);
}

#[test]
fn what_is_said_of_an_older_spec_does_not_count() {
    for ready in ["True", "False", "Unknown"] {
        let mut changed = policy(&[condition("Ready", ready, "AllNodes", "in effect on 3 of 3 nodes")]);
        changed["metadata"]["generation"] = 3.into();
        says(&changed, "Progressing", WAITING);
    }
    let mut half = policy(&[condition("Ready", "True", "AllNodes", "in effect on 3 of 3 nodes")]);
    half["status"]["conditions"][0]["observedGeneration"] = 1.into();
    says(&half, "Progressing", WAITING);
}

#[test]
fn a_rollout_that_goes_on_is_progressing() {
    for reason in ["Progressing", "AwaitingAgents"] {
        let conditions = ["Ready", "Reconciling"].map(|kind| {
            let status = if kind == "Ready" { "False" } else { "True" };
            condition(kind, status, reason, "programmed on 1 of 3 nodes that report")
        });
        says(&policy(&conditions), "Progressing", "programmed on 1 of 3 nodes that report");
    }
    // Blocked on a node while others have not answered yet: the message tells both.
    let message = format!("{BLOCKED}; 2 pending");
    let ready = condition("Ready", "False", "HostFirewallDrops", &message);
    let reconciling =
        condition("Reconciling", "True", "Progressing", "programmed on 0 of 3 nodes that report");
    says(&policy(&[ready, reconciling]), "Progressing", &message);
}

#[test]
fn a_policy_that_needs_somebody_is_degraded_with_its_own_message() {
    let stuck = |reason: &str, message: &str| {
        policy(&[
            condition("Accepted", "True", "Valid", "the policy is well-formed"),
            condition("Ready", "False", reason, message),
            condition("Stalled", "True", reason, message),
        ])
    };
    says(&stuck("HostFirewallDrops", BLOCKED), "Degraded", BLOCKED);
    for reason in ["Invalid", "ServiceEndpoint", "CommitFailed", "TooLarge"] {
        says(&stuck(reason, "why"), "Degraded", "why");
    }
    let none = "spec.nodeSelector selects no node: correct it, or label the nodes that are meant";
    says(&policy(&[condition("Ready", "False", "NoMatchingNode", none)]), "Degraded", none);
    // Its rules do not fit into an object: that does not get better while nodes go on.
    let mut large = stuck("TooLarge", "why");
    let reconciling = condition("Reconciling", "True", "Progressing", "programmed on 0 of 3 nodes");
    large["status"]["conditions"].as_array_mut().unwrap().push(reconciling);
    says(&large, "Degraded", "why");
}

#[test]
fn a_policy_whose_time_is_over_is_suspended() {
    let ready = condition("Ready", "False", "Expired", SUSPENDED);
    let expired = condition("Expired", "True", "Expired", SUSPENDED);
    says(&policy(&[ready.clone(), expired.clone()]), "Suspended", SUSPENDED);
    let left = "spec.expireTime has passed; 1 node still to report that it has ended";
    let reconciling = condition("Reconciling", "True", "Progressing", left);
    says(&policy(&[condition("Ready", "False", "Expired", left), expired, reconciling]), "Progressing", left);
}

#[test]
fn a_policy_that_is_being_deleted_is_progressing() {
    let mut deleted = policy(&[condition("Ready", "True", "AllNodes", "in effect on 3 of 3 nodes")]);
    deleted["metadata"]["deletionTimestamp"] = "2026-11-23T20:00:00Z".into();
    says(&deleted, "Progressing", "Pending deletion");
}

#[test]
fn a_plan_is_as_healthy_as_its_node_says() {
    says(&plan(&[condition("Ready", "True", "Programmed", "read back")]), "Healthy", "read back");
    says(&plan(&[condition("Ready", "False", "CommitFailed", "no space")]), "Degraded", "no space");
    says(&plan(&[condition("Ready", "Unknown", "Pending", "not yet")]), "Progressing", "not yet");
    let mut stale = plan(&[condition("Ready", "True", "Programmed", "read back")]);
    stale["metadata"]["generation"] = 3.into();
    says(&stale, "Progressing", "Waiting for the agent");
    for status in [json!(null), json!({"observedGeneration": 2}), json!({"conditions": []})] {
        stale["status"] = status;
        says(&stale, "Progressing", "Waiting for the agent");
    }
}
