//! The way of packets through other programs' base chains: evaluated rule by rule, for whole regions at once.
//!
//! What a comparison can tell apart is cut apart; what nobody here can compare (an extension that is not understood, a
//! mark, a set that packets fill) goes both ways, as a doubt that stays with the region: the same comparison comes out
//! the same for the tracked and for the untracked packet, so that it is no difference between them.

use super::region::{Axis, Doubt, Ranges, Region};
use super::{
    Act, CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_UNTRACKED, ChainKind, Field, HostBase, HostElement, HostHook,
    HostRule, HostRules, HostSet, HostTable, HostVerdict, Match, Members, Place, Step, ValueBox,
};
use crate::net::{Family, Proto};
use crate::rules::BYPASS_PRIORITY;

/// `NF_IP_PRI_CONNTRACK`: what runs before has no entry to look at.
const CONNTRACK_PRIORITY: i32 = -200;
/// Deeper jumps are refused by the kernel (`NFT_JUMP_STACK_SIZE`).
const DEEPEST_JUMP: usize = 16;
/// More parts than this of one region are not followed: the chain is then one that nobody can tell.
const MOST_PARTS: usize = 256;
/// Rules times regions that are looked at in one chain.
const MOST_STEPS: usize = 1_000_000;

/// What tracking says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// The first of its connection.
    New,
    /// A later one, either direction.
    Established,
    /// Bypassed.
    Untracked,
}

/// What all packets of a walk have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traveller<'a> {
    pub family: Family,
    pub proto: Proto,
    pub state: State,
    /// This node's own addresses.
    pub own: &'a Ranges,
}

/// A base chain: the table's place and the chain's name.
pub(crate) type BaseRef = (usize, String);

/// What a base chain did to a part of a region.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub region: Region,
    pub decision: Decision,
    /// The rule of the base chain itself that led to it, by its place; `None`: no rule did, but the chain's policy.
    pub at: Option<usize>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Accepted,
    /// By a rule or a policy.
    Dropped(Place),
    /// Nobody can tell, from this rule on.
    Unknown(Place),
}

/// Something that packets met on their way beside verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    pub what: Encounter,
    pub place: Place,
    pub base: HostBase,
    pub region: Region,
}

/// What it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encounter {
    Act(Act),
    Limit,
    CountConnections,
    /// A rule that does something to what is UNTRACKED, and not to what is NEW or ESTABLISHED.
    Signal,
}

/// The base chains at a hook that packets of a family meet, in the kernel's order.
pub(crate) fn base_chains(
    rules: &HostRules,
    hook: HostHook,
    family: Family,
    kinds: &[ChainKind],
) -> Vec<(BaseRef, HostBase)> {
    let tables = rules.tables.iter().enumerate();
    let mut found: Vec<(BaseRef, HostBase)> = tables
        .filter(|(_, table)| !table.dormant && table.id.family.sees(family))
        .flat_map(|(place, table)| {
            table.chains.iter().filter_map(move |(name, chain)| Some(((place, name.clone()), chain.base?)))
        })
        .filter(|(_, base)| base.hook == hook && kinds.contains(&base.kind))
        .collect();
    // Stable: of one priority the older table comes first.
    found.sort_by_key(|(_, base)| base.priority);
    found
}

/// Sends a region through one base chain.
pub(crate) fn walk(
    rules: &HostRules,
    (place, name): &BaseRef,
    traveller: Traveller<'_>,
    region: Region,
) -> (Vec<End>, Vec<Met>) {
    let Some(table) = rules.tables.get(*place) else { return (Vec::new(), Vec::new()) };
    let Some(base) = table.chains.get(name).and_then(|chain| chain.base) else {
        return (Vec::new(), Vec::new());
    };
    let mut walk =
        Walk { table, place: *place, base, traveller, ends: Vec::new(), met: Vec::new(), steps: 0 };
    let left = walk.chain(name, vec![region], 0, None);
    for region in left {
        let decision = match base.drops {
            true => Decision::Dropped(Place {
                table: table.id.clone(),
                chain: name.clone(),
                handle: None,
                text: "policy drop".to_owned(),
            }),
            false => Decision::Accepted,
        };
        walk.ends.push(End { region, decision, at: None });
    }
    (walk.ends, walk.met)
}

struct Walk<'a> {
    table: &'a HostTable,
    place: usize,
    base: HostBase,
    traveller: Traveller<'a>,
    ends: Vec<End>,
    met: Vec<Met>,
    steps: usize,
}

/// Where a rule stands, and under which rule of the base chain.
#[derive(Clone, Copy)]
struct Here<'a> {
    chain: &'a str,
    rule: &'a HostRule,
    depth: usize,
    at: usize,
}

/// What a rule leaves of a region.
#[derive(Default)]
struct Left {
    /// What goes on to the next rule.
    onward: Vec<Region>,
    /// What goes back to the chain that jumped here.
    returned: Vec<Region>,
}

/// A region after a comparison.
#[derive(Default)]
struct Cut {
    inside: Vec<Region>,
    outside: Vec<Region>,
    /// Where nobody can tell.
    unsure: Vec<Region>,
}

impl Cut {
    fn of(inside: Option<Region>, outside: Option<Region>) -> Cut {
        let list = |region: Option<Region>| region.into_iter().collect();
        Cut { inside: list(inside), outside: list(outside), unsure: Vec::new() }
    }
}

/// A field of packets in one walk.
enum Seen {
    /// All of them have this value.
    Fixed(u128),
    Differs(Axis),
    /// By the type of the address on an axis.
    Type(Axis),
    /// None of them has it: the rule ends.
    Missing,
    /// Nobody can tell.
    Unknown,
}

impl<'a> Walk<'a> {
    /// Returns what comes back from the chain undecided.
    fn chain(&mut self, name: &str, regions: Vec<Region>, depth: usize, at: Option<usize>) -> Vec<Region> {
        let Some((name, chain)) = self.table.chains.get_key_value(name) else { return regions };
        if depth > DEEPEST_JUMP {
            return regions;
        }
        let (mut live, mut returned) = (regions, Vec::new());
        for (number, rule) in chain.rules.iter().enumerate() {
            if live.is_empty() {
                break;
            }
            if !has_effect(rule) {
                continue;
            }
            let here = Here { chain: name, rule, depth, at: at.unwrap_or(number) };
            let mut left = Left::default();
            self.steps += live.len();
            if self.steps > MOST_STEPS || live.len() > MOST_PARTS {
                self.give_up(here, live);
                live = Vec::new();
                break;
            }
            for region in live {
                self.rule(here, region, &mut left);
            }
            live = merged(left.onward);
            returned.extend(left.returned);
        }
        returned.extend(live);
        merged(returned)
    }

    fn give_up(&mut self, here: Here<'a>, regions: Vec<Region>) {
        let place = self.evidence(here);
        self.ends.extend(regions.into_iter().map(|region| End {
            region,
            decision: Decision::Unknown(place.clone()),
            at: Some(here.at),
        }));
    }

    fn rule(&mut self, here: Here<'a>, region: Region, left: &mut Left) {
        let mut matched = vec![region];
        let mut signal = false;
        for (number, step) in here.rule.steps.iter().enumerate() {
            let doubt = Doubt {
                table: self.place,
                chain: here.chain.to_owned(),
                handle: here.rule.handle,
                step: number,
                by_packet: is_by_packet(step),
                state: None,
            };
            let mut next = Vec::with_capacity(matched.len());
            for region in matched {
                match step {
                    Step::Match(comparison) => {
                        signal |= self.is_signal(comparison);
                        let (within, without) = self.compare(comparison, region, &doubt);
                        next.extend(within);
                        left.onward.extend(without);
                    }
                    Step::Limit | Step::CountConnections => {
                        let what = match step {
                            Step::Limit => Encounter::Limit,
                            _ => Encounter::CountConnections,
                        };
                        self.meet(here, what, &region);
                        both_ways(region, &doubt, &mut next, &mut left.onward);
                    }
                    Step::Opaque(_) => both_ways(region, &doubt, &mut next, &mut left.onward),
                    Step::Act(act) => {
                        if signal && *act != Act::Notrack {
                            self.meet(here, Encounter::Signal, &region);
                        }
                        self.meet(here, Encounter::Act(act.clone()), &region);
                        match act {
                            act if ends_chain(act) => self.end(here, region, Decision::Accepted),
                            // To what is not followed: from here on the mark may be any.
                            Act::SetMark | Act::RestoreMark => {
                                next.push(region.with(Axis::Mark, Ranges::all()));
                            }
                            _ => next.push(region),
                        }
                    }
                    Step::VerdictMap { fields, map } => self.look_up(here, fields, map, region, left),
                    Step::Verdict(verdict) => {
                        if signal && *verdict == HostVerdict::Queue {
                            self.meet(here, Encounter::Signal, &region);
                        }
                        self.apply(here, verdict, region, left);
                    }
                }
            }
            matched = next;
        }
        left.onward.extend(matched);
    }

    fn apply(&mut self, here: Here<'a>, verdict: &HostVerdict, region: Region, left: &mut Left) {
        match verdict {
            // A program decides: it gets the tracked packet as well as the untracked one.
            HostVerdict::Accept | HostVerdict::Queue => self.end(here, region, Decision::Accepted),
            HostVerdict::Drop => {
                let place = self.evidence(here);
                self.end(here, region, Decision::Dropped(place));
            }
            HostVerdict::Return => left.returned.push(region),
            HostVerdict::Jump(chain) => {
                let back = self.chain(chain, vec![region], here.depth + 1, Some(here.at));
                left.onward.extend(back);
            }
            HostVerdict::Goto(chain) => {
                let back = self.chain(chain, vec![region], here.depth + 1, Some(here.at));
                left.returned.extend(back);
            }
        }
    }

    fn look_up(&mut self, here: Here<'a>, fields: &[Field], map: &str, region: Region, left: &mut Left) {
        let seen: Vec<Seen> = fields.iter().map(|field| self.seen(field)).collect();
        if seen.iter().any(|field| matches!(field, Seen::Missing)) {
            return left.onward.push(region);
        }
        let known = self.table.sets.get(map).filter(|set| !set.unknown);
        let Some(set) = known else { return self.give_up(here, vec![region]) };
        if seen.iter().any(|field| matches!(field, Seen::Unknown | Seen::Type(_))) {
            return self.look_everywhere(here, &seen, set, region, left);
        }
        let axes = axes(&seen);
        let fitting: Vec<(&HostElement, ValueBox)> = set
            .elements
            .iter()
            .filter_map(|element| Some((element, fitting(&seen, &element.values)?)))
            .filter(|(_, values)| region.touches(&axes, values))
            .collect();
        let boxes: Vec<&ValueBox> = fitting.iter().map(|(_, values)| values).collect();
        let Some((hits, misses)) = region.clone().split_boxes(&axes, &boxes, MOST_PARTS) else {
            return self.give_up(here, vec![region]);
        };
        left.onward.extend(misses);
        for (number, region) in hits {
            match fitting.get(number).and_then(|(element, _)| element.verdict.as_ref()) {
                Some(verdict) => self.apply(here, verdict, region, left),
                None => left.onward.push(region),
            }
        }
    }

    /// A look-up by something that nobody can tell, such as a random number: any element may be the one.
    fn look_everywhere(
        &mut self,
        here: Here<'a>,
        seen: &[Seen],
        set: &'a HostSet,
        region: Region,
        left: &mut Left,
    ) {
        let mut verdicts: Vec<&HostVerdict> = Vec::new();
        for element in set.elements.iter().filter(|element| fitting(seen, &element.values).is_some()) {
            verdicts.extend(element.verdict.as_ref().filter(|verdict| !verdicts.contains(verdict)));
        }
        if verdicts.len() > MOST_PARTS {
            return self.give_up(here, vec![region]);
        }
        let mut open = vec![region];
        for (number, verdict) in verdicts.into_iter().enumerate() {
            let doubt = Doubt {
                table: self.place,
                chain: format!("{} by way {number}", here.chain),
                handle: here.rule.handle,
                step: number,
                by_packet: false,
                state: None,
            };
            let (mut takes, mut passes) = (Vec::new(), Vec::new());
            open.into_iter().for_each(|region| both_ways(region, &doubt, &mut takes, &mut passes));
            takes.into_iter().for_each(|region| self.apply(here, verdict, region, left));
            open = passes;
        }
        left.onward.extend(open);
    }

    /// What matches, and what does not.
    fn compare(&self, comparison: &Match, region: Region, doubt: &Doubt) -> (Vec<Region>, Vec<Region>) {
        let Match { fields, inverted, of } = comparison;
        let seen: Vec<Seen> = fields.iter().map(|field| self.seen(field)).collect();
        if seen.iter().any(|field| matches!(field, Seen::Missing)) {
            return (Vec::new(), vec![region]);
        }
        let (mut within, mut without) = (Vec::new(), Vec::new());
        let cut = match of {
            Members::Masked { mask, values } => masked(&seen, *mask, values, &region),
            of => self.members(of).and_then(|members| self.cut(&seen, &members, &region)),
        };
        let Cut { inside, outside, unsure } =
            cut.unwrap_or_else(|| Cut { unsure: vec![region], ..Cut::default() });
        within.extend(inside);
        without.extend(outside);
        // By the state it may come out differently for the tracked and for the untracked packet.
        let state = fields.contains(&Field::CtState).then_some(self.traveller.state);
        let doubt = Doubt { state, ..doubt.clone() };
        for region in unsure {
            both_ways(region, &doubt, &mut within, &mut without);
        }
        if *inverted { (without, within) } else { (within, without) }
    }

    /// `None` where nobody can tell of any of it.
    fn cut(&self, seen: &[Seen], members: &[&ValueBox], region: &Region) -> Option<Cut> {
        if let [Seen::Type(axis)] = seen {
            let (inside, outside) = region.split(*axis, &self.of_type(members));
            return Some(Cut::of(inside, outside));
        }
        if seen.iter().any(|field| matches!(field, Seen::Type(_))) {
            return None;
        }
        let is_sure = |values: &&ValueBox| {
            let mut both = seen.iter().zip(values.iter());
            both.all(|(field, range)| !matches!(field, Seen::Unknown) || is_everything(*range))
        };
        let (sure, perhaps): (Vec<&ValueBox>, Vec<&ValueBox>) = members.iter().copied().partition(is_sure);
        let perhaps = perhaps.iter().any(|values| fitting(seen, values).is_some());
        let boxes: Vec<ValueBox> = sure.iter().filter_map(|values| fitting(seen, values)).collect();
        let axes = axes(seen);
        let cut = match axes.as_slice() {
            [] if boxes.is_empty() => Cut::of(None, Some(region.clone())),
            [] => Cut::of(Some(region.clone()), None),
            [axis] => {
                let (inside, outside) =
                    region.split(*axis, &Ranges::new(boxes.iter().flatten().copied().collect()));
                Cut::of(inside, outside)
            }
            axes => {
                let near: Vec<&ValueBox> =
                    boxes.iter().filter(|values| region.touches(axes, values)).collect();
                let (inside, outside) = region.clone().split_boxes(axes, &near, MOST_PARTS)?;
                let inside = inside.into_iter().map(|(_, region)| region).collect();
                Cut { inside, outside, unsure: Vec::new() }
            }
        };
        Some(if perhaps { Cut { unsure: cut.outside, outside: Vec::new(), ..cut } } else { cut })
    }

    fn members<'m>(&self, of: &'m Members) -> Option<Vec<&'m ValueBox>>
    where
        'a: 'm,
    {
        match of {
            Members::Boxes(boxes) => Some(boxes.iter().collect()),
            Members::Set(name) => {
                let set = self.table.sets.get(name).filter(|set| !set.unknown && !set.dynamic)?;
                Some(set.elements.iter().map(|element| &element.values).collect())
            }
            Members::Masked { .. } | Members::Unknown => None,
        }
    }

    fn seen(&self, field: &Field) -> Seen {
        let Traveller { family, proto, .. } = self.traveller;
        let hook = self.base.hook;
        match field {
            Field::Family => Seen::Fixed(crate::nf::expr::nfproto(family).into()),
            Field::L4Proto => Seen::Fixed(proto.number().into()),
            Field::SourceAddress(of) if *of == family => Seen::Differs(Axis::Source),
            Field::DestinationAddress(of) if *of == family => Seen::Differs(Axis::Destination),
            Field::SourceAddress(_) | Field::DestinationAddress(_) | Field::IcmpType => Seen::Missing,
            Field::SourcePort => Seen::Differs(Axis::SourcePort),
            Field::DestinationPort => Seen::Differs(Axis::DestinationPort),
            Field::TcpFlags if proto == Proto::Tcp => Seen::Differs(Axis::TcpFlags),
            Field::TcpFlags => Seen::Missing,
            // A packet without the interface has an empty name.
            Field::InInterface if hook == HostHook::Output => Seen::Fixed(0),
            Field::OutInterface if matches!(hook, HostHook::Prerouting | HostHook::Input) => Seen::Fixed(0),
            Field::InInterface => Seen::Differs(Axis::InInterface),
            Field::OutInterface => Seen::Differs(Axis::OutInterface),
            Field::CtState => Seen::Fixed(self.ct_state()),
            Field::CtOther(_) if self.traveller.state == State::Untracked || self.is_before_conntrack() => {
                Seen::Missing
            }
            Field::DestinationType => Seen::Type(Axis::Destination),
            Field::SourceType => Seen::Type(Axis::Source),
            Field::Mark => Seen::Differs(Axis::Mark),
            Field::CtOther(_) | Field::Other(_) => Seen::Unknown,
        }
    }

    fn is_before_conntrack(&self) -> bool {
        matches!(self.base.hook, HostHook::Prerouting | HostHook::Output)
            && self.base.priority < CONNTRACK_PRIORITY
    }

    /// A packet without an entry that nobody has marked as untracked is INVALID to nftables (`nft_ct_get_eval`).
    fn ct_state(&self) -> u128 {
        let before = self.is_before_conntrack();
        match self.traveller.state {
            State::Untracked if !before || self.base.priority >= BYPASS_PRIORITY => CT_UNTRACKED,
            _ if before => CT_INVALID,
            State::New => CT_NEW,
            State::Established | State::Untracked => CT_ESTABLISHED,
        }
    }

    /// Whether a comparison lets UNTRACKED packets through and neither NEW nor ESTABLISHED ones.
    fn is_signal(&self, comparison: &Match) -> bool {
        let has = |bit: u128| {
            self.members(&comparison.of).is_some_and(|members| {
                members
                    .iter()
                    .any(|values| values.first().is_some_and(|(first, last)| *first <= bit && bit <= *last))
                    != comparison.inverted
            })
        };
        self.traveller.state == State::Untracked
            && comparison.fields == [Field::CtState]
            && has(CT_UNTRACKED)
            && !has(CT_NEW)
            && !has(CT_ESTABLISHED)
    }

    /// Addresses by their type (`RTN_*`): the node's own are local, groups multicast, the rest unicast.
    fn of_type(&self, members: &[&ValueBox]) -> Ranges {
        const UNICAST: u128 = 1;
        const LOCAL: u128 = 2;
        const MULTICAST: u128 = 5;
        let has = |kind: u128| {
            members
                .iter()
                .any(|values| values.first().is_some_and(|(first, last)| *first <= kind && kind <= *last))
        };
        let groups = match self.traveller.family {
            Family::Ipv4 => Ranges::new(vec![(0xe000_0000, 0xefff_ffff)]),
            Family::Ipv6 => Ranges::new(vec![(0xff << 120, u128::MAX)]),
        };
        let mut ranges = Vec::new();
        if has(LOCAL) {
            ranges.extend(self.traveller.own.iter());
        }
        if has(MULTICAST) {
            ranges.extend(groups.iter());
        }
        if has(UNICAST) {
            ranges.extend(Ranges::all().without(self.traveller.own).without(&groups).iter());
        }
        Ranges::new(ranges)
    }

    fn end(&mut self, here: Here<'a>, region: Region, decision: Decision) {
        self.ends.push(End { region, decision, at: Some(here.at) });
    }

    fn meet(&mut self, here: Here<'a>, what: Encounter, region: &Region) {
        let place = self.evidence(here);
        self.met.push(Met { what, place, base: self.base, region: region.clone() });
    }

    fn evidence(&self, here: Here<'a>) -> Place {
        Place {
            table: self.table.id.clone(),
            chain: here.chain.to_owned(),
            handle: Some(here.rule.handle),
            text: here.rule.text.clone(),
        }
    }
}

/// Packets of one value alone can be compared by a mask.
fn masked(seen: &[Seen], mask: u128, values: &[u128], region: &Region) -> Option<Cut> {
    let value = match seen {
        [Seen::Fixed(value)] => *value,
        [Seen::Differs(axis)] => region.get(*axis).only()?,
        _ => return None,
    };
    let region = Some(region.clone());
    Some(if values.contains(&(value & mask)) { Cut::of(region, None) } else { Cut::of(None, region) })
}

/// Extensions that nobody here can follow, but that have one answer for all packets of a connection in one direction.
const OF_CONNECTION: [&str; 10] =
    ["pkttype", "mac", "owner", "cgroup", "physdev", "policy", "rpfilter", "devgroup", "realm", "cpu"];

/// Words in nft's names of fields that differ from packet to packet.
const BY_PACKET: [&str; 5] = ["numgen", "random", "length", "ttl", "hoplimit"];

/// Whether each packet of a connection may come out differently.
fn is_by_packet(step: &Step) -> bool {
    match step {
        Step::Limit => true,
        Step::Opaque(name) => !OF_CONNECTION.contains(&name.as_str()),
        Step::Match(comparison) => comparison.fields.iter().any(|field| match field {
            Field::Other(name) => BY_PACKET.iter().any(|word| name.contains(word)),
            _ => false,
        }),
        _ => false,
    }
}

/// Rules that only count or log cannot make a difference.
fn has_effect(rule: &HostRule) -> bool {
    rule.steps.iter().any(|step| matches!(step, Step::Act(_) | Step::VerdictMap { .. } | Step::Verdict(_)))
}

/// Acts that are verdicts as well.
fn ends_chain(act: &Act) -> bool {
    matches!(act, Act::Dnat(_) | Act::Snat(_) | Act::Synproxy | Act::Tproxy)
}

fn both_ways(region: Region, doubt: &Doubt, within: &mut Vec<Region>, without: &mut Vec<Region>) {
    match region.doubts.get(doubt) {
        Some(true) => within.push(region),
        Some(false) => without.push(region),
        None => {
            let mut decided = region.clone();
            decided.doubts.insert(doubt.clone(), true);
            within.push(decided);
            let mut decided = region;
            decided.doubts.insert(doubt.clone(), false);
            without.push(decided);
        }
    }
}

/// Whether a range is all that a field of so many whole bytes can be: then its value need not be known.
fn is_everything((first, last): (u128, u128)) -> bool {
    first == 0 && (last == u128::MAX || last >= 0xff && (last + 1).is_power_of_two())
}

fn axes(seen: &[Seen]) -> Vec<Axis> {
    let differing = seen.iter().filter_map(|field| match field {
        Seen::Differs(axis) => Some(*axis),
        _ => None,
    });
    differing.collect()
}

/// An element's values on the fields in which packets differ; `None` where it has others in the rest.
fn fitting(seen: &[Seen], values: &ValueBox) -> Option<ValueBox> {
    let mut fitting = Vec::with_capacity(values.len());
    for (field, (first, last)) in seen.iter().zip(values) {
        match field {
            Seen::Fixed(value) if first <= value && value <= last => {}
            Seen::Fixed(_) => return None,
            Seen::Differs(_) => fitting.push((*first, *last)),
            Seen::Type(_) | Seen::Missing | Seen::Unknown => {}
        }
    }
    Some(fitting)
}

/// Regions that are one are made one: a jump that decided nothing leaves no trace.
pub(crate) fn merged(mut regions: Vec<Region>) -> Vec<Region> {
    let mut place = 0;
    while place < regions.len() {
        let partner = (place + 1..regions.len())
            .find_map(|other| Some((other, regions.get(place)?.joined(regions.get(other)?)?)));
        match partner {
            Some((other, joined)) => {
                regions.swap_remove(other);
                if let Some(region) = regions.get_mut(place) {
                    *region = joined;
                }
                // What it has become may fit one that was passed over.
                place = 0;
            }
            None => place += 1,
        }
    }
    regions
}
