//! What other programs' rules do with a flow's connections, but for accepting and dropping: translation (hazards 3, 4
//! and 16), and everything that needs the entry (9, 11, 12, 14, 21, 23, 33).

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use super::{Found, beside, travels};
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
use crate::net::{AddressRange, PortRange, Proto};
use crate::packet::Tuple;
use crate::policy::{Role, ValidatedFlow};
use crate::rules::{BYPASS_PRIORITY, served_addresses};

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
        kept.extend(flow.ports.iter().map(|(protocol, ports)| Kept {
            hazard: HazardKind::LiveNAT,
            protocol: *protocol,
            addresses: None,
            ports: *ports,
            clients: None,
            spares_interfaces: false,
            evidence: "in the table with more translated connections than can be told apart".to_owned(),
        }));
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
    let servers = [(original.destination, original.destination_port), (reply.source, reply.source_port)];
    let kept = servers.into_iter().filter_map(|(address, port)| {
        Some(Kept {
            hazard: HazardKind::LiveNAT,
            protocol: Proto::from_number(original.proto)?,
            addresses: Some(AddressRange::one(address)),
            ports: PortRange::one(port),
            clients: None,
            spares_interfaces: false,
            evidence: evidence.clone(),
        })
    });
    kept.filter(|kept| may_name(flow, facts, kept)).collect()
}

fn end(address: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Whether a flow may name a server.
fn may_name(flow: &ValidatedFlow, facts: &NodeFacts, kept: &Kept) -> bool {
    let lies_in = |ranges: &[AddressRange]| match kept.addresses {
        Some(kept) => ranges.iter().any(|range| range.overlaps(kept)),
        None => ranges.iter().any(|range| facts.addresses.iter().any(|own| range.contains(*own))),
    };
    let peers = || flow.peers.as_deref().is_none_or(lies_in);
    flow.names_port(kept.protocol, kept.ports)
        && match flow.role {
            Role::Server => lies_in(&served_addresses(flow, facts)),
            Role::Client => peers(),
            Role::Peer => lies_in(&served_addresses(flow, facts)) || peers(),
            Role::Forward => flow.server_addresses.as_deref().is_some_and(lies_in),
        }
}

/// What packets of a journey met that needs their entries.
pub(crate) fn encounters(report: &Report, facts: &NodeFacts) -> BTreeSet<Found> {
    let Report { stops: _, tracked, untracked, established, untracked_later } = report;
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
