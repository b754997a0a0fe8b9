//! What an expression loads into a register, by what it means.

use std::borrow::Cow;

use notrack_core::host::{Field, TableFamily};
use notrack_core::net::Family;

use super::names;
use crate::nft::uapi;

/// How nft prints the values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Family,
    Address(Family),
    Proto,
    Number,
    Hex,
    Mark,
    Interface,
    CtState,
    CtStatus,
    CtDirection,
    TcpFlags,
    IcmpType,
    Icmpv6Type,
    RouteType,
    PacketType,
    Presence,
}

/// How the number in the register becomes the field's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is the field's.
    Plain,
    /// An interface's index; the field has its name.
    Index,
    /// An Ethernet type; the field has the address family.
    EtherType,
}

/// One field, or the first bytes of one, in a register.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub field: Field,
    /// nft's name: `tcp dport`.
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub meaning: Meaning,
    /// Bytes in the register.
    pub bytes: usize,
    /// Bytes that the field lacks at its end: nft compares a prefix such as 10.0.0.0/8 by its first byte alone.
    pub missing: usize,
}

impl Segment {
    fn new(field: Field, name: impl Into<Cow<'static, str>>, kind: Kind, bytes: usize) -> Segment {
        Segment { field, name: name.into(), kind, meaning: Meaning::Plain, bytes, missing: 0 }
    }
}

/// The content of a register.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// From the first byte to the last; nft joins adjacent header fields into one load.
    pub segments: Vec<Segment>,
    /// Whether the bytes stand in the machine's order.
    pub host_order: bool,
    /// The mask and what is then flipped (`bitwise`), as numbers of the register's bytes.
    pub masked: Option<(u128, u128)>,
    /// Whether it was changed beyond that.
    pub scrambled: bool,
}

impl Load {
    fn of(segment: Segment, host_order: bool) -> Load {
        Load { segments: vec![segment], host_order, masked: None, scrambled: false }
    }

    /// Something that does not depend on tracking.
    pub fn other(name: &str, bytes: usize, kind: Kind) -> Load {
        Load::of(Segment::new(Field::Other(name.to_owned()), name.to_owned(), kind, bytes), true)
    }

    /// Bytes in the register.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Whether the register holds a field as it is in the packet.
    pub fn is_intact(&self) -> bool {
        !self.scrambled && self.masked.is_none()
    }

    /// The number that bytes in the register's order stand for; `None` where it is too wide.
    pub fn number(&self, bytes: &[u8]) -> Option<u128> {
        number(bytes, self.host_order)
    }
}

/// The number that bytes stand for; `None` where it is too wide.
pub(super) fn number(bytes: &[u8], host_order: bool) -> Option<u128> {
    let mut wide = [0; 16];
    let start = wide.len().checked_sub(bytes.len())?;
    wide[start..].copy_from_slice(bytes);
    if host_order && cfg!(target_endian = "little") {
        wide[start..].reverse();
    }
    Some(u128::from_be_bytes(wide))
}

/// What is known about the packet at a place in a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub family: Option<Family>,
    pub proto: Option<u8>,
}

impl Known {
    pub fn of(table: TableFamily) -> Known {
        let family = match table {
            TableFamily::Ip => Some(Family::Ipv4),
            TableFamily::Ip6 => Some(Family::Ipv6),
            TableFamily::Inet => None,
        };
        Known { family, proto: None }
    }
}

pub(super) fn meta(key: u32) -> Load {
    let known = names::META.get(key as usize).copied();
    let (name, bytes, host_order) = known.unwrap_or(("meta", 4, true));
    let (field, kind, meaning) = match key {
        uapi::NFT_META_PROTOCOL => (Field::Family, Kind::Family, Meaning::EtherType),
        uapi::NFT_META_MARK => (Field::Mark, Kind::Mark, Meaning::Plain),
        uapi::NFT_META_IIF => (Field::InInterface, Kind::Interface, Meaning::Index),
        uapi::NFT_META_OIF => (Field::OutInterface, Kind::Interface, Meaning::Index),
        uapi::NFT_META_IIFNAME => (Field::InInterface, Kind::Interface, Meaning::Plain),
        uapi::NFT_META_OIFNAME => (Field::OutInterface, Kind::Interface, Meaning::Plain),
        uapi::NFT_META_NFPROTO => (Field::Family, Kind::Family, Meaning::Plain),
        uapi::NFT_META_L4PROTO => (Field::L4Proto, Kind::Proto, Meaning::Plain),
        uapi::NFT_META_PKTTYPE => (Field::Other(name.to_owned()), Kind::PacketType, Meaning::Plain),
        _ => {
            let kind = if bytes == 16 { Kind::Interface } else { Kind::Number };
            (Field::Other(name.to_owned()), kind, Meaning::Plain)
        }
    };
    Load::of(Segment { meaning, ..Segment::new(field, name, kind, bytes) }, host_order)
}

/// `direction` is 0 or 1 for a value that each direction has of its own.
pub(super) fn ct(key: u32, direction: Option<u8>, known: Known) -> Load {
    let (name, mut bytes, host_order) = names::CT.get(key as usize).copied().unwrap_or(("", 4, true));
    let ipv4 = known.family == Some(Family::Ipv4);
    let kind = match name {
        "state" => Kind::CtState,
        "direction" => Kind::CtDirection,
        "status" => Kind::CtStatus,
        "mark" => Kind::Mark,
        "protocol" => Kind::Proto,
        "l3proto" => Kind::Family,
        "helper" => Kind::Interface,
        "saddr" | "daddr" if ipv4 => {
            bytes = 4;
            Kind::Address(Family::Ipv4)
        }
        "ip saddr" | "ip daddr" => Kind::Address(Family::Ipv4),
        "saddr" | "daddr" | "ip6 saddr" | "ip6 daddr" => Kind::Address(Family::Ipv6),
        _ => Kind::Number,
    };
    let shown = match direction.and_then(|direction| names::name(names::CT_DIRECTIONS, direction.into())) {
        Some(direction) => format!("{direction} {name}"),
        None => name.to_owned(),
    };
    let text = format!("ct {shown}");
    let field = if key == uapi::NFT_CT_STATE { Field::CtState } else { Field::CtOther(shown) };
    Load::of(Segment::new(field, text, kind, bytes), host_order)
}

pub(super) fn fib(result: u32, flags: u32) -> Load {
    let mut what: Vec<&str> = Vec::new();
    for (flag, name) in [(1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (16, "oif")] {
        if flags & flag != 0 {
            what.push(name);
        }
    }
    let what = what.join(" . ");
    let address = flags & (uapi::NFTA_FIB_F_SADDR | uapi::NFTA_FIB_F_DADDR);
    if result == uapi::NFT_FIB_RESULT_ADDRTYPE {
        let text = format!("fib {what} type");
        let field = match address {
            // With an interface too, the same address may be of another type.
            _ if flags & !address != 0 => Field::Other(text.clone()),
            uapi::NFTA_FIB_F_SADDR => Field::SourceType,
            uapi::NFTA_FIB_F_DADDR => Field::DestinationType,
            _ => Field::Other(text.clone()),
        };
        return Load::of(Segment::new(field, text, Kind::RouteType, 4), true);
    }
    let name = if result == 1 { "oif" } else { "oifname" };
    if flags & uapi::NFTA_FIB_F_PRESENT != 0 {
        return Load::other(&format!("fib {what} {name}"), 4, Kind::Presence);
    }
    let (bytes, kind) = if result == 1 { (4, Kind::Number) } else { (16, Kind::Interface) };
    let mut load = Load::other(&format!("fib {what} {name}"), bytes, kind);
    load.host_order = result == 1;
    load
}

/// A header field: its place, its length and what it is.
type Place = (usize, usize, &'static str, Kind);

const IPV4: &[Place] = &[
    (1, 1, "ip tos", Kind::Hex),
    (2, 2, "ip length", Kind::Number),
    (4, 2, "ip id", Kind::Number),
    (6, 2, "ip frag-off", Kind::Number),
    (8, 1, "ip ttl", Kind::Number),
    (9, 1, "ip protocol", Kind::Proto),
    (10, 2, "ip checksum", Kind::Number),
    (12, 4, "ip saddr", Kind::Address(Family::Ipv4)),
    (16, 4, "ip daddr", Kind::Address(Family::Ipv4)),
];
const IPV6: &[Place] = &[
    (4, 2, "ip6 length", Kind::Number),
    (6, 1, "ip6 nexthdr", Kind::Proto),
    (7, 1, "ip6 hoplimit", Kind::Number),
    (8, 16, "ip6 saddr", Kind::Address(Family::Ipv6)),
    (24, 16, "ip6 daddr", Kind::Address(Family::Ipv6)),
];
const PORTS: &[Place] = &[(0, 2, "sport", Kind::Number), (2, 2, "dport", Kind::Number)];
const TCP: &[Place] = &[
    (0, 2, "sport", Kind::Number),
    (2, 2, "dport", Kind::Number),
    (4, 4, "sequence", Kind::Number),
    (8, 4, "ackseq", Kind::Number),
    (13, 1, "flags", Kind::TcpFlags),
    (14, 2, "window", Kind::Number),
];
const ICMP: &[Place] = &[(0, 1, "icmp type", Kind::IcmpType), (1, 1, "icmp code", Kind::Number)];
const ICMPV6: &[Place] = &[(0, 1, "icmpv6 type", Kind::Icmpv6Type), (1, 1, "icmpv6 code", Kind::Number)];
const ETHERNET: &[Place] =
    &[(0, 6, "ether daddr", Kind::Hex), (6, 6, "ether saddr", Kind::Hex), (12, 2, "ether type", Kind::Hex)];

/// A part of a header; `base` is `NFT_PAYLOAD_*_HEADER`.
pub(super) fn payload(base: u32, offset: usize, bytes: usize, known: Known) -> Load {
    let (places, raw) = match (base, known.family, known.proto) {
        (uapi::NFT_PAYLOAD_LL_HEADER, _, _) => (ETHERNET, "ll"),
        (uapi::NFT_PAYLOAD_NETWORK_HEADER, Some(Family::Ipv4), _) => (IPV4, "nh"),
        (uapi::NFT_PAYLOAD_NETWORK_HEADER, Some(Family::Ipv6), _) => (IPV6, "nh"),
        (uapi::NFT_PAYLOAD_NETWORK_HEADER, None, _) => (&[][..], "nh"),
        (uapi::NFT_PAYLOAD_TRANSPORT_HEADER, _, Some(6)) => (TCP, "th"),
        (uapi::NFT_PAYLOAD_TRANSPORT_HEADER, _, Some(1)) => (ICMP, "th"),
        (uapi::NFT_PAYLOAD_TRANSPORT_HEADER, _, Some(58)) => (ICMPV6, "th"),
        (uapi::NFT_PAYLOAD_TRANSPORT_HEADER, _, None | Some(17 | 33 | 132 | 136)) => (PORTS, "th"),
        (uapi::NFT_PAYLOAD_TRANSPORT_HEADER, _, _) => (&[][..], "th"),
        _ => (&[][..], "ih"),
    };
    let proto = known.proto.and_then(|proto| names::name(names::PROTOCOLS, proto.into())).unwrap_or("th");
    let (mut at, end) = (offset, offset.saturating_add(bytes));
    let mut segments = Vec::new();
    while at < end {
        let place = places.iter().find(|place| place.0 == at);
        let segment = match place {
            Some((_, len, name, kind)) => {
                let taken = (*len).min(end - at);
                let text = match *name {
                    "sport" | "dport" | "sequence" | "ackseq" | "flags" | "window" => {
                        Cow::Owned(format!("{proto} {name}"))
                    }
                    name => Cow::Borrowed(name),
                };
                let field = header_field(name, *kind).unwrap_or_else(|| Field::Other(text.to_string()));
                Segment { missing: len - taken, ..Segment::new(field, text, *kind, taken) }
            }
            None => {
                let next = places.iter().map(|place| place.0).find(|start| *start > at).unwrap_or(end);
                let taken = next.min(end) - at;
                let text = format!("@{raw},{},{}", at * 8, taken * 8);
                Segment::new(Field::Other(text.clone()), text, Kind::Hex, taken)
            }
        };
        at += segment.bytes;
        segments.push(segment);
    }
    Load { segments, host_order: false, masked: None, scrambled: false }
}

fn header_field(name: &str, kind: Kind) -> Option<Field> {
    Some(match (name, kind) {
        ("ip saddr" | "ip6 saddr", Kind::Address(family)) => Field::SourceAddress(family),
        ("ip daddr" | "ip6 daddr", Kind::Address(family)) => Field::DestinationAddress(family),
        (_, Kind::Proto) => Field::L4Proto,
        ("sport", _) => Field::SourcePort,
        ("dport", _) => Field::DestinationPort,
        (_, Kind::TcpFlags) => Field::TcpFlags,
        (_, Kind::IcmpType | Kind::Icmpv6Type) => Field::IcmpType,
        _ => return None,
    })
}
