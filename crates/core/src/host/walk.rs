//! The way of packets through other programs' base chains: evaluated rule by rule, for whole regions at once.
//!
//! What a comparison can tell apart is cut apart; what nobody here can compare (an extension that is not understood, a
//! mark, a set that packets fill) goes both ways, as a doubt that stays with the region: the same comparison comes out
//! the same for the tracked and for the untracked packet, so that it is no difference between them.

use super::compare::{MOST_PARTS, Seen, Sight, axes, fitting};
use super::region::{Axis, Doubt, Ranges, Region, both_ways, merged};
use super::{
    Act, ChainKind, Field, HostBase, HostElement, HostHook, HostRule, HostRules, HostSet, HostVerdict, Place,
    Step, ValueBox,
};
use crate::net::Family;

/// Deeper jumps are refused by the kernel (`NFT_JUMP_STACK_SIZE`).
const DEEPEST_JUMP: usize = 16;
/// Parts of rules times regions that are looked at in one chain.
const MOST_STEPS: usize = 1_000_000;

/// What tracking says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// The first of its connection.
    New,
    /// A later one, either direction.
    Established,
    /// An ICMP error about a packet of a connection.
    Related,
    /// Bypassed.
    Untracked,
}

/// What all packets of a walk have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traveller<'a> {
    pub family: Family,
    /// The protocol's number in the IP header.
    pub l4proto: u8,
    pub state: State,
    /// Whether NAT rules may have translated them, or may yet.
    pub may_be_translated: bool,
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
    let sight = Sight { table, base, traveller };
    let mut walk = Walk { place: *place, sight, ends: Vec::new(), met: Vec::new(), steps: 0 };
    let left = walk.chain(name, vec![region], 0, None);
    for region in left {
        let decision = match base.drops {
            true => Decision::Dropped(table.policy(name)),
            false => Decision::Accepted,
        };
        walk.ends.push(End { region, decision, at: None });
    }
    (walk.ends, walk.met)
}

struct Walk<'a> {
    place: usize,
    sight: Sight<'a>,
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

impl<'a> Walk<'a> {
    /// Returns what comes back from the chain undecided.
    fn chain(&mut self, name: &str, regions: Vec<Region>, depth: usize, at: Option<usize>) -> Vec<Region> {
        let Some((name, chain)) = self.sight.table.chains.get_key_value(name) else { return regions };
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
            if self.steps > MOST_STEPS || live.len() > MOST_PARTS {
                self.give_up(here, live);
                live = Vec::new();
                break;
            }
            for region in live {
                self.rule(here, region, &mut left);
                if left.onward.len() > MOST_PARTS {
                    left.onward = merged(left.onward);
                }
                if left.onward.len() > MOST_PARTS {
                    self.give_up(here, std::mem::take(&mut left.onward));
                }
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
                is_limit: matches!(step, Step::Limit | Step::CountConnections),
                state: None,
            };
            // Each comparison may cut a part in many: of a rule with several no more are followed than of a chain.
            if matched.len() > MOST_PARTS {
                return self.give_up(here, matched);
            }
            let mut next = Vec::with_capacity(matched.len());
            for region in matched {
                self.steps += 1;
                match step {
                    Step::Match(comparison) => {
                        signal |= self.sight.is_signal(comparison);
                        let (within, without) = self.sight.compare(comparison, region, &doubt);
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
                            // There is no entry to restore it from.
                            Act::RestoreMark if self.sight.traveller.state == State::Untracked => {
                                next.push(region);
                            }
                            Act::RestoreMark => next.push(region.with(Axis::Mark, Ranges::all())),
                            Act::SetMark(marking) => {
                                let mark = region.get(Axis::Mark).only();
                                let mark = marking.and_then(|marking| marking.of(mark));
                                // Where it is not followed, it may be any from here on.
                                let marks = mark.map_or_else(Ranges::all, Ranges::one);
                                next.push(region.with(Axis::Mark, marks));
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
        let seen: Vec<Seen> = fields.iter().map(|field| self.sight.seen(field)).collect();
        if seen.iter().any(|field| matches!(field, Seen::Missing)) {
            return left.onward.push(region);
        }
        let known = self.sight.table.sets.get(map).filter(|set| !set.unknown);
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
                is_limit: false,
                state: None,
            };
            let (mut takes, mut passes) = (Vec::new(), Vec::new());
            open.into_iter().for_each(|region| both_ways(region, &doubt, &mut takes, &mut passes));
            takes.into_iter().for_each(|region| self.apply(here, verdict, region, left));
            open = passes;
        }
        left.onward.extend(open);
    }

    fn end(&mut self, here: Here<'a>, region: Region, decision: Decision) {
        self.ends.push(End { region, decision, at: Some(here.at) });
    }

    fn meet(&mut self, here: Here<'a>, what: Encounter, region: &Region) {
        let place = self.evidence(here);
        self.met.push(Met { what, place, base: self.sight.base, region: region.clone() });
    }

    fn evidence(&self, here: Here<'a>) -> Place {
        self.sight.table.place(here.chain, here.rule)
    }
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
