//! Routing rules that look at marks, and routes to the pods of this node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use notrack_core::host::Interface;
use notrack_core::net::{AddressRange, Family, address_number, merge_addresses};

use super::interfaces::Indexes;
use crate::attr::{Attr, AttrError, Attrs, Buffer, Message};
use crate::socket::{NetlinkError, Socket, flags};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWRULE: u16 = 32;
const RTM_GETRULE: u16 = 34;
/// Length of `struct rtmsg` and of `struct fib_rule_hdr`.
const HEADER_LEN: usize = 12;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
/// `FIB_RULE_INVERT`
const INVERT: u32 = 2;
/// `FR_ACT_TO_TBL`
const TO_TABLE: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTN_UNICAST: u8 = 1;
const RT_TABLE_MAIN: u8 = 254;

/// The rules of both families that look at the packet's mark, in the words of `ip rule`.
pub(super) fn mark_rules(socket: &mut Socket) -> Result<Vec<String>, NetlinkError> {
    let mut rules = Vec::new();
    dump(socket, "list the routing rules", RTM_GETRULE, [0; HEADER_LEN], |message| {
        rules.extend(mark_rule(&message)?);
        Ok(())
    })?;
    Ok(rules)
}

fn mark_rule(message: &Message<'_>) -> Result<Option<String>, AttrError> {
    if message.kind != RTM_NEWRULE {
        return Ok(None);
    }
    let (header, attrs) = split::<HEADER_LEN>(message)?;
    let [family, _, _, _, table, _, _, action, f0, f1, f2, f3] = header;
    let tool = match i32::from(family) {
        libc::AF_INET => "ip",
        libc::AF_INET6 => "ip -6",
        // Rules for multicast routing.
        _ => return Ok(None),
    };
    let number = |kind| attrs.find(kind)?.map(|attr: Attr<'_>| attr.ne32()).transpose();
    // The kernel gives the mask of every rule with a mark, and of those for mark 0.
    let Some(mask) = number(FRA_FWMASK)? else { return Ok(None) };
    let mark = number(FRA_FWMARK)?.unwrap_or_default();
    let mask = if mask == u32::MAX { String::new() } else { format!("/{mask:#x}") };
    let not = if u32::from_ne_bytes([f0, f1, f2, f3]) & INVERT != 0 { "not " } else { "" };
    let priority = number(FRA_PRIORITY)?.unwrap_or_default();
    let what = match action {
        TO_TABLE => format!(" lookup {}", number(FRA_TABLE)?.unwrap_or(table.into())),
        _ => String::new(),
    };
    Ok(Some(format!("{tool} rule {priority}: {not}fwmark {mark:#x}{mask}{what}")))
}

/// Where the main table sends to interfaces of pods: bridges with veth ports, and veths of their own with a route for
/// each pod, as Calico and its like make them. (A network behind such a veth is no pod's: it is the uplink of a node
/// that is a container itself.) Nothing is asked where there are none.
pub(super) fn pod_networks(
    socket: &mut Socket,
    indexes: &Indexes,
    interfaces: &[Interface],
) -> Result<Vec<AddressRange>, NetlinkError> {
    let veths = || interfaces.iter().filter(|interface| interface.kind == "veth");
    let bridges: BTreeSet<&str> = veths().filter_map(|veth| veth.master.as_deref()).collect();
    let alone: BTreeSet<&str> =
        veths().filter(|veth| veth.master.is_none()).map(|veth| veth.name.as_str()).collect();
    if bridges.is_empty() && alone.is_empty() {
        return Ok(Vec::new());
    }
    let mut networks = Vec::new();
    dump(socket, "list the routes", RTM_GETROUTE, [0; HEADER_LEN], |message| {
        if let Some((index, network)) = route(&message)?
            && let Some(name) = indexes.get(&index).map(String::as_str)
            && (bridges.contains(name) || (network.is_one() && alone.contains(name)))
        {
            networks.push(network);
        }
        Ok(())
    })?;
    Ok(merge_addresses(networks))
}

/// A unicast route of the main table to more than a link's own addresses, and its interface.
fn route(message: &Message<'_>) -> Result<Option<(u32, AddressRange)>, AttrError> {
    if message.kind != RTM_NEWROUTE {
        return Ok(None);
    }
    let (header, attrs) = split::<HEADER_LEN>(message)?;
    let [family, len, _, _, table, _, _, kind, ..] = header;
    if table != RT_TABLE_MAIN || kind != RTN_UNICAST {
        return Ok(None);
    }
    // The default route has no destination, one with several next hops no single interface.
    let (Some(to), Some(index)) = (attrs.find(RTA_DST)?, attrs.find(RTA_OIF)?) else { return Ok(None) };
    let to = match i32::from(family) {
        libc::AF_INET => IpAddr::from(to.array::<4>()?),
        libc::AF_INET6 => IpAddr::from(to.array::<16>()?),
        _ => return Ok(None),
    };
    if matches!(to, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Ok(None);
    }
    Ok(Some((index.ne32()?, prefix(to, len))))
}

fn prefix(network: IpAddr, len: u8) -> AddressRange {
    let family = Family::of(network);
    let width = family.address_len() as u32 * 8;
    let rest = width.saturating_sub(len.into());
    let hosts = if rest >= 128 { u128::MAX } else { (1 << rest) - 1 };
    let first = address_number(network) & !hosts;
    AddressRange { family, first, last: first | hosts }
}

/// A dump of rtnetlink; empty where the kernel has no such part (built without routing rules, or without qdiscs).
pub(super) fn dump<const N: usize>(
    socket: &mut Socket,
    what: &'static str,
    kind: u16,
    header: [u8; N],
    each: impl FnMut(Message<'_>) -> Result<(), AttrError>,
) -> Result<(), NetlinkError> {
    let mut request = Buffer::new();
    let seq = socket.next_seq();
    request.message(kind, flags::REQUEST | flags::DUMP, seq, |message| message.raw(&header));
    let request = request.finish().map_err(|source| NetlinkError::Malformed { what, source })?;
    match socket.ask(what, &request, each) {
        Err(NetlinkError::Kernel { errno: libc::EOPNOTSUPP, .. }) => Ok(()),
        listed => listed,
    }
}

/// A message's own structure and its attributes.
pub(super) fn split<'a, const N: usize>(message: &Message<'a>) -> Result<([u8; N], Attrs<'a>), AttrError> {
    let have = message.payload.len();
    let (header, attrs) = message.payload.split_first_chunk().ok_or(AttrError::Truncated {
        what: "header of a routing message",
        need: N,
        have,
    })?;
    Ok((*header, Attrs::new(attrs)))
}

#[cfg(test)]
mod tests;
