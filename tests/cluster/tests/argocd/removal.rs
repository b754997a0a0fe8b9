//! How the Applications go, and what to do where one does not.

use std::fs;
use std::time::Instant;

use notrack_cluster::{PATIENCE, repository};
use notrack_lab::wait_until;
use serde_json::{Value, json};

use crate::site::{POLICIES, Site};

pub fn deleting_the_applications_ends(site: &Site) {
    let bypasses = || site.cluster.rules().unwrap().values().any(|has| *has);
    assert!(bypasses());
    // The operator first, while policies are there: what runs before the deletion withdraws the rules.
    for app in ["notrack", POLICIES] {
        let began = Instant::now();
        site.cluster.kubectl(&format!("delete application/{app} -n argocd --timeout=120s")).unwrap();
        println!("deleting {app} took {:?}", began.elapsed());
        assert!(!bypasses(), "a kernel holds rules of ours after {app} is deleted");
        if app == "notrack" {
            // Nobody has the job's log any more.
            let told = site.cluster.get("notrackpolicy/edge").unwrap()["status"].to_string();
            assert!(told.contains("no node bypasses anything any more"), "{told}");
        }
    }
    assert!(site.cluster.get("notrackpolicy/edge").unwrap().is_null());
    let kinds = "daemonsets,deployments,services,serviceaccounts,poddisruptionbudgets,clusterroles,clusterrolebindings,\
                 roles,rolebindings,flowschemas,prioritylevelconfigurations,validatingadmissionpolicies,\
                 validatingadmissionpolicybindings";
    let gone = || {
        let left = site.cluster.get(&format!("{kinds} -A -l app.kubernetes.io/name=notrack")).unwrap();
        left["items"].as_array().is_none_or(Vec::is_empty)
    };
    wait_until("nothing of the chart is left", PATIENCE, gone).unwrap();
    assert_eq!(site.uids("crd -l app.kubernetes.io/name=notrack").len(), 3, "definitions stay");
}

/// As docs/argocd.md says, of images that cannot be pulled any more.
pub fn a_deletion_whose_job_cannot_run_has_a_way_out(site: &Site) {
    let values = "valuesObject: {crds: {enabled: false}, controller: {image: {tag: none}}}";
    site.cluster.apply(&site.example("notrack.yaml").replace("valuesObject: {}", values)).unwrap();
    let knows_the_job = |app: &Value| {
        let finalizers = app["metadata"]["finalizers"].to_string();
        app["status"]["sync"]["status"] == "Synced" && finalizers.contains("pre-delete-finalizer")
    };
    site.wait_for("notrack", "it is synced", knows_the_job);
    site.cluster.kubectl("delete application/notrack -n argocd --wait=false").unwrap();
    let is_there = |job: &Value| !job.is_null();
    site.cluster.wait_for("job/notrack-withdraw -n notrack-system", "its deletion begins", is_there).unwrap();

    let way = json!({"metadata": {"finalizers": ["resources-finalizer.argocd.argoproj.io"]}});
    let documented = fs::read_to_string(repository().join("docs/argocd.md")).unwrap();
    assert!(documented.contains(&format!("--patch '{way}'")), "docs/argocd.md lacks {way}");
    site.patch("application/notrack -n argocd", way);
    site.cluster.wait_for("application/notrack -n argocd", "it is gone", Value::is_null).unwrap();
    let workloads = "daemonsets,deployments -n notrack-system";
    let gone = |left: &Value| left["items"].as_array().is_none_or(Vec::is_empty);
    site.cluster.wait_for(workloads, "what it has made is gone", gone).unwrap();
}
