//! The plugin as its users call it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::{Command, Output};

const GOOD: &str = "apiVersion: notrack.dev/v1alpha1
kind: NoTrackPolicy
metadata: {name: edge-http}
spec:
  nodeSelector: {}
  mode: Enforce
  flows:
  - {name: http, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 80}]}
";

fn notrack(arguments: &[&str], file: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    fs::write(&path, file).unwrap();
    Command::new(env!("CARGO_BIN_EXE_kubectl-notrack")).args(arguments).arg(&path).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_good_file_passes() {
    let output = notrack(&["check"], GOOD);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "1 policies checked: 0 errors, 0 warnings\n");
}

#[test]
fn a_typo_is_pointed_at() {
    let output = notrack(&["check"], &GOOD.replace("Enforce", "Enforced"));
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    for wanted in ["spec.mode", "did you mean Enforce?", "policy.yaml:6:9"] {
        assert!(shown.contains(wanted), "{wanted} is not in\n{shown}");
    }
}

/// The definition knows no hazards by name: these are found later, and pointed at all the same.
#[test]
fn a_hazard_that_is_none_or_is_always_there_is_pointed_at() {
    let acknowledging = |hazard: &str| {
        GOOD.replace(
            "port: 80}]}",
            &format!("port: 80}}], acknowledge: [\n    {{hazard: {hazard}, reason: known to the site}}]}}"),
        )
    };
    for (hazard, wanted) in [
        ("HostFirewalDrops", "did you mean HostFirewallDrops?"),
        ("Protected", "NT018 Protected cannot be acknowledged"),
    ] {
        let output = notrack(&["check"], &acknowledging(hazard));
        assert_eq!(output.status.code(), Some(1));
        let shown = text(&output.stderr);
        for wanted in [wanted, "spec.flows[0].acknowledge[0].hazard", "policy.yaml:9:14"] {
            assert!(shown.contains(wanted), "{wanted} is not in\n{shown}");
        }
    }
    let output = notrack(&["check"], &acknowledging("HostFirewallDrops"));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn what_stays_tracked_is_a_warning() {
    let output = notrack(&["check"], &GOOD.replace("port: 80", "port: 1, endPort: 65535"));
    assert!(output.status.success());
    let shown = text(&output.stderr);
    assert!(shown.contains("NT018 Protected") && shown.contains("TCP 22 is SSH"), "{shown}");
    assert!(shown.contains("NT022 EphemeralPorts"), "{shown}");
}

#[test]
fn rules_are_rendered_and_bad_files_are_not() {
    let output = notrack(&["render"], GOOD);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("127.0.0.1 . tcp . 80 : jump p-edge-http-to"));
    let output = notrack(&["render"], &GOOD.replace("Enforce", "Enforced"));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

#[test]
fn missing_files_are_named() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_kubectl-notrack")).args(["check", "nowhere.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nowhere.yaml"), "{}", text(&output.stderr));
}
