//! Fewer and simpler rules for a firewall: one that stands behind a ban need not leave out what the ban has dropped.

use crate::host::journey::{Journey, Leg};
use crate::host::region::{Axis, Ranges, Region};
use crate::host::walk::{BaseRef, Decision, State, walk};
use crate::host::{HostHook, HostRules};

/// Where an accepting rule is to go: the base chain, and before which of its rules.
pub(crate) type Site = (BaseRef, Option<usize>);

/// Makes one of neighbouring ranges of addresses and ports of packets that a rule at a site would accept, where nothing
/// comes of the gap between: no untracked packet of it gets as far as the site, or, of this node's replies, no
/// connection of it is let in. So a ban that comes or goes changes no rule behind it.
pub(crate) fn widened(mut region: Region, site: &Site, journey: &Journey<'_>, rules: &HostRules) -> Region {
    for axis in [Axis::Source, Axis::Destination, Axis::SourcePort, Axis::DestinationPort] {
        let ranges = region.get(axis);
        let mut ends = ranges.iter();
        let (Some((first, last)), further) = (ends.next(), ends.last()) else { continue };
        let Some((_, last)) = further.filter(|(start, _)| *start > last) else { continue };
        let gaps = Ranges::new(vec![(first, last)]).without(ranges);
        let mut reached = reached(region.clone().with(axis, gaps.clone()), axis, site, journey, rules);
        // Nothing is forwarded from or to this node's own addresses.
        if journey.leg == Leg::Through && matches!(axis, Axis::Source | Axis::Destination) {
            reached = reached.without(journey.own);
        }
        let harmless = gaps.iter().filter(|gap| reached.intersection(&Ranges::new(vec![*gap])).is_empty());
        let closed = Ranges::new(ranges.iter().chain(harmless).collect());
        region = region.with(axis, closed);
    }
    region
}

/// What of a region could come to a rule at a site, by an axis.
fn reached(region: Region, axis: Axis, site: &Site, journey: &Journey<'_>, rules: &HostRules) -> Ranges {
    let ((place, chain), before) = site;
    let Some(mut table) = rules.tables.get(*place).cloned() else { return Ranges::all() };
    let Some((own, base)) = table.chains.get_mut(chain).and_then(|own| own.base.map(|base| (own, base)))
    else {
        return Ranges::all();
    };
    let of =
        |regions: Vec<&Region>| Ranges::new(regions.iter().flat_map(|part| part.get(axis).iter()).collect());
    if journey.leg == Leg::In && matches!(base.hook, HostHook::Output | HostHook::Postrouting) {
        let asks = Journey { region: region.reversed(), ..journey.clone() };
        let asks: Vec<Region> = asks.let_in(rules).iter().map(Region::reversed).collect();
        return of(asks.iter().collect());
    }
    // The chain as it is up to the site: what is left undecided comes there.
    own.rules.truncate(before.unwrap_or(usize::MAX));
    if let Some(base) = &mut own.base {
        base.drops = false;
    }
    let rules = HostRules { tables: vec![table], incomplete: Vec::new() };
    let (ends, _) = walk(&rules, &(0, chain.clone()), journey.traveller(State::Untracked), region);
    let comes = |decision: &Decision, at: Option<usize>| match decision {
        Decision::Accepted => at.is_none(),
        Decision::Unknown(_) => true,
        Decision::Dropped(_) => false,
    };
    of(ends.iter().filter(|end| comes(&end.decision, end.at)).map(|end| &end.region).collect())
}
