//! Translation.

use std::collections::BTreeSet;

use notrack_core::host::{Act, NatTarget, NatTo, TableFamily};
use notrack_core::net::{AddressRange, Family, PortRange};

use super::act::operand;
use super::expression::Meaning;
use super::load::Kind;
use super::register::Value;
use crate::attr::{AttrError, Attrs};
use crate::nft::{number, uapi};

/// A destination that a map has for each packet: known once the map's elements are read.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    /// The map.
    pub map: String,
    /// What the rule says itself.
    to: NatTo,
    family: Family,
    /// Where the map's data have the lowest and the highest address and port, in bytes.
    addresses: Option<(usize, usize)>,
    ports: Option<(usize, usize)>,
}

impl Mapped {
    /// All that it may be, each once. Data that are not as expected say nothing.
    pub fn read(&self, data: &BTreeSet<Vec<u8>>) -> Vec<NatTo> {
        data.iter().filter_map(|data| self.one(data)).collect()
    }

    fn one(&self, data: &[u8]) -> Option<NatTo> {
        let range = |(low, high): (usize, usize), len: usize| {
            let at = |at: usize| super::load::number(data.get(at..at + len)?, false);
            Some((at(low)?, at(high)?))
        };
        let mut to = self.to.clone();
        if let Some(places) = self.addresses {
            let len = if self.family == Family::Ipv4 { 4 } else { 16 };
            let (first, last) = range(places, len)?;
            to.target =
                NatTarget::Addresses(AddressRange { family: self.family, first, last: last.max(first) });
        }
        if let Some(places) = self.ports {
            let (low, high) = range(places, 2)?;
            to.ports = Some(PortRange::new(low.try_into().ok()?, high.max(low).try_into().ok()?)?);
        }
        Some(to)
    }
}

/// What `nat`, `masq` and `redir` do, nft's words for it, and what a map has to say to it.
pub(super) fn act(
    meaning: &Meaning,
    name: &str,
    data: &Attrs<'_>,
    table: TableFamily,
) -> Result<(Act, String, Option<Mapped>), AttrError> {
    let range = |low, high, kind| range(meaning, data, (low, high), kind);
    if name != "nat" {
        let (low, high, flags) = match name {
            "masq" => (uapi::NFTA_MASQ_REG_PROTO_MIN, uapi::NFTA_MASQ_REG_PROTO_MAX, uapi::NFTA_MASQ_FLAGS),
            _ => (uapi::NFTA_REDIR_REG_PROTO_MIN, uapi::NFTA_REDIR_REG_PROTO_MAX, uapi::NFTA_REDIR_FLAGS),
        };
        let ports = range(low, high, Kind::Number)?.map(|ports| format!(" to :{ports}")).unwrap_or_default();
        let flags = options(number(data, flags)?.unwrap_or_default());
        if name == "masq" {
            let words = format!("masquerade{ports}{flags}");
            return Ok((Act::Snat("the address of the interface".to_owned()), words, None));
        }
        let (to, mapped) = destination(Family::Ipv4, None, ends(meaning, data, (low, high))?);
        return Ok((Act::Dnat(to), format!("redirect{ports}{flags}"), mapped));
    }
    let family = match number(data, uapi::NFTA_NAT_FAMILY)? {
        Some(family) if family == u32::from(uapi::NFPROTO_IPV6) => Family::Ipv6,
        _ => Family::Ipv4,
    };
    let address = range(uapi::NFTA_NAT_REG_ADDR_MIN, uapi::NFTA_NAT_REG_ADDR_MAX, Kind::Address(family))?;
    let ports = range(uapi::NFTA_NAT_REG_PROTO_MIN, uapi::NFTA_NAT_REG_PROTO_MAX, Kind::Number)?;
    let to = match (address, ports) {
        (Some(address), Some(ports)) if address.contains(':') => format!("[{address}]:{ports}"),
        (address, Some(ports)) => format!("{}:{ports}", address.unwrap_or_default()),
        (address, None) => address.unwrap_or_default(),
    };
    let is_destination = number(data, uapi::NFTA_NAT_TYPE)? == Some(1);
    let word = if is_destination { "dnat" } else { "snat" };
    let of_family = match (table, family) {
        (TableFamily::Inet, Family::Ipv4) => " ip",
        (TableFamily::Inet, Family::Ipv6) => " ip6",
        _ => "",
    };
    let flags = options(number(data, uapi::NFTA_NAT_FLAGS)?.unwrap_or_default());
    let words = format!("{word}{of_family} to {to}{flags}");
    if !is_destination {
        return Ok((Act::Snat(to), words, None));
    }
    let addresses = ends(meaning, data, (uapi::NFTA_NAT_REG_ADDR_MIN, uapi::NFTA_NAT_REG_ADDR_MAX))?;
    let ports = ends(meaning, data, (uapi::NFTA_NAT_REG_PROTO_MIN, uapi::NFTA_NAT_REG_PROTO_MAX))?;
    let (to, mapped) = destination(family, Some(addresses), ports);
    Ok((Act::Dnat(to), words, mapped))
}

/// The ends of a range of addresses or ports.
enum Ends {
    /// The rule has none.
    Absent,
    /// Constants of the rule.
    Of(u128, u128),
    /// In the data of this map, at these bytes.
    In(String, (usize, usize)),
    /// Anything else.
    Unknown,
}

/// By the attributes that name the registers of both; the higher may be missing.
fn ends(meaning: &Meaning, data: &Attrs<'_>, (low, high): (u16, u16)) -> Result<Ends, AttrError> {
    let Some(low) = number(data, low)? else { return Ok(Ends::Absent) };
    let high = number(data, high)?.unwrap_or(low);
    let constant = |register| match meaning.registers.get(register)? {
        Value::Constant(bytes) => super::load::number(bytes, false),
        Value::Load(_) | Value::Mapped { .. } => None,
    };
    if let (Some(first), Some(last)) = (constant(low), constant(high)) {
        return Ok(Ends::Of(first, last.max(first)));
    }
    Ok(match (meaning.registers.mapped(low), meaning.registers.mapped(high)) {
        (Some((map, first)), Some((other, last))) if map == other => Ends::In(map.to_owned(), (first, last)),
        _ => Ends::Unknown,
    })
}

/// A destination; without addresses it is this node (`redirect`). None where it is not understood, or not yet: then with
/// what a map has to say.
fn destination(family: Family, addresses: Option<Ends>, ports: Ends) -> (Vec<NatTo>, Option<Mapped>) {
    let (target, addresses) = match addresses {
        None => (NatTarget::Own, None),
        Some(Ends::Absent) => (NatTarget::Kept, None),
        Some(Ends::Of(first, last)) => (NatTarget::Addresses(AddressRange { family, first, last }), None),
        Some(Ends::In(map, places)) => (NatTarget::Kept, Some((map, places))),
        Some(Ends::Unknown) => return (Vec::new(), None),
    };
    let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
    let is_elsewhere = |map: &str| addresses.as_ref().is_some_and(|(known, _)| known != map);
    let (span, ports) = match ports {
        Ends::Absent => (None, None),
        Ends::Of(low, high) => (PortRange::new(port(low), port(high)), None),
        // Which port of one map goes with which address of another is not asked.
        Ends::In(map, _) if is_elsewhere(&map) => (Some(PortRange::ALL), None),
        Ends::In(map, places) => (None, Some((map, places))),
        Ends::Unknown => (Some(PortRange::ALL), None),
    };
    let to = NatTo { target, ports: span };
    let map = match (&addresses, &ports) {
        (None, None) => return (vec![to], None),
        (Some((map, _)), _) | (None, Some((map, _))) => map.clone(),
    };
    let places = |part: Option<(String, (usize, usize))>| part.map(|(_, places)| places);
    (Vec::new(), Some(Mapped { map, to, family, addresses: places(addresses), ports: places(ports) }))
}

/// A range by the registers of its ends; `None` where the expression has none.
fn range(
    meaning: &Meaning,
    data: &Attrs<'_>,
    (low, high): (u16, u16),
    kind: Kind,
) -> Result<Option<String>, AttrError> {
    let Some(low) = number(data, low)? else { return Ok(None) };
    let end = |register| meaning.registers.get(register).map(|value: &Value| operand(value, kind, false));
    // A map may have address and port together: then no register begins where the port stands.
    let Some(first) = end(low) else { return Ok(None) };
    let last = number(data, high)?.filter(|high| *high != low).and_then(end);
    Ok(Some(match last {
        Some(last) if last != first => format!("{first}-{last}"),
        _ => first,
    }))
}

/// `NF_NAT_RANGE_*` of `include/uapi/linux/netfilter/nf_nat.h` that nft prints.
fn options(flags: u32) -> String {
    let known = [(4, " random"), (8, " persistent"), (16, " fully-random")];
    known.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| name).collect()
}
