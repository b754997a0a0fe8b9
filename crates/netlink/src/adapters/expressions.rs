//! An adapter as nf_tables' expressions: nft's own way, and the way in which iptables-nft writes and reads rules.

use notrack_core::host::{Adapter, Backend, Carried, TableFamily, Untracked};
use notrack_core::net::{AddressRange, Family, PortRange, Proto};

use super::xt::{self, Match};
use crate::attr::Writer;
use crate::nft::uapi;

/// Where IPv4 has its addresses, in bytes; the destination is behind the source.
const ADDRESSES_V4: u32 = 12;
/// Where IPv6 has them.
const ADDRESSES_V6: u32 = 8;
/// Where TCP has its flags.
const TCP_FLAGS: u32 = 13;
const IFNAMSIZ: usize = 16;
/// `NF_CT_STATE_UNTRACKED_BIT`
const UNTRACKED: u32 = 1 << 6;

/// Writes all expressions of the rule, from left to right.
pub(super) fn write(list: &mut Writer<'_>, adapter: &Adapter) {
    let by_iptables = adapter.table.backend != Backend::Nft;
    let Untracked {
        carried,
        sources,
        source_ports,
        destinations,
        destination_ports,
        in_interface,
        out_interface,
        opens,
    } = &adapter.packets;
    interface(list, uapi::NFT_META_IIFNAME, in_interface.as_deref(), by_iptables);
    interface(list, uapi::NFT_META_OIFNAME, out_interface.as_deref(), by_iptables);
    if adapter.table.family == TableFamily::Inet {
        let number = match sources.family {
            Family::Ipv4 => libc::NFPROTO_IPV4,
            Family::Ipv6 => libc::NFPROTO_IPV6,
        };
        meta(list, uapi::NFT_META_NFPROTO);
        compare(list, uapi::NFT_CMP_EQ, &[number as u8]);
    }
    let len = sources.family.address_len();
    let at = if sources.family == Family::Ipv4 { ADDRESSES_V4 } else { ADDRESSES_V6 };
    addresses(list, at, *sources);
    addresses(list, at + len as u32, *destinations);
    meta(list, uapi::NFT_META_L4PROTO);
    compare(list, uapi::NFT_CMP_EQ, &[carried.number(sources.family)]);
    if by_iptables && !matches!(carried, Carried::Transport(Proto::Tcp | Proto::Udp)) {
        // iptables-nft reads ports from expressions for TCP and UDP alone.
        if let Some(protocol) = xt::protocol(&adapter.packets) {
            extension(list, &protocol);
        }
    } else if let Carried::IcmpError(kind) = carried {
        payload(list, uapi::NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1);
        compare(list, uapi::NFT_CMP_EQ, &[*kind]);
    } else {
        if let Some(opens) = opens {
            payload(list, uapi::NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS, 1);
            mask(list, &[xt::SYN_MASK]);
            compare(list, if *opens { uapi::NFT_CMP_EQ } else { uapi::NFT_CMP_NEQ }, &[xt::SYN]);
        }
        ports(list, 0, *source_ports);
        ports(list, 2, *destination_ports);
    }
    if by_iptables {
        extension(list, &xt::untracked());
        extension(list, &xt::comment(&adapter.comment()));
    } else {
        expression(list, "ct", |ct| {
            ct.be32(uapi::NFTA_CT_DREG, uapi::NFT_REG_1);
            ct.be32(uapi::NFTA_CT_KEY, uapi::NFT_CT_STATE);
        });
        mask(list, &UNTRACKED.to_ne_bytes());
        compare(list, uapi::NFT_CMP_NEQ, &[0; 4]);
    }
    expression(list, "counter", |counter| {
        counter.be64(uapi::NFTA_COUNTER_BYTES, 0);
        counter.be64(uapi::NFTA_COUNTER_PACKETS, 0);
    });
    expression(list, "immediate", |immediate| {
        immediate.be32(uapi::NFTA_IMMEDIATE_DREG, uapi::NFT_REG_VERDICT);
        immediate.nested(uapi::NFTA_IMMEDIATE_DATA, |data| {
            data.nested(uapi::NFTA_DATA_VERDICT, |verdict| {
                verdict.be32(uapi::NFTA_VERDICT_CODE, uapi::NF_ACCEPT);
            });
        });
    });
}

/// A name as a whole with its NUL, or its beginning. nft takes a whole one for a prefix unless all 16 bytes are
/// compared; iptables-nft compares no more than the NUL.
fn interface(list: &mut Writer<'_>, key: u32, name: Option<&str>, by_iptables: bool) {
    let Some(name) = name.filter(|name| *name != "*") else {
        return;
    };
    meta(list, key);
    let mut bytes = name.as_bytes().to_vec();
    if bytes.last() == Some(&b'*') {
        bytes.pop();
    } else {
        bytes.resize(if by_iptables { bytes.len() + 1 } else { IFNAMSIZ }, 0);
    }
    compare(list, uapi::NFT_CMP_EQ, &bytes);
}

fn addresses(list: &mut Writer<'_>, at: u32, range: AddressRange) {
    if range.is_all() {
        return;
    }
    let len = range.family.address_len();
    // An IPv4 address is in the low 32 bits.
    let bytes = |number: u128| number.to_be_bytes()[16 - len..].to_vec();
    payload(list, uapi::NFT_PAYLOAD_NETWORK_HEADER, at, len as u32);
    match range.prefix_len() {
        Some(_) => {
            if !range.is_one() {
                mask(list, &bytes(!(range.first ^ range.last)));
            }
            compare(list, uapi::NFT_CMP_EQ, &bytes(range.first));
        }
        None => between(list, &bytes(range.first), &bytes(range.last)),
    }
}

fn ports(list: &mut Writer<'_>, at: u32, range: PortRange) {
    if range == PortRange::ALL {
        return;
    }
    payload(list, uapi::NFT_PAYLOAD_TRANSPORT_HEADER, at, 2);
    let (first, last) = (range.first().to_be_bytes(), range.last().to_be_bytes());
    if first == last { compare(list, uapi::NFT_CMP_EQ, &first) } else { between(list, &first, &last) }
}

fn expression(list: &mut Writer<'_>, name: &str, fill: impl FnOnce(&mut Writer<'_>)) {
    list.nested(uapi::NFTA_LIST_ELEM, |item| {
        item.text(uapi::NFTA_EXPR_NAME, name);
        item.nested(uapi::NFTA_EXPR_DATA, fill);
    });
}

fn value(writer: &mut Writer<'_>, kind: u16, bytes: &[u8]) {
    writer.nested(kind, |data| data.bytes(uapi::NFTA_DATA_VALUE, bytes));
}

fn meta(list: &mut Writer<'_>, key: u32) {
    expression(list, "meta", |meta| {
        meta.be32(uapi::NFTA_META_KEY, key);
        meta.be32(uapi::NFTA_META_DREG, uapi::NFT_REG_1);
    });
}

fn payload(list: &mut Writer<'_>, base: u32, offset: u32, len: u32) {
    expression(list, "payload", |payload| {
        payload.be32(uapi::NFTA_PAYLOAD_DREG, uapi::NFT_REG_1);
        payload.be32(uapi::NFTA_PAYLOAD_BASE, base);
        payload.be32(uapi::NFTA_PAYLOAD_OFFSET, offset);
        payload.be32(uapi::NFTA_PAYLOAD_LEN, len);
    });
}

fn compare(list: &mut Writer<'_>, op: u32, bytes: &[u8]) {
    expression(list, "cmp", |cmp| {
        cmp.be32(uapi::NFTA_CMP_SREG, uapi::NFT_REG_1);
        cmp.be32(uapi::NFTA_CMP_OP, op);
        value(cmp, uapi::NFTA_CMP_DATA, bytes);
    });
}

fn between(list: &mut Writer<'_>, first: &[u8], last: &[u8]) {
    expression(list, "range", |range| {
        range.be32(uapi::NFTA_RANGE_SREG, uapi::NFT_REG_1);
        range.be32(uapi::NFTA_RANGE_OP, uapi::NFT_RANGE_EQ);
        value(range, uapi::NFTA_RANGE_FROM_DATA, first);
        value(range, uapi::NFTA_RANGE_TO_DATA, last);
    });
}

fn mask(list: &mut Writer<'_>, mask: &[u8]) {
    expression(list, "bitwise", |bitwise| {
        bitwise.be32(uapi::NFTA_BITWISE_SREG, uapi::NFT_REG_1);
        bitwise.be32(uapi::NFTA_BITWISE_DREG, uapi::NFT_REG_1);
        bitwise.be32(uapi::NFTA_BITWISE_LEN, mask.len() as u32);
        value(bitwise, uapi::NFTA_BITWISE_MASK, mask);
        value(bitwise, uapi::NFTA_BITWISE_XOR, &vec![0; mask.len()]);
    });
}

fn extension(list: &mut Writer<'_>, extension: &Match) {
    expression(list, "match", |data| {
        data.text(uapi::NFTA_MATCH_NAME, extension.name);
        data.be32(uapi::NFTA_MATCH_REV, u32::from(extension.revision));
        data.bytes(uapi::NFTA_MATCH_INFO, &extension.info);
    });
}
