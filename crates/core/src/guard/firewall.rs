//! Hazard 7: a host's own firewall accepts by state what it would drop untracked; and the rules that answer it.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::facts::NodeFacts;
use crate::hazard::{Effect, HazardKind};
use crate::host::journey::{Journey, Stop};
use crate::host::region::{Axis, Ranges, Region};
use crate::host::walk::{BaseRef, merged};
use crate::host::{Adapter, Backend, HostRules, Untracked};
use crate::net::{AddressRange, Family, PortRange};
use crate::policy::ValidatedPolicy;

/// More rules than this are not added to a firewall for one policy.
const MOST_ADAPTERS: usize = 64;
/// Missing rules that are shown in full.
const MOST_SHOWN: usize = 4;

/// What the firewall says to a policy, and what the policy would add to it.
#[derive(Debug, Default)]
pub(crate) struct Firewall {
    /// What would be dropped, where nothing answers it.
    pub found: BTreeSet<Found>,
    /// The rules to add, where the policy may.
    pub adapters: BTreeSet<Adapter>,
}

/// Judges the stops of a journey's parts.
pub(crate) fn firewall(
    policy: &ValidatedPolicy,
    journeys: &[Journey<'_>],
    rules: &HostRules,
    facts: &NodeFacts,
    stops: &[Stop],
) -> Firewall {
    let Some(first) = journeys.first() else { return Firewall::default() };
    if stops.is_empty() {
        return Firewall::default();
    }
    let missing = missing(policy, first, rules, facts, stops);
    if policy.adapts_firewall {
        let possible = match &facts.host.unadaptable {
            Some(why) => Err(format!("the missing rules could not be added: {why}")),
            None => completed(journeys, rules, &missing, stops),
        };
        match possible {
            Ok(()) => return Firewall { found: BTreeSet::new(), adapters: missing },
            Err(evidence) => {
                return Firewall { found: [blocked(evidence)].into(), adapters: BTreeSet::new() };
            }
        }
    }
    let places: BTreeMap<String, &Stop> = stops.iter().map(|stop| (stop.place.to_string(), stop)).collect();
    let found = places.into_values().map(|stop| blocked(evidence(stop, first.family, &missing)));
    Firewall { found: found.collect(), adapters: BTreeSet::new() }
}

fn blocked(evidence: String) -> Found {
    Found { effect: Effect::Blocked, kind: HazardKind::HostFirewallDrops, evidence }
}

fn evidence(stop: &Stop, family: Family, missing: &BTreeSet<Adapter>) -> String {
    let Stop { place, is_unknown, region, .. } = stop;
    let verdict = match (is_unknown, region.doubts.is_empty()) {
        (true, _) => "nobody can tell whether it drops",
        (false, true) => "would drop",
        (false, false) => "may drop",
    };
    let commands: Vec<String> = missing.iter().take(MOST_SHOWN).map(Adapter::command).collect();
    let more = match missing.len().saturating_sub(MOST_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let rules = match commands.is_empty() {
        true => String::new(),
        false => format!("; missing: {}{more}", commands.join("; ")),
    };
    format!(
        "{place}: {verdict} untracked what it accepts by state, such as {}{rules}",
        region.example(family)
    )
}

/// Whether the firewall lets everything through with the rules added.
fn completed(
    journeys: &[Journey<'_>],
    rules: &HostRules,
    missing: &BTreeSet<Adapter>,
    stops: &[Stop],
) -> Result<(), String> {
    if missing.len() > MOST_ADAPTERS || missing.is_empty() {
        return Err(format!(
            "{} rules would be missing, more than the {MOST_ADAPTERS} that are added",
            missing.len()
        ));
    }
    let owned =
        stops.iter().filter_map(|stop| rules.tables.get(stop.base.0)).find(|table| table.owner.is_some());
    if let Some(table) = owned {
        return Err(format!("table {} belongs to another program, which alone may change it", table.id));
    }
    let completed = rules.with(&missing.iter().cloned().collect::<Vec<_>>());
    let rest = journeys.iter().flat_map(|journey| journey.make(&completed).stops).next();
    match rest {
        Some(stop) => Err(format!("no rule that could be added answers it: {}", stop.place)),
        None => Ok(()),
    }
}

/// The rules that would accept untracked what was accepted by state.
fn missing(
    policy: &ValidatedPolicy,
    journey: &Journey<'_>,
    rules: &HostRules,
    facts: &NodeFacts,
    stops: &[Stop],
) -> BTreeSet<Adapter> {
    let family = journey.family;
    let mut by_place: BTreeMap<(BaseRef, Option<usize>, Option<bool>), Vec<Region>> = BTreeMap::new();
    for stop in stops {
        let mut region =
            stop.region.clone().with(Axis::TcpFlags, Ranges::all()).with(Axis::Mark, Ranges::one(0));
        region.doubts.clear();
        for axis in [Axis::Source, Axis::Destination] {
            region = widened(region, axis, family, facts);
        }
        by_place.entry((stop.base.clone(), stop.before, stop.opens)).or_default().push(region);
    }
    let mut adapters = BTreeSet::new();
    let mut done: BTreeSet<(BaseRef, Option<usize>)> = BTreeSet::new();
    let all: BTreeMap<_, Vec<Region>> =
        by_place.into_iter().map(|(place, regions)| (place, merged(regions))).collect();
    for ((base, before, opens), regions) in &all {
        let other = all.get(&(base.clone(), *before, opens.map(|opens| !opens)));
        let same = opens.is_some() && other.is_some_and(|other| other == regions);
        // One rule for both where both need the same.
        let opens = if same { None } else { *opens };
        if same && !done.insert((base.clone(), *before)) {
            continue;
        }
        let Some(table) = rules.tables.get(base.0) else { continue };
        let handle = before.and_then(|place| {
            table.chains.get(&base.1).and_then(|chain| chain.rules.get(place)).map(|rule| rule.handle)
        });
        for region in regions {
            for packets in boxes(region, journey, opens, table.id.backend) {
                adapters.insert(Adapter {
                    policy: policy.name.clone(),
                    table: table.id.clone(),
                    chain: base.1.clone(),
                    before: handle,
                    packets,
                });
            }
        }
    }
    adapters
}

/// All of this node's addresses are written as any address: at the hook only they come, and untracked is only what the
/// policy bypasses.
fn widened(region: Region, axis: Axis, family: Family, facts: &NodeFacts) -> Region {
    let outward = facts.addresses.iter().filter(|own| Family::of(**own) == family && !own.is_loopback());
    let outward = Ranges::from(outward.map(|own| AddressRange::one(*own)).collect::<Vec<_>>());
    if !outward.is_empty() && *region.get(axis) == outward {
        return region.with(axis, Ranges::from(vec![AddressRange::all(family)]));
    }
    region
}

/// A region as rules can name it.
fn boxes(region: &Region, journey: &Journey<'_>, opens: Option<bool>, backend: Backend) -> Vec<Untracked> {
    let addresses = |axis| -> Vec<AddressRange> {
        let ranges = region.addresses(axis, journey.family);
        match backend {
            Backend::Nft => ranges,
            Backend::IptablesNft | Backend::IptablesLegacy => {
                ranges.into_iter().flat_map(AddressRange::prefixes).collect()
            }
        }
    };
    let interfaces = |axis| -> Vec<Option<String>> {
        match region.interface(axis) {
            Some(names) => names.into_iter().map(Some).collect(),
            None => vec![None],
        }
    };
    let all = |ports: Vec<PortRange>| ports;
    let (sources, destinations) = (addresses(Axis::Source), addresses(Axis::Destination));
    let (source_ports, destination_ports) =
        (all(region.ports(Axis::SourcePort)), all(region.ports(Axis::DestinationPort)));
    let mut boxes = Vec::new();
    for source in &sources {
        for destination in &destinations {
            for source_port in &source_ports {
                for destination_port in &destination_ports {
                    for in_interface in interfaces(Axis::InInterface) {
                        for out_interface in interfaces(Axis::OutInterface) {
                            boxes.push(Untracked {
                                proto: journey.proto,
                                sources: *source,
                                source_ports: *source_port,
                                destinations: *destination,
                                destination_ports: *destination_port,
                                in_interface: in_interface.clone(),
                                out_interface,
                                opens,
                            });
                        }
                    }
                }
            }
        }
    }
    boxes
}
