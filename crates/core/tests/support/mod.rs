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
        lasting: Arc::default(),
        labels: BTreeMap::new(),
    }
}

/// Facts of any node that has some of [`OWN`].
pub fn any_facts() -> impl Strategy<Value = NodeFacts> {
    let addresses = prop_oneof![
        3 => Just(OWN.to_vec()),
        1 => prop::sample::subsequence(OWN.to_vec(), 0..=OWN.len()),
    ];
    let ephemeral = prop::sample::select(vec![
        vec![(32768, 60999)],
        vec![(32768, 60999)],
        vec![],
        vec![(1024, 65535)],
        vec![(80, 80), (40000, 61001)],
    ]);
    let side = prop::sample::select(vec![ProtectedSide::Local, ProtectedSide::Remote, ProtectedSide::Both]);
    let one = (proto(), port_range(), side).prop_map(|(protocol, ports, side)| ProtectedPort {
        protocol,
        ports,
        side,
        reason: "needed".to_owned(),
    });
    let protected = prop_oneof![
        2 => Just(facts().protected),
        1 => prop::collection::vec(one, 0..3),
    ];
    (addresses, ephemeral, protected, kept()).prop_map(|(addresses, ephemeral, protected, kept)| NodeFacts {
        addresses: addresses.into_iter().map(address).collect(),
        ephemeral: ephemeral.into_iter().map(|(a, b)| PortRange::new(a, b).unwrap()).collect(),
        protected,
        kept,
        ..facts()
    })
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
    let created = prop::option::of(0i64..3);
    (flows, mode, any::<bool>(), any::<bool>(), any::<bool>(), created).prop_map(
        move |((first, second), mode, keeps_entries, strict_tcp_flags, icmp_errors, created)| {
            ValidatedPolicy {
                name: name.clone(),
                uid: None,
                generation: None,
                created,
                selector: Selector::default(),
                mode,
                flows: [Some(first), second].into_iter().flatten().collect(),
                adapts_firewall: false,
                keeps_entries,
                compensation: Compensation {
                    strict_tcp_flags,
                    icmp_errors,
                    // Above what a test sends in a second.
                    new_connections_per_second: if strict_tcp_flags { 5000 } else { 0 },
                },
                expires: None,
            }
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

/// Connections that last: those of some of the packets, in either direction.
pub fn lasting(packets: &[Packet], which: u64) -> BTreeSet<Tuple> {
    let bit = |place: usize| which >> (place % 64) & 1 == 1;
    let of_flows =
        packets.iter().enumerate().filter(|(place, packet)| bit(2 * place) && packet.embedded.is_none());
    of_flows
        .map(|(place, packet)| if bit(2 * place + 1) { packet.tuple } else { packet.tuple.mirrored() })
        .collect()
}

/// A packet; one in four is an ICMP error about another.
pub fn packet() -> impl Strategy<Value = Packet> {
    let interface = prop::sample::select(vec!["nt0", "nt0", "eth9", "lo"]);
    let flags = prop::sample::select(FLAGS.as_slice());
    any::<bool>().prop_flat_map(move |v4| {
        let icmp = prop::option::weighted(
            0.25,
            (tuple(v4), prop_oneof![prop::sample::select(vec![1u8, 2, 3, 4, 11, 12]), 0u8..14]),
        );
        (tuple(v4), flags.clone(), interface.clone(), icmp).prop_map(
            move |(tuple, flags, interface, icmp)| {
                // Only what this node sends to itself passes the loopback device.
                let own = |address: IpAddr| OWN.contains(&address.to_string().as_str());
                let itself = |tuple: &Tuple| own(tuple.source) && own(tuple.destination);
                let loopback = itself(&tuple) && icmp.as_ref().is_none_or(|(embedded, _)| itself(embedded));
                let interface = if loopback || interface != "lo" { interface } else { "nt0" }.to_owned();
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

/// How a packet is turned into one that a policy's flow names, most of the time.
#[derive(Clone, Debug)]
pub struct Aim {
    choices: [prop::sample::Index; 6],
    to_server: bool,
    serves: bool,
}

/// A packet, and perhaps what to aim at: random packets alone meet few policies.
pub fn packet_and_aim() -> impl Strategy<Value = (Packet, Option<Aim>)> {
    let aim = (any::<[prop::sample::Index; 6]>(), any::<bool>(), any::<bool>())
        .prop_map(|(choices, to_server, serves)| Aim { choices, to_server, serves });
    (packet(), prop::option::weighted(0.6, aim))
}

/// Aims a packet at a flow of the policies.
pub fn aimed((packet, aim): &(Packet, Option<Aim>), policies: &[ValidatedPolicy]) -> Packet {
    let Some(Aim { choices, to_server, serves }) = aim else { return packet.clone() };
    let [of_flow, of_ports, of_port, of_own, of_other, of_client_port] = choices;
    let flows: Vec<&ValidatedFlow> = policies.iter().flat_map(|policy| &policy.flows).collect();
    let flow = of_flow.get(&flows);
    let (proto, range) = of_ports.get(&flow.ports);
    let port = range.first() + of_port.index(range.len() as usize) as u16;
    let v4 = packet.tuple.source.is_ipv4();
    let pick = |names: &[&str], within: &Option<Vec<AddressRange>>, choice: &prop::sample::Index| {
        let named =
            |at: &IpAddr| within.as_ref().is_none_or(|all| all.iter().any(|range| range.contains(*at)));
        let all = names.iter().map(|text| address(text));
        // Loopback addresses are on no wire.
        let all: Vec<IpAddr> =
            all.filter(|at| at.is_ipv4() == v4 && !at.is_loopback() && named(at)).collect();
        (!all.is_empty()).then(|| *choice.get(&all))
    };
    let serves = *serves || flow.role == Role::Server;
    let (server, client) = match flow.role {
        Role::Server | Role::Peer if serves => {
            (pick(&OWN, &flow.server_addresses, of_own), pick(&OTHERS, &flow.peers, of_other))
        }
        Role::Forward => {
            (pick(&OTHERS, &flow.server_addresses, of_own), pick(&OTHERS, &flow.peers, of_other))
        }
        _ => (pick(&OTHERS, &flow.peers, of_other), pick(&OWN, &flow.server_addresses, of_own)),
    };
    let (Some(server), Some(client)) = (server, client) else { return packet.clone() };
    // A Client's own port is ephemeral as a rule.
    let client_ports = if flow.role == Role::Client { &[40000, 32768, 61001][..] } else { &PORTS };
    let client_port = *of_client_port.get(client_ports);
    let to = Tuple {
        source: client,
        destination: server,
        proto: proto.number(),
        source_port: client_port,
        destination_port: port,
    };
    let tuple = if *to_server {
        to
    } else {
        Tuple { source: server, destination: client, source_port: port, destination_port: client_port, ..to }
    };
    let interface = if packet.interface == "lo" { "nt0" } else { &packet.interface }.to_owned();
    match packet.embedded {
        // Its outer addresses stay: nobody looks at them.
        Some(_) => Packet { embedded: Some(tuple), interface, ..packet.clone() },
        None => {
            let tcp_flags = match (tuple.proto, packet.tcp_flags) {
                (6, 0) => 0x10,
                (6, flags) => flags,
                _ => 0,
            };
            Packet { tuple, tcp_flags, interface, ..packet.clone() }
        }
    }
}

/// Whether a node with these facts can see the packet: on the loopback device both ends are its own.
pub fn is_possible(packet: &Packet, facts: &NodeFacts) -> bool {
    let mut ends = [Some(packet.tuple), packet.embedded]
        .into_iter()
        .flatten()
        .flat_map(|tuple| [tuple.source, tuple.destination]);
    packet.interface != "lo" || ends.all(|address| facts.is_own(address))
}
