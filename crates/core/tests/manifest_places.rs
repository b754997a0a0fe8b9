//! What a parsed file says: places, defaults, warnings, help and bounds.

// clippy exempts tests, but not the functions that they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use notrack_core::manifest::{Manifest, Severity, parse};
use serde_json::json;

fn one(text: &str) -> Manifest {
    let parsed = parse("policy.yaml", text);
    assert_eq!(parsed.diagnostics, []);
    parsed.manifests.into_iter().next().unwrap()
}

const POLICY: &str = "\
apiVersion: notrack.dev/v1alpha1
kind: NoTrackPolicy
metadata: {name: web, annotations: {note: \"größer\"}}
spec:
  nodeSelector: {}
  mode: Enforce
  flows:
  - name: http
    action: NoTrack
    role: Server
    ports:
    - {protocol: TCP, port: 80}
    - protocol: UDP
      port: 8000
      endPort: 8099
    peers:
    - cidr: \"10.0.0.0/8\"
";

#[test]
fn places_are_those_of_the_text() {
    for (text, what) in [
        (POLICY.to_owned(), "as written"),
        (POLICY.replace('\n', "\r\n"), "with the line ends of Windows"),
        (format!("\u{feff}{POLICY}"), "with a byte order mark"),
        (format!("# ÄÖÜ\n---\n# ß\n---\n{POLICY}"), "after other documents"),
    ] {
        let manifest = one(&text);
        for (path, written) in [
            ("metadata.name", "web"),
            ("metadata.annotations.note", "\"größer\""),
            ("spec", "spec"),
            ("spec.mode", "Enforce"),
            ("spec.flows", "flows"),
            ("spec.flows[0]", "name"),
            ("spec.flows[0].ports", "ports"),
            ("spec.flows[0].ports[0].port", "80"),
            ("spec.flows[0].ports[1]", "protocol"),
            ("spec.flows[0].ports[1].endPort", "8099"),
            ("spec.flows[0].peers[0].cidr", "\"10.0.0.0/8\""),
        ] {
            let span = manifest.span_of(path).unwrap();
            assert_eq!(&text[span.offset..span.offset + span.len], written, "{path} {what}");
        }
        assert_eq!(manifest.span_of("spec.flows[0].ports[2]"), None);
        assert_eq!(manifest.span_of("spec.compensation"), None, "a default is not in the text");
    }
}

#[test]
fn later_problems_point_to_the_closest_field() {
    let manifest = one(POLICY);
    let place = |path: &str| {
        let diagnostic = manifest.diagnostic(Severity::Error, path, "m", None);
        (diagnostic.line, diagnostic.column)
    };
    assert_eq!(place("spec.flows[0].ports[1].endPort"), (15, 16));
    assert_eq!(place("spec.flows[0].serverAddresses[3]"), (8, 5), "the flow, where it has no such field");
    assert_eq!(place("spec.compensation.tcpFlags"), (4, 1));
    assert_eq!(place("nonsense"), (1, 1));
    let shown = manifest
        .diagnostic(Severity::Warning, "spec.mode", "is loud", Some("Audit is quiet".into()))
        .to_string();
    assert_eq!(shown, "policy.yaml:6:9: warning: spec.mode: is loud (Audit is quiet)");
}

#[test]
fn defaults_are_filled_in() {
    let policy = one(POLICY).policy;
    assert_eq!(policy.spec.compensation, notrack_api::Compensation::default());
    let policy = one(&format!("{POLICY}  compensation: {{icmpErrors: Ignore}}\n")).policy;
    assert_eq!(policy.spec.compensation.icmp_errors, notrack_api::IcmpErrors::Ignore);
    assert_eq!(policy.spec.compensation.tcp_flags, notrack_api::TcpFlags::Strict);
    assert_eq!(policy.spec.host_firewall, notrack_api::HostFirewall::Check);
    assert_eq!(policy.spec.existing_entries, notrack_api::ExistingEntries::Evict);
    assert_eq!(policy.status, None);
}

#[test]
fn what_does_not_concern_us_is_a_warning() {
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, name: d}}\ndata: {{mode: 0644, on: yes}}\n---\n{}status: {{}}\n",
        POLICY.replace("{name: web,", "{name: web, namespace: x,")
    );
    let parsed = parse("f", &text);
    let shown: Vec<(Severity, &str, &str, usize)> = parsed
        .diagnostics
        .iter()
        .map(|d| (d.severity, d.path.as_str(), d.message.as_str(), d.line))
        .collect();
    assert_eq!(
        shown,
        [
            (Severity::Warning, "kind", "skipped: kind ConfigMap", 2),
            (Severity::Warning, "metadata.namespace", "ignored: a policy belongs to no namespace", 8),
            (Severity::Warning, "status", "ignored: the controller writes the status", 23),
        ]
    );
    assert!(!parsed.has_errors());
    let manifests = parsed.into_result().unwrap();
    assert_eq!(manifests[0].policy.metadata.namespace, None);

    for (document, skipped) in [
        ("apiVersion: notrack.dev/v1alpha1\nkind: RuleSet\nspec: {}\n", "skipped: kind RuleSet"),
        ("apiVersion: apps/v1\nkind: Deployment\n", "skipped: kind Deployment"),
    ] {
        let parsed = parse("f", document);
        assert_eq!(parsed.diagnostics.len(), 1);
        assert_eq!(parsed.diagnostics[0].message, skipped);
    }
    for nothing in ["", "\n\n", "# a comment\n", "---\n---\n", "null\n", "\u{feff}", "--- ~\n...\n"] {
        assert_eq!(parse("f", nothing).diagnostics, [], "{nothing:?}");
    }
}

#[test]
fn all_problems_are_reported_and_good_policies_are_kept() {
    let text = format!(
        "{POLICY}---\n{}",
        POLICY
            .replace("web", "bad")
            .replace("mode: Enforce", "mode: On")
            .replace("port: 80\n", "port: 0\n")
            .replace("port: 8000", "prot: 8000")
    );
    let parsed = parse("f", &text);
    let paths: Vec<&str> = parsed.diagnostics.iter().map(|d| d.path.as_str()).collect();
    assert_eq!(
        paths,
        ["spec.mode", "spec.flows[0].ports[1].port", "spec.flows[0].ports[1].prot"],
        "{:#?}",
        parsed.diagnostics
    );
    assert_eq!(parsed.manifests.len(), 1);
    assert!(parsed.into_result().is_err());
}

#[test]
fn suggestions_help() {
    let help = |from: &str, to: &str| {
        let parsed = parse("f", &POLICY.replace(from, to));
        assert_eq!(parsed.diagnostics.len(), 1, "{to}: {:#?}", parsed.diagnostics);
        parsed.diagnostics[0].help.clone().unwrap_or_default()
    };
    assert_eq!(help("endPort: 8099", "endport: 8099"), "did you mean endPort?");
    assert_eq!(help("role: Server", "role: server"), "did you mean Server?");
    assert_eq!(help("  mode: Enforce\n", ""), "one of Enforce, Audit");
    assert_eq!(help("port: 8000", "port: \"8000\""), "without quotes: 8000");
    assert_eq!(help("note: \"größer\"", "note: 7"), "quote it: \"7\"");
    assert_eq!(help("kind: NoTrackPolicy", "kind: NoTrackPolcy"), "did you mean NoTrackPolicy?");
    assert_eq!(help("v1alpha1", "v1beta1"), "write notrack.dev/v1alpha1");
}

/// Field by field, against what the file says: nothing is lost or renamed on its way into the types.
#[test]
fn every_field_arrives() {
    let text = include_str!("../../../tests/manifests/accepted/every-field.yaml");
    let policy = serde_json::to_value(one(text).policy).unwrap();
    let port = |protocol: &str, port: u16| json!({ "protocol": protocol, "port": port });
    assert_eq!(
        policy["spec"],
        json!({
            "nodeSelector": {
                "matchLabels": { "node-role.kubernetes.io/edge": "", "kubernetes.io/os": "linux" },
                "matchExpressions": [
                    { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a", "b"] },
                    { "key": "example.com/drained", "operator": "NotIn", "values": ["true"] },
                    { "key": "example.com/fast", "operator": "Exists" },
                    { "key": "example.com/old", "operator": "DoesNotExist" },
                ],
            },
            "mode": "Audit",
            "flows": [
                {
                    "name": "web", "action": "NoTrack", "role": "Server",
                    "ports": [port("TCP", 80), { "protocol": "SCTP", "port": 9899, "endPort": 9900 }],
                    "peers": [
                        { "cidr": "10.0.0.0/8", "except": ["10.9.0.0/16", "10.1.2.3/32"] },
                        { "cidr": "2001:db8::/32", "except": ["2001:db8:ff::/48"] },
                    ],
                    "serverAddresses": ["192.0.2.10/32", "2001:db8::1/128"],
                    "interfaces": ["eth0", "bond*", "eth0.100", "*"],
                    "acknowledge": [
                        { "hazard": "HostFirewallDrops", "reason": "port 80 is open in the site firewall" },
                        { "hazard": "MarksLost", "reason": "the mark is for accounting: nothing is routed by it" },
                    ],
                },
                {
                    "name": "dns-out", "action": "NoTrack", "role": "Client",
                    "ports": [port("UDP", 53)],
                    "peers": [{ "cidr": "192.0.2.53/32" }],
                    "localPorts": [{ "port": 53 }, { "port": 1024, "endPort": 65535 }],
                },
                { "name": "bulk", "action": "Track", "role": "Server", "ports": [port("TCP", 8443)] },
            ],
            "compensation": { "tcpFlags": "Disabled", "icmpErrors": "Ignore", "newConnectionsPerSecond": 5000 },
            "hostFirewall": "Adapt",
            "existingEntries": "Keep",
            "expireTime": "2027-01-01T00:00:00Z",
        })
    );
    assert_eq!(policy["metadata"]["annotations"]["example.com/Owner"], "the edge team, since 2026");
}
