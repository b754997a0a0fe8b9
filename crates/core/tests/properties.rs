//! What holds for every policy, also for objects that no API server has looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[allow(dead_code, reason = "the model's tests use the rest")]
mod support;
mod wellformed;

use std::collections::BTreeMap;
use std::net::IpAddr;

use notrack_api as api;
use notrack_core::compile::{RuleSet, compile};
use notrack_core::facts::{NodeFacts, ProtectedSide};
use notrack_core::index::Index;
use notrack_core::nf::Hook;
use notrack_core::nf::eval::evaluate;
use notrack_core::packet::{Packet, Tuple};
use notrack_core::policy::{Action, Mode, ValidatedPolicy, validate};
use notrack_core::rules::render;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use wellformed::is_well_formed;

const HOOKS: [Hook; 2] = [Hook::Prerouting, Hook::Output];

/// The tuple by which a packet would be bypassed, with its end at this node first: an ICMP error goes back to where
/// the packet came from that it embeds.
fn ends(hook: Hook, packet: &Packet) -> (u8, (IpAddr, u16), (IpAddr, u16)) {
    let Tuple { source, source_port, destination, destination_port, proto } =
        packet.embedded.unwrap_or(packet.tuple);
    let (source, destination) = ((source, source_port), (destination, destination_port));
    if (hook == Hook::Prerouting) != packet.embedded.is_some() {
        (proto, destination, source)
    } else {
        (proto, source, destination)
    }
}

/// Whether the node cannot do without the packet's being tracked, by the plain meaning of the facts.
fn must_be_tracked(
    rule_set: &RuleSet,
    facts: &NodeFacts,
    hook: Hook,
    packet: &Packet,
) -> Option<&'static str> {
    let (proto, local, remote) = ends(hook, packet);
    let protected = |port: u16, side: ProtectedSide| {
        facts.protected.iter().any(|one| {
            let on_side = one.side == side || one.side == ProtectedSide::Both;
            one.protocol.number() == proto && one.ports.contains(port) && on_side
        })
    };
    let ephemeral = facts.ephemeral.iter().any(|range| range.contains(local.1));
    if packet.interface != "lo" && facts.is_own(local.0) {
        if protected(local.1, ProtectedSide::Local) {
            return Some("a protected port of the node");
        }
        if ephemeral && protected(remote.1, ProtectedSide::Remote) {
            return Some("the node asks a protected port");
        }
    }
    let named_interfaces =
        rule_set.policies().iter().flat_map(|policy| &policy.flows).any(|flow| !flow.interfaces.is_empty());
    let kept = rule_set.kept().iter().chain(&facts.kept);
    let mut binding = kept.filter(|kept| !(kept.spares_interfaces && named_interfaces));
    let named = |kept: &notrack_core::kept::Kept, (address, port): (IpAddr, u16), other: IpAddr| {
        let addressed = kept.addresses.map_or_else(|| facts.is_own(address), |range| range.contains(address));
        kept.protocol.number() == proto
            && kept.ports.contains(port)
            && addressed
            && kept.clients.is_none_or(|range| range.contains(other))
    };
    binding
        .any(|kept| named(kept, local, remote.0) || named(kept, remote, local.0))
        .then_some("kept for the cluster")
}

/// Whether some enforced flow has a port and the addresses of the packet, whichever end is which.
fn somebody_names(rule_set: &RuleSet, facts: &NodeFacts, packet: &Packet) -> bool {
    let icmp = packet.embedded.is_some();
    let Tuple { source, source_port, destination, destination_port, proto } =
        packet.embedded.unwrap_or(packet.tuple);
    let within = |ranges: &Option<Vec<notrack_core::net::AddressRange>>, address: IpAddr| {
        ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(address)))
    };
    let names = |policy: &ValidatedPolicy, server: (IpAddr, u16), client: IpAddr| {
        let flows = policy.flows.iter().filter(|flow| flow.action == Action::NoTrack);
        let mut fitting = flows.filter(|flow| {
            let port = flow.ports.iter().any(|(of, range)| of.number() == proto && range.contains(server.1));
            let own = facts.is_own(server.0) && within(&flow.server_addresses, server.0);
            let peers = within(&flow.peers, client) || within(&flow.peers, server.0);
            let elsewhere = facts.is_own(client) || within(&flow.server_addresses, server.0);
            port && peers && (own || elsewhere)
        });
        policy.mode == Mode::Enforce && (!icmp || policy.compensation.icmp_errors) && fitting.next().is_some()
    };
    rule_set.policies().iter().any(|policy| {
        names(policy, (source, source_port), destination)
            || names(policy, (destination, destination_port), source)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_node_needs_is_tracked_and_what_nobody_names_too(
        policies in support::policies(),
        kept in support::kept(),
        facts in support::any_facts(),
        packets in prop::collection::vec(support::packet_and_aim(), 60),
    ) {
        let rule_set = support::rule_set_keeping(&policies, &kept);
        let rendered = render(&rule_set, &facts, None).unwrap();
        for packet in packets.iter().map(|packet| support::aimed(packet, &policies)) {
            for hook in HOOKS {
                let outcome = evaluate(&rendered.table, hook, &packet);
                prop_assert!(!outcome.dropped, "{hook:?} {packet:?}\n{}", rendered.table);
                if !outcome.untracked {
                    continue;
                }
                let needed = must_be_tracked(&rule_set, &facts, hook, &packet);
                prop_assert_eq!(needed, None, "{:?} {:?}\n{}", hook, packet, rendered.table);
                let named = somebody_names(&rule_set, &facts, &packet);
                prop_assert!(named, "nobody names {hook:?} {packet:?}\n{}", rendered.table);
            }
        }
    }

    /// Nobody has looked at these: strings, numbers and lists are whatever the types can hold.
    #[test]
    fn any_object_is_refused_or_rendered(
        objects in prop::collection::vec(any_object(), 1..4),
        facts in support::any_facts(),
    ) {
        let mut index = Index::default();
        for object in &objects {
            match validate(object) {
                Ok(policy) => { index.apply(policy); }
                Err(problems) => {
                    prop_assert!(!problems.is_empty());
                    for problem in problems {
                        let shown = problem.to_string();
                        prop_assert!(!shown.contains(char::is_control), "{shown:?}");
                        prop_assert!(problem.path.starts_with("spec.") || problem.path.starts_with("metadata."));
                    }
                }
            }
        }
        let rule_set = compile(&index, &BTreeMap::new(), 0);
        if let Ok(rendered) = render(&rule_set, &facts, None) {
            prop_assert_eq!(is_well_formed(&rendered.table), Ok(()), "{}", rendered.table);
        }
    }

    /// The order in which a user writes things says nothing.
    #[test]
    fn the_order_of_lists_makes_no_difference(object in any_object(), seed in any::<prop::sample::Index>()) {
        let mut turned = object.clone();
        let by = seed.index(7);
        let flows = &mut turned.spec.flows;
        flows.reverse();
        for flow in flows.iter_mut() {
            turn(&mut flow.ports, by);
            turn(&mut flow.peers, by);
            turn(&mut flow.server_addresses, by);
            turn(&mut flow.local_ports, by);
            turn(&mut flow.interfaces, by);
            turn(&mut flow.acknowledge, by);
            flow.peers.iter_mut().for_each(|peer| turn(&mut peer.except, by));
        }
        match (validate(&object), validate(&turned)) {
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(&one, &other);
                let render = |policy| render(&support::rule_set(&[policy]), &support::facts(), None);
                if let (Ok(one), Ok(other)) = (render(one), render(other)) {
                    prop_assert_eq!(one.table.to_string(), other.table.to_string());
                    prop_assert_eq!(one.findings, other.findings);
                }
            }
            (one, other) => prop_assert_eq!(one.is_ok(), other.is_ok()),
        }
    }
}

fn turn<T>(list: &mut [T], by: usize) {
    if !list.is_empty() {
        list.rotate_left(by % list.len());
        list.reverse();
    }
}

/// Words that mean something to nft, a shell or a parser; a number of those that are as they should be.
fn text() -> impl Strategy<Value = String> {
    let words = vec![
        "",
        "a",
        "web",
        "tcp",
        "drop",
        "accept",
        "notrack",
        "table",
        "flush ruleset",
        "a b",
        "a;b",
        "a\"b",
        "a'b",
        "$(id)",
        "`id`",
        "a\nb",
        "a\0b",
        "{",
        "}",
        "*",
        "e*h",
        "eth0",
        "eth*",
        "lo",
        "-",
        "--",
        ".",
        "..",
        "/",
        "../x",
        "%s",
        "é",
        "\u{202e}x",
        "0",
        "123",
        "AnyPeer",
        "Protected",
        "HostFirewallDrops",
    ];
    prop_oneof![
        6 => prop::sample::select(words).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
        1 => (0usize..300).prop_map(|length| "x".repeat(length)),
    ]
}

fn cidr() -> impl Strategy<Value = String> {
    let good = vec![
        "10.0.0.0/8",
        "10.0.0.0/24",
        "10.0.0.2/32",
        "0.0.0.0/0",
        "::/0",
        "fd00::/16",
        "fd00::2/128",
        "127.0.0.0/8",
        "::ffff:10.0.0.0/104",
        "::ffff:0:0/96",
        "255.255.255.255/32",
        "224.0.0.0/4",
        "ff00::/8",
        "fe80::/10",
    ];
    let bad = vec![
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0",
        "::/129",
        "fe80::1%eth0/64",
        "0x0a000000/8",
        "10.0.0.0/-1",
        "010.0.0.0/8",
    ];
    prop_oneof![
        30 => prop::sample::select(good).prop_map(str::to_owned),
        1 => prop::sample::select(bad).prop_map(str::to_owned),
        1 => text(),
    ]
}

/// Mostly one of these, so that some objects are valid.
fn mostly(good: &[&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![15 => prop::sample::select(good.to_vec()).prop_map(str::to_owned), 1 => text()]
}

/// First and last port.
fn ports() -> impl Strategy<Value = (u16, Option<u16>)> {
    let edge = prop::sample::select(vec![1, 22, 80, 32768, 60999, 65534, 65535]);
    prop_oneof![
        8 => edge.prop_map(|port| (port, None)),
        4 => (1..u16::MAX, 0u16..2000).prop_map(|(port, more)| (port, Some(port.saturating_add(more)))),
        1 => (any::<u16>(), prop::option::of(any::<u16>())),
        1 => Just((1, Some(65535))),
    ]
}

fn server_port() -> impl Strategy<Value = api::ServerPort> {
    let protocols = vec![api::Protocol::Tcp, api::Protocol::Udp, api::Protocol::Sctp];
    (prop::sample::select(protocols), ports()).prop_map(|(protocol, (port, end_port))| api::ServerPort {
        protocol,
        port,
        end_port,
    })
}

fn any_flow() -> impl Strategy<Value = api::Flow> {
    let actions = prop::sample::select(vec![api::Action::NoTrack, api::Action::NoTrack, api::Action::Track]);
    let roles = vec![api::Role::Server, api::Role::Client, api::Role::Peer, api::Role::Forward];
    let peer =
        (cidr(), prop::collection::vec(cidr(), 0..2)).prop_map(|(cidr, except)| api::Peer { cidr, except });
    let local = ports().prop_map(|(port, end_port)| api::LocalPort { port, end_port });
    let known = (mostly(&["AnyPeer", "HostFirewallDrops"]), text())
        .prop_map(|(hazard, reason)| api::Acknowledgement { hazard, reason });
    (
        text(),
        actions,
        prop::sample::select(roles),
        prop::collection::vec(server_port(), 0..4),
        prop::collection::vec(peer, 0..4),
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(cidr(), 0..3)],
        prop_oneof![6 => Just(Vec::new()), 1 => prop::collection::vec(local, 0..3)],
        prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(mostly(&["eth0", "nt*", "lo", "*"]), 0..3)],
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(known, 0..3)],
    )
        .prop_map(
            |(name, action, role, ports, peers, server_addresses, local_ports, interfaces, acknowledge)| {
                api::Flow {
                    name,
                    action,
                    role,
                    ports,
                    peers,
                    server_addresses,
                    local_ports,
                    interfaces,
                    acknowledge,
                }
            },
        )
}

fn any_object() -> impl Strategy<Value = api::NoTrackPolicy> {
    let compensation = (any::<bool>(), any::<bool>(), prop_oneof![Just(0), Just(1), any::<u32>()]).prop_map(
        |(strict, accept, new_connections_per_second)| api::Compensation {
            tcp_flags: if strict { api::TcpFlags::Strict } else { api::TcpFlags::Disabled },
            icmp_errors: if accept { api::IcmpErrors::Accept } else { api::IcmpErrors::Ignore },
            new_connections_per_second,
        },
    );
    let name = mostly(&["web", "drop", "flush.ruleset", "0"]);
    let flows = prop_oneof![4 => prop::collection::vec(any_flow(), 1..2), 1 => prop::collection::vec(any_flow(), 0..4)];
    (name, flows, compensation, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(name, flows, compensation, enforce, adapt, keep)| {
            let spec = api::NoTrackPolicySpec {
                node_selector: api::NodeSelector::default(),
                mode: if enforce { api::Mode::Enforce } else { api::Mode::Audit },
                flows,
                compensation,
                host_firewall: if adapt { api::HostFirewall::Adapt } else { api::HostFirewall::Check },
                existing_entries: if keep { api::ExistingEntries::Keep } else { api::ExistingEntries::Evict },
                expire_time: None,
            };
            api::NoTrackPolicy::new(&name, spec)
        },
    )
}

/// Objects of which none were valid would show nothing about the rendering.
#[test]
fn some_of_the_objects_are_valid_and_do_something() {
    let mut runner = TestRunner::deterministic();
    let (mut valid, mut programmed) = (0, 0);
    for _ in 0..400 {
        let object = any_object().new_tree(&mut runner).unwrap().current();
        if let Ok(policy) = validate(&object) {
            valid += 1;
            let rendered = render(&support::rule_set(&[policy]), &support::facts(), None).unwrap();
            programmed += usize::from(!rendered.table.chains.is_empty());
        }
    }
    assert!(valid > 40 && programmed > 20, "valid {valid}, programmed {programmed}");
}

/// A limit that docs/compensation.md names: on the loopback device the node is both ends, and a segment from a served to a
/// protected port reads as the served port's answer.
#[test]
fn on_loopback_a_served_source_port_wins_over_a_protected_one() {
    let flow = serde_json::json!({
        "name": "f", "action": "NoTrack", "role": "Server", "ports": [{"protocol": "TCP", "port": 80}],
    });
    let spec = serde_json::json!({"nodeSelector": {}, "mode": "Enforce", "flows": [flow]});
    let object = api::NoTrackPolicy::new("web", serde_json::from_value(spec).unwrap());
    let rule_set = support::rule_set(&[validate(&object).unwrap()]);
    let rendered = render(&rule_set, &support::facts(), None).unwrap();
    let untracked = |interface: &str, source_port, destination_port, tcp_flags| {
        let own = support::address("10.0.0.1");
        let source = if interface == "lo" { own } else { support::address("10.0.0.2") };
        let tuple = Tuple { source, destination: own, proto: 6, source_port, destination_port };
        let interface = interface.to_owned();
        let packet = Packet { tuple, tcp_flags, icmp_type: 0, embedded: None, interface };
        evaluate(&rendered.table, Hook::Prerouting, &packet).untracked
    };
    assert!(!untracked("lo", 80, 22, 0x02), "the connection begins tracked");
    assert!(!untracked("lo", 22, 80, 0x12));
    assert!(untracked("lo", 80, 22, 0x10));
    assert!(!untracked("nt0", 80, 22, 0x10), "from elsewhere it stays tracked");
}

/// A name that is too long would be cut in the kernel, and match another interface.
#[test]
fn names_of_interfaces_are_checked_again() {
    let object = |name: &str| {
        let flow = serde_json::json!({
            "name": "f", "action": "NoTrack", "role": "Server", "ports": [{"protocol": "TCP", "port": 80}],
            "interfaces": [name],
        });
        let spec = serde_json::json!({"nodeSelector": {}, "mode": "Enforce", "flows": [flow]});
        api::NoTrackPolicy::new("web", serde_json::from_value(spec).unwrap())
    };
    for good in ["eth0", "bond*", "*", "123456789012345", "123456789012345*", "a.b_c@d:e-f"] {
        assert!(validate(&object(good)).is_ok(), "{good}");
    }
    for bad in ["", "1234567890123456", "1234567890123456*", "a b", "a\"b", "a/b", "e*h", "**", "é"] {
        let problems = validate(&object(bad)).unwrap_err();
        assert_eq!(problems[0].path, "spec.flows[0].interfaces[0]", "{bad}");
    }
}
