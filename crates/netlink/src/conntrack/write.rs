//! From a tuple to attributes.

use std::net::IpAddr;

use super::{L4, Tuple, cta};
use crate::attr::Writer;

/// `IPPROTO_ICMPV6`: its identifiers have attributes of their own.
const ICMPV6: u8 = 58;

/// The whole tuple, as the kernel demands it to look an entry up.
pub(super) fn tuple(writer: &mut Writer<'_>, kind: u16, tuple: &Tuple, zone: u16) {
    writer.nested(kind, |writer| {
        writer.nested(cta::TUPLE_IP, |writer| {
            address(writer, tuple.source, cta::IP_V4_SRC, cta::IP_V6_SRC);
            address(writer, tuple.destination, cta::IP_V4_DST, cta::IP_V6_DST);
        });
        writer.nested(cta::TUPLE_PROTO, |writer| proto(writer, tuple));
        if zone != 0 {
            writer.be16(cta::TUPLE_ZONE, zone);
        }
    });
}

fn proto(writer: &mut Writer<'_>, tuple: &Tuple) {
    writer.u8(cta::PROTO_NUM, tuple.protocol);
    match tuple.l4 {
        L4::Ports { source, destination } => {
            writer.be16(cta::PROTO_SRC_PORT, source);
            writer.be16(cta::PROTO_DST_PORT, destination);
        }
        L4::Icmp { id, kind, code } if tuple.protocol == ICMPV6 => {
            writer.be16(cta::PROTO_ICMPV6_ID, id);
            writer.u8(cta::PROTO_ICMPV6_TYPE, kind);
            writer.u8(cta::PROTO_ICMPV6_CODE, code);
        }
        L4::Icmp { id, kind, code } => {
            writer.be16(cta::PROTO_ICMP_ID, id);
            writer.u8(cta::PROTO_ICMP_TYPE, kind);
            writer.u8(cta::PROTO_ICMP_CODE, code);
        }
        L4::Addresses => {}
    }
}

pub(super) fn address(writer: &mut Writer<'_>, address: IpAddr, v4: u16, v6: u16) {
    match address {
        IpAddr::V4(address) => writer.bytes(v4, &address.octets()),
        IpAddr::V6(address) => writer.bytes(v6, &address.octets()),
    }
}
