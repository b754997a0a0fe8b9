//! The chart on a real Kubernetes, with real Helm: install, upgrade, rollback, a second release, uninstall, and the way back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;
use std::time::Instant;

use notrack_cluster::{Cluster, Options, helm, is_ready, repository, server};
use notrack_lab::run_ok;
use serde_json::Value;
use tempfile::TempDir;

#[path = "chart/removal.rs"]
mod removal;

/// A cluster, and the chart as those have it who have no sources: one file.
struct Site {
    cluster: Cluster,
    folder: TempDir,
}

impl Site {
    fn start() -> Site {
        // The other mode of kube-proxy is that of examples.rs.
        let cluster = Cluster::start(&Options { proxy_mode: "nftables", ..Options::default() }).unwrap();
        cluster.load_images().unwrap();
        let folder = tempfile::tempdir().unwrap();
        run_ok(helm().unwrap().args(["package", "charts/notrack", "--destination"]).arg(folder.path()))
            .unwrap();
        Site { cluster, folder }
    }

    /// `helm` with the words of a command, in which `CHART` stands for that file.
    fn helm(&self, arguments: &str) -> Result<String, String> {
        let package = self.folder.path().join(concat!("notrack-", env!("CARGO_PKG_VERSION"), ".tgz"));
        let arguments = arguments.replace("CHART", package.to_str().unwrap());
        self.cluster.helm(&arguments).map_err(|error| format!("{error:#}"))
    }

    fn install(&self, values: &str) -> Result<String, String> {
        let install =
            "install notrack CHART --namespace notrack-system --create-namespace --wait --timeout 3m";
        self.helm(&format!("{install} {values}"))
    }

    fn upgrade(&self, values: &str) {
        let upgrade = "upgrade notrack CHART --namespace notrack-system --wait --timeout 3m --reset-values";
        self.helm(&format!("{upgrade} {values}")).unwrap();
    }
}

#[test]
fn the_chart_is_installed_upgraded_rolled_back_and_removed() {
    let site = Site::start();
    let cluster = &site.cluster;
    every_object_passes_the_api_server(&site);
    a_namespace_that_refuses_agents_is_told_before(&site);

    let began = Instant::now();
    let notes = site.install("").unwrap();
    println!("helm install --wait took {:?}", began.elapsed());
    assert!(notes.contains("kubectl get nodeplans"), "{notes}");
    cluster.wait_until_installed().unwrap();
    cluster.admission_came_first().unwrap();
    tests_pass(&site);
    everything_optional_is_installed_and_goes_again(&site);
    cluster.run_pods().unwrap();

    cluster.apply(&server("edge", "{}", "TCP", 8080)).unwrap();
    cluster.wait_for("notrackpolicy/edge", "it is ready", is_ready).unwrap();
    let enforced = cluster.stable_rules().unwrap();
    assert!(enforced.values().all(|rules| rules.contains("8080")), "{enforced:?}");

    a_second_release_is_refused(&site);
    definitions_go_up_and_never_down(&site);
    removal::without_hooks_leaves_the_rules(&site, &enforced);
    removal::what_was_left_is_taken_over(&site, &enforced);
    removal::withdraws_the_rules_of_those_that_answer(&site);
    removal::what_was_withdrawn_comes_back(&site);
    removal::an_agent_that_hangs_is_named_and_nothing_else_stays(&site);
    removal::ends_also_where_the_definitions_went_first(&site);
}

/// Also those of parts that are off, of hooks, and of the Prometheus operator's kinds.
fn every_object_passes_the_api_server(site: &Site) {
    let cluster = &site.cluster;
    let definitions = run_ok(&mut Command::new(repository().join("tests/tools/prometheus-crds.sh"))).unwrap();
    for kind in ["podmonitors", "servicemonitors", "prometheusrules"] {
        let file = format!("{}/monitoring.coreos.com_{kind}.yaml", definitions.trim());
        cluster.kubectl(&format!("apply --server-side -f {file}")).unwrap();
        cluster
            .kubectl(&format!("wait --for=condition=Established crd/{kind}.monitoring.coreos.com"))
            .unwrap();
    }
    cluster.kubectl("create namespace try").unwrap();
    for values in ["", "everything", "pod-monitors", "mirror", "least"] {
        let values = if values.is_empty() {
            String::new()
        } else {
            format!("--values charts/notrack/ci/{values}.yaml")
        };
        let objects = site.helm(&format!("template notrack CHART -n try {values}")).unwrap();
        assert!(objects.contains("helm.sh/hook: pre-delete"), "the jobs are there too");
        let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        notrack_lab::run_ok_with_input(cluster.kubectl_command().args(apply), &objects).unwrap();
    }
    cluster.kubectl("delete namespace try").unwrap();
}

/// Not tried alone: the whole of it, running.
fn everything_optional_is_installed_and_goes_again(site: &Site) {
    let cluster = &site.cluster;
    let kinds = "podmonitors,servicemonitors,prometheusrules,networkpolicies,resourcequotas,configmaps";
    let count = || {
        let found =
            cluster.get(&format!("{kinds} -n notrack-system -l app.kubernetes.io/name=notrack")).unwrap();
        found["items"].as_array().map_or(0, Vec::len)
    };
    let before = count();
    site.upgrade("--values charts/notrack/ci/everything.yaml");
    cluster.wait_until_installed().unwrap();
    // Two monitors, the alerts, the policy of the network, the quota, the dashboard.
    assert_eq!(count(), before + 6);
    // What it is for is counted there: the agents and both controllers.
    let counts = |quota: &Value| quota["status"]["used"]["pods"] == "5";
    cluster.wait_for("resourcequota/notrack -n notrack-system", "it covers all pods", counts).unwrap();
    site.upgrade("");
    cluster.wait_until_installed().unwrap();
    assert_eq!(count(), before);
}

fn a_namespace_that_refuses_agents_is_told_before(site: &Site) {
    let cluster = &site.cluster;
    cluster.kubectl("create namespace notrack-system").unwrap();
    let label = "label --overwrite namespace notrack-system pod-security.kubernetes.io/enforce=";
    cluster.kubectl(&format!("{label}restricted")).unwrap();
    let error = site.install("").unwrap_err();
    assert!(error.contains(label), "it names the way out: {error}");
    cluster.kubectl(&format!("{label}privileged")).unwrap();
}

fn tests_pass(site: &Site) {
    let said = site.helm("test notrack --namespace notrack-system --timeout 2m --logs").unwrap();
    // At the pod's own address: what is proved is not loopback alone.
    let line = said.lines().find(|line| line.starts_with("packets to and from 10."));
    let line = line.unwrap_or_else(|| panic!("nothing is proved: {said}"));
    println!("helm test: {line}");
    assert!(line.contains(" skipped tracking ") && line.contains(", 0 entries; 1 entry for port "), "{line}");
    assert!(said.contains("table inet notrack-dev is removed"), "{said}");
    let left = site.cluster.get("pods -n notrack-system -l app.kubernetes.io/component=test").unwrap();
    assert!(left["items"].as_array().is_none_or(Vec::is_empty), "{left:#}");
}

fn a_second_release_is_refused(site: &Site) {
    let cluster = &site.cluster;
    for (name, namespace) in [("other", "notrack-system"), ("notrack", "elsewhere")] {
        let before = cluster.get("validatingadmissionpolicies/notrack-agent-own-node").unwrap();
        let second = format!("install {name} CHART --namespace {namespace} --create-namespace");
        let error = site.helm(&second).unwrap_err();
        assert!(error.contains("invalid ownership metadata"), "{error}");
        let after = cluster.get("validatingadmissionpolicies/notrack-agent-own-node").unwrap();
        assert_eq!(
            after["metadata"]["uid"], before["metadata"]["uid"],
            "it has touched the first one's objects"
        );
    }
    let secrets = cluster.get("secrets -n elsewhere").unwrap();
    assert!(secrets["items"].as_array().is_none_or(Vec::is_empty), "{secrets:#}");
}

/// The version label of a definition, and whether it knows `spec.existingEntries`.
fn definition(cluster: &Cluster) -> (String, bool) {
    let crd = cluster.get("crd/notrackpolicies.notrack.dev").unwrap();
    let fields = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let version = crd["metadata"]["labels"]["app.kubernetes.io/version"].as_str().unwrap_or_default();
    (version.to_owned(), fields["existingEntries"].is_object())
}

/// An older definition is brought up by an upgrade; a newer one is left alone by an upgrade and by a rollback.
fn definitions_go_up_and_never_down(site: &Site) {
    let cluster = &site.cluster;
    let ours = definition(cluster);
    let label = "label --overwrite crd notrackpolicies.notrack.dev app.kubernetes.io/version=";
    let remove = r#"[{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/existingEntries"}]"#;
    let patch = ["patch", "crd", "notrackpolicies.notrack.dev", "--type=json", "--patch", remove];
    for (version, wanted) in [("0.0.9", ours.clone()), ("99.0.0", ("99.0.0".to_owned(), false))] {
        run_ok(cluster.kubectl_command().args(patch)).unwrap();
        cluster.kubectl(&format!("{label}{version}")).unwrap();
        site.upgrade("");
        assert_eq!(definition(cluster), wanted, "after an upgrade");
    }
    site.helm("rollback notrack 1 --namespace notrack-system --wait --timeout 3m").unwrap();
    assert_eq!(definition(cluster), ("99.0.0".to_owned(), false), "after a rollback");
    cluster.kubectl(&format!("{label}{}", ours.0)).unwrap();
    site.upgrade("");
    assert_eq!(definition(cluster), ours);
}
