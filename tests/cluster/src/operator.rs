//! What the operator says, and where it runs.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::Cluster;

/// A condition of an object: status and reason.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    Some((found["status"].as_str()?, found["reason"].as_str()?))
}

/// Whether a policy is ready for the generation that it has.
pub fn is_ready(policy: &Value) -> bool {
    policy["status"]["observedGeneration"] == policy["metadata"]["generation"]
        && policy["metadata"]["generation"].is_number()
        && condition(policy, "Ready").is_some_and(|(status, _)| status == "True")
}

/// The name of the agent's pod on a node.
pub fn agent_pod(cluster: &Cluster, node: &str) -> Result<String> {
    let pods = cluster.get(&format!(
        "pods -n notrack-system -l app.kubernetes.io/component=agent --field-selector spec.nodeName={node}"
    ))?;
    let name = pods["items"][0]["metadata"]["name"].as_str();
    Ok(name.with_context(|| format!("no agent runs on {node}"))?.to_owned())
}
