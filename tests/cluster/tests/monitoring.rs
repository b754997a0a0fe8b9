//! What people watch, against reality: a Prometheus set up by the chart's own PodMonitors and alerts reads real agents and
//! controllers, every query of the dashboard gives what its panel shows, and a table that is full is seen, relieved and given
//! back as docs/operations.md says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::Duration;

use notrack_cluster::monitoring::{Monitoring, documented, metrics};
use notrack_cluster::prometheus::{INTERVAL, Prometheus};
use notrack_cluster::{Cluster, Options, PATIENCE, fetch, is_ready, policy, serve};
use notrack_lab::{run_ok, run_ok_with_input, wait_until};
use serde_json::Value;

#[path = "monitoring/incident.rs"]
mod incident;

const INSTALL: &str = "install notrack charts/notrack --namespace notrack-system --create-namespace --wait --timeout 3m \
    --set agent.listenAddress=0.0.0.0";
const SECOND: Duration = Duration::from_secs(1);

/// Panels that are empty while all is well.
const EMPTY: [(&str, &str); 1] = [("Failed applies", "no attempt to apply has failed")];

/// Metrics that have no series while all is well. A watch may have failed all the same: access rules that were only just
/// made reach the API server's own view of them a moment later.
const ABSENT: [(&str, &str); 3] = [
    ("notrack_policy_hazards", "the policy has none"),
    ("notrack_controller_watch_errors_total", "every watch works"),
    ("notrack_controller_unreadable_objects_total", "every object can be read"),
];

#[test]
fn what_people_watch_is_there() {
    let cluster = Cluster::start(&Options::default()).unwrap();
    cluster.load_images().unwrap();
    cluster.helm(INSTALL).unwrap();
    cluster.wait_until_installed().unwrap();
    serve(&cluster, "web", "node2", 8080).unwrap();
    let monitoring = Monitoring::render("").unwrap();
    let prometheus = Prometheus::start(&cluster, &monitoring).unwrap();
    every_program_is_read(&cluster, &prometheus);
    // Now: attempts to apply are figures only where there was one while Prometheus looked.
    let flow = "{name: http, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 8080}]}";
    cluster.apply(&policy("edge", &format!("nodeSelector: {{}}\nflows:\n- {flow}"))).unwrap();
    cluster.wait_for("notrackpolicy/edge", "it is ready", is_ready).unwrap();
    metrics_are_those_that_are_documented(&cluster, &prometheus);
    every_panel_shows_something(&cluster, &prometheus, &monitoring);
    the_dashboards_list_of_nodes_is_theirs(&cluster, &prometheus, &monitoring);
    no_alert_is_up(&prometheus, &monitoring);
    cluster.kubectl("delete notrackpolicy edge").unwrap();
    incident::a_filling_table_is_relieved_and_given_back(&cluster, &prometheus);
    incident::a_full_table_is_seen_and_given_room(&cluster, &prometheus);
}

fn every_program_is_read(cluster: &Cluster, prometheus: &Prometheus) {
    let expected =
        [("notrack-system/notrack-agent", cluster.nodes.len()), ("notrack-system/notrack-controller", 2)];
    for (job, count) in expected {
        let read =
            || prometheus.query(&format!("up{{job=\"{job}\"}} == 1")).is_ok_and(|up| up.len() == count);
        wait_until(&format!("{count} of {job} are read"), PATIENCE, read).unwrap_or_else(|error| {
            let targets = prometheus.get("targets", &[]);
            panic!("{error}: {targets:#?}\n{}", prometheus.log())
        });
    }
}

/// A value of the figure of every node or pod.
fn metrics_are_those_that_are_documented(cluster: &Cluster, prometheus: &Prometheus) {
    let read = || {
        let names = prometheus.get("label/__name__/values", &[]).unwrap();
        let names: Vec<&str> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let mut read: BTreeSet<String> = metrics(&names.join(" "));
        read.retain(|name| !name.ends_with("_seconds_sum") && !name.ends_with("_seconds_count"));
        read
    };
    let documented = documented().unwrap();
    let absent = || -> Vec<String> {
        let may_be_absent = |metric: &&String| ABSENT.iter().any(|(absent, _)| absent == metric);
        documented.difference(&read()).filter(|metric| !may_be_absent(metric)).cloned().collect()
    };
    // What a policy brings comes with the next scrape.
    wait_until("every metric", PATIENCE, || absent().is_empty()).unwrap_or_else(|_| panic!("{:?}", absent()));
    let read = read();
    let undocumented: Vec<_> = read.difference(&documented).collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
    // Names, types and help texts as Prometheus' own tool wants them.
    for target in prometheus.get("targets", &[]).unwrap()["activeTargets"].as_array().unwrap() {
        let text =
            run_ok(std::process::Command::new("curl").args(["-sf", target["scrapeUrl"].as_str().unwrap()]));
        let said = run_ok_with_input(
            std::process::Command::new("promtool").args(["check", "metrics"]),
            &text.unwrap(),
        );
        assert_eq!(said.unwrap(), "");
    }
    let nodes: BTreeSet<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    let entries = prometheus.query("notrack_conntrack_entries > 0").unwrap();
    let read: BTreeSet<&str> =
        entries.iter().map(|series| series["metric"]["node"].as_str().unwrap()).collect();
    assert_eq!(read, nodes);
}

fn every_panel_shows_something(cluster: &Cluster, prometheus: &Prometheus, monitoring: &Monitoring) {
    let queries = monitoring.queries();
    assert!(queries.len() > 10);
    // What Grafana makes of it: four times the interval.
    let interval = format!("{}s", 4 * INTERVAL.as_secs());
    for query in &queries {
        let expr = query.expr.replace("$node", ".*").replace("$__rate_interval", &interval);
        assert!(!expr.contains('$'), "a variable of no meaning here: {expr}");
        let may_be_empty = EMPTY.iter().any(|(panel, _)| *panel == query.panel);
        let mut found = Vec::new();
        let waited = wait_until(&format!("{} shows something", query.panel), PATIENCE, || {
            // Something that is bypassed, and entries elsewhere.
            ask(cluster);
            found = prometheus.query(&expr).unwrap();
            // A quotient of nothing by nothing is no figure.
            may_be_empty || !found.is_empty() && found.iter().all(|one| one["value"][1] != "NaN")
        });
        waited.unwrap_or_else(|error| panic!("{error}: {expr} gives {found:?}"));
        for part in query.legend.split("{{").skip(1) {
            let label = part.split_once("}}").unwrap().0.trim();
            assert!(found.iter().all(|one| one["metric"][label].is_string()), "{}: {found:?}", query.panel);
        }
        println!(
            "{:22} {} series, such as {}",
            query.panel,
            found.len(),
            found.first().map_or(&Value::Null, |one| one)
        );
    }
    let titles: BTreeSet<&str> = queries.iter().map(|query| query.panel.as_str()).collect();
    assert!(EMPTY.iter().all(|(panel, _)| titles.contains(panel)));
    // Figures that are known.
    for (panel, figure) in [
        ("Nodes programmed", "3"),
        ("Nodes behind", "0"),
        ("Nodes silent", "0"),
        ("Policies not ready", "0"),
        ("Leaders", "1"),
    ] {
        let query = queries.iter().find(|query| query.panel == panel).unwrap();
        let shows = || prometheus.query(&query.expr).unwrap()[0]["value"][1] == figure;
        wait_until(&format!("{panel} is {figure}"), PATIENCE, shows).unwrap();
    }
    let bypassed = "sum(rate(notrack_policy_bypassed_packets_total{policy=\"edge\",node=\"node2\"}[1m])) > 0";
    wait_until("bypassed packets are seen", PATIENCE, || {
        ask(cluster);
        !prometheus.query(bypassed).unwrap().is_empty()
    })
    .unwrap();
}

/// Asks the web server on node2, from node1.
fn ask(cluster: &Cluster) -> bool {
    let network = cluster.node("node1").unwrap().network().unwrap();
    fetch(network.command("curl"), &cluster.node("node2").unwrap().address, 8080, SECOND)
}

fn the_dashboards_list_of_nodes_is_theirs(
    cluster: &Cluster,
    prometheus: &Prometheus,
    monitoring: &Monitoring,
) {
    let variables = monitoring.dashboard["templating"]["list"].as_array().unwrap();
    let variable = variables.iter().find(|variable| variable["name"] == "node").unwrap();
    let query = variable["query"]["query"].as_str().unwrap();
    let (metric, label) =
        query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap().split_once(", ").unwrap();
    let values = prometheus.get(&format!("label/{label}/values"), &[("match[]", metric)]).unwrap();
    let nodes: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(values, Value::from(nodes));
}

/// Each was judged without error on real figures, and all is well.
fn no_alert_is_up(prometheus: &Prometheus, monitoring: &Monitoring) {
    let quiet = || prometheus.alerts().unwrap().is_empty();
    wait_until("no alert is up", PATIENCE, quiet)
        .unwrap_or_else(|error| panic!("{error}: {:#?}", prometheus.alerts()));
    let groups = prometheus.get("rules", &[]).unwrap();
    let judged: Vec<&Value> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert_eq!(judged.len(), monitoring.alerts().len());
    for alert in judged {
        assert_eq!((&alert["health"], &alert["state"]), (&"ok".into(), &"inactive".into()), "{alert:#}");
    }
    for alert in monitoring.alerts() {
        for metric in metrics(alert["expr"].as_str().unwrap()) {
            let is_absent = ABSENT.iter().any(|(absent, _)| *absent == metric);
            assert!(is_absent || !prometheus.query(&metric).unwrap().is_empty(), "{metric} has no figures");
        }
    }
}
