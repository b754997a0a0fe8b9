//! What a rule's comparisons can tell of packets: which part of a region matches, which does not, and where nobody can tell.

use super::region::{Axis, Doubt, Ranges, Region, both_ways};
use super::walk::{State, Traveller};
use super::{
    CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED, CT_UNTRACKED, Field, HostBase, HostHook, HostTable,
    Match, Members, STATUS, TRANSLATED, ValueBox,
};
use crate::net::{Family, Proto};
use crate::packet::icmp_number;
use crate::rules::BYPASS_PRIORITY;

/// More parts than this of one region are not followed: the comparison is then one that nobody can make.
pub(super) const MOST_PARTS: usize = 256;

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
pub(super) enum Seen {
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

/// What the rules of one base chain, and of those that it leads to, see of one kind of packets.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub table: &'a HostTable,
    pub base: HostBase,
    pub traveller: Traveller<'a>,
}

impl<'a> Sight<'a> {
    /// What matches, and what does not.
    pub fn compare(&self, comparison: &Match, region: Region, doubt: &Doubt) -> (Vec<Region>, Vec<Region>) {
        let Match { fields, inverted, of } = comparison;
        let seen: Vec<Seen> = fields.iter().map(|field| self.seen(field)).collect();
        if seen.iter().any(|field| matches!(field, Seen::Missing)) {
            return (Vec::new(), vec![region]);
        }
        let (mut within, mut without) = (Vec::new(), Vec::new());
        let cut = match of {
            Members::Masked { mask, values } if self.tells_translation(fields, *mask) => {
                masked(&[Seen::Fixed(0)], *mask, values, &region)
            }
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

    pub fn seen(&self, field: &Field) -> Seen {
        let Traveller { family, l4proto, .. } = self.traveller;
        let hook = self.base.hook;
        match field {
            Field::Family => Seen::Fixed(crate::nf::expr::nfproto(family).into()),
            Field::L4Proto => Seen::Fixed(l4proto.into()),
            Field::SourceAddress(of) if *of == family => Seen::Differs(Axis::Source),
            Field::DestinationAddress(of) if *of == family => Seen::Differs(Axis::Destination),
            Field::SourceAddress(_) | Field::DestinationAddress(_) => Seen::Missing,
            Field::IcmpType if l4proto == icmp_number(family) => Seen::Differs(Axis::IcmpType),
            Field::IcmpType => Seen::Missing,
            // Where others have their ports is what differs from message to message.
            Field::SourcePort | Field::DestinationPort if Proto::from_number(l4proto).is_none() => {
                Seen::Unknown
            }
            Field::SourcePort => Seen::Differs(Axis::SourcePort),
            Field::DestinationPort => Seen::Differs(Axis::DestinationPort),
            Field::TcpFlags if l4proto == Proto::Tcp.number() => Seen::Differs(Axis::TcpFlags),
            Field::TcpFlags => Seen::Missing,
            // A packet without the interface has an empty name.
            Field::InInterface if hook == HostHook::Output => Seen::Fixed(0),
            Field::OutInterface if matches!(hook, HostHook::Prerouting | HostHook::Input) => Seen::Fixed(0),
            Field::InInterface => Seen::Differs(Axis::InInterface),
            Field::OutInterface => Seen::Differs(Axis::OutInterface),
            Field::CtState => Seen::Fixed(self.ct_state()),
            Field::CtOther(_)
                if self.traveller.state == State::Untracked || self.base.is_before_conntrack() =>
            {
                Seen::Missing
            }
            Field::CtOther(name) | Field::Other(name) if self.is_translation(name) => Seen::Fixed(0),
            Field::DestinationType => Seen::Type(Axis::Destination),
            Field::SourceType => Seen::Type(Axis::Source),
            Field::Mark => Seen::Differs(Axis::Mark),
            Field::CtOther(_) | Field::Other(_) => Seen::Unknown,
        }
    }

    /// Whether a field tells of nothing but translation, of packets that nothing translates.
    fn is_translation(&self, name: &str) -> bool {
        !self.traveller.may_be_translated && name.strip_prefix("ct ").unwrap_or(name) == TRANSLATED
    }

    /// The same of the bits of a status that are compared.
    fn tells_translation(&self, fields: &[Field], mask: u128) -> bool {
        let (status, bits) = STATUS;
        !self.traveller.may_be_translated
            && mask & !bits == 0
            && matches!(fields, [Field::CtOther(name)] if name == status)
    }

    /// A packet without an entry that nobody has marked as untracked is INVALID to nftables (`nft_ct_get_eval`).
    fn ct_state(&self) -> u128 {
        let before = self.base.is_before_conntrack();
        match self.traveller.state {
            State::Untracked if !before || self.base.priority >= BYPASS_PRIORITY => CT_UNTRACKED,
            _ if before => CT_INVALID,
            State::New => CT_NEW,
            State::Related => CT_RELATED,
            State::Established | State::Untracked => CT_ESTABLISHED,
        }
    }

    /// Whether a comparison lets UNTRACKED packets through and neither NEW nor ESTABLISHED ones.
    pub fn is_signal(&self, comparison: &Match) -> bool {
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

/// Whether a range is all that a field of so many whole bytes can be: then its value need not be known.
fn is_everything((first, last): (u128, u128)) -> bool {
    first == 0 && (last == u128::MAX || last >= 0xff && (last + 1).is_power_of_two())
}

pub(super) fn axes(seen: &[Seen]) -> Vec<Axis> {
    let differing = seen.iter().filter_map(|field| match field {
        Seen::Differs(axis) => Some(*axis),
        _ => None,
    });
    differing.collect()
}

/// An element's values on the fields in which packets differ; `None` where it has others in the rest.
pub(super) fn fitting(seen: &[Seen], values: &ValueBox) -> Option<ValueBox> {
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
