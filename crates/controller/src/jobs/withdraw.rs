//! Before an uninstall: orders that no node runs any rules, and waits for those that can say so.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use notrack_api::NodePlan;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::LOOK;
use crate::withdrawal::{LASTS_SECONDS, LEASE};
use crate::write::{FIELD_MANAGER, WriteError, within};

/// What is ordered.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Namespace of the controllers.
    pub namespace: &'a str,
    /// Name of their Deployment.
    pub deployment: &'a str,
    /// How long to wait at most.
    pub within: Duration,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Its kernel was read back without rules.
    Clean,
    /// Its agent can be expected to say so.
    Awaited,
    /// Its agent has been silent, or the node is not ready: nobody waits for it.
    Away,
}

/// Gives the order and tells what came of it. What goes wrong is told as well and stops nothing: an uninstall must end, and
/// what no order reaches, the kernels end themselves.
pub async fn run(client: &Client, order: Order<'_>) {
    if let Err(error) = ordered(client, order).await {
        tracing::error!("the nodes were not told to remove their rules: {error}");
        tracing::error!("{REST}");
    }
}

/// What becomes of rules that are left.
const REST: &str = "rules that are left end with their kernel's lease (agent.keepWithoutAgent); at once with: notrack-agent remove, on the node";

async fn ordered(client: &Client, order: Order<'_>) -> Result<(), WriteError> {
    give(client, order).await?;
    let deadline = Instant::now() + order.within;
    loop {
        let nodes = standings(client).await?;
        let of = |wanted: Standing| -> Vec<&str> {
            let named = nodes.iter().filter(|(_, standing)| *standing == wanted);
            named.map(|(name, _)| name.as_str()).collect()
        };
        let awaited = of(Standing::Awaited);
        if awaited.is_empty() || Instant::now() >= deadline {
            tracing::info!("{} of {} nodes run no rules", of(Standing::Clean).len(), nodes.len());
            for (left, why) in [
                (awaited, format!("not confirmed within {} s", order.within.as_secs())),
                (of(Standing::Away), "silent or not ready, and not waited for".to_owned()),
            ] {
                if !left.is_empty() {
                    tracing::warn!("{why}: {}; {REST}", left.join(", "));
                }
            }
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

/// Makes the Lease that the controllers watch.
async fn give(client: &Client, order: Order<'_>) -> Result<(), WriteError> {
    let deployments = Api::<Deployment>::namespaced(client.clone(), order.namespace);
    let owner = within(deployments.get(order.deployment)).await?;
    let leases =
        Api::<k8s_openapi::api::coordination::v1::Lease>::namespaced(client.clone(), order.namespace);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": LEASE,
            // With the Deployment goes the order.
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": order.deployment, "uid": owner.uid(),
            }],
        },
        "spec": {
            "holderIdentity": "uninstall",
            "leaseDurationSeconds": LASTS_SECONDS,
            // Microseconds are what the API server takes.
            "renewTime": format!("{:.6}", Timestamp::now()),
        },
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    within(leases.patch(LEASE, &params, &Patch::Apply(&lease))).await.map(drop)
}

async fn standings(client: &Client) -> Result<Vec<(String, Standing)>, WriteError> {
    let plans = within(Api::<NodePlan>::all(client.clone()).list(&ListParams::default())).await?;
    let nodes = within(Api::<Node>::all(client.clone()).list(&ListParams::default())).await?;
    let now = Timestamp::now();
    let standing = |plan: &NodePlan| {
        let node = nodes.iter().find(|node| node.name_any() == plan.name_any());
        (plan.name_any(), standing(plan, node.is_some_and(is_ready), now))
    };
    Ok(plans.iter().map(standing).collect())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn standing(plan: &NodePlan, is_ready: bool, now: Timestamp) -> Standing {
    let Some(status) = &plan.status else { return Standing::Clean };
    let runs_nothing = status.programmed_digest.as_deref().unwrap_or_default().is_empty();
    let is_told = plan.spec.rule_set.is_none() && status.observed_generation == plan.metadata.generation;
    let patience = 3 * i64::from(plan.spec.report_every_seconds);
    let reported = status.reported_at.as_ref().map(|at| now.as_second() - at.0.as_second());
    match reported {
        // No agent has ever run there.
        None => Standing::Clean,
        Some(_) if runs_nothing && is_told => Standing::Clean,
        Some(seconds) if is_ready && seconds <= patience => Standing::Awaited,
        Some(_) => Standing::Away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_was_told_and_has_reported_is_clean() {
        let plan = |spec: serde_json::Value, status: serde_json::Value| -> NodePlan {
            let mut whole = json!({"nodeUID": "u", "epoch": 1, "reportEverySeconds": 300});
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            serde_json::from_value(json!({
                "apiVersion": "notrack.dev/v1alpha1", "kind": "NodePlan",
                "metadata": {"name": "n", "generation": 2}, "spec": whole, "status": status,
            }))
            .unwrap()
        };
        let now: Timestamp = "2026-01-01T00:20:00Z".parse().unwrap();
        let rules = json!({"ruleSet": {"name": "rs-x", "digest": "x"}});
        let at = |time: &str, generation: i64, digest: &str| json!({"reportedAt": time, "observedGeneration": generation, "programmedDigest": digest});
        let recent = "2026-01-01T00:19:00Z";
        for (spec, status, ready, wanted) in [
            (json!({}), at(recent, 2, ""), true, Standing::Clean),
            (json!({}), at(recent, 2, ""), false, Standing::Clean),
            // What it reports is about the plan before.
            (json!({}), at(recent, 1, ""), true, Standing::Awaited),
            (json!({}), at(recent, 2, "x"), true, Standing::Awaited),
            // The controller has published nothing yet.
            (rules.clone(), at(recent, 2, ""), true, Standing::Awaited),
            (rules.clone(), at(recent, 2, "x"), false, Standing::Away),
            (rules.clone(), at("2026-01-01T00:04:00Z", 2, "x"), true, Standing::Away),
            (rules, json!({}), true, Standing::Clean),
        ] {
            let plan = plan(spec, status);
            assert_eq!(standing(&plan, ready, now), wanted, "{plan:?}");
        }
    }
}
