//! A flow's connections as journeys through this node.

use std::net::IpAddr;

use super::ports;
use crate::facts::NodeFacts;
use crate::host::ValueBox;
use crate::host::journey::{Journey, Leg};
use crate::host::region::{Axis, Ranges, Region, interfaces, loopback};
use crate::net::{AddressRange, Family, PortRange, Proto};
use crate::policy::{Role, ValidatedFlow};
use crate::rules::{Class, Clause, served_addresses};

/// More parts than this of one journey are not told apart: then the whole is judged.
const MOST_PARTS: usize = 64;

/// The ends of a journey's first packet.
struct Ends {
    sources: Vec<AddressRange>,
    source_ports: Vec<PortRange>,
    destinations: Vec<AddressRange>,
    destination_ports: Vec<PortRange>,
}

/// The journeys of a flow: one a way, family and protocol.
pub(crate) fn travels<'a>(flow: &ValidatedFlow, facts: &NodeFacts, own: &'a Ranges) -> Vec<Journey<'a>> {
    let mut journeys = Vec::new();
    for proto in Proto::ALL {
        let ports = ports(flow, proto);
        if ports.is_empty() {
            continue;
        }
        for family in Family::ALL {
            for (leg, ends) in ways(flow, facts, &ports) {
                let region = region(leg, flow, ends, family);
                if !region.is_empty() {
                    journeys.push(Journey { family, proto, is_errors: false, leg, region, own });
                }
            }
        }
    }
    journeys
}

/// What this node routes for others to the servers that a flow has it ask itself. Nobody behind it speaks to the other
/// end of a tunnel of its own.
pub(crate) fn beside<'a>(flow: &ValidatedFlow, facts: &NodeFacts, own: &'a Ranges) -> Vec<Journey<'a>> {
    if !matches!(flow.role, Role::Client | Role::Peer) {
        return Vec::new();
    }
    let tunnels = || facts.host.surroundings.interfaces.iter().filter_map(|interface| interface.tunnel_port);
    let mut journeys = Vec::new();
    for proto in Proto::ALL {
        let mut ports = ports(flow, proto);
        if proto == Proto::Udp {
            ports.retain(|range| !tunnels().any(|tunnel| *range == PortRange::one(tunnel)));
        }
        for family in Family::ALL {
            let all = || vec![AddressRange::all(family)];
            let ends = Ends {
                sources: all(),
                source_ports: vec![PortRange::ALL],
                destinations: flow.peers.clone().unwrap_or_else(all),
                destination_ports: ports.clone(),
            };
            let region = routed(flow, ends, family, own);
            if !region.is_empty() {
                journeys.push(Journey { family, proto, is_errors: false, leg: Leg::Through, region, own });
            }
        }
    }
    journeys
}

/// What others, and this node itself, ask of the clients of a server.
pub(crate) fn elsewhere<'a>(flow: &ValidatedFlow, own: &'a Ranges) -> Vec<Journey<'a>> {
    if flow.role != Role::Server {
        return Vec::new();
    }
    let mut journeys = Vec::new();
    for proto in Proto::ALL.into_iter().filter(|proto| !ports(flow, *proto).is_empty()) {
        for family in Family::ALL {
            let all = || vec![AddressRange::all(family)];
            for leg in [Leg::Through, Leg::Out] {
                let ends = Ends {
                    sources: all(),
                    source_ports: vec![PortRange::ALL],
                    destinations: flow.peers.clone().unwrap_or_else(all),
                    destination_ports: vec![PortRange::ALL],
                };
                let region = match leg {
                    Leg::Through => routed(flow, ends, family, own),
                    _ => {
                        let region = region(leg, flow, ends, family);
                        let inward = region.get(Axis::Source).intersection(own);
                        region.with(Axis::Source, inward)
                    }
                };
                if !region.is_empty() {
                    journeys.push(Journey { family, proto, is_errors: false, leg, region, own });
                }
            }
        }
    }
    journeys
}

/// What others send through this node and out by an interface of the flow.
fn routed(flow: &ValidatedFlow, ends: Ends, family: Family, own: &Ranges) -> Region {
    let region = region(Leg::Through, flow, ends, family);
    let outward = region.get(Axis::Source).without(own);
    let leaves = region.get(Axis::InInterface).intersection(region.get(Axis::OutInterface));
    region
        .with(Axis::Source, outward)
        .with(Axis::InInterface, Ranges::all().without(&interfaces(["lo"])))
        .with(Axis::OutInterface, leaves)
}

fn ways(flow: &ValidatedFlow, facts: &NodeFacts, ports: &[PortRange]) -> Vec<(Leg, Ends)> {
    let peers = || flow.peers.clone().unwrap_or_else(|| Family::ALL.map(AddressRange::all).to_vec());
    let served = served_addresses(flow, facts);
    let outward = |ranges: &[AddressRange]| -> Vec<AddressRange> {
        ranges.iter().copied().filter(|range| !range.first_address().is_loopback()).collect()
    };
    let own = facts.own_ranges();
    let local = flow.local_ports.clone().unwrap_or_else(|| facts.ephemeral.clone());
    let any = vec![PortRange::ALL];
    let ends = |sources, source_ports, destinations| Ends {
        sources,
        source_ports,
        destinations,
        destination_ports: ports.to_vec(),
    };
    let mut ways = Vec::new();
    if matches!(flow.role, Role::Server | Role::Peer) {
        ways.push((Leg::In, ends(peers(), any.clone(), outward(&served))));
        // Apart: nobody asks one of the node's other addresses from a loopback address unless told to, and the kubelet's
        // own rule (KUBE-FIREWALL) drops untracked what would answer it: every node of a cluster would be blocked.
        for is_loopback in [true, false] {
            let of_kind = |range: &AddressRange| range.first_address().is_loopback() == is_loopback;
            let inside = own.iter().copied().filter(|own| of_kind(own) && names(&peers(), *own)).collect();
            let within = served.iter().copied().filter(of_kind).collect();
            ways.push((Leg::Loop, ends(inside, any.clone(), within)));
        }
    }
    match flow.role {
        Role::Server => {}
        Role::Client => ways.push((Leg::Out, ends(outward(&own), local, peers()))),
        Role::Peer => {
            let local = [local, ports.to_vec()].concat();
            ways.push((Leg::Out, ends(outward(&served), local, peers())));
        }
        Role::Forward => {
            let servers = flow.server_addresses.clone().unwrap_or_default();
            ways.push((Leg::Through, ends(peers(), any, servers)));
        }
    }
    ways
}

fn names(ranges: &[AddressRange], own: AddressRange) -> bool {
    let address: IpAddr = own.first_address();
    ranges.iter().any(|range| range.contains(address))
}

fn region(leg: Leg, flow: &ValidatedFlow, ends: Ends, family: Family) -> Region {
    let Ends { sources, source_ports, destinations, destination_ports } = ends;
    let of_family = |ranges: Vec<AddressRange>| -> Ranges {
        Ranges::from(ranges.into_iter().filter(|range| range.family == family).collect::<Vec<_>>())
    };
    let on_a_wire = |ranges: Vec<AddressRange>| of_family(ranges).without(&loopback(family));
    let (sources, destinations) = match leg {
        Leg::Loop => (of_family(sources), of_family(destinations)),
        Leg::In | Leg::Out | Leg::Through => (on_a_wire(sources), on_a_wire(destinations)),
    };
    let loopback = interfaces(["lo"]);
    let named = interfaces(flow.interfaces.iter().map(AsRef::as_ref));
    let outside = named.without(&loopback);
    let (comes_in, leaves) = match leg {
        Leg::In => (outside, Ranges::all()),
        Leg::Out => (Ranges::all(), outside),
        Leg::Through => (outside, Ranges::all().without(&loopback)),
        Leg::Loop => (named.intersection(&loopback), named.intersection(&loopback)),
    };
    Region::everything()
        .with(Axis::Source, sources)
        .with(Axis::Destination, destinations)
        .with(Axis::SourcePort, Ranges::from(source_ports))
        .with(Axis::DestinationPort, Ranges::from(destination_ports))
        .with(Axis::InInterface, comes_in)
        .with(Axis::OutInterface, leaves)
}

/// A journey's region without what stays tracked anyway.
pub(crate) fn without<'a>(journey: &Journey<'_>, kept: impl Iterator<Item = &'a Clause>) -> Vec<Region> {
    let class = match journey.leg {
        Leg::In | Leg::Loop => Class::Own,
        Leg::Out => Class::Peer,
        Leg::Through => Class::Forward,
    };
    let axes = [Axis::Destination, Axis::DestinationPort, Axis::Source, Axis::SourcePort];
    let mine = kept.filter(|clause| {
        clause.class == class && clause.proto == journey.proto && clause.interfaces.is_empty()
    });
    let boxes: Vec<ValueBox> = mine.flat_map(|clause| boxes(clause, journey.family)).collect();
    let near: Vec<_> = boxes.iter().filter(|values| journey.region.touches(&axes, values)).collect();
    match journey.region.clone().split_boxes(&axes, &near, MOST_PARTS) {
        Some((_, rest)) => rest,
        None => vec![journey.region.clone()],
    }
}

/// Every combination of a clause's ranges: server, its port, client, its port.
fn boxes(clause: &Clause, family: Family) -> Vec<ValueBox> {
    let addresses = |ranges: &[AddressRange]| -> ValueBox {
        let of_family = ranges.iter().filter(|range| range.family == family);
        of_family.map(|range| (range.first, range.last)).collect()
    };
    let ports = |ranges: &[PortRange]| -> ValueBox {
        ranges.iter().map(|range| (range.first().into(), range.last().into())).collect()
    };
    let fields = [
        addresses(&clause.servers),
        ports(&clause.server_ports),
        addresses(&clause.clients),
        ports(&clause.client_ports),
    ];
    fields.into_iter().fold(vec![ValueBox::new()], |boxes, ranges| {
        let longer = |known: &ValueBox| -> Vec<ValueBox> {
            ranges.iter().map(|range| [known.as_slice(), &[*range]].concat()).collect()
        };
        boxes.iter().flat_map(longer).collect()
    })
}
