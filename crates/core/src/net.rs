//! Addresses, ports and protocols as ranges, the coordinates of the policy algebra.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use notrack_api as api;
use serde::{Deserialize, Serialize};

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both families, in the order in which rules are written.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }

    /// The bytes of one address.
    pub fn address_len(self) -> usize {
        match self {
            Family::Ipv4 => 4,
            Family::Ipv6 => 16,
        }
    }

    /// `4` or `6`, as names of chains and maps end.
    pub fn digit(self) -> char {
        match self {
            Family::Ipv4 => '4',
            Family::Ipv6 => '6',
        }
    }

    /// The highest address as a number.
    fn max_address(self) -> u128 {
        match self {
            Family::Ipv4 => u128::from(u32::MAX),
            Family::Ipv6 => u128::MAX,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        })
    }
}

/// A transport protocol whose header begins with source and destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Proto {
    /// TCP, protocol number 6.
    Tcp,
    /// UDP, protocol number 17.
    Udp,
    /// SCTP, protocol number 132.
    Sctp,
}

impl Proto {
    /// All of them.
    pub const ALL: [Proto; 3] = [Proto::Tcp, Proto::Udp, Proto::Sctp];

    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Proto::Tcp => 6,
            Proto::Udp => 17,
            Proto::Sctp => 132,
        }
    }

    /// The protocol of a number in the IP header.
    pub fn from_number(number: u8) -> Option<Proto> {
        Proto::ALL.into_iter().find(|proto| proto.number() == number)
    }

    /// The name that nft uses: `tcp`, `udp`, `sctp`.
    pub fn nft_name(self) -> &'static str {
        match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Sctp => "sctp",
        }
    }
}

impl From<api::Protocol> for Proto {
    fn from(protocol: api::Protocol) -> Proto {
        match protocol {
            api::Protocol::Tcp => Proto::Tcp,
            api::Protocol::Udp => Proto::Udp,
            api::Protocol::Sctp => Proto::Sctp,
        }
    }
}

impl From<Proto> for api::Protocol {
    fn from(proto: Proto) -> api::Protocol {
        match proto {
            Proto::Tcp => api::Protocol::Tcp,
            Proto::Udp => api::Protocol::Udp,
            Proto::Sctp => api::Protocol::Sctp,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Proto::Tcp => "TCP",
            Proto::Udp => "UDP",
            Proto::Sctp => "SCTP",
        })
    }
}

/// A range of ports, both ends included. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Ends")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A range as it is read: not yet known to be one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ends {
    first: u16,
    last: u16,
}

impl TryFrom<Ends> for PortRange {
    type Error = String;

    fn try_from(ends: Ends) -> Result<PortRange, String> {
        let Ends { first, last } = ends;
        PortRange::new(first, last).ok_or_else(|| format!("the range of ports {first}-{last} is empty"))
    }
}

impl PortRange {
    /// Every port.
    pub const ALL: PortRange = PortRange { first: 0, last: u16::MAX };

    /// The range from `first` to `last`; `None` where it would be empty.
    pub const fn new(first: u16, last: u16) -> Option<PortRange> {
        if first <= last { Some(PortRange { first, last }) } else { None }
    }

    /// The range of one port.
    pub fn one(port: u16) -> PortRange {
        PortRange { first: port, last: port }
    }

    /// The lowest port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub fn last(self) -> u16 {
        self.last
    }

    /// How many ports: 1 to 65,536.
    pub fn len(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// Never: a range holds at least one port.
    pub fn is_empty(self) -> bool {
        false
    }

    /// What the two share.
    pub fn intersection(self, other: PortRange) -> Option<PortRange> {
        PortRange::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// Whether the port lies in the range.
    pub fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A range of addresses of one family, both ends included. Never empty.
///
/// Addresses are numbers (IPv4 in the low 32 bits), so that both families share one algebra. A range need
/// not be a prefix: nf_tables' concatenated interval sets (pipapo) take any range in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddressRange {
    /// The family of both ends.
    pub family: Family,
    /// The lowest address.
    pub first: u128,
    /// The highest address.
    pub last: u128,
}

impl AddressRange {
    /// Every address of a family.
    pub fn all(family: Family) -> AddressRange {
        AddressRange { family, first: 0, last: family.max_address() }
    }

    /// The range of one address.
    pub fn one(address: IpAddr) -> AddressRange {
        let number = address_number(address);
        AddressRange { family: Family::of(address), first: number, last: number }
    }

    /// Whether an address lies in the range.
    pub fn contains(self, address: IpAddr) -> bool {
        let number = address_number(address);
        self.family == Family::of(address) && self.first <= number && number <= self.last
    }

    /// Whether the range is one address.
    pub fn is_one(self) -> bool {
        self.first == self.last
    }

    /// Whether the range is every address of its family.
    pub fn is_all(self) -> bool {
        self == AddressRange::all(self.family)
    }

    /// The same addresses as the fewest prefixes.
    pub fn prefixes(self) -> Vec<AddressRange> {
        let width = self.family.address_len() as u32 * 8;
        let mut prefixes = Vec::new();
        let mut first = self.first;
        loop {
            // The largest block that begins here and does not pass the end: 2^n addresses at a multiple of 2^n.
            let aligned = first.trailing_zeros().min(width);
            let fits =
                (0..=aligned).rev().find(|bits| last_of(first, *bits) <= self.last).unwrap_or_default();
            let last = last_of(first, fits);
            prefixes.push(AddressRange { first, last, ..self });
            if last >= self.last {
                return prefixes;
            }
            first = last + 1;
        }
    }

    /// The length of the prefix that the range is, if it is one.
    pub fn prefix_len(self) -> Option<u8> {
        let size = self.last - self.first;
        // A range of 2^n addresses that starts at a multiple of 2^n is a prefix.
        let width = self.family.address_len() as u32 * 8;
        let is_prefix = (size & size.wrapping_add(1)) == 0 && (self.first & size) == 0;
        is_prefix.then(|| (width - size.count_ones()) as u8)
    }

    /// What the two share.
    pub fn intersection(self, other: AddressRange) -> Option<AddressRange> {
        self.overlaps(other).then(|| AddressRange {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
            ..self
        })
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: AddressRange) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// The lowest address.
    pub fn first_address(self) -> IpAddr {
        number_address(self.family, self.first)
    }

    /// The highest address.
    pub fn last_address(self) -> IpAddr {
        number_address(self.family, self.last)
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> AddressRange {
        AddressRange {
            family: Family::of(net.network()),
            first: address_number(net.network()),
            last: address_number(net.broadcast()),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() {
            return write!(f, "{}", self.first_address());
        }
        if let Some(len) = self.prefix_len() {
            return write!(f, "{}/{len}", self.first_address());
        }
        write!(f, "{}-{}", self.first_address(), self.last_address())
    }
}

/// The last address of a block of `2^bits` that begins at `first`.
fn last_of(first: u128, bits: u32) -> u128 {
    if bits >= 128 { u128::MAX } else { first | ((1 << bits) - 1) }
}

/// An address as a number; IPv4 in the low 32 bits.
pub fn address_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The address of a number. A number too large for the family is cut to its width.
pub fn number_address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::from(number as u32)),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// `ranges` without `holes`, in order. Neither needs to be sorted or disjoint; the result is both.
pub fn subtract_addresses(ranges: &[AddressRange], holes: &[AddressRange]) -> Vec<AddressRange> {
    let mut rest: Vec<AddressRange> = ranges.to_vec();
    for hole in holes {
        rest = rest
            .into_iter()
            .flat_map(|range| {
                if !range.overlaps(*hole) {
                    return vec![range];
                }
                let mut parts = Vec::with_capacity(2);
                if range.first < hole.first {
                    parts.push(AddressRange { last: hole.first - 1, ..range });
                }
                if hole.last < range.last {
                    parts.push(AddressRange { first: hole.last + 1, ..range });
                }
                parts
            })
            .collect();
    }
    merge_addresses(rest)
}

/// The same addresses as a sorted list of disjoint, non-adjacent ranges.
pub fn merge_addresses(mut ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    ranges.sort();
    let mut merged: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last)
                if last.family == range.family
                    && (range.first <= last.last || range.first - 1 == last.last) =>
            {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// `ranges` without `holes`, in order. Neither needs to be sorted or disjoint; the result is both.
pub fn subtract_ports(ranges: &[PortRange], holes: &[PortRange]) -> Vec<PortRange> {
    let mut rest = ranges.to_vec();
    for hole in holes {
        rest = rest
            .into_iter()
            .flat_map(|range| {
                if range.intersection(*hole).is_none() {
                    return vec![range];
                }
                let below = hole.first.checked_sub(1).and_then(|last| PortRange::new(range.first, last));
                let above = hole.last.checked_add(1).and_then(|first| PortRange::new(first, range.last));
                [below, above].into_iter().flatten().collect()
            })
            .collect();
    }
    merge_ports(rest)
}

/// The same ports as a sorted list of disjoint, non-adjacent ranges.
pub fn merge_ports(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort();
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        AddressRange::from(text.parse::<IpNet>().unwrap())
    }

    #[test]
    fn a_hole_splits_a_range_in_two() {
        let rest = subtract_addresses(&[range("10.0.0.0/8")], &[range("10.9.0.0/16")]);
        let shown: Vec<String> = rest.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0-10.8.255.255", "10.10.0.0-10.255.255.255"]);
    }

    #[test]
    fn the_whole_space_can_be_merged_and_shown() {
        assert_eq!(AddressRange::all(Family::Ipv6).to_string(), "::/0");
        assert_eq!(AddressRange::all(Family::Ipv4).to_string(), "0.0.0.0/0");
        let halves = vec![range("128.0.0.0/1"), range("0.0.0.0/1")];
        assert_eq!(merge_addresses(halves), [AddressRange::all(Family::Ipv4)]);
    }

    #[test]
    fn a_range_is_the_fewest_prefixes() {
        let shown = |first: &str, last: &str| -> Vec<String> {
            let (first, last) = (range(first).first, range(last).last);
            let family = if first > u128::from(u32::MAX) { Family::Ipv6 } else { Family::Ipv4 };
            AddressRange { family, first, last }.prefixes().iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            shown("10.0.0.1/32", "10.0.0.6/32"),
            ["10.0.0.1", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6"]
        );
        assert_eq!(shown("0.0.0.0/0", "0.0.0.0/0"), ["0.0.0.0/0"]);
        assert_eq!(AddressRange::all(Family::Ipv6).prefixes(), [AddressRange::all(Family::Ipv6)]);
        assert_eq!(shown("fd00::/127", "fd00::2/128"), ["fd00::/127", "fd00::2"]);
    }

    #[test]
    fn adjacent_ports_become_one_range() {
        let ports = vec![PortRange::one(81), PortRange::one(80), PortRange::ALL];
        assert_eq!(merge_ports(ports), [PortRange::ALL]);
    }
}
