//! Everything through git, with a real Argo CD and the examples of `deploy/argocd/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod removal;
mod site;
mod upgrade;

use std::time::Instant;

use notrack_cluster::{PATIENCE, is_ready, resource};
use notrack_lab::wait_until;
use serde_json::{Value, json};

use site::{POLICIES, Site, is_in_order, server};

/// Stands before a node's port, and lets in what a connection is known of.
const WALL: &str = "table inet site {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    tcp dport 9003 ct state new accept
    tcp sport != 9003 tcp dport != 9003 accept
    meta l4proto != tcp accept
  }
}";

#[test]
fn argo_cd_installs_watches_repairs_and_removes() {
    let site = site::start();
    from_nothing_to_healthy_in_order(&site);
    nothing_drifts_while_status_is_written(&site);
    a_blocked_policy_is_degraded_and_says_why(&site);
    a_change_in_git_changes_the_rules(&site);
    what_is_changed_by_hand_is_repaired(&site);
    in_an_emergency_people_have_the_last_word(&site);
    what_is_ours_and_not_in_git_is_left_alone(&site);
    what_is_excluded_is_not_watched(&site);
    a_file_that_goes_takes_its_rules_along(&site);
    removal::deleting_the_applications_ends(&site);
    removal::a_deletion_whose_job_cannot_run_has_a_way_out(&site);
    upgrade::an_upgrade_is_a_change_of_a_line(&site);
}

fn from_nothing_to_healthy_in_order(site: &Site) {
    let began = Instant::now();
    // Both at once: the policies wait for their definition.
    for file in ["notrack.yaml", "policies.yaml"] {
        site.cluster.apply(&site.example(file)).unwrap();
    }
    let mut seen = Vec::new();
    let healthy = || {
        let app = site.cluster.application(POLICIES).unwrap();
        let health = resource(&app, "NoTrackPolicy", "edge").map_or("", |(_, health, _)| health).to_owned();
        if health == "Healthy" {
            let edge = site.cluster.get("notrackpolicy/edge").unwrap();
            assert!(is_ready(&edge), "healthy before it is ready: {edge:#}");
        }
        if seen.last() != Some(&health) {
            seen.push(health);
        }
        is_in_order(&app)
    };
    wait_until("the policies are healthy", 2 * PATIENCE, healthy).unwrap_or_else(|error| {
        panic!("{error:#} {:#} {}", site.cluster.application("notrack").unwrap(), site.argocd.said())
    });
    let app = site.wait_for("notrack", "it is in order", is_in_order);
    println!("from nothing to Synced and Healthy in {:?}; the policy's health: {seen:?}", began.elapsed());
    assert!(site.bypassed(9001));
    // Admission policies are a part of it like everything else, and nothing of Helm's own is left.
    assert!(app["status"]["conditions"].is_null(), "{app:#}");
    for name in ["notrack-agent-own-node", "notrack-privileged-fields"] {
        for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"] {
            let found = resource(&app, kind, name);
            assert!(found.is_some_and(|(sync, ..)| sync == "Synced"), "{kind} {name}: {app:#}");
        }
    }
    let test =
        site.cluster.get("pods,configmaps -n notrack-system -l app.kubernetes.io/component=test").unwrap();
    assert!(test["items"].as_array().is_none_or(Vec::is_empty), "{test:#}");
    let before =
        ["customresourcedefinitions", "validatingadmissionpolicies", "validatingadmissionpolicybindings"];
    site.cluster.was_made_in_order(&before, "daemonsets").unwrap();
    let namespace = site.cluster.get("namespace/notrack-system").unwrap();
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "privileged");
}

fn nothing_drifts_while_status_is_written(site: &Site) {
    let before: Vec<Value> = ["notrack", POLICIES].map(|app| site.cluster.application(app).unwrap()).into();
    let edge = site.cluster.get("notrackpolicy/edge").unwrap();
    for packets in 0..40 {
        let status = json!({"status": {"traffic": {"packets": packets}}});
        site.patch("notrackpolicy/edge --subresource=status", status);
        if packets % 10 == 9 {
            let apps = site.cluster.get("applications -n argocd").unwrap();
            let synced = |app: &Value| app["status"]["sync"]["status"] == "Synced";
            assert!(apps["items"].as_array().unwrap().iter().all(synced), "{apps:#}");
        }
    }
    for app in &before {
        let name = app["metadata"]["name"].as_str().unwrap();
        // Compares now, not as it was.
        let differences = site.argocd.cli(&format!("app diff {name} --refresh")).unwrap();
        assert_eq!(differences.trim(), "", "{name}");
        let now = site.cluster.application(name).unwrap();
        assert_eq!(now["status"]["history"], app["status"]["history"], "it was synced again");
        assert_eq!(now["status"]["operationState"], app["status"]["operationState"]);
        assert!(is_in_order(&now), "{now:#}");
    }
    let now = site.cluster.get("notrackpolicy/edge").unwrap();
    assert_ne!(now["metadata"]["resourceVersion"], edge["metadata"]["resourceVersion"]);
    assert_eq!(now["metadata"]["generation"], edge["metadata"]["generation"], "its spec was written");
}

fn a_blocked_policy_is_degraded_and_says_why(site: &Site) {
    site.cluster.node("node1").unwrap().network().unwrap().nft(WALL).unwrap();
    let walled = |more: &str| server("walled", "{matchLabels: {kubernetes.io/hostname: node1}}", 9003, more);
    site.git.write("policies/walled.yaml", &walled("")).unwrap();
    site.push(POLICIES, "a policy for a node with a firewall");
    let app = site.wait_for(POLICIES, "it is degraded", |app| {
        app["status"]["health"]["status"] == "Degraded" && resource(app, "NoTrackPolicy", "walled").is_some()
    });
    let (sync, health, message) = resource(&app, "NoTrackPolicy", "walled").unwrap();
    println!("a blocked policy is {sync} and {health}: {message}");
    assert_eq!((sync, health), ("Synced", "Degraded"));
    assert!(message.contains("HostFirewallDrops") && message.contains("node1"), "{message}");
    assert!(resource(&app, "NoTrackPolicy", "edge").is_some_and(|(_, health, _)| health == "Healthy"));

    site.git.write("policies/walled.yaml", &walled("hostFirewall: Adapt")).unwrap();
    site.push(POLICIES, "with the rules that it lacks");
    site.wait_for(POLICIES, "it is in order again", |app| {
        is_in_order(app)
            && resource(app, "NoTrackPolicy", "walled").is_some_and(|(_, health, _)| health == "Healthy")
    });
    assert_eq!(site.nodes_with(9003), 1);
}

fn a_change_in_git_changes_the_rules(site: &Site) {
    site.git.write("policies/edge.yaml", &server("edge", "{}", 9002, "")).unwrap();
    let began = Instant::now();
    site.push(POLICIES, "another port");
    wait_until("every kernel runs the change", PATIENCE, || site.bypassed(9002)).unwrap();
    println!("from git push to every kernel: {:?}", began.elapsed());
    assert_eq!(site.nodes_with(9001), 0);
    site.wait_for(POLICIES, "it is in order", is_in_order);
}

fn what_is_changed_by_hand_is_repaired(site: &Site) {
    let began = Instant::now();
    site.patch("notrackpolicy/edge", json!({"spec": {"mode": "Audit"}}));
    let repaired = |policy: &Value| policy["spec"]["mode"] == "Enforce";
    site.cluster.wait_for("notrackpolicy/edge", "the spec is as in git", repaired).unwrap();
    println!("a policy changed by hand is repaired after {:?}", began.elapsed());
    site.cluster.wait_for("notrackpolicy/edge", "it is ready again", is_ready).unwrap();
    wait_until("the rules are", PATIENCE, || site.bypassed(9002)).unwrap();

    let image = "{.spec.template.spec.containers[0].image}";
    let get = || {
        let path = format!("get daemonset/notrack-agent -n notrack-system -o jsonpath={image}");
        site.cluster.kubectl(&path).unwrap()
    };
    let meant = get();
    let began = Instant::now();
    site.cluster.kubectl("set image -n notrack-system daemonset/notrack-agent agent=no-such:1").unwrap();
    wait_until("the agents are as in git", PATIENCE, || get() == meant).unwrap();
    println!("a DaemonSet changed by hand is repaired after {:?}", began.elapsed());
    for app in ["notrack", POLICIES] {
        site.wait_for(app, "it is in order", is_in_order);
    }
}

/// As docs/argocd.md says.
fn in_an_emergency_people_have_the_last_word(site: &Site) {
    site.argocd.cli(&format!("app set {POLICIES} --sync-policy none")).unwrap();
    site.cluster.kubectl("delete notrackpolicy edge").unwrap();
    let knows = |app: &Value| app["status"]["sync"]["status"] == "OutOfSync";
    site.wait_for(POLICIES, "it says that a policy is missing", knows);
    wait_until("its rules are gone", PATIENCE, || site.nodes_with(9002) == 0).unwrap();
    site.argocd.cli(&format!("app set {POLICIES} --sync-policy automated --auto-prune --self-heal")).unwrap();
    site.wait_for(POLICIES, "it is in order", is_in_order);
    assert!(site.bypassed(9002));
}

/// NodePlans and RuleSets are the controller's, definitions are everybody's: whatever Argo CD prunes, and however it knows
/// what is its own.
fn what_is_ours_and_not_in_git_is_left_alone(site: &Site) {
    let ours =
        || ["nodeplans", "rulesets", "crd -l app.kubernetes.io/name=notrack"].map(|kind| site.uids(kind));
    let mine = ours();
    assert!(mine.iter().all(|kind| !kind.is_empty()), "{mine:?}");
    for (method, mark, value, kind, name) in [
        // Argo CD's default first: it leaves the marks of the other one as they are.
        (
            "annotation",
            "argocd.argoproj.io/tracking-id",
            "admissionPolicies",
            "ValidatingAdmissionPolicy",
            "notrack-agent-own-node",
        ),
        ("label", "app.kubernetes.io/instance", "apiPriority", "FlowSchema", "notrack-agents"),
    ] {
        let settings = json!({"data": {"application.resourceTrackingMethod": method}});
        site.patch("configmap/argocd-cm -n argocd", settings);
        // What it has compared before counts no more.
        site.argocd.cli(&format!("app get {POLICIES} --hard-refresh")).unwrap();
        let is_marked = |policy: &Value| policy["metadata"].to_string().contains(mark);
        site.cluster.wait_for("notrackpolicy/edge", "Argo CD has marked it as its own", is_marked).unwrap();
        let plans = site.cluster.get("nodeplans,rulesets").unwrap();
        assert!(!plans.to_string().contains(mark), "{plans:#}");

        // The definitions leave git too: with them all policies would go.
        let values = json!({value: {"enabled": false}, "crds": {"enabled": false}});
        site.patch("application/notrack -n argocd", helm_values(values));
        site.cluster.wait_for(&format!("{kind}/{name}"), "it is pruned", Value::is_null).unwrap();
        let is_without = |app: &Value| is_in_order(app) && resource(app, kind, name).is_none();
        site.wait_for("notrack", "it is in order without", is_without);
        assert_eq!(ours(), mine, "{method}");
        assert!(is_ready(&site.cluster.get("notrackpolicy/edge").unwrap()));

        site.patch("application/notrack -n argocd", helm_values(Value::Null));
        let is_back = |app: &Value| is_in_order(app) && resource(app, kind, name).is_some();
        site.wait_for("notrack", "it is as before", is_back);
        assert_eq!(ours(), mine, "{method}");
    }
    site.wait_for(POLICIES, "it is in order", is_in_order);
}

fn what_is_excluded_is_not_watched(site: &Site) {
    let excluded = "- apiGroups: [notrack.dev]\n  kinds: [NodePlan, RuleSet]\n  clusters: ['*']\n";
    let before = ["notrackpolicies", "nodeplans", "rulesets"].map(|kind| site.listed(kind));
    assert!(before.iter().all(|times| *times > 0), "{before:?}");
    site.patch("configmap/argocd-cm -n argocd", json!({"data": {"resource.exclusions": excluded}}));
    // It forgets what it knows when it reads the setting, and asks again when it needs to know.
    let asks_again = || {
        site.cluster.refresh(POLICIES).unwrap();
        site.listed("notrackpolicies") > before[0]
    };
    wait_until("Argo CD asks again", PATIENCE, asks_again).unwrap();
    for app in ["notrack", POLICIES] {
        site.argocd.cli(&format!("app get {app} --hard-refresh")).unwrap();
        site.wait_for(app, "it is in order", is_in_order);
    }
    assert_eq!([site.listed("nodeplans"), site.listed("rulesets")], before[1..]);
}

fn helm_values(values: Value) -> Value {
    json!({"spec": {"source": {"helm": {"valuesObject": values}}}})
}

fn a_file_that_goes_takes_its_rules_along(site: &Site) {
    site.git.remove("policies/walled.yaml").unwrap();
    let began = Instant::now();
    site.push(POLICIES, "no more");
    wait_until("its rules are gone", PATIENCE, || site.nodes_with(9003) == 0).unwrap();
    println!("from git push to no rule: {:?}", began.elapsed());
    site.cluster.wait_for("notrackpolicy/walled", "it is gone", Value::is_null).unwrap();
    site.wait_for(POLICIES, "it is in order", is_in_order);

    // The last one stays: an empty folder may be a mistake.
    site.git.remove("policies/edge.yaml").unwrap();
    site.git.write("policies/README.md", "none for now\n").unwrap();
    site.push(POLICIES, "none at all");
    let refuses = |app: &Value| app["status"]["conditions"].to_string().contains("wipe out all resources");
    let app = site.wait_for(POLICIES, "it refuses to remove everything", refuses);
    assert_eq!(app["status"]["sync"]["status"], "OutOfSync");
    assert!(is_ready(&site.cluster.get("notrackpolicy/edge").unwrap()) && site.bypassed(9002));
}
