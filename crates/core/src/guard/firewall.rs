//! Hazard 7: a host's own firewall accepts by state what it would drop untracked; and the rules that answer it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use super::surroundings::pods::engine_of;
use super::widen::{Site, widened};
use crate::facts::NodeFacts;
use crate::hazard::{Effect, HazardKind};
use crate::host::journey::{Journey, Leg, Opened, Stop};
use crate::host::region::{Axis, Ranges, Region, loopback, merged};
use crate::host::walk::BaseRef;
use crate::host::{Adapter, Backend, Carried, HostHook, HostRules, Place, Untracked, commands_in};
use crate::net::{AddressRange, Family, PortRange, Proto};
use crate::policy::ValidatedPolicy;

/// More rules than this are neither added to a firewall for one policy nor shown for one chain.
const MOST_ADAPTERS: usize = 64;

/// What the firewall says to a policy, and what the policy would add to it.
#[derive(Debug, Default)]
pub(crate) struct Firewall {
    /// What would be dropped, where nothing answers it.
    pub found: BTreeSet<Found>,
    /// The rules to add, where the policy may.
    pub adapters: BTreeSet<Adapter>,
}

/// A part of a flow's connections, and where it would be stopped.
#[derive(Clone)]
pub(crate) struct Halted<'a> {
    pub journey: Journey<'a>,
    pub stops: Vec<Stop>,
}

impl<'a> Halted<'a> {
    pub fn new(journey: Journey<'a>, stops: Vec<Stop>) -> Halted<'a> {
        let nobody = nobody(journey.family);
        let has_somebody = |stop: &Stop| {
            let mut ends = [Axis::Source, Axis::Destination].into_iter();
            ends.all(|end| !stop.region.get(end).without(&nobody).is_empty())
        };
        // What a pod itself says of the node's packets is no way that is narrow.
        let matters = |stop: &Stop| !journey.is_errors || engine_of(&stop.place.chain).is_none();
        let stops = stops.into_iter().filter(|stop| has_somebody(stop) && matters(stop)).collect();
        Halted { stops, journey }
    }
}

/// Addresses that no host has: IPv6 ones that stand for private or other special IPv4 ones (RFC 3964, 5.3.1). firewalld
/// lets nothing go there but what belongs to a connection, on every host with IPv6.
fn nobody(family: Family) -> Ranges {
    let prefixes: &[(u128, u32)] = match family {
        Family::Ipv4 => &[],
        Family::Ipv6 => &[
            (0, 96),
            (0xffff << 32, 96),
            (0x2002_0000 << 96, 24),
            (0x2002_0a00 << 96, 24),
            (0x2002_7f00 << 96, 24),
            (0x2002_ac10 << 96, 28),
            (0x2002_c0a8 << 96, 32),
            (0x2002_a9fe << 96, 32),
            (0x2002_e000 << 96, 19),
        ],
    };
    let ranges = prefixes.iter().map(|(first, len)| (*first, first | (u128::MAX >> len)));
    Ranges::new(ranges.collect()).without(&loopback(family))
}

/// Judges where a flow's connections would be stopped, and ICMP errors about them. Without these the connections work, but
/// for those whose path is narrower than its ends think: that is a warning.
pub(crate) fn firewall(policy: &ValidatedPolicy, halted: &[Halted<'_>], facts: &NodeFacts) -> Firewall {
    let whole = answer(policy, halted, facts);
    let is_blocked = whole.found.iter().any(|found| found.effect == Effect::Blocked);
    if !policy.adapts_firewall || !is_blocked {
        return whole;
    }
    let (errors, own): (Vec<Halted<'_>>, Vec<Halted<'_>>) =
        halted.iter().cloned().partition(|part| part.journey.is_errors);
    let mut firewall = answer(policy, &own, facts);
    let Firewall { found, adapters } = answer(policy, &errors, facts);
    if firewall.found.is_empty() {
        firewall.adapters.extend(adapters);
    }
    firewall.found.extend(found.into_iter().map(|found| Found { effect: Effect::Warning, ..found }));
    firewall
}

fn answer(policy: &ValidatedPolicy, halted: &[Halted<'_>], facts: &NodeFacts) -> Firewall {
    let stops = || halted.iter().flat_map(|part| part.stops.iter().map(|stop| (&part.journey, stop)));
    if stops().next().is_none() {
        return Firewall::default();
    }
    let mut missing = missing(policy, stops(), facts);
    let too_wide = widens(halted, &facts.host.rules, &missing);
    if policy.adapts_firewall {
        let possible = match (&facts.host.unadaptable, too_wide) {
            (Some(why), _) => Err(drops(format!("the missing rules could not be added: {why}"))),
            (None, Some(evidence)) => Err(drops(evidence)),
            (None, None) => completed(halted, &facts.host.rules, &missing),
        };
        return match possible {
            Ok(()) => Firewall { found: BTreeSet::new(), adapters: missing },
            Err((kind, evidence)) => {
                let found = Found { effect: Effect::Blocked, kind, evidence };
                Firewall { found: [found].into(), adapters: BTreeSet::new() }
            }
        };
    }
    if too_wide.is_some() {
        missing.clear();
    }
    let mut places: BTreeMap<&Place, (&Journey<'_>, &Stop)> = BTreeMap::new();
    for (journey, stop) in stops() {
        places.entry(&stop.place).or_insert((journey, stop));
    }
    // With the first place of a chain all that the chain needs, and with the others nothing: whoever runs what is shown
    // runs it once.
    let mut told = BTreeSet::new();
    let found = places.into_values().map(|(journey, stop)| {
        // An engine for network policies writes its chains anew: a rule added by hand would not last.
        let commands = match engine_of(&stop.place.chain).is_none() && told.insert(&stop.base) {
            true => commands(&stop.base, &missing, &facts.host.rules),
            false => Vec::new(),
        };
        let effect = if journey.is_errors { Effect::Warning } else { Effect::Blocked };
        Found { effect, kind: kind(stop), evidence: evidence(stop, journey, &commands) }
    });
    let mut found: BTreeSet<Found> = found.collect();
    found.extend(too_wide.map(|evidence| Found {
        effect: Effect::Blocked,
        kind: HazardKind::HostFirewallDrops,
        evidence,
    }));
    Firewall { found, adapters: BTreeSet::new() }
}

/// Why rules that name packets alone would let in more than the state does: its rules ask for something that nobody here
/// can put into a rule (a country, a knock at another port, the owner of a socket).
fn widens(halted: &[Halted<'_>], rules: &HostRules, missing: &BTreeSet<Adapter>) -> Option<String> {
    if missing.is_empty() || missing.len() > MOST_ADAPTERS {
        return None;
    }
    let completed = rules.with(&missing.iter().cloned().collect::<Vec<_>>());
    let wider = |part: &Halted<'_>| {
        let known: BTreeSet<Place> =
            part.journey.opened(rules).into_iter().map(|opened| opened.place).collect();
        let mut opened = part.journey.opened(&completed).into_iter();
        let new = opened.find(|opened| !known.contains(&opened.place))?;
        Some((part.journey.family, new))
    };
    let (family, Opened { place, region }) = halted.iter().find_map(wider)?;
    Some(format!(
        "{place}: a rule that accepts the rest untracked would let in what this drops, such as {}",
        region.example(family)
    ))
}

/// What drops is a host's own firewall, or an engine's for network policies.
fn kind(stop: &Stop) -> HazardKind {
    match engine_of(&stop.place.chain) {
        Some(_) => HazardKind::PodPolicy,
        None => HazardKind::HostFirewallDrops,
    }
}

fn drops(evidence: String) -> (HazardKind, String) {
    (HazardKind::HostFirewallDrops, evidence)
}

/// What to run for a chain, in this order: the last place first, so that no command moves the place of a later one.
fn commands(base: &BaseRef, missing: &BTreeSet<Adapter>, rules: &HostRules) -> Vec<String> {
    let Some(table) = rules.tables.get(base.0) else { return Vec::new() };
    let Some(chain) = table.chains.get(&base.1) else { return Vec::new() };
    let of_chain = missing.iter().filter(|adapter| adapter.table == table.id && adapter.chain == base.1);
    let mut of_chain: Vec<&Adapter> = of_chain.collect();
    of_chain.sort_by_key(|adapter| Reverse(adapter.place(chain)));
    commands_in(chain, &of_chain)
}

fn evidence(stop: &Stop, journey: &Journey<'_>, commands: &[String]) -> String {
    let Stop { place, is_unknown, region, .. } = stop;
    let verdict = match (is_unknown, region.doubts.is_empty()) {
        (true, _) => "nobody can tell whether it drops",
        (false, true) => "would drop",
        (false, false) => "may drop",
    };
    let shown: Vec<&str> = commands.iter().take(MOST_ADAPTERS).map(String::as_str).collect();
    let more = match commands.len().saturating_sub(MOST_ADAPTERS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let rules = match shown.is_empty() {
        true => String::new(),
        false => format!("; missing: {}{more}", shown.join("; ")),
    };
    let what = if journey.is_errors { "ICMP errors from " } else { "" };
    format!(
        "{place}: {verdict} untracked what it accepts by state, such as {what}{}{rules}",
        region.example(journey.family)
    )
}

/// Whether the firewall lets everything through with the rules added.
fn completed(
    halted: &[Halted<'_>],
    rules: &HostRules,
    missing: &BTreeSet<Adapter>,
) -> Result<(), (HazardKind, String)> {
    let stops = || halted.iter().flat_map(|part| &part.stops);
    if let Some((stop, engine)) = stops().find_map(|stop| Some((stop, engine_of(&stop.place.chain)?))) {
        let evidence =
            format!("{}: {engine} writes its chains anew, a rule added there would not last", stop.place);
        return Err((HazardKind::PodPolicy, evidence));
    }
    if missing.len() > MOST_ADAPTERS || missing.is_empty() {
        return Err(drops(match missing.len() {
            0 => "no rule would answer it".to_owned(),
            _ => format!("more rules would be missing than the {MOST_ADAPTERS} that are added"),
        }));
    }
    let mut tables = stops().filter_map(|stop| rules.tables.get(stop.base.0));
    if let Some(table) = tables.find(|table| table.owner.is_some()) {
        let evidence = format!("table {} belongs to another program, which alone may change it", table.id);
        return Err(drops(evidence));
    }
    let completed = rules.with(&missing.iter().cloned().collect::<Vec<_>>());
    let again = |part: &Halted<'_>| {
        let stops = part.journey.make(&completed).stops;
        Halted::new(part.journey.clone(), stops).stops
    };
    let mut rest = halted.iter().flat_map(again);
    match rest.next() {
        Some(stop) => Err(drops(format!("no rule that could be added answers it: {}", stop.place))),
        None => Ok(()),
    }
}

/// The rules that would accept untracked what was accepted by state.
fn missing<'a>(
    policy: &ValidatedPolicy,
    stops: impl Iterator<Item = (&'a Journey<'a>, &'a Stop)>,
    facts: &NodeFacts,
) -> BTreeSet<Adapter> {
    type Key = (Site, Leg, Family, Option<Proto>, Option<bool>);
    let mut parts: BTreeMap<Key, (&Journey<'_>, Vec<Region>)> = BTreeMap::new();
    for (journey, stop) in stops {
        let site = (stop.base.clone(), stop.before);
        let proto = (!journey.is_errors).then_some(journey.proto);
        let key = (site, journey.leg, journey.family, proto, stop.opens);
        let (_, regions) = parts.entry(key).or_insert_with(|| (journey, Vec::new()));
        regions.push(named(stop, journey, facts));
    }
    let rules = &facts.host.rules;
    let regions: BTreeMap<Key, Vec<Region>> = parts
        .into_iter()
        .map(|(key, (journey, regions))| {
            let wide = |region| widened(region, &key.0, journey, rules);
            let regions = merged(merged(regions).into_iter().map(wide).collect());
            (key, regions)
        })
        .collect();
    let mut adapters = BTreeSet::new();
    for ((site, leg, family, proto, opens), own) in &regions {
        let ((table, chain), before) = site;
        let Some(table) = facts.host.rules.tables.get(*table) else { continue };
        // One rule for both where packets that open and those that do not need the same.
        let other = regions.get(&(site.clone(), *leg, *family, *proto, opens.map(|opens| !opens)));
        let both = opens.is_some() && other.is_some_and(|other| other == own);
        let rules = table.chains.get(chain).map(|chain| chain.rules.as_slice()).unwrap_or_default();
        let kind = Kind {
            family: *family,
            proto: *proto,
            opens: if both { None } else { *opens },
            backend: table.id.backend,
        };
        for packets in own.iter().flat_map(|region| kind.boxes(region)) {
            if adapters.len() > MOST_ADAPTERS {
                return adapters;
            }
            adapters.insert(Adapter {
                policy: policy.name.clone(),
                table: table.id.clone(),
                chain: chain.clone(),
                before: before.and_then(|place| rules.get(place)).map(|rule| rule.handle),
                packets,
            });
        }
    }
    adapters
}

/// The packets of a stop, as far as rules need name them. All of this node's addresses are any address, and so are all of
/// other hosts: at the hook only they come, and untracked is only what the policy bypasses. An interface that packets do
/// not have at the hook is none.
fn named(stop: &Stop, journey: &Journey<'_>, facts: &NodeFacts) -> Region {
    let Stop { region, base, .. } = stop;
    let all = || Ranges::from(vec![AddressRange::all(journey.family)]);
    let mut named = region.clone().with(Axis::TcpFlags, Ranges::all()).with(Axis::Mark, Ranges::one(0));
    named.doubts.clear();
    let own = |is_loopback: bool| {
        let own = facts.addresses.iter().filter(|own| Family::of(**own) == journey.family);
        let fitting = own.filter(|own| own.is_loopback() == is_loopback);
        Ranges::from(fitting.map(|own| AddressRange::one(*own)).collect::<Vec<_>>())
    };
    // Errors are untracked where the policy bypasses what they are about: nothing else need say whose they are.
    if journey.is_errors {
        named = named.with(Axis::Source, all()).with(Axis::Destination, all());
    }
    let outside = all().without(&loopback(journey.family));
    for axis in [Axis::Source, Axis::Destination] {
        let is_own = [own(true), own(false)].contains(named.get(axis));
        if is_own && journey.leg != Leg::Through || *named.get(axis) == outside {
            named = named.with(axis, all());
        }
    }
    let table = facts.host.rules.tables.get(base.0);
    let hook = table.and_then(|table| table.chains.get(&base.1)?.base).map(|base| base.hook);
    let without = match hook {
        Some(HostHook::Prerouting | HostHook::Input) => Some(Axis::OutInterface),
        Some(HostHook::Output | HostHook::Postrouting) => Some(Axis::InInterface),
        Some(HostHook::Forward) | None => None,
    };
    match without {
        Some(axis) => named.with(axis, Ranges::all()),
        None => named,
    }
}

/// What the packets of a region have in common.
struct Kind {
    family: Family,
    /// `None`: ICMP errors.
    proto: Option<Proto>,
    opens: Option<bool>,
    backend: Backend,
}

impl Kind {
    /// A region as rules can name it.
    fn boxes(&self, region: &Region) -> Vec<Untracked> {
        let addresses = |axis| -> Vec<AddressRange> {
            let ranges = region.addresses(axis, self.family);
            match self.backend {
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
        let carried: Vec<Carried> = match self.proto {
            Some(proto) => vec![Carried::Transport(proto)],
            None => region.icmp_types().map(Carried::IcmpError).collect(),
        };
        let packets = |carried| Untracked {
            carried,
            sources: AddressRange::all(self.family),
            source_ports: PortRange::ALL,
            destinations: AddressRange::all(self.family),
            destination_ports: PortRange::ALL,
            in_interface: None,
            out_interface: None,
            opens: self.opens,
        };
        let mut boxes = carried.into_iter().map(packets).collect();
        boxes = each(boxes, &addresses(Axis::Source), |packets, range| packets.sources = *range);
        boxes = each(boxes, &addresses(Axis::Destination), |packets, range| packets.destinations = *range);
        boxes = each(boxes, &region.ports(Axis::SourcePort), |packets, ports| packets.source_ports = *ports);
        boxes = each(boxes, &region.ports(Axis::DestinationPort), |packets, ports| {
            packets.destination_ports = *ports;
        });
        boxes =
            each(boxes, &interfaces(Axis::InInterface), |packets, name| packets.in_interface = name.clone());
        each(boxes, &interfaces(Axis::OutInterface), |packets, name| packets.out_interface = name.clone())
    }
}

/// Every packet box with every value.
fn each<T>(boxes: Vec<Untracked>, values: &[T], set: impl Fn(&mut Untracked, &T)) -> Vec<Untracked> {
    let with = |packets: &Untracked, value| {
        let mut packets = packets.clone();
        set(&mut packets, value);
        packets
    };
    // A firewall with thousands of bans: one too many is as good as all.
    let all = boxes.iter().flat_map(|packets| values.iter().map(|value| with(packets, value)));
    all.take(MOST_ADAPTERS + 1).collect()
}
