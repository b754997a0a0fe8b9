//! A policy that this version cannot read is named in its own status, is nobody else's outage, and keeps its last good
//! version.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use notrack_cluster::{Cluster, Options, PATIENCE, condition, is_ready, server};
use notrack_lab::{run_ok, wait_until};
use serde_json::Value;

#[test]
fn a_policy_that_cannot_be_read_is_named_and_keeps_its_last_good_version() {
    let cluster = Cluster::start(&Options { nodes: 1, ..Options::default() }).unwrap();
    cluster.install().unwrap();
    let rules = || cluster.nodes[0].network().unwrap().ruleset().unwrap();
    cluster.apply(&server("odd", "{}", "TCP", 9001)).unwrap();
    cluster.wait_for("notrackpolicy/odd", "it is ready", is_ready).unwrap();
    assert!(rules().contains(". tcp . 9001 "));

    // A definition of another version lets through what this one does not know.
    let patch = |what: &[&str]| run_ok(cluster.kubectl_command().arg("patch").args(what)).unwrap();
    let mode = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/mode/enum";
    let without = format!(r#"[{{"op": "remove", "path": "{mode}"}}]"#);
    patch(&["crd", "notrackpolicies.notrack.dev", "--type=json", "-p", &without]);
    let odd = || {
        let mut command = cluster.kubectl_command();
        command.args([
            "patch",
            "notrackpolicy",
            "odd",
            "--type=merge",
            "-p",
            r#"{"spec":{"mode":"Perhaps"}}"#,
        ]);
        run_ok(&mut command).is_ok()
    };
    wait_until("the API server takes the odd mode", PATIENCE, odd).unwrap();
    let invalid = |policy: &Value| condition(policy, "Ready") == Some(("False", "Invalid"));
    let found = cluster.wait_for("notrackpolicy/odd", "it says that it cannot be read", invalid).unwrap();
    assert!(found["status"].to_string().contains("Perhaps"), "{found:#}");

    // Others go on, and its own rules stay.
    cluster.apply(&server("other", "{}", "TCP", 9002)).unwrap();
    cluster.wait_for("notrackpolicy/other", "another one is ready", is_ready).unwrap();
    assert!(rules().contains(". tcp . 9002 ") && rules().contains(". tcp . 9001 "), "{}", rules());
}
