//! The packet model: what must happen to a packet, straight from the meaning of the policies.
//!
//! It shares no code with the compiler: no clauses, cells or maps. Tests hold the rendered table, in an
//! interpreter and in the kernel, against it.

use std::net::IpAddr;

use crate::compile::RuleSet;
use crate::facts::{NodeFacts, ProtectedSide};
use crate::hazard::HazardKind;
use crate::net::{AddressRange, PortRange, Proto};
use crate::nf::Hook;
use crate::packet::{Judgement, Packet, Tuple, interface_matches};
use crate::policy::{Action, Mode, Role, ValidatedFlow, ValidatedPolicy};

/// One way to read a packet: who is the server, and which end is this node.
#[derive(Clone, Copy)]
struct Reading {
    node: Node,
    to_server: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Server,
    Client,
    Router,
}

/// A tuple by its ends.
#[derive(Clone, Copy)]
struct Ends {
    proto: Proto,
    server: (IpAddr, u16),
    client: (IpAddr, u16),
}

impl Ends {
    fn as_client_sends(self) -> Tuple {
        let Ends { proto, server, client } = self;
        Tuple {
            source: client.0,
            destination: server.0,
            proto: proto.number(),
            source_port: client.1,
            destination_port: server.1,
        }
    }
}

/// Judges a packet at a raw hook.
pub fn judge(rule_set: &RuleSet, facts: &NodeFacts, hook: Hook, packet: &Packet) -> Judgement {
    let error = is_icmp_error(packet);
    let (tuple, reversed) = match (error, packet.embedded) {
        (true, Some(embedded)) => (embedded, true),
        _ => (packet.tuple, false),
    };
    for reading in readings(hook, reversed, packet.interface == "lo") {
        let Some(ends) = ends(tuple, reading) else { return Judgement::Tracked };
        let Some(owner) = owner(rule_set, facts, reading, ends, &packet.interface) else { continue };
        let fits =
            if error { owner.compensation.icmp_errors } else { fits(owner, reading, ends.proto, packet) };
        let lasts = owner.may_keep_entries() && !error && facts.lasting.contains(&ends.as_client_sends());
        if fits && !lasts && owner.mode == Mode::Enforce {
            return Judgement::Bypassed(owner.name.clone());
        }
    }
    Judgement::Tracked
}

fn is_icmp_error(packet: &Packet) -> bool {
    match packet.tuple.proto {
        1 => matches!(packet.icmp_type, 3 | 11 | 12),
        58 => matches!(packet.icmp_type, 1..=4),
        _ => false,
    }
}

/// A packet that comes in goes to this node's servers or from its peers; what goes out, the other way round; on
/// the loopback device it is both at once.
fn readings(hook: Hook, reversed: bool, loopback: bool) -> Vec<Reading> {
    let incoming = (hook == Hook::Prerouting) != reversed;
    let mut readings = Vec::new();
    for (node, natural) in [(Node::Server, incoming), (Node::Client, !incoming)] {
        readings.push(Reading { node, to_server: natural });
        if loopback {
            readings.push(Reading { node, to_server: !natural });
        }
    }
    // Of what it routes a router sends nothing itself but errors.
    if hook == Hook::Prerouting || reversed {
        readings.push(Reading { node: Node::Router, to_server: true });
        readings.push(Reading { node: Node::Router, to_server: false });
    }
    readings
}

fn ends(tuple: Tuple, reading: Reading) -> Option<Ends> {
    let proto = Proto::from_number(tuple.proto)?;
    let source = (tuple.source, tuple.source_port);
    let destination = (tuple.destination, tuple.destination_port);
    Some(if reading.to_server {
        Ends { proto, server: destination, client: source }
    } else {
        Ends { proto, server: source, client: destination }
    })
}

/// The policy that has these ends; `None` where they stay tracked.
fn owner<'a>(
    rule_set: &'a RuleSet,
    facts: &NodeFacts,
    reading: Reading,
    ends: Ends,
    interface: &str,
) -> Option<&'a ValidatedPolicy> {
    if is_protected(facts, reading.node, ends) {
        return None;
    }
    let flows = || {
        rule_set
            .policies()
            .iter()
            .flat_map(|policy| policy.flows.iter().map(move |flow| (policy.as_ref(), flow)))
    };
    let swapped = Ends { server: ends.client, client: ends.server, ..ends };
    let mirror = match reading.node {
        Node::Server => Node::Client,
        Node::Client => Node::Server,
        Node::Router => Node::Router,
    };
    // An exception keeps its packets, whichever end they are read from.
    let excepted = flows().filter(|(_, flow)| flow.action == Action::Track).any(|(_, flow)| {
        names(flow, facts, reading.node, ends, interface) || names(flow, facts, mirror, swapped, interface)
    });
    if excepted {
        return None;
    }
    let named_interface = match cluster_wish(rule_set, facts, reading.node, ends) {
        Wish::Nothing => false,
        Wish::KeepWithoutInterface => true,
        Wish::Keep => return None,
    };
    let mut wanted = flows().filter(|(_, flow)| {
        flow.action == Action::NoTrack && !(named_interface && flow.interfaces.is_empty())
    });
    wanted.find(|(_, flow)| names(flow, facts, reading.node, ends, interface)).map(|(policy, _)| policy)
}

/// What the cluster's Services say about a tuple.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Nothing,
    /// Flows that name interfaces may have it.
    KeepWithoutInterface,
    Keep,
}

fn cluster_wish(rule_set: &RuleSet, facts: &NodeFacts, node: Node, ends: Ends) -> Wish {
    let all = rule_set.kept().iter().chain(&facts.kept).filter(|kept| kept.protocol == ends.proto);
    let wishes = all.map(|kept| {
        let names = |(address, port): (IpAddr, u16), (other, _): (IpAddr, u16)| {
            kept.ports.contains(port)
                && kept.clients.is_none_or(|range| range.contains(other))
                && match kept.addresses {
                    Some(range) => range.contains(address),
                    None => facts.is_own(address),
                }
        };
        match (names(ends.server, ends.client), names(ends.client, ends.server)) {
            (_, true) => Wish::Keep,
            (true, false) if kept.spares_interfaces && node == Node::Server => Wish::KeepWithoutInterface,
            (true, false) => Wish::Keep,
            (false, false) => Wish::Nothing,
        }
    });
    wishes.max().unwrap_or(Wish::Nothing)
}

fn is_protected(facts: &NodeFacts, node: Node, ends: Ends) -> bool {
    let protected = |port: u16, side: ProtectedSide| {
        facts.protected.iter().any(|protected| {
            protected.protocol == ends.proto
                && protected.ports.contains(port)
                && (protected.side == side || protected.side == ProtectedSide::Both)
        })
    };
    match node {
        Node::Server => {
            protected(ends.server.1, ProtectedSide::Local) || any_port(&facts.ephemeral, ends.server.1)
        }
        Node::Client => {
            protected(ends.client.1, ProtectedSide::Local) || protected(ends.server.1, ProtectedSide::Remote)
        }
        Node::Router => facts.is_own(ends.server.0) || facts.is_own(ends.client.0),
    }
}

/// Whether a flow names these ends.
fn names(flow: &ValidatedFlow, facts: &NodeFacts, node: Node, ends: Ends, interface: &str) -> bool {
    // FTP, TFTP, PPTP and SIP, whose helpers need the entry.
    let helped = match ends.proto {
        Proto::Tcp => [21, 1723, 5060].contains(&ends.server.1),
        Proto::Udp => [69, 5060].contains(&ends.server.1),
        Proto::Sctp => false,
    };
    if helped && flow.action == Action::NoTrack && !flow.acknowledged.contains(&HazardKind::Helper) {
        return false;
    }
    let port =
        |port: u16| flow.ports.iter().any(|(proto, range)| *proto == ends.proto && range.contains(port));
    let peer = |address| flow.peers.as_ref().is_none_or(|ranges| any_address(ranges, address));
    let served = |address| {
        facts.is_own(address)
            && flow.server_addresses.as_ref().is_none_or(|ranges| any_address(ranges, address))
    };
    let on_interface = flow.interfaces.is_empty()
        || flow.interfaces.iter().any(|pattern| interface_matches(pattern, interface));
    if !on_interface || !port(ends.server.1) {
        return false;
    }
    let local_port = match &flow.local_ports {
        Some(ports) => any_port(ports, ends.client.1),
        None => any_port(&facts.ephemeral, ends.client.1),
    };
    match (flow.role, node) {
        (Role::Server | Role::Peer, Node::Server) => served(ends.server.0) && peer(ends.client.0),
        (Role::Client, Node::Client) => facts.is_own(ends.client.0) && peer(ends.server.0) && local_port,
        (Role::Peer, Node::Client) => {
            served(ends.client.0) && peer(ends.server.0) && (local_port || port(ends.client.1))
        }
        (Role::Forward, Node::Router) => {
            let servers = flow.server_addresses.as_deref().unwrap_or_default();
            any_address(servers, ends.server.0) && peer(ends.client.0)
        }
        _ => false,
    }
}

/// Whether the packet may belong to an untracked flow in its direction.
fn fits(policy: &ValidatedPolicy, reading: Reading, proto: Proto, packet: &Packet) -> bool {
    if proto != Proto::Tcp || !policy.compensation.strict_tcp_flags {
        return true;
    }
    let flag = |bit: u8| packet.tcp_flags & bit != 0;
    let (fin, syn, rst, ack, urg) = (flag(1), flag(2), flag(4), flag(16), flag(32));
    match (syn, fin, rst, ack) {
        (true, false, false, false) => reading.to_server,
        (true, false, false, true) => !reading.to_server && !urg,
        (true, ..) => false,
        (false, true, true, _) => false,
        (false, true, false, _) => ack,
        (false, false, true, _) => !urg,
        (false, false, false, _) => ack,
    }
}

fn any_port(ranges: &[PortRange], port: u16) -> bool {
    ranges.iter().any(|range| range.contains(port))
}

fn any_address(ranges: &[AddressRange], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(address))
}
