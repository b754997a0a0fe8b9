//! Translation.

use notrack_core::host::{Act, NatTarget, NatTo, TableFamily};
use notrack_core::net::{AddressRange, Family, PortRange};

use super::act::operand;
use super::expression::Meaning;
use super::load::Kind;
use super::register::Value;
use crate::attr::{AttrError, Attrs};
use crate::nft::{number, uapi};

/// What `nat`, `masq` and `redir` do, and nft's words for it.
pub(super) fn act(
    meaning: &Meaning,
    name: &str,
    data: &Attrs<'_>,
    table: TableFamily,
) -> Result<(Act, String), AttrError> {
    let range = |low, high, kind| range(meaning, data, (low, high), kind);
    if name != "nat" {
        let (low, high, flags) = match name {
            "masq" => (uapi::NFTA_MASQ_REG_PROTO_MIN, uapi::NFTA_MASQ_REG_PROTO_MAX, uapi::NFTA_MASQ_FLAGS),
            _ => (uapi::NFTA_REDIR_REG_PROTO_MIN, uapi::NFTA_REDIR_REG_PROTO_MAX, uapi::NFTA_REDIR_FLAGS),
        };
        let ports = range(low, high, Kind::Number)?.map(|ports| format!(" to :{ports}")).unwrap_or_default();
        let flags = options(number(data, flags)?.unwrap_or_default());
        return Ok(if name == "masq" {
            (Act::Snat("the address of the interface".to_owned()), format!("masquerade{ports}{flags}"))
        } else {
            let to = NatTo { target: NatTarget::Own, ports: span_of_ports(meaning, data, (low, high))? };
            (Act::Dnat(to), format!("redirect{ports}{flags}"))
        });
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
    let destination = number(data, uapi::NFTA_NAT_TYPE)? == Some(1);
    let word = if destination { "dnat" } else { "snat" };
    let of_family = match (table, family) {
        (TableFamily::Inet, Family::Ipv4) => " ip",
        (TableFamily::Inet, Family::Ipv6) => " ip6",
        _ => "",
    };
    let flags = options(number(data, uapi::NFTA_NAT_FLAGS)?.unwrap_or_default());
    let words = format!("{word}{of_family} to {to}{flags}");
    if !destination {
        return Ok((Act::Snat(to), words));
    }
    let target = match number(data, uapi::NFTA_NAT_REG_ADDR_MIN)? {
        None => NatTarget::Kept,
        Some(_) => {
            let ends = (uapi::NFTA_NAT_REG_ADDR_MIN, uapi::NFTA_NAT_REG_ADDR_MAX);
            let range = span(meaning, data, ends)?;
            range.map_or(NatTarget::Unknown, |(first, last)| {
                NatTarget::Addresses(AddressRange { family, first, last: last.max(first) })
            })
        }
    };
    let ends = (uapi::NFTA_NAT_REG_PROTO_MIN, uapi::NFTA_NAT_REG_PROTO_MAX);
    Ok((Act::Dnat(NatTo { target, ports: span_of_ports(meaning, data, ends)? }), words))
}

/// Ports that are constants of the rule.
fn span_of_ports(
    meaning: &Meaning,
    data: &Attrs<'_>,
    ends: (u16, u16),
) -> Result<Option<PortRange>, AttrError> {
    let span = span(meaning, data, ends)?;
    Ok(span.and_then(|(low, high)| PortRange::new(low.try_into().ok()?, high.max(low).try_into().ok()?)))
}

/// The ends of a range, where both are constants of the rule.
fn span(
    meaning: &Meaning,
    data: &Attrs<'_>,
    (low, high): (u16, u16),
) -> Result<Option<(u128, u128)>, AttrError> {
    let end = |register| match meaning.registers.get(register)? {
        Value::Constant(bytes) => super::load::number(bytes, false),
        Value::Load(_) | Value::Mapped(_) => None,
    };
    let Some(first) = number(data, low)?.and_then(end) else { return Ok(None) };
    Ok(match number(data, high)? {
        Some(high) => end(high).map(|last| (first, last)),
        None => Some((first, first)),
    })
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
