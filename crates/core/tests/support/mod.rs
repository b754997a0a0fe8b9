//! Random policies, facts and packets in a small corner of the space, so that they meet often. The tests on the
//! real kernel use the same ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use notrack_core::compile::{RuleSet, compile};
use notrack_core::facts::{NodeFacts, ProtectedPort, ProtectedSide, Tracked};
use notrack_core::hazard::HazardKind;
use notrack_core::index::Index;
use notrack_core::kept::Kept;
use notrack_core::net::{AddressRange, PortRange, Proto, merge_addresses, merge_ports};
use notrack_core::packet::{Packet, Tuple};
use notrack_core::policy::{Action, Compensation, Mode, Role, ValidatedFlow, ValidatedPolicy};
use notrack_core::selector::Selector;
use proptest::prelude::*;

/// This node's own addresses.
pub const OWN: [&str; 4] = ["127.0.0.1", "10.0.0.1", "::1", "fd00::1"];
const OTHERS: [&str; 6] = ["10.0.0.2", "10.0.1.3", "10.9.0.4", "fd00::2", "fd00:1::3", "fd00:9::4"];
const PORTS: [u16; 11] = [1, 22, 53, 80, 81, 443, 4789, 6443, 32768, 40000, 61001];
const FLAGS: [u8; 14] = [0x02, 0x12, 0x10, 0x18, 0x11, 0x14, 0x04, 0x00, 0x01, 0x03, 0x06, 0x29, 0x22, 0x32];

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn facts() -> NodeFacts {
    NodeFacts {
        addresses: OWN.iter().map(|text| address(text)).collect(),
        ephemeral: vec![PortRange::new(32768, 60999).unwrap()],
        protected: vec![
            protected(22, ProtectedSide::Both, "SSH"),
            protected(6443, ProtectedSide::Remote, "Kubernetes API server"),
        ],
        tracked: Tracked { ipv4: true, ipv6: true },
        kept: Vec::new(),
        host: Arc::default(),
        labels: BTreeMap::new(),
    }
}

fn protected(port: u16, side: ProtectedSide, reason: &str) -> ProtectedPort {
    ProtectedPort { protocol: Proto::Tcp, ports: PortRange::one(port), side, reason: reason.to_owned() }
}

fn proto() -> impl Strategy<Value = Proto> {
    prop::sample::select(Proto::ALL.as_slice())
}

fn port_range() -> impl Strategy<Value = PortRange> {
    let port = || prop::sample::select(PORTS.as_slice());
    prop_oneof![
        3 => port().prop_map(PortRange::one),
        2 => (port(), port()).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap()),
        1 => Just(PortRange::new(1, 65535).unwrap()),
    ]
}

fn prefixes() -> impl Strategy<Value = Vec<AddressRange>> {
    let names = [
        "10.0.0.0/8",
        "10.0.0.0/24",
        "10.0.0.2/32",
        "10.0.0.0/31",
        "10.9.0.0/16",
        "0.0.0.0/0",
        "127.0.0.0/8",
        "fd00::/16",
        "fd00::/64",
        "fd00::2/128",
        "fd00:9::/32",
        "::/0",
    ];
    let one = prop::sample::select(names.to_vec());
    prop::collection::vec(one, 1..4).prop_map(|names| {
        merge_addresses(
            names.into_iter().map(|name| AddressRange::from(name.parse::<ipnet::IpNet>().unwrap())).collect(),
        )
    })
}

fn flow(name: String) -> impl Strategy<Value = ValidatedFlow> {
    let role =
        prop::sample::select(vec![Role::Server, Role::Server, Role::Client, Role::Peer, Role::Forward]);
    let action = prop::sample::select(vec![Action::NoTrack, Action::NoTrack, Action::NoTrack, Action::Track]);
    let interfaces =
        prop::sample::select(vec![vec![], vec![], vec!["nt0"], vec!["nt*"], vec!["lo"], vec!["eth9", "nt0"]]);
    let ports = prop::collection::vec((proto(), port_range()), 1..4);
    let local = prop::option::weighted(0.3, prop::collection::vec(port_range(), 1..3));
    let peers = prop::option::weighted(0.6, prefixes());
    let servers = prop::option::weighted(0.4, prefixes());
    (role, action, interfaces, ports, local, peers, servers).prop_map(
        move |(role, action, interfaces, ports, local, peers, servers)| {
            let all = || vec![AddressRange::from("10.0.0.0/8".parse::<ipnet::IpNet>().unwrap())];
            let needs_peers = matches!(role, Role::Client | Role::Peer);
            ValidatedFlow {
                name: name.clone(),
                action,
                role,
                ports: Proto::ALL
                    .into_iter()
                    .flat_map(|proto| {
                        let own = ports.iter().filter(|(of, _)| *of == proto).map(|(_, range)| *range);
                        merge_ports(own.collect())
                            .into_iter()
                            .map(move |range| (proto, range))
                            .collect::<Vec<_>>()
                    })
                    .collect(),
                peers: if needs_peers { Some(peers.unwrap_or_else(all)) } else { peers },
                server_addresses: match role {
                    Role::Client => None,
                    Role::Forward => Some(servers.unwrap_or_else(all)),
                    _ => servers,
                },
                local_ports: local.filter(|_| role == Role::Client).map(merge_ports),
                interfaces: interfaces.into_iter().map(Arc::from).collect(),
                acknowledged: BTreeSet::new(),
            }
        },
    )
}

fn policy(name: String) -> impl Strategy<Value = ValidatedPolicy> {
    let flows = (flow("a".into()), prop::option::of(flow("b".into())));
    let mode = prop::sample::select(vec![Mode::Enforce, Mode::Enforce, Mode::Enforce, Mode::Audit]);
    (flows, mode, any::<bool>(), any::<bool>(), prop::option::of(0i64..3)).prop_map(
        move |((first, second), mode, strict_tcp_flags, icmp_errors, created)| ValidatedPolicy {
            name: name.clone(),
            uid: None,
            generation: None,
            created,
            selector: Selector::default(),
            mode,
            flows: [Some(first), second].into_iter().flatten().collect(),
            adapts_firewall: false,
            keeps_entries: false,
            compensation: Compensation {
                strict_tcp_flags,
                icmp_errors,
                // Above what a test sends in a second.
                new_connections_per_second: if strict_tcp_flags { 5000 } else { 0 },
            },
            expires: None,
        },
    )
}

/// Up to four policies that share much.
pub fn policies() -> impl Strategy<Value = Vec<ValidatedPolicy>> {
    (1usize..5)
        .prop_flat_map(|count| (0..count).map(|number| policy(format!("p{number}"))).collect::<Vec<_>>())
}

pub fn rule_set(policies: &[ValidatedPolicy]) -> RuleSet {
    let mut index = Index::default();
    for policy in policies {
        index.apply(policy.clone());
    }
    compile(&index, &BTreeMap::new(), 0)
}

/// Up to three kinds of servers that a cluster needs tracked.
pub fn kept() -> impl Strategy<Value = Vec<Kept>> {
    let addresses = prop::option::weighted(0.7, prefixes().prop_map(|ranges| ranges[0]));
    let clients = prop::option::weighted(0.3, prefixes().prop_map(|ranges| ranges[0]));
    let one = (proto(), addresses, port_range(), clients, any::<bool>()).prop_map(
        |(protocol, addresses, ports, clients, spares_interfaces)| Kept {
            hazard: HazardKind::ServiceEndpoint,
            protocol,
            addresses,
            ports,
            clients,
            spares_interfaces,
            evidence: "an endpoint of Service default/web".to_owned(),
        },
    );
    prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(one, 1..4)]
}

/// As [`rule_set`], in a cluster.
pub fn rule_set_keeping(policies: &[ValidatedPolicy], kept: &[Kept]) -> RuleSet {
    RuleSet::new(rule_set(policies).policies().to_vec(), kept.to_vec())
}

fn tuple(v4: bool) -> impl Strategy<Value = Tuple> {
    let addresses: Vec<IpAddr> = OWN
        .iter()
        .chain(&OTHERS)
        .map(|text| address(text))
        .filter(|address| address.is_ipv4() == v4)
        .collect();
    let address = move || prop::sample::select(addresses.clone());
    let port = || prop::sample::select(PORTS.as_slice());
    (address(), address(), proto(), port(), port()).prop_map(
        |(source, destination, proto, source_port, destination_port)| Tuple {
            source,
            destination,
            proto: proto.number(),
            source_port,
            destination_port,
        },
    )
}

/// A packet; one in four is an ICMP error about another.
pub fn packet() -> impl Strategy<Value = Packet> {
    let interface = prop::sample::select(vec!["nt0", "nt0", "nt0", "lo"]);
    let flags = prop::sample::select(FLAGS.as_slice());
    any::<bool>().prop_flat_map(move |v4| {
        let icmp = prop::option::weighted(0.25, (tuple(v4), 0u8..14));
        (tuple(v4), flags.clone(), interface.clone(), icmp).prop_map(
            move |(tuple, flags, interface, icmp)| {
                // Only what this node sends to itself passes the loopback device.
                let own = |address: IpAddr| OWN.contains(&address.to_string().as_str());
                let itself = |tuple: &Tuple| own(tuple.source) && own(tuple.destination);
                let loopback = itself(&tuple) && icmp.as_ref().is_none_or(|(embedded, _)| itself(embedded));
                let interface = if loopback { interface } else { "nt0" }.to_owned();
                match icmp {
                    None => Packet {
                        tcp_flags: if tuple.proto == 6 { flags } else { 0 },
                        tuple,
                        icmp_type: 0,
                        embedded: None,
                        interface,
                    },
                    Some((embedded, icmp_type)) => Packet {
                        tuple: Tuple {
                            proto: if v4 { 1 } else { 58 },
                            source_port: 0,
                            destination_port: 0,
                            ..tuple
                        },
                        tcp_flags: 0,
                        icmp_type,
                        embedded: Some(embedded),
                        interface,
                    },
                }
            },
        )
    })
}
