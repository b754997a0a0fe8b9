//! Before an uninstall: orders that no node runs any rules, and waits for those that can say so.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use notrack_api::condition::READY;
use notrack_api::{NoTrackPolicy, NodePlan};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::LOOK;
use crate::withdrawal::{self, LASTS_SECONDS, LEASE, REASON};
use crate::write::{FIELD_MANAGER, WriteError, within};

/// Objects of a listing in one answer.
const PAGE: u32 = 500;
/// For the controller to write the policies' last status: a little more than it waits between two of them.
const LAST_STATUS: Duration = Duration::from_secs(12);

/// What is ordered.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Namespace of the controllers.
    pub namespace: &'a str,
    /// Name of their Deployment.
    pub deployment: &'a str,
    /// How long to wait at most.
    pub within: Duration,
    /// Whether policies stay, whose status then tells what came of it when nobody has the job's log any more.
    pub policies_stay: bool,
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
    let deadline = Instant::now() + order.within;
    patiently(deadline, async || give(client, order).await).await?;
    loop {
        let began = Instant::now();
        let nodes = match patiently(deadline, async || standings(client).await).await {
            Ok(nodes) => nodes,
            Err(error) => {
                tracing::error!(
                    "the nodes were told to remove their rules; whether they did is not known: {error}"
                );
                tracing::error!("{REST}");
                return Ok(());
            }
        };
        let is_awaited = nodes.iter().any(|(_, standing)| *standing == Standing::Awaited);
        if !is_awaited || Instant::now() >= deadline {
            tell(&nodes, order.within);
            if order.policies_stay {
                wait_for_statuses(client, &nodes, deadline.min(began + LAST_STATUS)).await;
            }
            return Ok(());
        }
        sleep(LOOK.max(began.elapsed())).await;
    }
}

/// A request again and again until the deadline, as long as nothing is wrong with it.
async fn patiently<T>(
    deadline: Instant,
    request: impl AsyncFn() -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    loop {
        match request().await {
            Err(
                error @ (WriteError::Unreachable(_) | WriteError::Throttled { .. } | WriteError::Conflict(_)),
            ) if Instant::now() < deadline => {
                tracing::warn!("tried again: {error}");
                sleep(LOOK).await;
            }
            answer => return answer,
        }
    }
}

fn tell(nodes: &[(String, Standing)], within: Duration) {
    let of = |wanted: Standing| -> Vec<&str> {
        let named = nodes.iter().filter(|(_, standing)| *standing == wanted);
        named.map(|(name, _)| name.as_str()).collect()
    };
    tracing::info!("{} of {} nodes run no rules", of(Standing::Clean).len(), nodes.len());
    for (standing, why) in [
        (Standing::Awaited, format!("not confirmed within {} s", within.as_secs())),
        (Standing::Away, "silent or not ready, and not waited for".to_owned()),
    ] {
        let left = of(standing);
        if !left.is_empty() {
            tracing::warn!("{why}: {}; {REST}", left.join(", "));
        }
    }
}

/// Until every policy says what was found: the controller is deleted next. What goes wrong is not worth an uninstall's time.
async fn wait_for_statuses(client: &Client, nodes: &[(String, Standing)], deadline: Instant) {
    let left = nodes.iter().filter(|(_, standing)| *standing != Standing::Clean);
    let message = withdrawal::message(nodes.len(), left.map(|(name, _)| name.as_str()).collect());
    // As they are: one that cannot be read must not hide the others.
    let policies = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::erase::<NoTrackPolicy>(&()));
    while Instant::now() < deadline {
        match listed(&policies, |policy| says(&policy.data, &message)).await {
            Ok(policies) if policies.iter().any(|says| !says) => sleep(LOOK).await,
            _ => return,
        }
    }
}

/// Whether a policy has the message, or another reason that outweighs it.
fn says(policy: &serde_json::Value, message: &str) -> bool {
    let conditions = policy["status"]["conditions"].as_array();
    let mut ready = conditions.into_iter().flatten().filter(|condition| condition["type"] == READY);
    ready.any(|ready| {
        ready["reason"] == "Invalid" || (ready["reason"] == REASON && ready["message"] == message)
    })
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
    let nodes = listed(&Api::<Node>::all(client.clone()), |node| (node.name_any(), is_ready(&node))).await?;
    let nodes: BTreeMap<String, bool> = nodes.into_iter().collect();
    let now = Timestamp::now();
    let of = |plan: NodePlan| {
        let name = plan.name_any();
        let standing = standing(&plan, nodes.get(&name).copied().unwrap_or_default(), now);
        (name, standing)
    };
    listed(&Api::<NodePlan>::all(client.clone()), of).await
}

/// What is kept of each object of a kind, page by page: nodes are large, and there may be thousands.
async fn listed<K, T>(api: &Api<K>, keep: impl Fn(K) -> T) -> Result<Vec<T>, WriteError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut params = ListParams::default().limit(PAGE);
    let mut kept = Vec::new();
    loop {
        let page = within(api.list(&params)).await?;
        let next = page.metadata.continue_.filter(|token| !token.is_empty());
        kept.extend(page.items.into_iter().map(&keep));
        match next {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(kept),
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn standing(plan: &NodePlan, is_ready: bool, now: Timestamp) -> Standing {
    let Some(status) = &plan.status else { return Standing::Clean };
    if withdrawal::is_confirmed(&plan.spec, status, plan.metadata.generation) {
        return Standing::Clean;
    }
    let patience = 3 * i64::from(plan.spec.report_every_seconds);
    let reported = status.reported_at.as_ref().map(|at| now.as_second() - at.0.as_second());
    match reported {
        Some(seconds) if is_ready && seconds <= patience => Standing::Awaited,
        _ => Standing::Away,
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
        let reports = |time: &str, generation: i64, digest: &str, programmed: &str| {
            let condition = json!({
                "type": "Programmed", "status": programmed, "observedGeneration": generation,
                "reason": "r", "message": "", "lastTransitionTime": time,
            });
            json!({"reportedAt": time, "observedGeneration": 2, "programmedDigest": digest, "conditions": [condition]})
        };
        let at = |time: &str, generation: i64, digest: &str| reports(time, generation, digest, "True");
        let recent = "2026-01-01T00:19:00Z";
        for (spec, status, ready, wanted) in [
            (json!({}), at(recent, 2, ""), true, Standing::Clean),
            (json!({}), at(recent, 2, ""), false, Standing::Clean),
            // What it reports is about the plan before.
            (json!({}), at(recent, 1, ""), true, Standing::Awaited),
            (json!({}), at(recent, 2, "x"), true, Standing::Awaited),
            // Its adapters could not be taken back; it was only just started.
            (json!({}), reports(recent, 2, "", "False"), true, Standing::Awaited),
            (json!({}), reports(recent, 2, "", "Unknown"), true, Standing::Awaited),
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
