//! What the chart gives to those who watch: monitors, alerts, dashboard, as rendered; and the metrics that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use notrack_lab::run_ok;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::helm::helm;
use crate::testbed::repository;

/// The parts of the chart, rendered with all of them on.
#[derive(Debug)]
pub struct Monitoring {
    /// The PodMonitors: of the agents, of the controllers.
    pub pod_monitors: Vec<Value>,
    /// The PrometheusRule's `spec`, which is a file of rules.
    pub rules: Value,
    /// The dashboard.
    pub dashboard: Value,
}

/// A query of the dashboard.
#[derive(Clone, Debug)]
pub struct Query {
    /// The panel's title.
    pub panel: String,
    /// PromQL, with Grafana's variables.
    pub expr: String,
    /// How its series are named: `{{label}}`.
    pub legend: String,
}

impl Monitoring {
    /// Renders them; `values` are more of helm's `--set`.
    pub fn render(values: &str) -> Result<Monitoring> {
        let set = format!(
            "agent.listenAddress=0.0.0.0,podMonitor.enabled=true,prometheusRule.enabled=true,grafanaDashboard.enabled=true{values}"
        );
        let mut command = helm()?;
        command.args(["template", "notrack", "charts/notrack", "--namespace", "notrack-system"]);
        let text = run_ok(command.args(["--show-only", "templates/monitoring.yaml", "--set", &set]))?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        let of = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind).cloned();
        let dashboard = of("ConfigMap").next().context("there is no ConfigMap")?;
        let dashboard = dashboard["data"]["notrack.json"].as_str().context("there is no dashboard")?;
        Ok(Monitoring {
            pod_monitors: of("PodMonitor").collect(),
            rules: of("PrometheusRule").next().context("there is no PrometheusRule")?["spec"].clone(),
            dashboard: serde_json::from_str(dashboard)?,
        })
    }

    /// Every alert.
    pub fn alerts(&self) -> Vec<&Value> {
        let groups = self.rules["groups"].as_array().into_iter().flatten();
        groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect()
    }

    /// Every query of the dashboard.
    pub fn queries(&self) -> Vec<Query> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let panels = self.dashboard["panels"].as_array().into_iter().flatten();
        let queries = panels.flat_map(|panel| {
            let targets = panel["targets"].as_array().into_iter().flatten();
            targets.map(|target| Query {
                panel: text(&panel["title"]),
                expr: text(&target["expr"]),
                legend: text(&target["legendFormat"]),
            })
        });
        queries.collect()
    }

    /// The jobs that the Prometheus operator makes of the PodMonitors.
    pub fn scrape_configs(&self, cluster: &Cluster) -> Result<Vec<Value>> {
        let targets = targets(cluster)?;
        self.pod_monitors.iter().map(|monitor| scrape_config(monitor, &targets)).collect()
    }
}

/// The ports of the pods as Prometheus' own discovery describes them. Debian's Prometheus is built without it.
fn targets(cluster: &Cluster) -> Result<Vec<Value>> {
    let pods = cluster.get("pods -n notrack-system")?;
    let mut targets = Vec::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let address = pod["status"]["podIP"].as_str().context("a pod has no address")?;
        let mut labels = BTreeMap::from([
            ("__meta_kubernetes_namespace".to_owned(), &pod["metadata"]["namespace"]),
            ("__meta_kubernetes_pod_name".to_owned(), &pod["metadata"]["name"]),
            ("__meta_kubernetes_pod_node_name".to_owned(), &pod["spec"]["nodeName"]),
        ]);
        for (label, value) in pod["metadata"]["labels"].as_object().into_iter().flatten() {
            labels.insert(meta(label), value);
        }
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            labels.insert("__meta_kubernetes_pod_container_name".to_owned(), &container["name"]);
            for port in container["ports"].as_array().into_iter().flatten() {
                labels.insert("__meta_kubernetes_pod_container_port_name".to_owned(), &port["name"]);
                let target = format!("{address}:{}", port["containerPort"]);
                targets.push(json!({"targets": [target], "labels": labels}));
            }
        }
    }
    Ok(targets)
}

/// What discovery calls a label.
fn meta(label: &str) -> String {
    format!("__meta_kubernetes_pod_label_{}", label.replace(['.', '/', '-'], "_"))
}

fn scrape_config(monitor: &Value, targets: &[Value]) -> Result<Value> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("not a text");
    let namespace = text(&monitor["metadata"]["namespace"])?;
    let job = format!("{namespace}/{}", text(&monitor["metadata"]["name"])?);
    let endpoints = monitor["spec"]["podMetricsEndpoints"].as_array().context("no endpoints")?;
    ensure!(endpoints.len() == 1, "{job} has {} endpoints", endpoints.len());
    let port = text(&endpoints[0]["port"])?;
    let mut relabelings = Vec::new();
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().context("no selector")? {
        relabelings.push(json!({"action": "keep", "source_labels": [meta(label)], "regex": value}));
    }
    let port_name = "__meta_kubernetes_pod_container_port_name";
    relabelings.push(json!({"action": "keep", "source_labels": [port_name], "regex": port}));
    for (target, source) in
        [("namespace", "namespace"), ("container", "pod_container_name"), ("pod", "pod_name")]
    {
        let source = format!("__meta_kubernetes_{source}");
        relabelings.push(json!({"source_labels": [source], "target_label": target}));
    }
    relabelings.push(json!({"target_label": "endpoint", "replacement": port}));
    for own in endpoints[0]["relabelings"].as_array().into_iter().flatten() {
        let known: BTreeSet<&str> =
            own.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        ensure!(known == BTreeSet::from(["sourceLabels", "targetLabel"]), "{job}: {own}");
        relabelings.push(json!({"source_labels": own["sourceLabels"], "target_label": own["targetLabel"]}));
    }
    Ok(json!({"job_name": job, "static_configs": targets, "relabel_configs": relabelings}))
}

/// The names of our metrics in a text.
pub fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    // A histogram is three series.
    let words = words.filter(|word| word.starts_with("notrack_"));
    words.map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned()).collect()
}

/// The names of the metrics that docs/metrics.md lists: in the first column of its tables.
pub fn documented() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(repository().join("docs/metrics.md"))?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    Ok(rows.map(|(name, _)| name.to_owned()).collect())
}
