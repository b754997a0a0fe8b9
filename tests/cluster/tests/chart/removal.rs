//! How a release goes: what is withdrawn, who is named, what stays, and that it ends whatever is missing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use notrack_cluster::{Cluster, PATIENCE, agent_processes, condition, is_ready, remove_rules, server};
use notrack_lab::wait_until;
use serde_json::Value;

use crate::Site;

const EVERYTHING: &str = "deployments,daemonsets,jobs,pods,services,serviceaccounts,configmaps,leases,poddisruptionbudgets,\
     roles,rolebindings,networkpolicies,resourcequotas,clusterroles,clusterrolebindings,flowschemas,\
     prioritylevelconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings";

/// Kind and name of what is in the cluster of ours, but for the lease, which the controllers make themselves.
fn left(cluster: &Cluster, kinds: &str) -> Vec<String> {
    let all = cluster.get(&format!("{kinds} -A")).unwrap();
    let names = all["items"].as_array().into_iter().flatten().map(|object| {
        format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
    });
    names.filter(|name| name.contains("notrack") && name != "Lease/notrack-controller").collect()
}

fn nothing_is_left(cluster: &Cluster, kinds: &str) {
    wait_until("nothing of ours is left", PATIENCE, || left(cluster, kinds).is_empty())
        .unwrap_or_else(|_| panic!("{:?}", left(cluster, kinds)));
}

fn only_definitions_are_left(cluster: &Cluster) {
    nothing_is_left(cluster, EVERYTHING);
    for kind in ["notrackpolicies", "nodeplans", "rulesets"] {
        assert!(!cluster.get(&format!("crd/{kind}.notrack.dev")).unwrap().is_null());
    }
    assert!(!cluster.get("notrackpolicy/edge").unwrap().is_null());
}

/// Uninstalls; returns what was said, the job's words among it, and how long it took.
fn uninstall(site: &Site, what: &str) -> (String, Duration) {
    let began = Instant::now();
    let command = "uninstall notrack --namespace notrack-system --wait --timeout 3m";
    let output = site.cluster.helm_command(command).unwrap().output().unwrap();
    let took = began.elapsed();
    // What jobs say goes to standard error.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    println!("helm uninstall --wait {what} took {took:?}:\n{said}");
    (said, took)
}

/// Without the job that withdraws: programs are gone, and nobody has touched a rule.
pub fn without_hooks_leaves_the_rules(site: &Site, enforced: &BTreeMap<String, String>) {
    site.helm("uninstall notrack --namespace notrack-system --wait --timeout 2m --no-hooks").unwrap();
    only_definitions_are_left(&site.cluster);
    assert_eq!(
        site.cluster.stable_rules().unwrap(),
        *enforced,
        "rules stay until they are removed on purpose, or their lease ends"
    );
}

/// Definitions, policies and rules of the release that was: the next one goes on with them.
pub fn what_was_left_is_taken_over(site: &Site, enforced: &BTreeMap<String, String>) {
    site.install("").unwrap();
    site.cluster.wait_until_installed().unwrap();
    let has_followed =
        |policy: &Value| is_ready(policy) && condition(policy, "Ready") == Some(("True", "AllNodes"));
    site.cluster.wait_for("notrackpolicy/edge", "it is ready on all nodes", has_followed).unwrap();
    assert_eq!(site.cluster.stable_rules().unwrap(), *enforced, "the new agents changed rules");
}

/// A node is away: it is named, and nobody waits for it. The others are clean before anything is deleted.
pub fn withdraws_the_rules_of_those_that_answer(site: &Site) {
    let cluster = &site.cluster;
    cluster.control("stop", "node3").unwrap();
    let is_away = |node: &Value| condition(node, "Ready").is_some_and(|(status, _)| status != "True");
    cluster.wait_for("node/node3", "it is not ready", is_away).unwrap();
    let (said, _) = uninstall(site, "with a dead node");
    assert!(said.contains("2 of 3 nodes run no rules"), "{said}");
    assert!(said.contains("not waited for: node3"), "{said}");
    for name in ["node1", "node2"] {
        assert!(!cluster.node(name).unwrap().has_rules().unwrap(), "{name} has rules still");
    }
    // What the dead node's pods were is collected when it is back.
    cluster.control("start", "node3").unwrap();
    only_definitions_are_left(cluster);
    // The last act of a controller, when its Deployment and the order were gone, was none.
    let plans = cluster.get("nodeplans").unwrap();
    let plans = plans["items"].as_array().unwrap();
    assert_eq!(plans.len(), 3);
    assert!(plans.iter().all(|plan| plan["spec"]["ruleSet"].is_null()), "{plans:#?}");
    // What is left to read when the job's log is gone.
    let policy = cluster.get("notrackpolicy/edge").unwrap();
    for kind in ["Ready", "Programmed"] {
        assert_eq!(condition(&policy, kind), Some(("False", "Withdrawn")), "{policy:#}");
    }
    let told = policy["status"].to_string();
    assert!(told.contains("2 of 3 nodes run no rules; not confirmed as this is written: node3."), "{told}");
}

/// The order to withdraw went with the Deployment: an installation after it, even at once, runs the policies.
pub fn what_was_withdrawn_comes_back(site: &Site) {
    site.install("--set crds.keep=false,uninstall.withinSeconds=10").unwrap();
    site.cluster.wait_until_installed().unwrap();
    site.cluster.wait_for("notrackpolicy/edge", "it is ready again", is_ready).unwrap();
    assert!(site.cluster.rules().unwrap().values().all(|has| *has));
}

/// Its node is ready, so the job waits for it as long as it may. Without `crds.keep` all else is gone then, also where
/// policies are left, and with the programs of the release gone already.
pub fn an_agent_that_hangs_is_named_and_nothing_else_stays(site: &Site) {
    let cluster = &site.cluster;
    let node = cluster.node("node2").unwrap();
    let agents = agent_processes(node).unwrap();
    assert_eq!(agents.len(), 1, "{agents:?}");
    // The kubelet kills it with its pod.
    kill(agents[0], Signal::SIGSTOP).unwrap();
    let (said, took) = uninstall(site, "with an agent that hangs");
    assert!(said.contains("2 of 3 nodes run no rules"), "{said}");
    assert!(said.contains("not confirmed within 10 s: node2;"), "{said}");
    // The job's ten seconds, those that a pod has to end, and what the machine takes.
    assert!(took < Duration::from_secs(75), "{took:?}");
    nothing_is_left(cluster, &format!("{EVERYTHING},crds"));
    assert!(!cluster.node("node1").unwrap().has_rules().unwrap());
    assert!(node.has_rules().unwrap(), "nobody was there to remove them");
    remove_rules(node).unwrap();
    assert!(cluster.rules().unwrap().values().all(|has| !has), "rules are left");
}

/// The job finds nothing to ask. An uninstall ends all the same, and says what it does not know.
pub fn ends_also_where_the_definitions_went_first(site: &Site) {
    let cluster = &site.cluster;
    site.install("").unwrap();
    cluster.wait_until_installed().unwrap();
    cluster.apply(&server("edge", "{}", "TCP", 8080)).unwrap();
    cluster.wait_for("notrackpolicy/edge", "it is ready", is_ready).unwrap();
    cluster.kubectl("delete -k crds --timeout=60s").unwrap();
    let (said, _) = uninstall(site, "without definitions");
    assert!(said.contains("whether they did is not known"), "{said}");
    nothing_is_left(cluster, &format!("{EVERYTHING},crds"));
    assert!(cluster.rules().unwrap().values().all(|has| *has), "nobody has ordered to remove rules");
    for node in &cluster.nodes {
        remove_rules(node).unwrap();
    }
}
