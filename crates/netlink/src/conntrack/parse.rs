//! From attributes to an [`Entry`], in one pass and without allocation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Entry, L4, Status, TcpState, Tuple, Zone, cta};
use crate::attr::{AttrError, Attrs};

/// Reads the attributes of a `IPCTNL_MSG_CT_NEW`.
pub(super) fn entry(attrs: Attrs<'_>) -> Result<Entry, AttrError> {
    let (mut original, mut reply) = (None, None);
    let mut zone = Zone::default();
    let mut status = Status::default();
    let mut tcp_state = None;
    let (mut timeout, mut mark, mut id) = (0, 0, 0);
    let (mut has_helper, mut has_label) = (false, false);
    for attr in attrs {
        let attr = attr?;
        match attr.kind {
            cta::TUPLE_ORIG => {
                let (tuple, tuple_zone) = tuple(attr.nested())?;
                original = Some(tuple);
                zone.original = tuple_zone;
            }
            cta::TUPLE_REPLY => {
                let (tuple, tuple_zone) = tuple(attr.nested())?;
                reply = Some(tuple);
                zone.reply = tuple_zone;
            }
            cta::STATUS => status = Status(attr.be32()?),
            cta::PROTOINFO => tcp_state = self::tcp_state(attr.nested())?,
            cta::HELP => has_helper = true,
            cta::TIMEOUT => timeout = attr.be32()?,
            cta::MARK => mark = attr.be32()?,
            cta::ID => id = attr.be32()?,
            cta::ZONE => zone.both = attr.be16()?,
            // The extension is given to every entry once a rule uses labels: only a set bit counts.
            cta::LABELS => has_label = attr.payload.iter().any(|byte| *byte != 0),
            _ => {}
        }
    }
    Ok(Entry {
        original: original.ok_or(AttrError::Missing { what: "CTA_TUPLE_ORIG" })?,
        reply: reply.ok_or(AttrError::Missing { what: "CTA_TUPLE_REPLY" })?,
        status,
        tcp_state,
        timeout,
        mark,
        id,
        zone,
        has_helper,
        has_label,
    })
}

/// A tuple, and the zone of its direction.
fn tuple(attrs: Attrs<'_>) -> Result<(Tuple, u16), AttrError> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut l4) = (None, L4::Addresses);
    let mut zone = 0;
    for attr in attrs {
        let attr = attr?;
        match attr.kind {
            cta::TUPLE_IP => (source, destination) = addresses(attr.nested())?,
            cta::TUPLE_PROTO => (protocol, l4) = proto(attr.nested())?,
            cta::TUPLE_ZONE => zone = attr.be16()?,
            _ => {}
        }
    }
    let tuple = Tuple {
        source: source.ok_or(AttrError::Missing { what: "CTA_IP_SRC" })?,
        destination: destination.ok_or(AttrError::Missing { what: "CTA_IP_DST" })?,
        protocol: protocol.ok_or(AttrError::Missing { what: "CTA_PROTO_NUM" })?,
        l4,
    };
    Ok((tuple, zone))
}

type Addresses = (Option<IpAddr>, Option<IpAddr>);

fn addresses(attrs: Attrs<'_>) -> Result<Addresses, AttrError> {
    let (mut source, mut destination) = (None, None);
    for attr in attrs {
        let attr = attr?;
        match attr.kind {
            cta::IP_V4_SRC => source = Some(Ipv4Addr::from(attr.array::<4>()?).into()),
            cta::IP_V4_DST => destination = Some(Ipv4Addr::from(attr.array::<4>()?).into()),
            cta::IP_V6_SRC => source = Some(Ipv6Addr::from(attr.array::<16>()?).into()),
            cta::IP_V6_DST => destination = Some(Ipv6Addr::from(attr.array::<16>()?).into()),
            _ => {}
        }
    }
    Ok((source, destination))
}

fn proto(attrs: Attrs<'_>) -> Result<(Option<u8>, L4), AttrError> {
    let mut protocol = None;
    let (mut source, mut destination) = (None, None);
    let (mut icmp_id, mut icmp_kind, mut icmp_code) = (None, 0, 0);
    for attr in attrs {
        let attr = attr?;
        match attr.kind {
            cta::PROTO_NUM => protocol = Some(attr.u8()?),
            cta::PROTO_SRC_PORT => source = Some(attr.be16()?),
            cta::PROTO_DST_PORT => destination = Some(attr.be16()?),
            cta::PROTO_ICMP_ID | cta::PROTO_ICMPV6_ID => icmp_id = Some(attr.be16()?),
            cta::PROTO_ICMP_TYPE | cta::PROTO_ICMPV6_TYPE => icmp_kind = attr.u8()?,
            cta::PROTO_ICMP_CODE | cta::PROTO_ICMPV6_CODE => icmp_code = attr.u8()?,
            _ => {}
        }
    }
    let l4 = match (source, destination, icmp_id) {
        (Some(source), Some(destination), _) => L4::Ports { source, destination },
        (_, _, Some(id)) => L4::Icmp { id, kind: icmp_kind, code: icmp_code },
        _ => L4::Addresses,
    };
    Ok((protocol, l4))
}

fn tcp_state(attrs: Attrs<'_>) -> Result<Option<TcpState>, AttrError> {
    let Some(tcp) = attrs.find(cta::PROTOINFO_TCP)? else {
        return Ok(None);
    };
    match tcp.nested().find(cta::PROTOINFO_TCP_STATE)? {
        Some(state) => Ok(TcpState::from_kernel(state.u8()?)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
