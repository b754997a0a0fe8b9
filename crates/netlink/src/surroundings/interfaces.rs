//! Network interfaces, from a dump of rtnetlink's links.

use std::collections::BTreeMap;
use std::fs;

use notrack_core::host::{Interface, Program, ReversePath};

use crate::attr::{Attr, AttrError, Attrs, Buffer, Message};
use crate::socket::{NetlinkError, Socket, flags};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
/// Length of `struct ifinfomsg`.
const IFINFOMSG_LEN: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_XDP: u16 = 43;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_GENEVE_PORT: u16 = 5;
const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BR_NF_CALL_IP6TABLES: u16 = 37;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_INET_CONF: u16 = 1;
/// Leaves the packet counters out (`RTEXT_FILTER_SKIP_STATS`).
const SKIP_STATS: u32 = 1 << 3;
/// `IPV4_DEVCONF_RP_FILTER` and `IPV4_DEVCONF_SRC_VMARK`: the settings are counted from 1.
const RP_FILTER: usize = 8;
const SRC_VMARK: usize = 24;
const STRICT: u32 = 1;

/// The names of interfaces by their index.
pub(super) type Indexes = BTreeMap<u32, String>;

/// Settings that hold for every interface of the namespace.
#[derive(Clone, Copy, Debug, Default)]
struct ForAll {
    rp_filter: u32,
    marked: bool,
    calls_iptables: bool,
}

/// An interface, as far as its own message tells.
#[derive(Debug, Default)]
struct Link {
    index: u32,
    master: Option<u32>,
    rp_filter: u32,
    interface: Interface,
}

/// Every interface of the namespace.
pub(super) fn read(socket: &mut Socket) -> Result<(Vec<Interface>, Indexes), NetlinkError> {
    let what = "list the network interfaces";
    let mut request = Buffer::new();
    request.message(RTM_GETLINK, flags::REQUEST | flags::DUMP, socket.next_seq(), |message| {
        message.raw(&[0; IFINFOMSG_LEN]);
        message.ne32(IFLA_EXT_MASK, SKIP_STATS);
    });
    let request = request.finish().map_err(|source| NetlinkError::Malformed { what, source })?;
    let mut links = Vec::new();
    socket.ask(what, &request, |message| {
        links.extend(link(&message)?);
        Ok(())
    })?;
    Ok(resolve(links, for_all()))
}

/// Puts names in the place of indexes, and adds what holds for all.
fn resolve(links: Vec<Link>, all: ForAll) -> (Vec<Interface>, Indexes) {
    let indexes: Indexes = links.iter().map(|link| (link.index, link.interface.name.clone())).collect();
    let interface = |Link { index: _, master, rp_filter, mut interface }: Link| {
        interface.master = master.and_then(|master| indexes.get(&master).cloned());
        // The kernel takes the larger of both (IN_DEV_MAXCONF), and any of both (IN_DEV_ORCONF).
        interface.reverse_path.strict = rp_filter.max(all.rp_filter) == STRICT;
        interface.reverse_path.marked |= all.marked;
        interface.calls_iptables |= all.calls_iptables && interface.kind == "bridge";
        interface
    };
    let interfaces = links.into_iter().map(interface).collect();
    (interfaces, indexes)
}

fn link(message: &Message<'_>) -> Result<Option<Link>, AttrError> {
    if message.kind != RTM_NEWLINK {
        return Ok(None);
    }
    let (header, attrs) = super::routing::split::<IFINFOMSG_LEN>(message)?;
    let [_, _, _, _, i0, i1, i2, i3, ..] = header;
    let mut link = Link { index: u32::from_ne_bytes([i0, i1, i2, i3]), ..Link::default() };
    for attr in attrs {
        let attr = attr?;
        match attr.kind {
            IFLA_IFNAME => link.interface.name = attr.text()?.to_owned(),
            IFLA_MASTER => link.master = Some(attr.ne32()?),
            IFLA_LINKINFO => info(&attr, &mut link.interface)?,
            IFLA_AF_SPEC => filters(&attr, &mut link)?,
            IFLA_XDP => {
                let attached = attr.nested().find(IFLA_XDP_ATTACHED)?;
                if attached.is_some_and(|attached| attached.u8().is_ok_and(|how| how != 0)) {
                    link.interface.programs.push(Program::Xdp);
                }
            }
            _ => {}
        }
    }
    Ok(Some(link))
}

fn info(attr: &Attr<'_>, interface: &mut Interface) -> Result<(), AttrError> {
    let Some(kind) = attr.nested().find(IFLA_INFO_KIND)? else { return Ok(()) };
    interface.kind = kind.text()?.to_owned();
    let data = attr.nested().find(IFLA_INFO_DATA)?.map_or(Attrs::new(&[]), |data| data.nested());
    let port = |kind| data.find(kind)?.map(|port| port.be16()).transpose();
    match interface.kind.as_str() {
        "vxlan" => interface.tunnel_port = port(IFLA_VXLAN_PORT)?,
        "geneve" => interface.tunnel_port = port(IFLA_GENEVE_PORT)?,
        "bridge" => {
            for kind in [IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES] {
                interface.calls_iptables |= data.find(kind)?.is_some_and(|attr| attr.u8() == Ok(1));
            }
        }
        _ => {}
    }
    Ok(())
}

/// The attributes inside have families for types; those of IPv4 hold an array of 32-bit settings.
fn filters(attr: &Attr<'_>, link: &mut Link) -> Result<(), AttrError> {
    let Some(inet) = attr.nested().find(libc::AF_INET as u16)? else { return Ok(()) };
    let Some(settings) = inet.nested().find(IFLA_INET_CONF)? else { return Ok(()) };
    let setting = |number: usize| {
        let bytes = settings.payload.chunks_exact(4).nth(number - 1)?;
        bytes.first_chunk().copied().map(u32::from_ne_bytes)
    };
    link.rp_filter = setting(RP_FILTER).unwrap_or_default();
    let marked = setting(SRC_VMARK).unwrap_or_default() != 0;
    link.interface.reverse_path = ReversePath { strict: false, marked };
    Ok(())
}

/// What is not there is not set: a kernel without br_netfilter has no `bridge`.
fn for_all() -> ForAll {
    let read = |name: &str| {
        let value = fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap_or_default();
        value.trim().parse().unwrap_or(0)
    };
    ForAll {
        rp_filter: read("ipv4/conf/all/rp_filter"),
        marked: read("ipv4/conf/all/src_valid_mark") != 0,
        calls_iptables: ["iptables", "ip6tables"]
            .iter()
            .any(|name| read(&format!("bridge/bridge-nf-call-{name}")) != 0),
    }
}

#[cfg(test)]
mod tests;
