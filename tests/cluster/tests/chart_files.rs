//! The chart without a cluster: what is generated from it, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use notrack_cluster::{helm, repository};
use notrack_lab::run_ok;
use serde_json::Value;

const CHART: &str = "charts/notrack";

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

fn render(arguments: &[&str]) -> Result<String, String> {
    let mut command = helm().unwrap();
    command.args(["template", "notrack", CHART, "--namespace", "notrack-system"]).args(arguments);
    run_ok(&mut command).map_err(|error| format!("{error:#}"))
}

fn examples() -> Vec<String> {
    let files = fs::read_dir(repository().join(CHART).join("ci")).unwrap().flatten();
    let files: Vec<_> = files.map(|file| file.path().to_str().unwrap().to_owned()).collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn generated_files_do_not_drift() {
    run_ok(Command::new(repository().join("tests/tools/chart.sh")).arg("--check")).unwrap();
}

#[test]
fn lint_has_nothing_to_say() {
    run_ok(helm().unwrap().args(["lint", "--strict", "--quiet", CHART])).unwrap();
    for values in examples() {
        run_ok(helm().unwrap().args(["lint", "--strict", "--quiet", CHART, "--values", &values])).unwrap();
    }
}

#[test]
fn values_that_are_wrong_are_refused() {
    for (value, told) in [
        ("agnet.port=1", "'agnet' not allowed"),
        ("agent.prot=1", "'prot' not allowed"),
        ("controller.image.tga=1", "'tga' not allowed"),
        ("agent.tolerations[0].opertor=Exists", "'opertor' not allowed"),
        ("agent.port=many", "/agent/port"),
        ("agent.port=0", "/agent/port"),
        ("agent.port=65536", "/agent/port"),
        ("agent.keepWithoutAgent=1d", "/agent/keepWithoutAgent"),
        ("agent.listenAddress=10.0.0.1", "/agent/listenAddress"),
        ("agent.maxUnavailable=0", "/agent/maxUnavailable"),
        ("controller.replicas=0", "/controller/replicas"),
        ("controller.nodePortRange=30000", "/controller/nodePortRange"),
        ("controller.image.digest=abc", "/controller/image/digest"),
        ("crds.keep=yes", "/crds/keep"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("prometheusRule.runbookUrl=docs/operations.md", "/prometheusRule/runbookUrl"),
        ("podMonitor.enabled=true", "set agent.listenAddress"),
        ("crds.keep=false,uninstall.withdraw=false", "needs uninstall.withdraw"),
        ("uninstall.withinSeconds=0", "/uninstall/withinSeconds"),
        (
            "resourceQuota.enabled=true,agent.priorityClassName=,controller.priorityClassName=",
            "a priorityClassName",
        ),
        ("commonLabels.app\\.kubernetes\\.io/instance=other", "invalid propertyName"),
        ("agent.extraEnv[0].nmae=NOTE", "'nmae' not allowed"),
        ("controller.serviceAccount.annotation.a=b", "'annotation' not allowed"),
        ("revisionHistoryLimit=-1", "/revisionHistoryLimit"),
        ("serviceMonitor.enabled=true,controller.service.enabled=false", "needs controller.service.enabled"),
    ] {
        let error = render(&["--set", value]).expect_err(value);
        assert!(error.contains(told), "{value}: {error}");
    }
}

#[test]
fn an_old_kubernetes_is_refused() {
    let error = render(&["--kube-version", "1.31.14"]).unwrap_err();
    assert!(error.contains("1.32.0"), "{error}");
    // Providers' versions look like pre-releases.
    render(&["--kube-version", "1.32.1-eks-1a2b3c4"]).unwrap();
}

#[test]
fn a_chart_that_depends_on_this_one_may_say_so() {
    render(&["--set", "enabled=true,global.imageRegistry=registry.example.org"]).unwrap();
}

#[test]
fn every_object_of_the_schema_refuses_what_it_does_not_know() {
    let schema: Value = serde_json::from_str(&read("charts/notrack/values.schema.json")).unwrap();
    let mut open = BTreeSet::new();
    fn walk(path: &str, value: &Value, open: &mut BTreeSet<String>) {
        let properties = value["properties"].is_object();
        if properties && value["additionalProperties"] != Value::Bool(false) {
            open.insert(path.to_owned());
        }
        for (key, value) in value.as_object().into_iter().flatten() {
            walk(&format!("{path}/{key}"), value, open);
        }
    }
    walk("", &schema, &mut open);
    assert!(open.is_empty(), "{open:?}");
}

/// A rollback would bring back older ones, and with them the API server would drop fields of every object.
#[test]
fn definitions_are_no_part_of_a_release_and_go_only_where_that_is_asked_for() {
    let has = |values: &str, what: &str| render(&["--set", values]).unwrap().contains(what);
    for values in ["crds.keep=true", "crds.keep=false", "crds.enabled=false"] {
        assert!(!has(values, "kind: CustomResourceDefinition"), "{values}");
        assert_eq!(has(values, "install-crds"), values != "crds.enabled=false");
        assert_eq!(has(values, "--delete-crds"), values == "crds.keep=false");
        assert_eq!(has(values, "verbs: [delete]"), values == "crds.keep=false");
    }
}

/// What takes the text alone, as Argo CD does, would keep one of two and warn.
#[test]
fn every_object_is_in_the_text_once() {
    for values in examples() {
        let text = render(&["--values", &values]).unwrap();
        let mut seen = BTreeSet::new();
        for object in text.split("\n---\n") {
            let line = |start: &str| object.lines().find(|line| line.starts_with(start)).map(str::to_owned);
            let Some(kind) = line("kind: ") else { continue };
            assert!(seen.insert((kind, line("  name: "))), "{values}: twice: {object}");
        }
        assert!(seen.len() > 10, "{values}: {seen:?}");
    }
}

/// What `helm install` tells.
fn notes(arguments: &[&str]) -> String {
    let mut command = helm().unwrap();
    command.args(["install", "notrack", CHART, "--dry-run=client", "--namespace", "notrack-system"]);
    let said = run_ok(command.args(arguments)).unwrap();
    said.split("\nNOTES:\n").nth(1).unwrap().to_owned()
}

#[test]
fn alerts_that_nothing_feeds_are_warned_of() {
    let warns = |values: &str| notes(&["--set", values]).contains("NotrackNoLeader will fire");
    assert!(warns("prometheusRule.enabled=true"));
    assert!(!warns("prometheusRule.enabled=true,serviceMonitor.enabled=true"));
    assert!(!warns("prometheusRule.enabled=true,podMonitor.enabled=true,agent.listenAddress=0.0.0.0"));
}

/// Where the cluster's default refuses the agents nobody is told by the API server.
#[test]
fn whoever_lacks_pods_finds_the_command_that_lets_them_in() {
    let command =
        "kubectl label --overwrite namespace notrack-system pod-security.kubernetes.io/enforce=privileged";
    for file in ["charts/notrack/README.md", "docs/install.md"] {
        assert!(read(file).contains(command), "{file} lacks: {command}");
    }
    assert!(notes(&[]).contains(command));
}

/// Whoever has the packaged chart has no more than that.
#[test]
fn the_charts_readme_leads_nowhere_outside_of_it() {
    let readme = read("charts/notrack/README.md");
    assert!(!readme.contains("]("), "a link, which leads nowhere where there is the package alone");
}

#[test]
fn the_application_names_this_release() {
    let revision = format!("targetRevision: v{}\n", env!("CARGO_PKG_VERSION"));
    assert!(
        read("deploy/argocd/notrack.yaml").contains(&revision),
        "deploy/argocd/notrack.yaml lacks {revision}"
    );
}
