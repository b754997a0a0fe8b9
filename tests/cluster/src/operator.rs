//! What the operator says, and where it runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::Pid;
use notrack_lab::{built, run_ok};
use serde_json::Value;

use crate::cluster::{Cluster, Node};

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

/// Takes the rules away on a node itself, as the documents say; returns what is said to that.
pub fn remove_rules(node: &Node) -> Result<String> {
    let agent = built("notrack-agent")?;
    run_ok(node.network()?.command(&agent.to_string_lossy()).arg("remove"))
}

/// The agents' processes on a node. All nodes' processes are this machine's, so that signals reach them.
pub fn agent_processes(node: &Node) -> Result<Vec<Pid>> {
    let network = node.network()?.enter(|| fs::read_link("/proc/thread-self/ns/net"))??;
    Ok(processes(|process| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "notrack-agent")
            && fs::read_link(process.join("ns/net")).is_ok_and(|of| of == network)
    }))
}

/// Processes that have a variable in their environment.
pub fn processes_with(variable: &str, value: &str) -> Vec<Pid> {
    let wanted = format!("{variable}={value}");
    processes(|process| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    })
}

/// Processes of this machine whose folder in /proc is as wanted.
fn processes(is: impl Fn(&Path) -> bool) -> Vec<Pid> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let number = |name: &str| name.parse().ok().map(Pid::from_raw);
    let numbered = all.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path())));
    numbered.filter(|(_, folder)| is(folder)).map(|(pid, _)| pid).collect()
}
