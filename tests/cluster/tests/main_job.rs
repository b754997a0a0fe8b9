//! The main job on a real cluster: a policy applied with kubectl is what the kernels of its nodes run, what they run is
//! what status says, and traffic skips the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use notrack_cluster::{Cluster, Options, PATIENCE, condition, fetch, is_ready, serve, server};
use notrack_lab::wait_until;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

/// Entries of a port on a node.
fn entries(cluster: &Cluster, node: &str, port: u16) -> usize {
    let network = cluster.node(node).unwrap().network().unwrap();
    network.conntrack(&format!("-p tcp --dport {port}")).unwrap().len()
}

fn ask(cluster: &Cluster, from: &str, to: &str, port: u16) -> bool {
    let network = cluster.node(from).unwrap().network().unwrap();
    fetch(network.command("curl"), &cluster.node(to).unwrap().address, port, SECOND)
}

/// Until which percentile of sorted times.
fn percentile(times: &[Duration], share: f64) -> Duration {
    times[((times.len() - 1) as f64 * share).round() as usize]
}

#[test]
fn a_policy_applied_is_what_the_kernels_run() {
    let cluster = Cluster::start(&Options::default()).unwrap();
    cluster.install().unwrap();
    cluster.admission_came_first().unwrap();
    without_a_policy_every_node_reports_and_runs_nothing(&cluster);
    serve(&cluster, "web", "node2", 8080).unwrap();
    traffic_skips_the_table_where_the_policy_selects(&cluster);
    an_invalid_policy_is_refused_by_the_api_server(&cluster);
    a_policy_for_no_node_says_so(&cluster);
    writes_are_counted(&cluster);
    times_are_measured(&cluster);
    deleting_the_policy_removes_its_rules(&cluster);
    unused_rule_sets_are_marked_and_collected(&cluster);
}

fn without_a_policy_every_node_reports_and_runs_nothing(cluster: &Cluster) {
    let plans = cluster.get("nodeplans").unwrap();
    let plans = plans["items"].as_array().unwrap();
    assert_eq!(plans.len(), cluster.nodes.len());
    for plan in plans {
        assert!(plan["spec"]["ruleSet"].is_null(), "{plan:#}");
        assert!(plan["status"]["conntrack"]["max"].as_u64().unwrap() > 0, "{plan:#}");
        assert_eq!(plan["metadata"]["ownerReferences"][0]["kind"], "Node");
        let node = plan["metadata"]["name"].as_str().unwrap();
        let addresses = plan["status"]["addresses"].as_array().unwrap();
        assert!(addresses.contains(&Value::from(cluster.node(node).unwrap().address.as_str())), "{plan:#}");
    }
    assert!(cluster.rules().unwrap().values().all(|has| !has));
}

fn traffic_skips_the_table_where_the_policy_selects(cluster: &Cluster) {
    assert!(ask(cluster, "node1", "node2", 8080));
    assert!(entries(cluster, "node2", 8080) > 0, "a node that does not track proves nothing");

    cluster.kubectl("label node node2 edge=").unwrap();
    cluster.apply(&server("edge-http", "{matchLabels: {edge: ''}}", "TCP", 8080)).unwrap();
    let is_ready = |policy: &Value| condition(policy, "Ready").is_some_and(|(status, _)| status == "True");
    cluster.wait_for("notrackpolicy/edge-http", "it is ready", is_ready).unwrap();
    cluster.kubectl("wait --for=condition=Ready --timeout=60s notrackpolicy/edge-http").unwrap();
    let rules = cluster.rules().unwrap();
    assert!(rules["node2"] && !rules["node1"] && !rules["node3"], "{rules:?}");

    let evicted = || entries(cluster, "node2", 8080) == 0;
    wait_until("the entries of before are evicted", PATIENCE, evicted).unwrap();
    for _ in 0..20 {
        assert!(ask(cluster, "node1", "node2", 8080));
    }
    assert_eq!(entries(cluster, "node2", 8080), 0);

    let found = cluster.get("notrackpolicy/edge-http").unwrap();
    assert_eq!(found["status"]["nodes"]["matched"], 1);
    assert_eq!(found["status"]["nodes"]["engaged"], 1);
    assert_eq!(condition(&found, "Ready"), Some(("True", "AllNodes")));
    let plan = cluster.get("nodeplan/node2").unwrap();
    assert_eq!(plan["status"]["programmedDigest"], plan["spec"]["ruleSet"]["digest"]);
    assert_eq!(plan["status"]["policies"][0]["state"], "Programmed", "{plan:#}");
    // What a user sees.
    let table = cluster.kubectl("get notrackpolicies,nodeplans").unwrap();
    assert!(table.contains("edge-http"), "{table}");
    println!("{table}");
    nobody_but_the_user_writes_the_spec(cluster);
}

/// A controller that filled anything in would be a difference for ever to whatever compares it with git.
fn nobody_but_the_user_writes_the_spec(cluster: &Cluster) {
    let found = cluster.get("notrackpolicy/edge-http --show-managed-fields").unwrap();
    let managers = found["metadata"]["managedFields"].as_array().unwrap().iter();
    let of = |field: &str| -> Vec<&str> {
        let owns = managers.clone().filter(|manager| manager["fieldsV1"][field].is_object());
        owns.map(|manager| manager["manager"].as_str().unwrap()).collect()
    };
    assert_eq!(of("f:spec"), ["kubectl-client-side-apply"], "{found:#}");
    assert_eq!(of("f:status"), ["notrack-controller"], "{found:#}");
    assert_eq!(found["metadata"]["generation"], 1, "{found:#}");
}

fn an_invalid_policy_is_refused_by_the_api_server(cluster: &Cluster) {
    let error = cluster.apply(&server("bad", "{}", "TCP", 0)).unwrap_err().to_string();
    assert!(error.contains("port"), "{error}");
}

fn a_policy_for_no_node_says_so(cluster: &Cluster) {
    cluster.apply(&server("nowhere", "{matchLabels: {no: such}}", "TCP", 9999)).unwrap();
    let has_reason = |policy: &Value| condition(policy, "Ready") == Some(("False", "NoMatchingNode"));
    cluster.wait_for("notrackpolicy/nowhere", "it says that no node matches", has_reason).unwrap();
    cluster.kubectl("delete notrackpolicy nowhere").unwrap();
}

/// A change of a policy on N nodes costs one RuleSet, a plan and a status a node, and the policy's own status.
fn writes_are_counted(cluster: &Cluster) {
    let nodes = cluster.nodes.len();
    cluster.apply(&server("all", "{}", "TCP", 9001)).unwrap();
    cluster.wait_for("notrackpolicy/all", "it is ready", is_ready).unwrap();
    let mark = cluster.audit_mark().unwrap();
    cluster.apply(&server("all", "{}", "TCP", 9002)).unwrap();
    cluster.wait_for("notrackpolicy/all", "its change is ready", is_ready).unwrap();
    let writes = cluster.writes_since(mark).unwrap();
    let count = |resource: &str| writes.iter().filter(|write| write.resource == resource).count();
    println!(
        "writes of a policy change on {nodes} nodes: {} rulesets, {} nodeplans, {} nodeplans/status, {} notrackpolicies/status",
        count("rulesets"),
        count("nodeplans"),
        count("nodeplans/status"),
        count("notrackpolicies/status"),
    );
    // node2 runs another policy too: two classes. What is unused by now is marked.
    let made = writes.iter().filter(|write| write.resource == "rulesets" && write.code == 201).count();
    assert_eq!(made, 2, "{writes:#?}");
    assert!(count("rulesets") <= made + 3, "{writes:#?}");
    assert_eq!(count("nodeplans"), nodes, "{writes:#?}");
    assert!((nodes..=2 * nodes).contains(&count("nodeplans/status")), "{writes:#?}");
    assert!(writes.iter().all(|write| write.code < 400), "{writes:#?}");
}

/// From `kubectl apply` to the first and the last node whose kernel runs the change.
fn times_are_measured(cluster: &Cluster) {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for port in 9100..9120 {
        let networks: Vec<_> = cluster.nodes.iter().map(|node| node.network().unwrap()).collect();
        let key = format!(". tcp . {port} ");
        cluster.apply(&server("all", "{}", "TCP", port)).unwrap();
        let applied = Instant::now();
        let mut missing = networks.len();
        let mut done = vec![false; networks.len()];
        wait_until("every kernel runs the change", PATIENCE, || {
            for (network, done) in networks.iter().zip(&mut done) {
                if !*done && network.ruleset().unwrap().contains(&key) {
                    *done = true;
                    if missing == networks.len() {
                        first.push(applied.elapsed());
                    }
                    missing -= 1;
                }
            }
            missing == 0
        })
        .unwrap();
        last.push(applied.elapsed());
    }
    first.sort();
    last.sort();
    println!(
        "from kubectl's end to the first node {:?} (p50) {:?} (p99), to the last of {} {:?} {:?}",
        percentile(&first, 0.5),
        percentile(&first, 0.99),
        cluster.nodes.len(),
        percentile(&last, 0.5),
        percentile(&last, 0.99),
    );
    cluster.kubectl("delete notrackpolicy all").unwrap();
}

fn deleting_the_policy_removes_its_rules(cluster: &Cluster) {
    cluster.kubectl("delete notrackpolicy edge-http").unwrap();
    let gone = || cluster.rules().unwrap().values().all(|has| !has);
    wait_until("no kernel holds rules of ours", PATIENCE, gone).unwrap();
    assert!(ask(cluster, "node1", "node2", 8080));
    assert!(entries(cluster, "node2", 8080) > 0, "its traffic is tracked again");
}

fn unused_rule_sets_are_marked_and_collected(cluster: &Cluster) {
    let marked = |sets: &Value| {
        let is_marked = |set: &Value| set["metadata"]["annotations"]["notrack.dev/unused-since"].is_string();
        sets["items"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_marked))
    };
    cluster.wait_for("rulesets", "all are marked as unused", marked).unwrap();
    // Not after ten minutes but after one second.
    cluster
        .kubectl("set env -n notrack-system deployment/notrack-controller NOTRACK_RULE_SETS_STAY_SECONDS=1")
        .unwrap();
    let gone = |sets: &Value| sets["items"].as_array().is_none_or(Vec::is_empty);
    cluster.wait_for("rulesets", "they are collected", gone).unwrap();
}
