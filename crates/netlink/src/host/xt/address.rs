//! Addresses, and the matches that look at them.

use std::net::{Ipv4Addr, Ipv6Addr};

use notrack_core::host::{Field, Members, Step};
use notrack_core::net::Family;

use super::bytes::{array, byte, ne16, ne32};
use super::text::{Options, names};
use super::{Part, unknown, within};

/// How a `union nf_inet_addr` is read. IPv4 uses the first 4 of its 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::host) struct Inet(Family);

impl Inet {
    /// Of a table's family; where that is not told, of what the addresses look like: IPv4 leaves the rest zero.
    pub(in crate::host) fn of(family: Option<Family>, addresses: &[[u8; 16]]) -> Self {
        let v4 = || addresses.iter().all(|address| address[4..].iter().all(|byte| *byte == 0));
        Self(family.unwrap_or_else(|| if v4() { Family::Ipv4 } else { Family::Ipv6 }))
    }

    /// The bits of an address.
    pub(in crate::host) fn bits(self) -> u32 {
        if self.0 == Family::Ipv4 { 32 } else { 128 }
    }

    /// The bytes that count.
    pub(in crate::host) fn bytes(self, address: &[u8; 16]) -> &[u8] {
        if self.0 == Family::Ipv4 { &address[..4] } else { address }
    }

    /// An address as a number.
    pub(in crate::host) fn number(self, address: &[u8; 16]) -> u128 {
        u128::from_be_bytes(*address) >> (128 - self.bits())
    }

    /// An address as text.
    pub(in crate::host) fn shown(self, address: &[u8; 16]) -> String {
        match address {
            [a, b, c, d, ..] if self.0 == Family::Ipv4 => Ipv4Addr::new(*a, *b, *c, *d).to_string(),
            all => Ipv6Addr::from(*all).to_string(),
        }
    }

    /// `10.0.0.0/8`, or with the mask itself where it is no prefix's.
    pub(in crate::host) fn shown_prefix(self, address: &[u8; 16], mask: &[u8; 16]) -> String {
        let address = self.shown(address);
        match prefix_len(self.bytes(mask)) {
            Some(len) => format!("{address}/{len}"),
            None => format!("{address}/{}", self.shown(mask)),
        }
    }

    /// The addresses that a mask leaves, where it is a prefix's.
    pub(in crate::host) fn masked(self, address: &[u8; 16], mask: &[u8; 16]) -> Members {
        match prefix_len(self.bytes(mask)) {
            Some(len) => Members::Boxes(vec![vec![prefix(self.number(address), len, self.bits())]]),
            None => Members::Unknown,
        }
    }

    pub(in crate::host) fn source(self) -> Field {
        Field::SourceAddress(self.0)
    }

    pub(in crate::host) fn destination(self) -> Field {
        Field::DestinationAddress(self.0)
    }
}

/// The first and the last number of a prefix of `len` of `bits` bits.
pub(super) fn prefix(number: u128, len: u32, bits: u32) -> (u128, u128) {
    let free = bits.saturating_sub(len).min(128);
    let host = 1u128.checked_shl(free).map_or(u128::MAX, |size| size - 1);
    (number & !host, number | host)
}

/// The length of a prefix's mask; `None` where ones follow a zero.
pub(super) fn prefix_len(mask: &[u8]) -> Option<u32> {
    let ones = mask.iter().map(|byte| byte.count_ones()).sum();
    let mut leading = 0;
    for byte in mask {
        leading += byte.leading_ones();
        if *byte != u8::MAX {
            break;
        }
    }
    (ones == leading).then_some(ones)
}

/// `struct xt_iprange_mtinfo`.
pub(super) fn range(family: Option<Family>, info: &[u8]) -> Option<Part> {
    const SOURCE: u8 = 1;
    const DESTINATION: u8 = 2;
    /// How far above each its inversion is.
    const INVERTED: u32 = 4;
    let flags = byte(info, 64)?;
    let bounds: [[u8; 16]; 4] = [array(info, 0)?, array(info, 16)?, array(info, 32)?, array(info, 48)?];
    let inet = Inet::of(family, &bounds);
    let [source_low, source_high, destination_low, destination_high] = &bounds;
    let mut part = Part::default();
    let mut options = Options::default();
    for (flag, option, field, low, high) in [
        (SOURCE, "--src-range", inet.source(), source_low, source_high),
        (DESTINATION, "--dst-range", inet.destination(), destination_low, destination_high),
    ] {
        if flags & flag != 0 {
            let inverted = flags & flag << INVERTED != 0;
            options.may_not(inverted, format_args!("{option} {}-{}", inet.shown(low), inet.shown(high)));
            part.steps.push(within(field, inverted, [(inet.number(low), inet.number(high))]));
        }
    }
    part.text = options.text();
    Some(part)
}

/// `struct xt_addrtype_info`, and `xt_addrtype_info_v1`: a bit for each `RTN_*`.
pub(super) fn kind(family: Option<Family>, revision: u8, info: &[u8]) -> Option<Part> {
    const NAMES: [&str; 12] = [
        "UNSPEC",
        "UNICAST",
        "LOCAL",
        "BROADCAST",
        "ANYCAST",
        "MULTICAST",
        "BLACKHOLE",
        "UNREACHABLE",
        "PROHIBIT",
        "THROW",
        "NAT",
        "XRESOLVE",
    ];
    let (source, destination, flags) = (ne16(info, 0)?, ne16(info, 2)?, ne32(info, 4)?);
    let (not_source, not_destination, flags) = match revision {
        0 => (flags != 0, ne32(info, 8)? != 0, 0),
        1 => (flags & 1 != 0, flags & 2 != 0, flags),
        _ => return None,
    };
    // Asked of one interface an address of another is not local: who has which is not known here.
    let (limited_in, limited_out) = (flags & 4 != 0, flags & 8 != 0);
    let mut options = Options::default();
    let mut steps = Vec::new();
    for (option, field, kinds, inverted) in [
        ("--src-type", Field::SourceType, source, not_source),
        ("--dst-type", Field::DestinationType, destination, not_destination),
    ] {
        if kinds != 0 {
            let shown = names(kinds.into(), (0..).map(|bit| 1 << bit).zip(NAMES));
            options.may_not(inverted, format_args!("{option} {shown}"));
            let ranges = kinds_of(family, kinds).filter(|_| !limited_in && !limited_out);
            steps.push(ranges.map_or_else(
                || unknown(field.clone()),
                |ranges| within(field.clone(), inverted, ranges.into_iter().map(|kind| (kind, kind))),
            ));
        }
    }
    options.when(limited_in, "--limit-iface-in");
    options.when(limited_out, "--limit-iface-out");
    Some(Part::new(steps, options.text()))
}

/// The `RTN_*` that a mask of them means. `None` where that depends on a family that is not told.
fn kinds_of(family: Option<Family>, mask: u16) -> Option<Vec<u128>> {
    const UNSPEC: u16 = 1;
    const UNICAST: u16 = 1 << 1;
    const LOCAL: u16 = 1 << 2;
    const ANYCAST: u16 = 1 << 4;
    const MULTICAST: u16 = 1 << 5;
    const BLACKHOLE: u16 = 1 << 6;
    const UNREACHABLE: u16 = 1 << 7;
    const PROHIBIT: u16 = 1 << 8;
    // IPv4 has one type for an address, which must be among those named. IPv6 demands one after the other, and a
    // local address is unicast too (`match_type6`).
    let v6 = |kind: u16| {
        let routed = mask & (LOCAL | ANYCAST | UNREACHABLE);
        let is = if kind & (BLACKHOLE | PROHIBIT) != 0 { UNREACHABLE } else { kind };
        (mask & MULTICAST == 0 || kind == MULTICAST)
            && (mask & UNICAST == 0 || kind & (MULTICAST | UNSPEC) == 0)
            && (mask & UNSPEC == 0 || kind == UNSPEC)
            && (routed == 0 || routed & is != 0)
    };
    let holds = |kind: u16| match family {
        Some(Family::Ipv4) => Some(mask & kind != 0),
        Some(Family::Ipv6) => Some(v6(kind)),
        None => (v6(kind) == (mask & kind != 0)).then(|| v6(kind)),
    };
    let mut kinds = Vec::new();
    for kind in 0..12 {
        if holds(1 << kind)? {
            kinds.push(kind);
        }
    }
    Some(kinds)
}

/// A step that compares an address with a prefix.
pub(in crate::host) fn compare(field: Field, inverted: bool, of: Members) -> Step {
    Step::Match(notrack_core::host::Match { fields: vec![field], inverted, of })
}
