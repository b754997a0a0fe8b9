//! Connections that are translated now (hazard 16): which of them concern anybody, and what of them stays tracked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::facts::NodeFacts;
use crate::hazard::HazardKind;
use crate::host::Translated;
use crate::kept::Kept;
use crate::net::{AddressRange, PortRange, Proto};
use crate::packet::Tuple;
use crate::policy::{Action, Role, ValidatedFlow};
use crate::rules::served_among;

/// A connection that is translated now, where the flow names one of its tuples.
pub(super) fn live(flow: &ValidatedFlow, facts: &NodeFacts, entry: &Translated) -> Vec<Kept> {
    let Translated { original, reply } = entry;
    let shown = |tuple: &Tuple| {
        format!(
            "{} to {}",
            end(tuple.source, tuple.source_port),
            end(tuple.destination, tuple.destination_port)
        )
    };
    let evidence = format!(
        "in the table with a translated connection: {} is answered {}",
        shown(original),
        shown(reply)
    );
    let ends = server_ends(entry).into_iter().filter(|(.., client)| client.is_none() || answers(flow));
    let kept = ends.filter_map(|(address, port, client)| {
        Some(Kept {
            hazard: HazardKind::LiveNAT,
            protocol: Proto::from_number(original.proto)?,
            addresses: Some(AddressRange::one(address)),
            ports: PortRange::one(port),
            clients: client.map(AddressRange::one),
            spares_interfaces: false,
            evidence: evidence.clone(),
        })
    });
    kept.filter(|kept| may_name(flow, facts, kept)).collect()
}

fn end(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Whether a flow may name a server.
pub(super) fn may_name(flow: &ValidatedFlow, facts: &NodeFacts, kept: &Kept) -> bool {
    let server = kept.addresses.map_or_else(|| facts.own_ranges(), |range| vec![range]);
    let servers = servers(flow, &facts.addresses);
    flow.names_port(kept.protocol, kept.ports)
        && servers.is_none_or(|servers| {
            servers.iter().any(|known| server.iter().any(|server| known.overlaps(*server)))
        })
}

/// The addresses of the servers that a flow may name on a node with these; `None`: any.
pub(super) fn servers(flow: &ValidatedFlow, own: &BTreeSet<IpAddr>) -> Option<Vec<AddressRange>> {
    let peers = || flow.peers.clone();
    match flow.role {
        Role::Server => Some(served_among(flow, own)),
        Role::Client => peers(),
        Role::Peer => peers().map(|peers| [served_among(flow, own), peers].concat()),
        Role::Forward => Some(flow.server_addresses.clone().unwrap_or_default()),
    }
}

/// The ends of a translated connection that may be a flow's server, each with the client that alone is meant, if one is.
/// What this node has given its own address is answered at a port that may be served here as well.
fn server_ends(entry: &Translated) -> [(IpAddr, u16, Option<IpAddr>); 3] {
    let Translated { original, reply } = entry;
    [
        (original.destination, original.destination_port, None),
        (reply.source, reply.source_port, None),
        (reply.destination, reply.destination_port, Some(reply.source)),
    ]
}

/// What of a translated connection flows may name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concern {
    /// A server of it, before or after translation.
    pub server: bool,
    /// The port of this node at which it is answered.
    pub own_port: bool,
}

/// What any flow that would bypass may name of translated connections, on a node with these addresses.
pub fn concerns<'a>(
    flows: impl IntoIterator<Item = &'a ValidatedFlow>,
    own: &BTreeSet<IpAddr>,
) -> impl Fn(&Translated) -> Concern {
    let wanted = flows.into_iter().filter(|flow| flow.action == Action::NoTrack);
    let named = |flow: &ValidatedFlow| {
        (flow.ports.clone(), servers(flow, own), answers(flow).then(|| served_among(flow, own)))
    };
    let named: Vec<_> = wanted.map(named).collect();
    let lies_in = |ranges: &[AddressRange], address| ranges.iter().any(|range| range.contains(address));
    move |entry| {
        let [sent, answered, own_end] = server_ends(entry);
        let mut concern = Concern::default();
        for (ports, servers, served) in &named {
            let among = |port| {
                ports.iter().any(|(of, ports)| of.number() == entry.original.proto && ports.contains(port))
            };
            let is_server = |(address, port, _)| {
                among(port) && servers.as_ref().is_none_or(|servers| lies_in(servers, address))
            };
            concern.server |= is_server(sent) || is_server(answered);
            let (address, port, _) = own_end;
            concern.own_port |= among(port) && served.as_ref().is_some_and(|served| lies_in(served, address));
        }
        concern
    }
}

/// Whether this node answers in a flow.
fn answers(flow: &ValidatedFlow) -> bool {
    matches!(flow.role, Role::Server | Role::Peer)
}
