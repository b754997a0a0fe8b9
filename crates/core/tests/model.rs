//! The rendered table, in the interpreter, judges every packet as the packet model does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use notrack_core::compile::RuleSet;
use notrack_core::facts::NodeFacts;
use notrack_core::hazard::HazardKind;
use notrack_core::kept::Kept;
use notrack_core::model::judge;
use notrack_core::net::{AddressRange, Family, PortRange, Proto};
use notrack_core::nf::Hook;
use notrack_core::nf::eval::evaluate;
use notrack_core::packet::{Judgement, Packet, Tuple};
use notrack_core::payload::{decode, encode};
use notrack_core::rules::{counter_name, render};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_judges_as_the_model(
        policies in support::policies(),
        kept in support::kept(),
        facts in support::any_facts(),
        packets in prop::collection::vec(support::packet_and_aim(), 40),
        lasting in any::<u64>(),
    ) {
        let rule_set = support::rule_set_keeping(&policies, &kept);
        let packets: Vec<_> = packets.iter().map(|packet| support::aimed(packet, &policies)).collect();
        let lasting = support::lasting(&packets, lasting).into();
        let facts = NodeFacts { lasting, ..facts };
        let rendered = render(&rule_set, &facts, None).unwrap();
        for packet in packets.iter().filter(|packet| support::is_possible(packet, &facts)) {
            for hook in [Hook::Prerouting, Hook::Output] {
                let wanted = judge(&rule_set, &facts, hook, packet);
                let outcome = evaluate(&rendered.table, hook, packet);
                let context = || format!("{hook:?} {packet:?}\n{}", rendered.table);
                prop_assert!(!outcome.dropped, "{}", context());
                match wanted {
                    Judgement::Tracked => prop_assert!(!outcome.untracked, "{}", context()),
                    Judgement::Bypassed(owner) => {
                        prop_assert!(outcome.untracked, "not bypassed for {}: {}", owner, context());
                        let owner = counter_name(&owner);
                        prop_assert_eq!(outcome.counted.last(), Some(&owner), "{}", context());
                    }
                }
            }
        }
    }

    #[test]
    fn what_an_agent_reads_is_what_the_controller_wrote(
        policies in support::policies(),
        kept in support::kept(),
    ) {
        let rule_set = support::rule_set_keeping(&policies, &kept);
        let spec = encode(&rule_set).unwrap();
        prop_assert_eq!(decode(&spec, rule_set.digest().as_str()), Ok(rule_set));
    }

    #[test]
    fn the_order_of_applying_makes_no_difference(
        policies in support::policies(),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut turned = policies.clone();
        turned.rotate_left(seed.index(policies.len()));
        turned.reverse();
        let (one, other) = (support::rule_set(&policies), support::rule_set(&turned));
        prop_assert_eq!(one.digest(), other.digest());
        let facts = support::facts();
        let (one, other) = (render(&one, &facts, None).unwrap(), render(&other, &facts, None).unwrap());
        prop_assert_eq!(one.table.to_string(), other.table.to_string());
        prop_assert_eq!(one.findings, other.findings);
    }

    #[test]
    fn protected_packets_are_tracked_whatever_the_policies(
        policies in support::policies(),
        mut packet in support::packet(),
        from in any::<bool>(),
    ) {
        // What leaves for or arrives at this node's SSH.
        packet.tuple.proto = 6;
        packet.embedded = None;
        let own = support::address(if packet.tuple.source.is_ipv4() { "10.0.0.1" } else { "fd00::1" });
        let hook = if from { Hook::Output } else { Hook::Prerouting };
        if from {
            (packet.tuple.source, packet.tuple.source_port) = (own, 22);
        } else {
            (packet.tuple.destination, packet.tuple.destination_port) = (own, 22);
        }
        // The other end uses an ephemeral port, as the other end of an SSH session does.
        packet.interface = "nt0".to_owned();
        if from {
            packet.tuple.destination_port = 40000;
        } else {
            packet.tuple.source_port = 40000;
        }
        let rule_set = support::rule_set(&policies);
        let rendered = render(&rule_set, &support::facts(), None).unwrap();
        let outcome = evaluate(&rendered.table, hook, &packet);
        prop_assert!(!outcome.untracked, "{packet:?}\n{}", rendered.table);
    }
}

/// A Service whose endpoint spares flows that name interfaces: outside of its clients the older policy, the enforced one, has
/// its packets as ever.
#[test]
fn a_spared_endpoint_changes_no_precedence_beyond_its_clients() {
    let policy = |name: &str, mode: &str, interfaces: &str| {
        let text = format!(
            "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata: {{name: {name}}}\nspec:\n  nodeSelector: {{}}\n  \
             mode: {mode}\n  flows: [{{name: f, action: NoTrack, role: Server, ports: [{{protocol: TCP, port: 80}}]{interfaces}}}]\n"
        );
        let manifest = notrack_core::manifest::parse("p.yaml", &text).manifests.remove(0).policy;
        Arc::new(notrack_core::policy::validate(&manifest).unwrap())
    };
    let endpoint = Kept {
        hazard: HazardKind::ServiceEndpoint,
        protocol: Proto::Tcp,
        addresses: None,
        ports: PortRange::one(80),
        clients: Some(AddressRange { family: Family::Ipv4, first: 10 << 24, last: (11 << 24) - 1 }),
        spares_interfaces: true,
        evidence: "an endpoint of Service default/web".to_owned(),
    };
    let policies = vec![policy("counts", "Audit", ", interfaces: [nt0]"), policy("bypasses", "Enforce", "")];
    let rule_set = RuleSet::new(policies, vec![endpoint]);
    let facts = support::facts();
    let table = render(&rule_set, &facts, None).unwrap().table;
    for (client, is_bypassed) in [("192.0.2.7", true), ("10.9.0.4", false)] {
        let packet = Packet {
            tuple: Tuple {
                source: support::address(client),
                destination: support::address("10.0.0.1"),
                proto: 6,
                source_port: 40000,
                destination_port: 80,
            },
            tcp_flags: 0x02,
            icmp_type: 0,
            embedded: None,
            interface: "nt0".into(),
        };
        let outcome = evaluate(&table, Hook::Prerouting, &packet);
        assert_eq!(outcome.untracked, is_bypassed, "{client}\n{table}");
        let wanted = judge(&rule_set, &facts, Hook::Prerouting, &packet);
        assert_eq!(wanted != Judgement::Tracked, is_bypassed, "{client}");
    }
}
