//! Hazards that come from a node's devices, routing, balancers and sockets.

mod devices;
pub(super) mod pods;
mod sockets;

use std::net::SocketAddr;

use super::Found;
use crate::facts::NodeFacts;
use crate::hazard::HazardKind;
use crate::host::{Balanced, Interface, Surroundings};
use crate::kept::Kept;
use crate::net::{AddressRange, PortRange, Proto};
use crate::packet::interface_matches;
use crate::policy::{Action, Role, ValidatedFlow, ValidatedPolicy};

/// What a node's devices, routing, balancers and listeners mean for a flow that bypasses. Whether the user has
/// acknowledged it is the caller's to look at; what IPVS balances comes from [`kept_by_surroundings`].
pub fn surroundings(policy: &ValidatedPolicy, flow: &ValidatedFlow, facts: &NodeFacts) -> Vec<Found> {
    if flow.action == Action::Track {
        return Vec::new();
    }
    let around = &facts.host.surroundings;
    let mut found = Vec::new();
    found.extend(marked_services(flow, around));
    found.extend(devices::foreign_dataplane(flow, around));
    found.extend(pods::policy(flow, &facts.host.rules, around));
    found.extend(devices::flow_offload(flow, &facts.host.rules, around));
    found.extend(devices::bridged_frames(flow, around));
    found.extend(forged_path_mtu(policy, flow));
    found.extend(devices::one_way_tunnel(flow, around));
    found.extend(devices::vrf(flow, around));
    found.extend(sockets::local_ports(flow, facts));
    found.extend(sockets::replicated_table(around));
    found
}

/// Servers that stay tracked because IPVS needs it: what it balances, and where it translates that to.
pub fn kept_by_surroundings(facts: &NodeFacts) -> Vec<Kept> {
    let mut kept = Vec::new();
    for service in &facts.host.surroundings.ipvs {
        let (protocols, name) = match service.balanced {
            Balanced::Server(protocol, address) => {
                let name = format!("IPVS service {address}");
                kept.push(balanced(protocol, address, format!("the {name}")));
                (&[protocol][..], name)
            }
            // Every protocol that IPVS balances may carry the mark.
            Balanced::Mark(mark) => (&Proto::ALL[..], format!("IPVS service of mark {mark:#x}")),
        };
        for (protocol, server) in protocols
            .iter()
            .flat_map(|protocol| service.translated_to.iter().map(move |server| (*protocol, *server)))
        {
            kept.push(balanced(protocol, server, format!("a server that the {name} translates to")));
        }
    }
    kept.sort();
    kept.dedup();
    kept
}

/// Port 0 is every port, as in ipvsadm.
fn balanced(protocol: Proto, address: SocketAddr, evidence: String) -> Kept {
    Kept {
        hazard: HazardKind::IPVS,
        protocol,
        addresses: Some(AddressRange::one(address.ip())),
        ports: if address.port() == 0 { PortRange::ALL } else { PortRange::one(address.port()) },
        clients: None,
        spares_interfaces: false,
        evidence,
    }
}

/// H5, as far as no address tells: which packets have a mark is known to rules alone.
fn marked_services(flow: &ValidatedFlow, around: &Surroundings) -> Option<Found> {
    if !matches!(flow.role, Role::Server | Role::Forward) {
        return None;
    }
    let marks: Vec<String> = around
        .ipvs
        .iter()
        .filter_map(|service| match service.balanced {
            Balanced::Mark(mark) => Some(format!("{mark:#x}")),
            Balanced::Server(..) => None,
        })
        .collect();
    let evidence =
        || format!("IPVS balances packets with mark {}, whatever their addresses", some_of(&marks));
    (!marks.is_empty()).then(|| Found::warning(HazardKind::IPVS, evidence()))
}

/// H26: a server's ports are known, so that an error about its answers is easily made up. Who asks has a source port
/// that must be guessed first.
fn forged_path_mtu(policy: &ValidatedPolicy, flow: &ValidatedFlow) -> Option<Found> {
    if !policy.compensation.icmp_errors || !matches!(flow.role, Role::Server | Role::Peer) {
        return None;
    }
    let ports: Vec<String> = udp(flow).map(|ports| ports.to_string()).collect();
    let evidence = || format!("UDP {}: ICMP errors about untracked packets are believed", some_of(&ports));
    (!ports.is_empty()).then(|| Found::warning(HazardKind::ForgedPathMTU, evidence()))
}

fn udp(flow: &ValidatedFlow) -> impl Iterator<Item = PortRange> {
    flow.ports.iter().filter(|(proto, _)| *proto == Proto::Udp).map(|(_, ports)| *ports)
}

/// Whether a flow is about packets of an interface.
fn uses(flow: &ValidatedFlow, interface: &str) -> bool {
    flow.interfaces.is_empty() || flow.interfaces.iter().any(|pattern| interface_matches(pattern, interface))
}

/// The names of interfaces, not too many of them: a node may have a thousand.
fn names<'a>(interfaces: impl IntoIterator<Item = &'a Interface>) -> String {
    some_of(&interfaces.into_iter().map(|interface| interface.name.clone()).collect::<Vec<_>>())
}

/// A list of which the first few tell enough.
fn some_of(all: &[String]) -> String {
    const SHOWN: usize = 4;
    match all.get(..SHOWN) {
        Some(first) if all.len() > SHOWN => format!("{} and {} more", first.join(", "), all.len() - SHOWN),
        _ => all.join(", "),
    }
}

#[cfg(test)]
mod tests;
