//! Sockets of other programs: who follows conntrack's events, who asks from a source port of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use notrack_core::host::{ConntrackListener, FixedSource};
use notrack_core::net::Proto;

use super::{Unknown, file};
use crate::attr::{AttrError, Buffer, Message};
use crate::socket::{NetlinkError, Socket, flags};

/// Programs whose name says what a socket of theirs means: conntrackd copies the table, conntrack shows it; the others
/// have their own ways with source ports.
const KNOWN: [&str; 7] =
    ["chronyd", "conntrack", "conntrackd", "dnsmasq", "ntpd", "pdns_recursor", "unbound"];
/// The protocol in `/proc/net/netlink`.
const NETLINK_NETFILTER: &str = "12";
/// `NFNLGRP_CONNTRACK_NEW` to `NFNLGRP_CONNTRACK_EXP_DESTROY`.
const CONNTRACK_GROUPS: u32 = 0b11_1111;
/// The ports at which a program may serve and ask at once.
const BOTH_WAYS: [u16; 2] = [53, 123];
/// Ports below are given to nobody who does not ask for one (`ip_unprivileged_port_start`).
const PRIVILEGED: u16 = 1024;
const NFS: u16 = 2049;

/// Sockets of this namespace that get conntrack's events.
pub(super) fn conntrack_listeners() -> io::Result<Vec<ConntrackListener>> {
    let listeners = parse_listeners(&file("netlink")?);
    let programs = if listeners.is_empty() { BTreeMap::new() } else { programs() };
    let listener = |(groups, inode)| ConntrackListener {
        groups,
        program: programs.get(&inode).map(|name| (*name).to_owned()),
    };
    Ok(listeners.into_iter().map(listener).collect())
}

/// Groups and inode of each. `netlink_seq_show`: sk, protocol, port, groups (hexadecimal), four figures, drops, inode.
fn parse_listeners(table: &str) -> Vec<(u32, u64)> {
    let listener = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let groups = u32::from_str_radix(fields.get(3)?, 16).ok()? & CONNTRACK_GROUPS;
        let inode = fields.get(9)?.parse().ok()?;
        (*fields.get(1)? == NETLINK_NETFILTER && groups != 0).then_some((groups, inode))
    };
    table.lines().filter_map(listener).collect()
}

/// Sockets that ask, or may ask, from ports that the kernel does not give by itself.
pub(super) fn fixed_sources(unknown: &mut Unknown) -> Vec<FixedSource> {
    let mut sources: Vec<(FixedSource, u64)> = Vec::new();
    for name in ["udp", "udp6"] {
        let table = unknown.without("UDP sockets", file(name)).unwrap_or_default();
        sources.extend(table.lines().filter_map(udp_source));
    }
    if sources.iter().any(|(source, _)| source.remote.is_none()) {
        let programs = programs();
        for (source, inode) in &mut sources {
            source.program = programs.get(inode).map(|name| (*name).to_owned());
        }
    }
    let mut sources: Vec<FixedSource> = sources.into_iter().map(|(source, _)| source).collect();
    sources.extend(unknown.without("TCP sockets to NFS servers", nfs_clients()).unwrap_or_default());
    sources
}

/// A line of `/proc/net/udp`: sl, local, remote, state, queues, timer, retransmits, uid, timeout, inode.
fn udp_source(line: &str) -> Option<(FixedSource, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, remote) = (address(fields.get(1)?)?, address(fields.get(2)?)?);
    let inode = fields.get(9)?.parse().ok()?;
    let is_connected = remote.port() != 0;
    let is_fixed = if is_connected {
        (1..PRIVILEGED).contains(&local.port())
    } else {
        BOTH_WAYS.contains(&local.port())
    };
    let source = FixedSource {
        protocol: Proto::Udp,
        port: local.port(),
        remote: is_connected.then_some(remote),
        program: None,
    };
    is_fixed.then_some((source, inode))
}

/// The kernel prints each 32 bits of an address as a number of the machine's own byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let word = |place: usize| {
        let digits = address.get(place * 8..place * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (place, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(place)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `TCP_ESTABLISHED`, as a bit.
const ESTABLISHED: u32 = 1 << 1;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const BC_S_LE: u8 = 3;
const BC_D_GE: u8 = 4;
const BC_D_LE: u8 = 5;
/// Length of an instruction: `struct inet_diag_bc_op`, twice, as the second holds the port.
const OP_LEN: u8 = 8;

/// Connections to NFS servers from a privileged port, which mounts use unless told otherwise (`noresvport`). The kernel
/// filters them: a node may have a hundred thousand connections.
fn nfs_clients() -> Result<Vec<FixedSource>, NetlinkError> {
    let what = "list TCP connections to NFS servers";
    let mut socket = Socket::open_sock_diag()?;
    let mut sources = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut request = Buffer::new();
        request.message(BY_FAMILY, flags::REQUEST | flags::DUMP, socket.next_seq(), |message| {
            // `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, 48 bytes of addresses.
            let mut header = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
            header.extend(ESTABLISHED.to_ne_bytes());
            header.extend([0; 48]);
            message.raw(&header);
            message.bytes(INET_DIAG_REQ_BYTECODE, &filter());
        });
        let request = request.finish().map_err(|source| NetlinkError::Malformed { what, source })?;
        let listed = socket.ask(what, &request, |message| {
            sources.extend(tcp_source(&message)?);
            Ok(())
        });
        match listed {
            // A kernel without IPv6, or without inet_diag.
            Err(NetlinkError::Kernel { errno: libc::ENOENT | libc::EINVAL, .. }) => {}
            listed => listed?,
        }
    }
    Ok(sources)
}

/// To port 2049, from a port below 1024. Each instruction says how many bytes to go on where it holds; where it does
/// not, a jump past the end refuses (`inet_diag_bc_run`).
fn filter() -> Vec<u8> {
    let conditions = [(BC_D_GE, NFS), (BC_D_LE, NFS), (BC_S_LE, PRIVILEGED - 1)];
    let mut program = Vec::new();
    for (place, (code, port)) in conditions.into_iter().enumerate() {
        let left = u16::from(OP_LEN) * (conditions.len() - place) as u16;
        program.extend([code, OP_LEN]);
        program.extend((left + 4).to_ne_bytes());
        program.extend([0, 0]);
        program.extend(port.to_ne_bytes());
    }
    program
}

/// `struct inet_diag_msg`: family, state, timer, retransmits, then both ports and both addresses of 16 bytes.
fn tcp_source(message: &Message<'_>) -> Result<Option<FixedSource>, AttrError> {
    if message.kind != BY_FAMILY {
        return Ok(None);
    }
    let have = message.payload.len();
    let short = AttrError::Truncated { what: "inet_diag_msg", need: 40, have };
    let payload: &[u8; 40] = message.payload.first_chunk().ok_or(short)?;
    let [family, _, _, _, s0, s1, d0, d1, ..] = *payload;
    let [.., a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5] = *payload;
    let ip = if i32::from(family) == libc::AF_INET {
        IpAddr::from([a0, a1, a2, a3])
    } else {
        IpAddr::from([a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5]).to_canonical()
    };
    Ok(Some(FixedSource {
        protocol: Proto::Tcp,
        port: u16::from_be_bytes([s0, s1]),
        remote: Some(SocketAddr::new(ip, u16::from_be_bytes([d0, d1]))),
        program: None,
    }))
}

/// The known programs that can be seen, by the inodes of their sockets. To see another user's needs CAP_SYS_PTRACE, and
/// the host's process IDs. A name is one read for each process; only those of known ones are looked into.
fn programs() -> BTreeMap<u64, &'static str> {
    let mut programs = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return programs };
    for process in processes.flatten() {
        let is_process = process.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
        let comm = || fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let Some(known) =
            is_process.then(comm).and_then(|comm| KNOWN.into_iter().find(|known| *known == comm.trim_end()))
        else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let link = fs::read_link(descriptor.path()).unwrap_or_default();
            let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                programs.insert(inode, known);
            }
        }
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_conntrack_among_all_of_netlink() {
        let table = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000017a3fd34 0   28630      00000007 0        0        0     2        0        6220888
00000000adebe760 12  28636      00000000 0        0        0     2        0        6221056
000000005c03ead8 12  0          00000000 0        0        0     2        0        6220895
000000007def47a6 12  3057932422 00000007 0        0        0     2        0        6221057
000000007def47a7 12  28640      00000040 0        0        0     2        0        6221058
000000007def47a8 12  28641      00000145 0        0        0     2        0        6221059
";
        assert_eq!(parse_listeners(table), [(0b111, 6_221_057), (0b101, 6_221_059)]);
        assert_eq!(parse_listeners("12 12\n0 12 1 zz 0 0 0 0 0 1\n"), []);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn udp_sockets_that_ask_from_ports_of_their_own() {
        let table = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  268: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4001 2 0 0
  269: 00000000:007B 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4002 2 0 0
  270: 01004D0A:02BC 02004D0A:0202 01 00000000:00000000 00:00000000 00000000     0        0 4003 2 0 0
  271: 01004D0A:9C40 02004D0A:0035 01 00000000:00000000 00:00000000 00000000     0        0 4004 2 0 0
  272: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4005 2 0 0
  273: 000077FD000000000000000001000000:007B 000077FD000000000000000002000000:007B 01 0:0 0:0 0 0 0 4006 2 0 0
";
        let shown: Vec<String> = table
            .lines()
            .filter_map(udp_source)
            .map(|(source, inode)| format!("{} {:?} {inode}", source.port, source.remote))
            .collect();
        assert_eq!(
            shown,
            ["53 None 4001", "123 None 4002", "700 Some(10.77.0.2:514) 4003", "123 Some([fd77::2]:123) 4006",]
        );
        assert!(udp_source("1: 0100:35 0:0").is_none());
    }
}
