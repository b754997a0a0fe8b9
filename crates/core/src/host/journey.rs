//! Journeys: the chains that both directions of a connection pass on this node, and what becomes of it there, tracked and
//! untracked.

use std::collections::BTreeMap;

use super::region::{Axis, Ranges, Region, flags, is_opening, loopback, merged};
use super::walk::{BaseRef, Decision, Encounter, End, Met, State, Traveller, base_chains, walk};
use super::{Act, ChainKind, HostBase, HostHook, HostRules, Place};
use crate::net::{AddressRange, Family, Proto};
use crate::packet::{icmp_errors, icmp_number};

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Which way packets take through this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leg {
    /// They arrive for it.
    In,
    /// It sends them.
    Out,
    /// It routes them.
    Through,
    /// It sends them to itself, over the loopback device.
    Loop,
}

impl Leg {
    fn hooks(self) -> &'static [HostHook] {
        match self {
            Leg::In => &[HostHook::Prerouting, HostHook::Input],
            Leg::Out => &[HostHook::Output, HostHook::Postrouting],
            Leg::Through => &[HostHook::Prerouting, HostHook::Forward, HostHook::Postrouting],
            Leg::Loop => &[HostHook::Output, HostHook::Postrouting, HostHook::Prerouting, HostHook::Input],
        }
    }

    /// The way of the replies.
    fn back(self) -> Leg {
        match self {
            Leg::In => Leg::Out,
            Leg::Out => Leg::In,
            Leg::Through => Leg::Through,
            Leg::Loop => Leg::Loop,
        }
    }
}

/// Connections of one family and protocol on one way.
#[derive(Clone, Debug)]
pub(crate) struct Journey<'a> {
    pub family: Family,
    pub proto: Proto,
    /// Whether what travels is not the connections' own packets, but ICMP errors about these.
    pub is_errors: bool,
    /// The way of the first packet.
    pub leg: Leg,
    /// The first packets: from the clients to the servers.
    pub region: Region,
    /// This node's own addresses.
    pub own: &'a Ranges,
}

/// A chain that stops untracked packets of connections whose packets it accepts tracked.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub base: BaseRef,
    /// What drops them, or from where on nobody can tell.
    pub place: Place,
    /// Whether nobody can tell.
    pub is_unknown: bool,
    /// The rule of the base chain before which an accepting one would stand in for the state; `None`: behind all.
    pub before: Option<usize>,
    /// The packets.
    pub region: Region,
    /// Of TCP's own packets: whether they open connections.
    pub opens: Option<bool>,
}

/// First packets that a chain drops tracked, and that get through untracked.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// What drops them.
    pub place: Place,
    /// The packets.
    pub region: Region,
}

/// What a journey met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub stops: Vec<Stop>,
    /// The connections that are let through tracked, by their first packets.
    pub let_in: Vec<Region>,
    /// By packets of tracked connections: the first, then the later ones of both directions.
    pub tracked: Vec<Met>,
    /// By the same packets untracked.
    pub untracked: Vec<Met>,
    /// By tracked packets that are not the first.
    pub established: Vec<Met>,
    /// By untracked packets that do not open a connection.
    pub untracked_later: Vec<Met>,
}

/// A part of a region that has passed a leg, with the rules of the base chains that let it through.
struct Passage {
    region: Region,
    accepted: Vec<(BaseRef, Option<usize>)>,
}

/// Packets that a chain stopped.
struct Stopped {
    base: BaseRef,
    end: End,
}

impl Journey<'_> {
    /// Whether the same packets travel.
    pub fn is_as(&self, other: &Journey<'_>) -> bool {
        let what = |journey: &Journey<'_>| (journey.family, journey.l4proto(), journey.leg);
        what(self) == what(other) && self.region == other.region
    }

    /// What the first packet meets: all NAT rules of a connection among it.
    pub fn begin(&self, rules: &HostRules) -> Vec<Met> {
        let mut met = Vec::new();
        let opening = self.flagged(&self.region, |flags| flags == SYN);
        let traveller = Traveller { may_be_translated: true, ..self.traveller(State::New) };
        self.pass(rules, self.leg, traveller, opening, &mut met);
        met
    }

    /// The connections that are let through tracked, by their first packets.
    pub fn let_in(&self, rules: &HostRules) -> Vec<Region> {
        let opening = self.flagged(&self.region, |flags| flags == SYN);
        let (passages, _) = self.pass(rules, self.leg, self.traveller(State::New), opening, &mut Vec::new());
        passages.into_iter().map(|passage| passage.region).collect()
    }

    /// Makes the journey with every kind of packet, tracked and untracked.
    pub fn make(&self, rules: &HostRules) -> Report {
        let mut report = Report::default();
        if self.is_errors {
            self.follow(rules, self.leg, State::Related, self.region.clone(), &mut report);
            return report;
        }
        let opening = self.flagged(&self.region, |flags| flags == SYN);
        let (passages, _) =
            self.pass(rules, self.leg, self.traveller(State::New), opening, &mut report.tracked);
        for first in &passages {
            self.judge(rules, self.leg, first, true, &mut report);
            let later = self.flagged(&first.region, is_later).with(Axis::Mark, unmarked()).later();
            self.follow(rules, self.leg, State::Established, later, &mut report);
            let reply =
                self.flagged(&first.region.reversed(), |flags| is_later(flags) || flags == SYN | ACK).later();
            self.follow(rules, self.leg.back(), State::Established, reply, &mut report);
        }
        report.let_in.extend(passages.into_iter().map(|passage| passage.region));
        report
    }

    /// The ICMP errors about packets of these connections, each way as a journey.
    pub fn errors(&self, connections: &[Region]) -> Vec<Self> {
        let types = icmp_errors(self.family);
        let outside = loopback(self.family);
        let anybody = Ranges::from(vec![AddressRange::all(self.family)]).without(&outside);
        let own = self.own.intersection(&of_family(self.family));
        let replies: Vec<Region> = connections.iter().map(Region::reversed).collect();
        let mut ways: BTreeMap<Leg, Vec<Region>> = BTreeMap::new();
        // An error travels against the packet that it is about.
        for (about, leg) in [(connections, self.leg.back()), (&replies, self.leg)] {
            for about in about {
                let mut add = |leg, sources: &Ranges| {
                    ways.entry(leg).or_default().push(about.errors(types, sources.clone()));
                };
                match leg {
                    Leg::In => add(leg, &anybody),
                    Leg::Out | Leg::Loop => add(leg, about.get(Axis::Destination)),
                    Leg::Through => {
                        add(leg, &anybody);
                        // A router whose own way on is too narrow tells so itself.
                        add(Leg::Out, &own);
                    }
                }
            }
        }
        let journey = |leg, region| Journey { is_errors: true, leg, region, ..self.clone() };
        ways.into_iter()
            .flat_map(|(leg, regions)| merged(regions).into_iter().map(move |region| journey(leg, region)))
            .collect()
    }

    /// What is refused by the state alone, so that a bypass would let it in. Limits are told apart from that, and what goes
    /// by a mark that is not known is not followed.
    pub fn opened(&self, rules: &HostRules) -> Vec<Opened> {
        // An error about nothing that is known is none of a connection: nothing says what would have become of it.
        if self.is_errors {
            return Vec::new();
        }
        let opening = self.flagged(&self.region, |flags| flags == SYN);
        let (_, stopped) = self.pass(rules, self.leg, self.traveller(State::New), opening, &mut Vec::new());
        let mut opened = Vec::new();
        for Stopped { end, .. } in stopped {
            let Decision::Dropped(place) = end.decision else { continue };
            let by_limit = end.region.doubts.keys().any(|doubt| doubt.is_limit);
            if by_limit || end.region.get(Axis::Mark).only().is_none() {
                continue;
            }
            let region = end.region.with(Axis::Mark, unmarked());
            let (passages, _) =
                self.pass(rules, self.leg, self.traveller(State::Untracked), region, &mut Vec::new());
            opened.extend(
                passages.into_iter().map(|passage| Opened { place: place.clone(), region: passage.region }),
            );
        }
        opened
    }

    /// Packets behind the first: tracked, then those that got through untracked.
    fn follow(&self, rules: &HostRules, leg: Leg, state: State, region: Region, report: &mut Report) {
        let mut met = Vec::new();
        let (passages, _) = self.pass(rules, leg, self.traveller(state), region, &mut met);
        report.tracked.extend(met.iter().cloned());
        report.established.extend(met);
        for passage in &passages {
            self.judge(rules, leg, passage, false, report);
        }
    }

    /// Sends what got through tracked once more, untracked.
    fn judge(&self, rules: &HostRules, leg: Leg, tracked: &Passage, opens: bool, report: &mut Report) {
        let mut met = Vec::new();
        // A packet comes without a mark: what it had behind the rules of its state is not what it has without one.
        let region = tracked.region.clone().with(Axis::Mark, unmarked());
        let (_, stopped) = self.pass(rules, leg, self.traveller(State::Untracked), region, &mut met);
        if !opens {
            report.untracked_later.extend(met.iter().cloned());
        }
        report.untracked.extend(met);
        for Stopped { base, end } in stopped {
            let (place, is_unknown) = match end.decision {
                Decision::Dropped(place) => (place, false),
                Decision::Unknown(place) => (place, true),
                Decision::Accepted => continue,
            };
            let accepted = tracked.accepted.iter().find(|(known, _)| *known == base).and_then(|(_, at)| *at);
            report.stops.push(Stop {
                base,
                place,
                is_unknown,
                before: accepted.into_iter().chain(end.at).min(),
                region: end.region,
                opens: (self.proto == Proto::Tcp && !self.is_errors).then_some(opens),
            });
        }
    }

    /// Sends a region through the base chains of a leg.
    fn pass(
        &self,
        rules: &HostRules,
        leg: Leg,
        traveller: Traveller<'_>,
        region: Region,
        met: &mut Vec<Met>,
    ) -> (Vec<Passage>, Vec<Stopped>) {
        let mut passages = vec![Passage { region, accepted: Vec::new() }];
        let mut stopped = Vec::new();
        let state = traveller.state;
        for hook in leg.hooks() {
            for (base, hung) in base_chains(rules, *hook, self.family, kinds(state)) {
                let mut onward = Vec::with_capacity(passages.len());
                for passage in passages {
                    let (ends, encounters) = walk(rules, &base, traveller, passage.region);
                    met.extend(encounters);
                    for end in ends {
                        if let (ChainKind::Nat, Decision::Unknown(place)) = (hung.kind, &end.decision) {
                            met.push(unknown_translation(place.clone(), hung, end.region.clone()));
                        }
                        // What nobody can tell of a tracked packet may let it through.
                        let may_pass =
                            state != State::Untracked && !matches!(end.decision, Decision::Dropped(_));
                        if may_pass || end.decision == Decision::Accepted {
                            let mut accepted = passage.accepted.clone();
                            accepted.push((base.clone(), end.at));
                            onward.push(Passage { region: end.region, accepted });
                        } else {
                            stopped.push(Stopped { base: base.clone(), end });
                        }
                    }
                }
                passages = onward;
            }
        }
        (passages, stopped)
    }

    pub fn traveller(&self, state: State) -> Traveller<'_> {
        Traveller {
            family: self.family,
            l4proto: self.l4proto(),
            state,
            // What is translated stays tracked: it is no part of the region.
            may_be_translated: false,
            own: self.own,
        }
    }

    fn l4proto(&self) -> u8 {
        if self.is_errors { icmp_number(self.family) } else { self.proto.number() }
    }

    fn flagged(&self, region: &Region, fits: impl Fn(u8) -> bool) -> Region {
        match self.proto {
            Proto::Tcp => region.clone().with(Axis::TcpFlags, flags(fits)),
            Proto::Udp | Proto::Sctp => region.clone(),
        }
    }
}

/// Numbers that are addresses of a family, where those of both stand together. `::1` has the number of an IPv4 address that
/// nobody has.
fn of_family(family: Family) -> Ranges {
    let highest_v4 = u128::from(u32::MAX);
    let range = if family == Family::Ipv4 { (2, highest_v4) } else { (highest_v4 + 1, u128::MAX) };
    Ranges::new(vec![range]).without(&loopback(family))
}

fn unmarked() -> Ranges {
    Ranges::one(0)
}

/// A NAT chain that nobody can tell the end of: it may translate.
fn unknown_translation(place: Place, base: HostBase, region: Region) -> Met {
    let act = match base.hook {
        HostHook::Prerouting | HostHook::Output => Act::Dnat(Vec::new()),
        HostHook::Input | HostHook::Forward | HostHook::Postrouting => Act::Snat("unknown".to_owned()),
    };
    Met { what: Encounter::Act(act), place, base, region }
}

/// Only the first packet of a tracked connection meets NAT.
fn kinds(state: State) -> &'static [ChainKind] {
    match state {
        State::New => &[ChainKind::Filter, ChainKind::Route, ChainKind::Nat],
        State::Established | State::Related | State::Untracked => &[ChainKind::Filter, ChainKind::Route],
    }
}

/// Flags of a packet that belongs to a connection: what tracking would let pass as such.
fn is_later(flags: u8) -> bool {
    !is_opening(flags) && flags & SYN == 0 && flags & (ACK | RST) != 0
}
