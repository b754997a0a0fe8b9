//! Hazards as `check` shows them for a node whose facts were saved: a router with a firewall that goes by the state and
//! masquerades what leaves by eth1. IPVS and the VRF blue were added by hand, in the form that they are saved in.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

/// Exit status, and what is on standard error and standard output.
fn check(flow: &str) -> String {
    let policy = format!(
        "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata: {{name: shown}}\nspec:\n  \
         nodeSelector: {{}}\n  mode: Enforce\n  flows:\n{flow}"
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-notrack"))
        .args(["check", "policy.yaml", "--node-facts"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/facts/gateway.json"))
        .current_dir(folder.path())
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .env_remove("NO_GRAPHICS")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let said = format!("{}{}", text(&output.stderr), text(&output.stdout));
    format!("status {}\n{said}", output.status.code().unwrap())
}

#[test]
fn a_firewall_that_would_drop() {
    let shown = check(
        "  - name: http
    action: NoTrack
    role: Server
    interfaces: [eth0]
    ports:
    - {protocol: TCP, port: 80}
",
    );
    insta::assert_snapshot!(shown);
}

#[test]
fn a_nat_gateway() {
    let shown = check(
        "  - name: through
    action: NoTrack
    role: Forward
    interfaces: [eth0, eth1]
    peers: [{cidr: 10.77.0.0/24}]
    serverAddresses: [10.88.0.2/32]
    ports:
    - {protocol: TCP, port: 80}
",
    );
    insta::assert_snapshot!(shown);
}

#[test]
fn what_ipvs_balances() {
    let shown = check(
        "  - name: dns
    action: NoTrack
    role: Server
    interfaces: [eth0]
    serverAddresses: [10.77.0.1/32]
    ports:
    - {protocol: UDP, port: 53}
",
    );
    insta::assert_snapshot!(shown);
}

#[test]
fn a_vrf() {
    let shown = check(
        "  - name: tls
    action: NoTrack
    role: Server
    interfaces: [eth2]
    ports:
    - {protocol: TCP, port: 443}
",
    );
    insta::assert_snapshot!(shown);
}
