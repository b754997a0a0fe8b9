//! A table that connections to one port fill: docs/operations.md, step by step.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use notrack_cluster::prometheus::Prometheus;
use notrack_cluster::{Cluster, PATIENCE, condition, is_ready, policy};
use notrack_lab::{Fill, fill_conntrack, run_ok, wait_until};
use serde_json::Value;

use crate::ask;

/// The port whose connections fill the table.
const PORT: u16 = 8080;

/// Nearly full: the order to bypass still gets through.
pub fn a_filling_table_is_relieved_and_given_back(cluster: &Cluster, prometheus: &Prometheus) {
    an_audit_tells_what_a_bypass_would_free(cluster);
    fill(cluster, 97);
    is_seen(cluster, prometheus, &["NotrackConntrackTableFull", "NotrackConntrackTableFilling"]);
    assert!(ask(cluster), "there is room for new connections");
    the_bypass_relieves_it(cluster, prometheus);
    it_ends_by_itself(cluster);
}

/// Full: new connections are lost. An order comes over connections that are open; where it does not, somebody makes room.
pub fn a_full_table_is_seen_and_given_room(cluster: &Cluster, prometheus: &Prometheus) {
    fill(cluster, 101);
    assert!(!ask(cluster), "new connections to it are lost");
    is_seen(cluster, prometheus, &["NotrackConntrackTableFull", "NotrackConntrackDrops"]);
    let node = cluster.node("node2").unwrap();
    let began = Instant::now();
    cluster.apply(&incident("Enforce", &after("+2 hours"))).unwrap();
    let came = wait_until("the order", Duration::from_secs(20), || node.has_rules().unwrap()).is_ok();
    println!("at a full table the order came by itself: {came}, {:?} after apply", began.elapsed());
    if !came {
        make_room(cluster);
        wait_until("the order comes", PATIENCE, || node.has_rules().unwrap()).unwrap();
    }
    wait_until("new connections get through", PATIENCE, || ask(cluster)).unwrap();
    println!("new connections get through {:?} after apply", began.elapsed());
    cluster.wait_for("notrackpolicy/incident", "it is ready", is_ready).unwrap();
    println!("the status says so {:?} after apply", began.elapsed());
}

/// Deletes the entries of the port on the node itself.
fn make_room(cluster: &Cluster) {
    let network = cluster.node("node2").unwrap().network().unwrap();
    let mut delete = network.command("conntrack");
    // It fails where there are none: a bypass may have deleted them all meanwhile.
    drop(run_ok(delete.args(["-D", "-p", "tcp", "--orig-port-dst", &PORT.to_string()])));
}

/// Connections to a port of node2, until its table is as full as this, in per cent; returns how many it took.
fn fill(cluster: &Cluster, per_cent: usize) -> usize {
    let node = cluster.node("node2").unwrap();
    let network = node.network().unwrap();
    let maximum: usize = network.sysctl("net.netfilter.nf_conntrack_max").unwrap().parse().unwrap();
    let server: Ipv4Addr = node.address.parse().unwrap();
    let memory = unreclaimable();
    let entries = maximum * per_cent / 100;
    let fill = Fill { entries, server: (server, PORT), lifetime: Duration::from_secs(1800) };
    let filled = fill_conntrack(&network, fill).unwrap();
    let took = unreclaimable().saturating_sub(memory) * 1024 / filled;
    println!("{filled} entries of at most {maximum}, some {took} bytes each");
    filled
}

/// Kernel memory of this machine that cannot be freed, in KiB.
fn unreclaimable() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("SUnreclaim:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

fn level(plan: &Value) -> &str {
    plan["status"]["conntrack"]["level"].as_str().unwrap_or_default()
}

fn is_seen(cluster: &Cluster, prometheus: &Prometheus, alerts: &[&str]) {
    cluster.wait_for("nodeplan/node2", "its table is full", |plan| level(plan) == "Full").unwrap();
    println!("{}", cluster.kubectl("get nodeplans --sort-by=.status.conntrack.usedPercent").unwrap());
    for name in alerts {
        let about =
            |alert: &Value| alert["labels"]["alertname"] == *name && alert["labels"]["node"] == "node2";
        let is_up = || {
            // At a full table each is a drop.
            ask(cluster);
            prometheus.alerts().unwrap().iter().any(about)
        };
        wait_until(&format!("{name} is pending or firing"), PATIENCE, is_up)
            .unwrap_or_else(|error| panic!("{error}: {:#?}", prometheus.alerts()));
    }
}

fn incident(mode: &str, until: &str) -> String {
    let flow = "{name: http, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 8080}]}";
    let spec = format!("nodeSelector: {{}}\nexpireTime: {until}\nflows:\n- {flow}");
    policy("incident", &spec).replace("mode: Enforce", &format!("mode: {mode}"))
}

/// As in the document's commands.
fn after(words: &str) -> String {
    run_ok(std::process::Command::new("date").args(["-u", "-d", words, "+%FT%TZ"])).unwrap().trim().to_owned()
}

/// Of a table that is far from full: programs without optimization take minutes to judge hundreds of thousands of entries.
fn an_audit_tells_what_a_bypass_would_free(cluster: &Cluster) {
    let filled = fill(cluster, 5);
    let began = Instant::now();
    cluster.apply(&incident("Audit", &after("+2 hours"))).unwrap();
    let frees = |policy: &Value| policy["status"]["traffic"]["evictableEntries"].as_u64().unwrap_or_default();
    let told = |policy: &Value| is_ready(policy) && frees(policy) >= filled as u64 * 9 / 10;
    let found = cluster.wait_for("notrackpolicy/incident", "it tells what it would free", told).unwrap();
    println!(
        "mode Enforce would delete {} of {filled}, told {:?} after apply",
        frees(&found),
        began.elapsed()
    );
    cluster.kubectl("delete notrackpolicy incident").unwrap();
    make_room(cluster);
}

fn the_bypass_relieves_it(cluster: &Cluster, prometheus: &Prometheus) {
    let began = Instant::now();
    cluster.apply(&incident("Enforce", &after("+2 hours"))).unwrap();
    let node = cluster.node("node2").unwrap();
    wait_until("the kernel runs the order", PATIENCE, || node.has_rules().unwrap()).unwrap();
    wait_until("new connections get through", PATIENCE, || ask(cluster)).unwrap();
    println!("a bypass at a filling table works {:?} after apply", began.elapsed());
    let network = node.network().unwrap();
    let entries = || network.sysctl("net.netfilter.nf_conntrack_count").unwrap().parse::<usize>().unwrap();
    let swept = wait_until("the table has room", PATIENCE / 2, || entries() < 10_000);
    println!("from apply to a table with room: {:?}, {swept:?}", began.elapsed());
    println!("{}", cluster.kubectl("get pods -n notrack-system -o wide").unwrap());
    if swept.is_err() {
        // Programs without optimization may take longer than their probes let them. What is tested is the way back.
        make_room(cluster);
    }
    cluster.wait_for("nodeplan/node2", "its level is normal", |plan| level(plan) == "Normal").unwrap();
    cluster.wait_for("notrackpolicy/incident", "it is ready", is_ready).unwrap();
    let is_full = |alert: &Value| alert["labels"]["alertname"] == "NotrackConntrackTableFull";
    wait_until("no table is full", PATIENCE, || !prometheus.alerts().unwrap().iter().any(is_full)).unwrap();
}

fn it_ends_by_itself(cluster: &Cluster) {
    let until = after("+10 seconds");
    let patch = format!("{{\"spec\":{{\"expireTime\":\"{until}\"}}}}");
    cluster.kubectl(&format!("patch notrackpolicy incident --type=merge -p {patch}")).unwrap();
    let expired = |policy: &Value| condition(policy, "Ready") == Some(("False", "Expired"));
    let found = cluster.wait_for("notrackpolicy/incident", "it has expired", expired).unwrap();
    assert_eq!(found["spec"]["expireTime"], until, "the user's spec stays");
    let gone = || cluster.rules().unwrap().values().all(|has| !has);
    wait_until("no kernel holds rules of ours", PATIENCE, gone).unwrap();
    assert!(ask(cluster));
    let network = cluster.node("node2").unwrap().network().unwrap();
    assert!(!network.conntrack("-p tcp --dport 8080").unwrap().is_empty(), "its traffic is tracked again");
    cluster.kubectl("delete notrackpolicy incident").unwrap();
}
