//! Many packets at once: ranges of values per field, cut in two by every comparison on their way.

use std::collections::BTreeMap;

use super::walk::State;
use super::{ValueBox, interface_number, interface_prefix};
use crate::net::{AddressRange, Family, PortRange, number_address};

/// Sorted, disjoint ranges of values, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    pub fn new(mut ranges: Vec<(u128, u128)>) -> Ranges {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(known) if first <= known.1 || first - 1 == known.1 => known.1 = known.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ranges(merged)
    }

    pub fn all() -> Ranges {
        Ranges(vec![(0, u128::MAX)])
    }

    pub fn one(value: u128) -> Ranges {
        Ranges(vec![(value, value)])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, where there is but one.
    pub fn only(&self) -> Option<u128> {
        match self.0.as_slice() {
            [(first, last)] if first == last => Some(*first),
            _ => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.0.iter().copied()
    }

    pub fn intersection(&self, other: &Ranges) -> Ranges {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut shared = Vec::new();
        while let (Some((a, b)), Some((c, d))) = (ours.peek(), theirs.peek()) {
            let (first, last) = (*a.max(c), *b.min(d));
            if first <= last {
                shared.push((first, last));
            }
            if b < d {
                ours.next();
            } else {
                theirs.next();
            }
        }
        Ranges(shared)
    }

    pub fn without(&self, other: &Ranges) -> Ranges {
        let mut rest = Vec::with_capacity(self.0.len());
        let mut holes = other.0.iter().peekable();
        for (first, last) in self.iter() {
            let mut from = Some(first);
            while let Some((hole_first, hole_last)) = holes.peek() {
                let Some(start) = from else { break };
                if *hole_first > last {
                    break;
                }
                if *hole_first > start {
                    rest.push((start, hole_first - 1));
                }
                from = match hole_last.checked_add(1) {
                    Some(next) if *hole_last < start => Some(start.max(next)),
                    Some(next) if next <= last => Some(next),
                    _ => None,
                };
                // A hole that reaches beyond this range may cut the next one too.
                if *hole_last >= last {
                    break;
                }
                holes.next();
            }
            rest.extend(from.filter(|start| *start <= last).map(|start| (start, last)));
        }
        Ranges(rest)
    }

    fn union(&self, other: &Ranges) -> Ranges {
        Ranges::new([self.0.as_slice(), other.0.as_slice()].concat())
    }
}

/// A field by which packets of a region may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Axis {
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    InInterface,
    OutInterface,
    TcpFlags,
    Mark,
    IcmpType,
}

const AXES: usize = 9;

/// Packets of one family and protocol: every combination of the values, as far as the doubts were decided so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    values: [Ranges; AXES],
    /// Comparisons that nobody here can make, and how they came out on this way. One that is met again comes out alike.
    pub doubts: BTreeMap<Doubt, bool>,
}

/// A comparison that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Doubt {
    /// The table's place.
    pub table: usize,
    pub chain: String,
    pub handle: u64,
    /// Its place in the rule.
    pub step: usize,
    /// Whether each packet of a connection may come out differently.
    pub by_packet: bool,
    /// Whether it is a limit.
    pub is_limit: bool,
    /// Of which state, where it goes by the state.
    pub state: Option<State>,
}

/// A part of a region, and the number of the box that has it.
pub(crate) type InBox = (usize, Region);

impl Region {
    /// Every packet.
    pub fn everything() -> Region {
        let values = std::array::from_fn(|_| Ranges::all());
        Region { values, doubts: BTreeMap::new() }.with(Axis::Mark, Ranges::one(0))
    }

    pub fn get(&self, axis: Axis) -> &Ranges {
        &self.values[axis as usize]
    }

    pub fn with(mut self, axis: Axis, ranges: Ranges) -> Region {
        self.values[axis as usize] = ranges;
        self
    }

    pub fn is_empty(&self) -> bool {
        self.values.iter().any(Ranges::is_empty)
    }

    /// What of it lies in the ranges, and what does not.
    pub fn split(&self, axis: Axis, ranges: &Ranges) -> (Option<Region>, Option<Region>) {
        let part = |values: Ranges| {
            let some = !values.is_empty();
            some.then(|| self.clone().with(axis, values))
        };
        let own = self.get(axis);
        (part(own.intersection(ranges)), part(own.without(ranges)))
    }

    /// Whether a box has any of it.
    pub fn touches(&self, axes: &[Axis], values: &ValueBox) -> bool {
        axes.iter().zip(values).all(|(axis, (first, last))| {
            self.get(*axis).iter().any(|(low, high)| low <= *last && *first <= high)
        })
    }

    /// What of it lies in any of the boxes, each part with the box's number, and what lies in none. `None` where that
    /// would be more than `most` parts.
    pub fn split_boxes(
        self,
        axes: &[Axis],
        boxes: &[&ValueBox],
        most: usize,
    ) -> Option<(Vec<InBox>, Vec<Region>)> {
        let (mut inside, mut rest) = (Vec::new(), vec![self]);
        for (number, values) in boxes.iter().enumerate() {
            let mut outside = Vec::with_capacity(rest.len());
            for region in rest {
                let mut left = Some(region);
                let mut beside = Vec::new();
                for (axis, (first, last)) in axes.iter().zip(values.iter()) {
                    let Some(region) = left else { break };
                    let (within, without) = region.split(*axis, &Ranges(vec![(*first, *last)]));
                    beside.extend(without);
                    left = within;
                }
                inside.extend(left.map(|region| (number, region)));
                outside.extend(beside);
            }
            rest = outside;
            if inside.len() + rest.len() > most {
                return None;
            }
        }
        Some((inside, rest))
    }

    /// Other packets of the same connections: what each packet decides anew is open again.
    pub fn later(mut self) -> Region {
        self.doubts.retain(|doubt, _| !doubt.by_packet);
        self
    }

    /// The replies to these packets.
    pub fn reversed(&self) -> Region {
        let mut reply = self.clone().with(Axis::Mark, Ranges::one(0));
        for (one, other) in [
            (Axis::Source, Axis::Destination),
            (Axis::SourcePort, Axis::DestinationPort),
            (Axis::InInterface, Axis::OutInterface),
        ] {
            reply.values.swap(one as usize, other as usize);
        }
        reply
    }

    /// ICMP errors of these types about any of these packets, from any of `sources`.
    pub fn errors(&self, types: &[u8], sources: Ranges) -> Region {
        let types = types.iter().map(|kind| (u128::from(*kind), u128::from(*kind)));
        Region { doubts: BTreeMap::new(), ..self.reversed() }
            .with(Axis::Source, sources)
            .with(Axis::SourcePort, Ranges::all())
            .with(Axis::DestinationPort, Ranges::all())
            .with(Axis::TcpFlags, Ranges::all())
            .with(Axis::IcmpType, Ranges::new(types.collect()))
    }

    /// The region that is both, where the two differ in one field alone, or in how one doubt came out.
    pub fn joined(&self, other: &Region) -> Option<Region> {
        if self.doubts != other.doubts {
            return self.without_doubt(other);
        }
        let mut differing = (0..AXES).filter(|axis| self.values[*axis] != other.values[*axis]);
        let Some(axis) = differing.next() else { return Some(self.clone()) };
        if differing.next().is_some() {
            return None;
        }
        let mut region = self.clone();
        region.values[axis] = self.values[axis].union(&other.values[axis]);
        Some(region)
    }

    fn without_doubt(&self, other: &Region) -> Option<Region> {
        if self.values != other.values || !self.doubts.keys().eq(other.doubts.keys()) {
            return None;
        }
        let both = self.doubts.iter().zip(other.doubts.values());
        let mut differing = both.filter(|((_, ours), theirs)| ours != theirs).map(|((doubt, _), _)| doubt);
        let (Some(doubt), None) = (differing.next(), differing.next()) else { return None };
        let mut region = self.clone();
        region.doubts.remove(doubt);
        Some(region)
    }

    /// Addresses of an axis, as ranges of the family.
    pub fn addresses(&self, axis: Axis, family: Family) -> Vec<AddressRange> {
        let all = Ranges::from(vec![AddressRange::all(family)]);
        let within = self.get(axis).intersection(&all);
        within.iter().map(|(first, last)| AddressRange { family, first, last }).collect()
    }

    /// Ports of an axis.
    pub fn ports(&self, axis: Axis) -> Vec<PortRange> {
        let within = self.get(axis).intersection(&Ranges(vec![(0, u128::from(u16::MAX))]));
        within.iter().filter_map(|(first, last)| PortRange::new(first as u16, last as u16)).collect()
    }

    /// The types of ICMP messages.
    pub fn icmp_types(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX)
            .filter(|kind| !self.get(Axis::IcmpType).intersection(&Ranges::one((*kind).into())).is_empty())
    }

    /// The interface names of an axis as patterns; `None`: any, or too many to tell.
    pub fn interface(&self, axis: Axis) -> Option<Vec<String>> {
        let ranges = self.get(axis);
        if *ranges == Ranges::all() {
            return None;
        }
        ranges.iter().map(|(first, last)| pattern(first, last)).collect()
    }

    /// One of its packets, for people: `10.0.0.1:1024 -> 10.0.0.2:80`.
    pub fn example(&self, family: Family) -> String {
        let first = |axis| self.get(axis).iter().next().map_or(0, |(first, _)| first);
        let end = |address, port| {
            let address = number_address(family, first(address));
            let ports = self.ports(port);
            match ports.as_slice() {
                [one] if one.len() == 1 => format!("{address} port {one}"),
                _ => address.to_string(),
            }
        };
        format!(
            "{} to {}",
            end(Axis::Source, Axis::SourcePort),
            end(Axis::Destination, Axis::DestinationPort)
        )
    }
}

/// The name or pattern that a range of interface names is.
fn pattern(first: u128, last: u128) -> Option<String> {
    let bytes = first.to_be_bytes();
    let len = bytes.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&bytes[..len]).ok()?;
    if first == last {
        return Some(name.to_owned());
    }
    (interface_prefix(name) == (first, last)).then(|| format!("{name}*"))
}

impl From<Vec<AddressRange>> for Ranges {
    fn from(ranges: Vec<AddressRange>) -> Ranges {
        Ranges::new(ranges.into_iter().map(|range| (range.first, range.last)).collect())
    }
}

impl From<Vec<PortRange>> for Ranges {
    fn from(ranges: Vec<PortRange>) -> Ranges {
        Ranges::new(ranges.into_iter().map(|range| (range.first().into(), range.last().into())).collect())
    }
}

/// Interfaces by names and patterns; none: any.
pub(crate) fn interfaces<'a>(names: impl IntoIterator<Item = &'a str>) -> Ranges {
    let ranges: Vec<(u128, u128)> = names
        .into_iter()
        .map(|name| match name.strip_suffix('*') {
            Some(prefix) => interface_prefix(prefix),
            None => (interface_number(name), interface_number(name)),
        })
        .collect();
    if ranges.is_empty() { Ranges::all() } else { Ranges::new(ranges) }
}

/// Addresses that no packet on a wire has (RFC 1122, RFC 4291).
pub(crate) fn loopback(family: Family) -> Ranges {
    match family {
        Family::Ipv4 => Ranges::new(vec![(0x7f00_0000, 0x7fff_ffff)]),
        Family::Ipv6 => Ranges::one(1),
    }
}

/// TCP's flag bytes that fulfil a condition.
pub(crate) fn flags(fits: impl Fn(u8) -> bool) -> Ranges {
    let fitting = (0..=u8::MAX).filter(|flags| fits(*flags));
    Ranges::new(fitting.map(|flags| (flags.into(), flags.into())).collect())
}

/// Of FIN, SYN, RST and ACK exactly SYN, as iptables' `--syn` has it.
pub(crate) fn is_opening(flags: u8) -> bool {
    flags & 0x17 == 0x02
}

/// A region where nobody can tell goes both ways, and once it has gone one way it goes that way again.
pub(crate) fn both_ways(region: Region, doubt: &Doubt, within: &mut Vec<Region>, without: &mut Vec<Region>) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = Ranges> {
        let one = (0u128..40, 0u128..6).prop_map(|(first, more)| (first, first + more));
        prop::collection::vec(one, 0..6).prop_map(Ranges::new)
    }

    fn has(ranges: &Ranges, value: u128) -> bool {
        ranges.iter().any(|(first, last)| first <= value && value <= last)
    }

    proptest! {
        #[test]
        fn ranges_are_sets(a in ranges(), b in ranges()) {
            for value in 0..50 {
                let (ours, theirs) = (has(&a, value), has(&b, value));
                prop_assert_eq!(has(&a.intersection(&b), value), ours && theirs);
                prop_assert_eq!(has(&a.without(&b), value), ours && !theirs, "{:?} {:?}", a, b);
                prop_assert_eq!(has(&a.union(&b), value), ours || theirs);
            }
        }
    }

    #[test]
    fn the_ends_of_the_number_space_are_no_trap() {
        assert!(Ranges::all().without(&Ranges::all()).is_empty());
        let top = Ranges(vec![(u128::MAX, u128::MAX)]);
        assert_eq!(Ranges::all().without(&top), Ranges(vec![(0, u128::MAX - 1)]));
        assert_eq!(Ranges::all().without(&Ranges::one(0)), Ranges(vec![(1, u128::MAX)]));
    }

    #[test]
    fn interfaces_are_shown_as_they_were_written() {
        let region = Region::everything().with(Axis::InInterface, interfaces(["eth0", "bond*"]));
        assert_eq!(region.interface(Axis::InInterface).unwrap(), ["bond*", "eth0"]);
        assert_eq!(region.interface(Axis::OutInterface), None);
        let eth = interfaces(["eth*"]);
        let (eth0, others) =
            region.clone().with(Axis::InInterface, eth).split(Axis::InInterface, &interfaces(["eth0"]));
        assert_eq!(eth0.unwrap().interface(Axis::InInterface).unwrap(), ["eth0"]);
        assert_eq!(others.unwrap().interface(Axis::InInterface), None, "no pattern");
    }
}
