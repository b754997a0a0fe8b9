//! The chart on a real Kubernetes, with real Helm: install, upgrade, rollback, a second release, uninstall, and the way back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use notrack_cluster::{Cluster, Options, PATIENCE, condition, is_ready, repository, server};
use notrack_lab::{run_ok, wait_until};
use serde_json::Value;

const INSTALL: &str =
    "install notrack charts/notrack --namespace notrack-system --create-namespace --wait --timeout 3m";
const UPGRADE: &str = "upgrade notrack charts/notrack --namespace notrack-system --wait --timeout 3m --set";

#[test]
fn the_chart_is_installed_upgraded_rolled_back_and_removed() {
    // The other mode of kube-proxy is that of examples.rs.
    let cluster = Cluster::start(&Options { proxy_mode: "nftables", ..Options::default() }).unwrap();
    cluster.load_images().unwrap();
    every_object_passes_the_api_server(&cluster);
    a_namespace_that_refuses_agents_is_told_before(&cluster);

    let began = Instant::now();
    let notes = cluster.helm(INSTALL).unwrap();
    println!("helm install --wait took {:?}", began.elapsed());
    assert!(notes.contains("kubectl get nodeplans"), "{notes}");
    cluster.wait_until_installed().unwrap();
    admission_policies_were_first(&cluster);
    tests_pass(&cluster);
    everything_optional_is_installed_and_goes_again(&cluster);
    cluster.run_pods().unwrap();

    cluster.apply(&server("edge", "{}", "TCP", 8080)).unwrap();
    cluster.wait_for("notrackpolicy/edge", "it is ready", is_ready).unwrap();
    let enforced = cluster.stable_rules().unwrap();
    assert!(enforced.values().all(|rules| rules.contains("8080")), "{enforced:?}");

    a_second_release_is_refused(&cluster);
    definitions_go_up_and_never_down(&cluster);
    an_uninstall_without_hooks_leaves_the_rules(&cluster, &enforced);
    what_was_left_is_taken_over(&cluster, &enforced);
    an_uninstall_withdraws_the_rules_of_those_that_answer(&cluster);
    what_was_withdrawn_comes_back(&cluster);
    without_keep_nothing_stays(&cluster);
}

/// Also those of parts that are off, and of the Prometheus operator's kinds.
fn every_object_passes_the_api_server(cluster: &Cluster) {
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
        let objects =
            cluster.helm(&format!("template notrack charts/notrack -n try --no-hooks {values}")).unwrap();
        let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        notrack_lab::run_ok_with_input(cluster.kubectl_command().args(apply), &objects).unwrap();
    }
    cluster.kubectl("delete namespace try").unwrap();
}

/// Not tried alone: the whole of it, running.
fn everything_optional_is_installed_and_goes_again(cluster: &Cluster) {
    let kinds = "podmonitors,servicemonitors,prometheusrules,networkpolicies,configmaps";
    let count = || {
        let found =
            cluster.get(&format!("{kinds} -n notrack-system -l app.kubernetes.io/name=notrack")).unwrap();
        found["items"].as_array().map_or(0, Vec::len)
    };
    let before = count();
    let upgrade =
        "upgrade notrack charts/notrack --namespace notrack-system --wait --timeout 3m --reset-values";
    cluster.helm(&format!("{upgrade} --values charts/notrack/ci/everything.yaml")).unwrap();
    cluster.wait_until_installed().unwrap();
    // Two monitors, the alerts, the policy of the network, the dashboard.
    assert_eq!(count(), before + 5);
    cluster.helm(upgrade).unwrap();
    cluster.wait_until_installed().unwrap();
    assert_eq!(count(), before);
}

fn a_namespace_that_refuses_agents_is_told_before(cluster: &Cluster) {
    cluster.kubectl("create namespace notrack-system").unwrap();
    let label = "label --overwrite namespace notrack-system pod-security.kubernetes.io/enforce=";
    cluster.kubectl(&format!("{label}restricted")).unwrap();
    let error = format!("{:#}", cluster.helm(INSTALL).unwrap_err());
    assert!(error.contains(label), "it names the way out: {error}");
    cluster.kubectl(&format!("{label}privileged")).unwrap();
}

fn admission_policies_were_first(cluster: &Cluster) {
    let policies = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
    cluster.was_made_in_order(&policies, "daemonsets").unwrap();
}

fn tests_pass(cluster: &Cluster) {
    let said = cluster.helm("test notrack --namespace notrack-system --timeout 2m --logs").unwrap();
    // At the pod's own address: what is proved is not loopback alone.
    let line = said.lines().find(|line| line.starts_with("packets to and from 10."));
    let line = line.unwrap_or_else(|| panic!("nothing is proved: {said}"));
    println!("helm test: {line}");
    assert!(line.contains(" skipped tracking ") && line.contains(", 0 entries; 1 entry for port "), "{line}");
    assert!(said.contains("table inet notrack-dev is removed"), "{said}");
    let left = cluster.get("pods -n notrack-system -l app.kubernetes.io/component=test").unwrap();
    assert!(left["items"].as_array().is_none_or(Vec::is_empty), "{left:#}");
}

fn a_second_release_is_refused(cluster: &Cluster) {
    for (name, namespace) in [("other", "notrack-system"), ("notrack", "elsewhere")] {
        let before = cluster.get("validatingadmissionpolicies/notrack-agent-own-node").unwrap();
        let second = format!("install {name} charts/notrack --namespace {namespace} --create-namespace");
        let error = format!("{:#}", cluster.helm(&second).unwrap_err());
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

const EVERYTHING: &str = "deployments,daemonsets,jobs,pods,services,serviceaccounts,configmaps,leases,poddisruptionbudgets,\
     roles,rolebindings,networkpolicies,clusterroles,clusterrolebindings,flowschemas,prioritylevelconfigurations,\
     validatingadmissionpolicies,validatingadmissionpolicybindings";

/// Kind and name of what is in the cluster of ours, but for the lease, which the controllers make themselves.
fn left(cluster: &Cluster, kinds: &str) -> Vec<String> {
    let all = cluster.get(&format!("{kinds} -A")).unwrap();
    let names = all["items"].as_array().into_iter().flatten().map(|object| {
        format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
    });
    names.filter(|name| name.contains("notrack") && name != "Lease/notrack-controller").collect()
}

/// Without the job that withdraws: programs are gone, and nobody has touched a rule.
fn an_uninstall_without_hooks_leaves_the_rules(cluster: &Cluster, enforced: &BTreeMap<String, String>) {
    let uninstall = "uninstall notrack --namespace notrack-system --wait --timeout 2m --no-hooks";
    cluster.helm(uninstall).unwrap();
    only_definitions_are_left(cluster);
    assert_eq!(
        cluster.stable_rules().unwrap(),
        *enforced,
        "rules stay until they are removed on purpose, or their lease ends"
    );
}

fn only_definitions_are_left(cluster: &Cluster) {
    wait_until("only the definitions are left", PATIENCE, || left(cluster, EVERYTHING).is_empty())
        .unwrap_or_else(|_| panic!("{:?}", left(cluster, EVERYTHING)));
    for kind in ["notrackpolicies", "nodeplans", "rulesets"] {
        assert!(!cluster.get(&format!("crd/{kind}.notrack.dev")).unwrap().is_null());
    }
    assert!(!cluster.get("notrackpolicy/edge").unwrap().is_null());
}

/// Definitions, policies and rules of the release that was: the next one goes on with them.
fn what_was_left_is_taken_over(cluster: &Cluster, enforced: &BTreeMap<String, String>) {
    cluster.helm(INSTALL).unwrap();
    cluster.wait_until_installed().unwrap();
    let has_followed =
        |policy: &Value| is_ready(policy) && condition(policy, "Ready") == Some(("True", "AllNodes"));
    cluster.wait_for("notrackpolicy/edge", "it is ready on all nodes", has_followed).unwrap();
    assert_eq!(cluster.stable_rules().unwrap(), *enforced, "the new agents changed rules");
}

/// A node is away: it is named, and nobody waits for it. The others are clean before anything is deleted.
fn an_uninstall_withdraws_the_rules_of_those_that_answer(cluster: &Cluster) {
    cluster.control("stop", "node3").unwrap();
    let is_away = |node: &Value| condition(node, "Ready").is_some_and(|(status, _)| status != "True");
    cluster.wait_for("node/node3", "it is not ready", is_away).unwrap();
    let began = Instant::now();
    let uninstall = "uninstall notrack --namespace notrack-system --wait --timeout 3m";
    let output = cluster.helm_command(uninstall).unwrap().output().unwrap();
    let took = began.elapsed();
    // What jobs say goes to standard error.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    println!("helm uninstall --wait with a dead node took {took:?}:\n{said}");
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
    let policy = cluster.get("notrackpolicy/edge").unwrap();
    assert_eq!(condition(&policy, "Ready"), Some(("False", "Withdrawn")), "{policy:#}");
}

/// The order to withdraw went with the Deployment: an installation after it, even at once, runs the policies.
fn what_was_withdrawn_comes_back(cluster: &Cluster) {
    cluster.helm(&format!("{INSTALL} --set crds.keep=false")).unwrap();
    cluster.wait_until_installed().unwrap();
    cluster.wait_for("notrackpolicy/edge", "it is ready again", is_ready).unwrap();
    assert!(cluster.rules().unwrap().values().all(|has| *has));
}

/// Also where policies are left, and with the programs of the release gone already.
fn without_keep_nothing_stays(cluster: &Cluster) {
    cluster.helm("uninstall notrack --namespace notrack-system --wait --timeout 2m").unwrap();
    let nothing = || left(cluster, &format!("{EVERYTHING},crds")).is_empty();
    wait_until("nothing of ours is left", PATIENCE, nothing)
        .unwrap_or_else(|_| panic!("{:?}", left(cluster, &format!("{EVERYTHING},crds"))));
    assert!(cluster.rules().unwrap().values().all(|has| !has), "rules are left");
}

/// The version label of a definition, and whether it knows `spec.existingEntries`.
fn definition(cluster: &Cluster) -> (String, bool) {
    let crd = cluster.get("crd/notrackpolicies.notrack.dev").unwrap();
    let fields = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let version = crd["metadata"]["labels"]["app.kubernetes.io/version"].as_str().unwrap_or_default();
    (version.to_owned(), fields["existingEntries"].is_object())
}

/// An older definition is brought up by an upgrade; a newer one is left alone by an upgrade and by a rollback.
fn definitions_go_up_and_never_down(cluster: &Cluster) {
    let ours = definition(cluster);
    let label = "label --overwrite crd notrackpolicies.notrack.dev app.kubernetes.io/version=";
    let remove = r#"[{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/existingEntries"}]"#;
    let patch = ["patch", "crd", "notrackpolicies.notrack.dev", "--type=json", "--patch", remove];
    for (version, wanted) in [("0.0.9", ours.clone()), ("99.0.0", ("99.0.0".to_owned(), false))] {
        run_ok(cluster.kubectl_command().args(patch)).unwrap();
        cluster.kubectl(&format!("{label}{version}")).unwrap();
        cluster.helm(&format!("{UPGRADE} log.filter=info")).unwrap();
        assert_eq!(definition(cluster), wanted, "after an upgrade");
    }
    cluster.helm("rollback notrack 1 --namespace notrack-system --wait --timeout 3m").unwrap();
    assert_eq!(definition(cluster), ("99.0.0".to_owned(), false), "after a rollback");
    cluster.kubectl(&format!("{label}{}", ours.0)).unwrap();
    cluster.helm(&format!("{UPGRADE} log.filter=info")).unwrap();
    assert_eq!(definition(cluster), ours);
}
