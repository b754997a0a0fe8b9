//! What policies become, as text: a change of the rules shows up in review.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use notrack_core::compile::compile;
use notrack_core::facts::{NodeFacts, Tracked, well_known_protected};
use notrack_core::hazard::{Cause, Effect, HazardKind};
use notrack_core::index::Index;
use notrack_core::manifest::parse;
use notrack_core::net::PortRange;
use notrack_core::policy::validate;
use notrack_core::rules::render;

fn facts() -> NodeFacts {
    NodeFacts {
        addresses: ["127.0.0.1", "192.0.2.1", "::1"].iter().map(|text| text.parse().unwrap()).collect(),
        ephemeral: vec![PortRange::new(32768, 60999).unwrap()],
        protected: well_known_protected(),
        tracked: Tracked { ipv4: true, ipv6: true },
        kept: Vec::new(),
        host: Arc::default(),
        lasting: Arc::default(),
        labels: BTreeMap::new(),
    }
}

fn index(policies: &[&str]) -> Index {
    let mut index = Index::default();
    for (number, spec) in policies.iter().enumerate() {
        let text = format!(
            "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata: {{name: p{number}}}\nspec:\n  \
             nodeSelector: {{}}\n  mode: Enforce\n{spec}"
        );
        let manifests = parse("test", &text).into_result().unwrap();
        index.apply(validate(&manifests[0].policy).unwrap());
    }
    index
}

/// The findings and the table.
fn shown(policies: &[&str], facts: &NodeFacts) -> String {
    let rendered =
        render(&compile(&index(policies), &facts.labels, 0), facts, Some(Duration::from_secs(86400)))
            .unwrap();
    let findings: Vec<String> = rendered.findings.iter().map(|finding| format!("# {finding}\n")).collect();
    format!("{}{}", findings.concat(), rendered.table)
}

const HTTP: &str =
    "  flows:\n  - {name: http, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 80}]}\n";

#[test]
fn a_server_flow_is_one_look_up_a_hook() {
    insta::assert_snapshot!(shown(&[HTTP], &facts()));
}

#[test]
fn every_port_but_what_the_node_needs() {
    let all = "  flows:\n  - name: all\n    action: NoTrack\n    role: Server\n    ports: [{protocol: TCP, port: 1, endPort: 65535}]\n  \
               compensation: {icmpErrors: Ignore, newConnectionsPerSecond: 1000}\n";
    insta::assert_snapshot!(shown(&[all], &facts()));
}

#[test]
fn peers_of_two_policies_on_one_port_share_a_chain() {
    let peers = |cidr: &str| {
        format!(
            "  flows:\n  - {{name: dns, action: NoTrack, role: Server, ports: [{{protocol: UDP, port: 53}}], peers: [{{cidr: {cidr}}}]}}\n  \
             compensation: {{icmpErrors: Ignore}}\n"
        )
    };
    let track = "  flows:\n  - {name: keep, action: Track, role: Server, ports: [{protocol: UDP, port: 53}], peers: [{cidr: 10.9.0.0/16}]}\n";
    insta::assert_snapshot!(shown(&[&peers("10.0.0.0/8"), &peers("0.0.0.0/0"), track], &facts()));
}

#[test]
fn client_peer_and_forward_flows_with_interfaces() {
    let flows = "  flows:\n  \
        - {name: upstream, action: NoTrack, role: Client, ports: [{protocol: UDP, port: 53}], peers: [{cidr: 192.0.2.53/32}]}\n  \
        - {name: vxlan, action: NoTrack, role: Peer, ports: [{protocol: UDP, port: 4789}], peers: [{cidr: 198.51.100.0/24}], interfaces: [eth*]}\n  \
        - {name: routed, action: NoTrack, role: Forward, ports: [{protocol: TCP, port: 443}], serverAddresses: [203.0.113.0/24]}\n  \
        compensation: {icmpErrors: Ignore}\n";
    insta::assert_snapshot!(shown(&[flows], &facts()));
}

#[test]
fn where_nothing_tracks_no_ct_expression_is_written() {
    for tracked in [Tracked { ipv4: false, ipv6: false }, Tracked { ipv4: true, ipv6: false }] {
        let text = shown(&[HTTP], &NodeFacts { tracked, ..facts() });
        assert!(text.contains("notrack") && !text.contains("ct state"), "{text}");
    }
}

#[test]
fn no_policy_is_no_table() {
    let rendered = render(&compile(&Index::default(), &BTreeMap::new(), 0), &facts(), None).unwrap();
    assert!(
        rendered.table.chains.is_empty()
            && rendered.table.sets.is_empty()
            && rendered.table.counters.is_empty()
    );
    // Neither is a policy of which nothing is left.
    let ssh =
        "  flows:\n  - {name: ssh, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 22}]}\n";
    let rendered = render(&compile(&index(&[ssh]), &BTreeMap::new(), 0), &facts(), None).unwrap();
    assert!(rendered.table.chains.is_empty(), "{}", rendered.table);
    assert!(rendered.programmed.is_empty());
    assert_eq!(rendered.findings.len(), 2, "{:?}", rendered.findings);
}

#[test]
fn an_expired_policy_is_left_out() {
    let text = format!("  expireTime: \"2026-01-01T00:00:00Z\"\n{HTTP}");
    let index = index(&[&text]);
    let end = 1_767_225_600;
    assert_eq!(compile(&index, &BTreeMap::new(), end - 1).policies().len(), 1);
    assert_eq!(compile(&index, &BTreeMap::new(), end).policies().len(), 0);
}

#[test]
fn a_policy_that_the_table_has_no_room_for_is_left_out_and_keeps_back_no_other() {
    // Many addresses times many ports, all apart from each other.
    let ports: Vec<String> =
        (0..32).map(|number| format!("{{protocol: TCP, port: {}}}", 100 + number * 3)).collect();
    let spec =
        format!("  flows:\n  - {{name: a, action: NoTrack, role: Server, ports: [{}]}}\n", ports.join(", "));
    let addresses =
        (0..8000u32).map(|number| std::net::IpAddr::from((0x0a00_0000 + number * 2).to_be_bytes())).collect();
    let facts = NodeFacts { addresses, ..facts() };
    let small = |port: u16| {
        format!(
            "  flows:\n  - {{name: a, action: NoTrack, role: Server, ports: [{{protocol: UDP, port: {port}}}]}}\n"
        )
    };
    // By age: the second is the one that does not fit, the third does.
    let specs = [small(53), spec, small(123)];
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    let rendered = render(&compile(&index(&specs), &BTreeMap::new(), 0), &facts, None).unwrap();
    let names: Vec<&str> = rendered.programmed.iter().map(String::as_str).collect();
    assert_eq!(names, ["p0", "p2"]);
    let left_out: Vec<_> =
        rendered.findings.iter().filter(|found| found.cause == Cause::Hazard(HazardKind::TooLarge)).collect();
    assert_eq!(left_out.len(), 1, "{:?}", rendered.findings);
    assert_eq!((left_out[0].policy.as_str(), left_out[0].effect), ("p1", Effect::Refused));
}
