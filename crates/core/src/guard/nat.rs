//! What NAT rules translate of a flow's connections (hazards 3 and 4), and the ports that they give away (hazard 38).

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use super::live::{live, may_name, servers};
use super::{Found, beside, elsewhere, ports, travels};
use crate::facts::NodeFacts;
use crate::hazard::{Effect, HazardKind};
use crate::host::journey::{Journey, Leg};
use crate::host::region::{Axis, Ranges, Region};
use crate::host::walk::{Encounter, Met};
use crate::host::{
    Act, ChainKind, Field, HostChain, HostRule, HostTable, HostVerdict, Members, NatTarget, NatTo, Step,
    ValueBox,
};
use crate::kept::Kept;
use crate::net::{AddressRange, Family, PortRange, Proto, subtract_ports};
use crate::policy::ValidatedFlow;

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
