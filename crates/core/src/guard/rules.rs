//! What other programs' rules do with a flow's connections, but for accepting and dropping: translation (hazards 3, 4
//! and 16), and everything that needs the entry (9, 11, 12, 14, 21, 23, 33).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::slice;

use super::{Found, beside, elsewhere, ports, travels};
use crate::facts::NodeFacts;
use crate::hazard::{Effect, HazardKind};
use crate::host::journey::{Journey, Leg, Opened, Report};
use crate::host::region::{Axis, Ranges, Region};
use crate::host::walk::{Encounter, Met};
use crate::host::{
    Act, Backend, ChainKind, Field, HostChain, HostRule, HostRules, HostTable, HostVerdict, Members,
    NatTarget, NatTo, Place, Step, Translated, ValueBox,
};
use crate::kept::Kept;
use crate::net::{AddressRange, Family, PortRange, Proto, subtract_ports};
use crate::packet::Tuple;
use crate::policy::{Action, Role, ValidatedFlow};
use crate::rules::{BYPASS_PRIORITY, served_among};

/// More holes than this of one rule are made wider ones.
const MOST_HOLES: usize = 32;

/// What the kernel translates of a flow's tuples, by its rules or in a connection that lives: it stays tracked.
pub(crate) fn translated(flow: &ValidatedFlow, facts: &NodeFacts, own: &Ranges) -> Vec<Kept> {
    let host = facts.host.as_ref();
    let mut kept = BTreeSet::new();
    if !host.rules.tables.is_empty() {
        for journey in travels(flow, facts, own) {
            for met in journey.begin(&host.rules) {
                kept.extend(holes(&journey, &met));
            }
        }
        kept.extend(targets(flow, facts));
        for journey in beside(flow, facts, own) {
            let all = journey.begin(&host.rules);
            let goes_elsewhere = |met: &Met| {
                let sent = all.iter().filter(|other| matches!(other.what, Encounter::Act(Act::Dnat(_))));
                sent.into_iter().any(|sent| lies_in(&met.region, &sent.region))
            };
            for met in all.iter().filter(|met| !goes_elsewhere(met)) {
                kept.extend(shared(&journey, met));
            }
        }
    }
    kept.extend(host.translated.iter().flat_map(|entry| live(flow, facts, entry)));
    if host.more_translated {
        let servers =
            servers(flow, &facts.addresses).unwrap_or_else(|| Family::ALL.map(AddressRange::all).to_vec());
        let of_server = |server: AddressRange| {
            flow.ports.iter().map(move |(protocol, ports)| Kept {
                hazard: HazardKind::LiveNAT,
                protocol: *protocol,
                addresses: Some(server),
                ports: *ports,
                clients: None,
                spares_interfaces: false,
                evidence: "in the table with more translated connections than can be told apart".to_owned(),
            })
        };
        kept.extend(servers.into_iter().flat_map(of_server));
    }
    kept.into_iter().collect()
}

/// Whether all of a region's ends are among another's.
fn lies_in(region: &Region, other: &Region) -> bool {
    let mut ends = [Axis::Source, Axis::SourcePort, Axis::Destination, Axis::DestinationPort].into_iter();
    ends.all(|axis| region.get(axis).intersection(other.get(axis)) == *region.get(axis))
}

/// What others behind a rule that hides their addresses (pods, containers) ask of the servers of a journey: the answers
/// come to this node's own addresses, as the answers to this node itself do, and nobody can tell them apart without the
/// entries.
fn shared(journey: &Journey<'_>, met: &Met) -> Vec<Kept> {
    if !matches!(met.what, Encounter::Act(Act::Snat(_))) {
        return Vec::new();
    }
    let ports = met.region.ports(Axis::DestinationPort);
    let servers = met.region.addresses(Axis::Destination, journey.family).into_iter();
    let of_server = |server: AddressRange| {
        let kept = |ports: &PortRange| Kept {
            hazard: HazardKind::Masquerade,
            protocol: journey.proto,
            addresses: Some(server),
            ports: *ports,
            clients: None,
            spares_interfaces: false,
            evidence: format!("asked by others too, who are given this node's address by {}", met.place),
        };
        ports.iter().map(kept).collect::<Vec<_>>()
    };
    servers.flat_map(of_server).collect()
}

/// What a NAT rule translates of a journey.
fn holes(journey: &Journey<'_>, met: &Met) -> Vec<Kept> {
    let (hazard, verb) = match met.what {
        Encounter::Act(Act::Dnat(_)) => (HazardKind::HostPort, "sent elsewhere"),
        // Both ends are this node: untracked they find each other by their own addresses, such as those of docker0.
        Encounter::Act(Act::Snat(_)) if journey.leg != Leg::Loop => {
            (HazardKind::Masquerade, "given another source address")
        }
        _ => return Vec::new(),
    };
    let whole = journey.region.get(Axis::Source) == met.region.get(Axis::Source);
    let clients: Vec<Option<AddressRange>> = match whole {
        true => vec![None],
        false => met.region.addresses(Axis::Source, journey.family).into_iter().map(Some).collect(),
    };
    let mut servers = met.region.addresses(Axis::Destination, journey.family);
    let mut ports = met.region.ports(Axis::DestinationPort);
    // All servers of the clients that are translated: all clients of those servers would be everybody.
    if !whole && clients.len() * servers.len() * ports.len() > MOST_HOLES {
        (servers, ports) = (vec![AddressRange::all(journey.family)], vec![PortRange::ALL]);
    }
    let clients = if clients.len() * servers.len() * ports.len() > MOST_HOLES { vec![None] } else { clients };
    let hole = |clients, server, ports| Kept {
        hazard,
        protocol: journey.proto,
        addresses: Some(server),
        ports,
        clients,
        spares_interfaces: false,
        evidence: format!("{verb} by {}", met.place),
    };
    let mut holes = Vec::new();
    for client in clients {
        for server in &servers {
            holes.extend(ports.iter().map(|ports| hole(client, *server, *ports)));
        }
    }
    holes
}

/// Where NAT rules send packets: what answers there answers translated connections, whose replies need their entries.
fn targets(flow: &ValidatedFlow, facts: &NodeFacts) -> Vec<Kept> {
    let mut kept = Vec::new();
    for table in &facts.host.rules.tables {
        for (chain, rule) in nat_rules(table) {
            let to: Vec<&NatTo> = rule.steps.iter().flat_map(destinations).collect();
            if to.is_empty() {
                continue;
            }
            let place = table.place(chain, rule);
            let is_kube_proxy = table.id.name == "kube-proxy" || chain.starts_with("KUBE-");
            let (protocols, own_ports) = (protocols(table, rule), destination_ports(table, rule));
            for to in to {
                let addresses = match to.target {
                    NatTarget::Own | NatTarget::Kept => None,
                    NatTarget::Addresses(range) => Some(range),
                };
                let ports = to.ports.as_ref().map_or(own_ports.as_slice(), slice::from_ref);
                for (protocol, ports) in
                    protocols.iter().flat_map(|proto| ports.iter().map(move |ports| (*proto, *ports)))
                {
                    let target = Kept {
                        hazard: HazardKind::HostPort,
                        protocol,
                        addresses,
                        ports,
                        clients: None,
                        // As the controller has it for Services with a cluster address alone; it keeps the others.
                        spares_interfaces: is_kube_proxy,
                        evidence: format!("where translated connections are sent, by {place}"),
                    };
                    if may_name(flow, facts, &target) {
                        kept.push(target);
                    }
                }
            }
        }
    }
    kept
}

fn destinations(step: &Step) -> &[NatTo] {
    match step {
        Step::Act(Act::Dnat(to)) => to,
        _ => &[],
    }
}

/// The rules that packets of a NAT chain may come to, with their chains.
fn nat_rules(table: &HostTable) -> impl Iterator<Item = (&str, &HostRule)> {
    let is_nat = |chain: &HostChain| chain.base.is_some_and(|base| base.kind == ChainKind::Nat);
    let bases = table.chains.iter().filter(|(_, chain)| !table.dormant && is_nat(chain));
    let mut open: Vec<&str> = bases.map(|(name, _)| name.as_str()).collect();
    let mut reached: BTreeMap<&str, &HostChain> = BTreeMap::new();
    while let Some(name) = open.pop() {
        let Some((name, chain)) = table.chains.get_key_value(name) else { continue };
        if reached.insert(name, chain).is_none() {
            open.extend(chain.rules.iter().flat_map(|rule| leads_to(table, rule)));
        }
    }
    reached.into_iter().flat_map(|(name, chain)| chain.rules.iter().map(move |rule| (name, rule)))
}

fn leads_to<'a>(table: &'a HostTable, rule: &'a HostRule) -> Vec<&'a str> {
    let target = |verdict: &'a HostVerdict| match verdict {
        HostVerdict::Jump(chain) | HostVerdict::Goto(chain) => Some(chain.as_str()),
        _ => None,
    };
    let steps = rule.steps.iter().flat_map(|step| match step {
        Step::Verdict(verdict) => target(verdict).into_iter().collect(),
        Step::VerdictMap { map, .. } => {
            let elements = table.sets.get(map).into_iter().flat_map(|set| &set.elements);
            elements.filter_map(|element| element.verdict.as_ref()).filter_map(target).collect()
        }
        _ => Vec::new(),
    });
    steps.collect()
}

/// The protocols that a rule names itself; all where it names none.
fn protocols(table: &HostTable, rule: &HostRule) -> Vec<Proto> {
    let named = named(table, rule, &Field::L4Proto);
    let has = |proto: &Proto| {
        let number = u128::from(proto.number());
        named.as_ref().is_none_or(|ranges| ranges.iter().any(|(a, b)| *a <= number && number <= *b))
    };
    Proto::ALL.into_iter().filter(has).collect()
}

/// The destination ports that a rule names itself; all where it names none.
fn destination_ports(table: &HostTable, rule: &HostRule) -> Vec<PortRange> {
    match named(table, rule, &Field::DestinationPort) {
        Some(ranges) => ranges
            .into_iter()
            .filter_map(|(first, last)| PortRange::new(first.try_into().ok()?, last.min(0xffff) as u16))
            .collect(),
        None => vec![PortRange::ALL],
    }
}

fn named(table: &HostTable, rule: &HostRule, field: &Field) -> Option<Vec<(u128, u128)>> {
    rule.steps.iter().find_map(|step| {
        let Step::Match(comparison) = step else { return None };
        let place = comparison.fields.iter().position(|known| known == field)?;
        let boxes: Vec<&ValueBox> = match &comparison.of {
            _ if comparison.inverted => return None,
            Members::Boxes(boxes) => boxes.iter().collect(),
            Members::Set(name) => {
                let set = table.sets.get(name).filter(|set| !set.dynamic && !set.unknown)?;
                set.elements.iter().map(|element| &element.values).collect()
            }
            _ => return None,
        };
        boxes.into_iter().map(|values| values.get(place).copied()).collect()
    })
}

/// A connection that is translated now, where the flow names one of its tuples.
fn live(flow: &ValidatedFlow, facts: &NodeFacts, entry: &Translated) -> Vec<Kept> {
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
fn may_name(flow: &ValidatedFlow, facts: &NodeFacts, kept: &Kept) -> bool {
    let server = kept.addresses.map_or_else(|| facts.own_ranges(), |range| vec![range]);
    let servers = servers(flow, &facts.addresses);
    flow.names_port(kept.protocol, kept.ports)
        && servers.is_none_or(|servers| {
            servers.iter().any(|known| server.iter().any(|server| known.overlaps(*server)))
        })
}

/// The addresses of the servers that a flow may name on a node with these; `None`: any.
fn servers(flow: &ValidatedFlow, own: &BTreeSet<IpAddr>) -> Option<Vec<AddressRange>> {
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

/// More served ports than this are not left to chance.
const MOST_LEFT_TO_CHANCE: u32 = 16;

/// Hazard 38: whom a NAT rule gives this node's address, the kernel also gives a port: any from 1024 on, by
/// `--random-fully` always, else where the own one is taken (`nf_nat_l4proto_unique_tuple`). The answers come to it.
pub(crate) fn masqueraded_ports(flow: &ValidatedFlow, facts: &NodeFacts, own: &Ranges) -> Option<Found> {
    const LOWEST: u16 = 1024;
    let chosen = PortRange::new(LOWEST, u16::MAX)?;
    let served = |proto: Proto| -> Vec<PortRange> {
        let left = subtract_ports(&ports(flow, proto), &facts.ephemeral);
        left.into_iter().filter_map(|range| range.intersection(chosen)).collect()
    };
    let is_snat = |met: &Met| matches!(met.what, Encounter::Act(Act::Snat(_)));
    let mut journeys = elsewhere(flow, own).into_iter().filter(|journey| !served(journey.proto).is_empty());
    let (proto, place) = journeys.find_map(|journey| {
        let met = journey.begin(&facts.host.rules).into_iter().find(is_snat)?;
        Some((journey.proto, met.place))
    })?;
    let count: u32 = served(proto).iter().map(|range| range.len()).sum();
    let effect = if count > MOST_LEFT_TO_CHANCE { Effect::Refused } else { Effect::Warning };
    Some(Found {
        effect,
        kind: HazardKind::MasqueradedPorts,
        evidence: format!(
            "of {} connections that are given this node's address and a port by {place}, {count} may be cut off",
            chosen.len(),
        ),
    })
}

/// What packets of a journey met that needs their entries.
pub(crate) fn encounters(report: &Report, facts: &NodeFacts) -> BTreeSet<Found> {
    let Report { stops: _, let_in: _, tracked, untracked, established, untracked_later } = report;
    let mut found = BTreeSet::new();
    for met in tracked.iter().chain(untracked) {
        found.extend(needs_entry(met, facts));
    }
    let limits = |met: &[Met]| -> BTreeSet<Place> {
        let of = met.iter().filter(|met| met.what == Encounter::Limit);
        of.map(|met| met.place.clone()).collect()
    };
    let blocked = |evidence| Found { effect: Effect::Blocked, kind: HazardKind::StatefulLimits, evidence };
    for place in limits(tracked).difference(&limits(untracked)) {
        found.insert(blocked(format!("limits by the state and would not see untracked packets: {place}")));
    }
    for place in limits(untracked_later).difference(&limits(established)) {
        found.insert(blocked(format!(
            "limits new connections and would limit every untracked packet: {place}"
        )));
    }
    found
}

/// What the firewall refuses by the state and would let in untracked, as far as it is bypassed: one packet of each rule
/// that is not among the `places` yet.
pub(crate) fn let_in(
    journey: &Journey<'_>,
    rules: &HostRules,
    is_bypassed: impl Fn(&Region) -> bool,
    places: &mut BTreeSet<Place>,
) -> Vec<Found> {
    let mut found = Vec::new();
    for Opened { place, region } in journey.opened(rules) {
        if !places.contains(&place) && is_bypassed(&region) {
            let example = region.example(journey.family);
            let evidence =
                format!("drops by the state what would get through untracked, such as {example}: {place}");
            found.push(Found { effect: Effect::Blocked, kind: HazardKind::StatefulLimits, evidence });
            places.insert(place);
        }
    }
    found
}

fn needs_entry(met: &Met, facts: &NodeFacts) -> Option<Found> {
    let Met { what, place, base, region: _ } = met;
    let before_conntrack = base.is_before_conntrack();
    let (kind, effect, verb) = match what {
        Encounter::Act(Act::Helper(_)) => (HazardKind::Helper, Effect::Refused, "assigns a helper"),
        // The old iptables' `CT --zone` leaves alone what is untracked; nft's `ct zone set` tracks it again.
        Encounter::Act(Act::Zone)
            if before_conntrack
                && (base.priority < BYPASS_PRIORITY || place.table.backend == Backend::Nft) =>
        {
            (HazardKind::Zones, Effect::Refused, "sets a conntrack zone")
        }
        Encounter::Act(Act::Rewrite) if before_conntrack && base.priority >= BYPASS_PRIORITY => {
            (HazardKind::AddressRewrite, Effect::Refused, "rewrites addresses or ports without an entry")
        }
        Encounter::Act(Act::RestoreMark) if facts.host.surroundings.routes_by_mark() => {
            (HazardKind::MarksLost, Effect::Refused, "restores a mark that routing goes by")
        }
        Encounter::Act(Act::RestoreMark) => (HazardKind::MarksLost, Effect::Warning, "restores a mark"),
        Encounter::Act(Act::Offload(_)) => {
            (HazardKind::FlowOffload, Effect::Warning, "hands connections to a flow table")
        }
        Encounter::Act(Act::Synproxy) => {
            (HazardKind::UntrackedAsSignal, Effect::Refused, "answers SYN packets by their state")
        }
        Encounter::Signal => (HazardKind::UntrackedAsSignal, Effect::Refused, "takes UNTRACKED for a signal"),
        Encounter::CountConnections => {
            (HazardKind::StatefulLimits, Effect::Blocked, "counts connections in the table")
        }
        Encounter::Act(_) | Encounter::Limit => return None,
    };
    Some(Found { effect, kind, evidence: format!("{verb}: {place}") })
}
