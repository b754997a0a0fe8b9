//! What other programs' rules do with a flow's connections that needs the entry, apart from translation (hazards 9, 11, 12,
//! 14, 21, 23, 33).

use std::collections::BTreeSet;

use super::Found;
use crate::facts::NodeFacts;
use crate::hazard::{Effect, HazardKind};
use crate::host::journey::{Journey, Opened, Report};
use crate::host::region::Region;
use crate::host::walk::{Encounter, Met};
use crate::host::{Act, Backend, HostRules, Place};
use crate::rules::BYPASS_PRIORITY;

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
