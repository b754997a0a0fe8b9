//! Filling a connection table, as a busy day does, in about a second.

use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendmsg, socket,
};

use crate::namespace::Namespace;

/// Entries of established TCP connections to put into a namespace's table. They are assured: the
/// kernel evicts none of them in favour of a new connection.
#[derive(Debug, Clone, Copy)]
pub struct Fill {
    /// How many, or fewer where the table's maximum comes first.
    pub entries: usize,
    /// The server's address and port in each; clients are counted up from 172.16.0.0.
    pub server: (Ipv4Addr, u16),
    /// How long the entries stay.
    pub lifetime: Duration,
}

/// Bytes of messages in one send; the kernel works through them before the call returns.
const BATCH: usize = 128 * 1024;
const NLMSG_ERROR: u16 = 2;
/// Subsystem conntrack (1), message NEW (0).
const CT_NEW: u16 = 1 << 8;
/// Request, create, exclusively; no acknowledgement, so that only failures are answered.
const FLAGS: u16 = 0x1 | 0x400 | 0x200;
const NESTED: u16 = 0x8000;
/// Seen reply, assured, confirmed.
const STATUS: u32 = 0x2 | 0x4 | 0x8;
const TCP: u8 = 6;
const TCP_ESTABLISHED: u8 = 3;

/// Puts entries into the namespace's table and returns how many the kernel took.
pub fn fill_conntrack(host: &Namespace, fill: Fill) -> Result<usize> {
    let netlink = host.enter(|| {
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
    })?;
    let netlink = netlink.context("cannot open a netlink socket")?;
    let mut batch = Vec::with_capacity(BATCH + 512);
    let mut taken = 0;
    let mut sent = 0;
    for index in 0..fill.entries as u32 {
        push_entry(&mut batch, &fill, index);
        sent += 1;
        if batch.len() >= BATCH || index + 1 == fill.entries as u32 {
            let refused = send_batch(netlink.as_raw_fd(), &batch)?;
            taken += sent - refused.min(sent);
            if refused > 0 {
                break;
            }
            (sent, _) = (0, batch.clear());
        }
    }
    Ok(taken)
}

/// Sends the messages and returns how many of them met a full table.
fn send_batch(netlink: i32, batch: &[u8]) -> Result<usize> {
    let kernel = NetlinkAddr::new(0, 0);
    let parts = [IoSlice::new(batch)];
    sendmsg(netlink, &parts, &[], MsgFlags::empty(), Some(&kernel))
        .context("cannot send connection entries to the kernel")?;
    let mut refused = 0;
    let mut reply = vec![0; BATCH];
    loop {
        let length = match recv(netlink, &mut reply, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => length,
            Err(Errno::EAGAIN) => return Ok(refused),
            // More failures than the socket holds: there were some, and some were lost.
            Err(Errno::ENOBUFS) => {
                refused += 1;
                continue;
            }
            Err(error) => return Err(error).context("cannot read netlink's answer"),
        };
        for error in errors(&reply[..length]) {
            match Errno::from_raw(-error) {
                Errno::ENOMEM => refused += 1,
                other => bail!("the kernel refused a connection entry: {other}"),
            }
        }
    }
}

/// The error numbers in a run of netlink messages.
fn errors(mut messages: &[u8]) -> Vec<i32> {
    let mut errors = Vec::new();
    while let Some((head, _)) = messages.split_at_checked(20) {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if u16::from_ne_bytes([head[4], head[5]]) == NLMSG_ERROR {
            errors.push(i32::from_ne_bytes([head[16], head[17], head[18], head[19]]));
        }
        messages = messages.get(length.next_multiple_of(4).max(20)..).unwrap_or_default();
    }
    errors
}

fn push_entry(batch: &mut Vec<u8>, fill: &Fill, index: u32) {
    // 28,000 ports of each client, so that every tuple is another one.
    let client = Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 0)) + index / 28_000);
    let client = (client, 32_768 + (index % 28_000) as u16);
    let start = batch.len();
    batch.extend([0; 4]); // Its length, once known.
    batch.extend(CT_NEW.to_ne_bytes());
    batch.extend(FLAGS.to_ne_bytes());
    batch.extend(index.to_ne_bytes());
    batch.extend([0; 4]);
    batch.extend([libc::AF_INET as u8, 0, 0, 0]);
    tuple(batch, 1, client, fill.server);
    tuple(batch, 2, fill.server, client);
    attribute(batch, 3, &STATUS.to_be_bytes());
    nest(batch, 4, |batch| {
        nest(batch, 1, |batch| attribute(batch, 1, &[TCP_ESTABLISHED]));
    });
    let seconds = fill.lifetime.as_secs().min(u64::from(u32::MAX)) as u32;
    attribute(batch, 7, &seconds.to_be_bytes());
    let length = (batch.len() - start) as u32;
    batch[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

fn tuple(batch: &mut Vec<u8>, kind: u16, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) {
    nest(batch, kind, |batch| {
        nest(batch, 1, |batch| {
            attribute(batch, 1, &source.0.octets());
            attribute(batch, 2, &destination.0.octets());
        });
        nest(batch, 2, |batch| {
            attribute(batch, 1, &[TCP]);
            attribute(batch, 2, &source.1.to_be_bytes());
            attribute(batch, 3, &destination.1.to_be_bytes());
        });
    });
}

fn attribute(batch: &mut Vec<u8>, kind: u16, value: &[u8]) {
    batch.extend((4 + value.len() as u16).to_ne_bytes());
    batch.extend(kind.to_ne_bytes());
    batch.extend(value);
    batch.resize(batch.len().next_multiple_of(4), 0);
}

fn nest(batch: &mut Vec<u8>, kind: u16, content: impl FnOnce(&mut Vec<u8>)) {
    let start = batch.len();
    batch.extend([0; 2]);
    batch.extend((kind | NESTED).to_ne_bytes());
    content(batch);
    let length = (batch.len() - start) as u16;
    batch[start..start + 2].copy_from_slice(&length.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_established_and_assured() {
        let host = Namespace::new("fill").unwrap();
        let server = (Ipv4Addr::new(10, 77, 0, 1), 8080);
        let fill = Fill { entries: 30_000, server, lifetime: Duration::from_secs(600) };
        assert_eq!(fill_conntrack(&host, fill).unwrap(), 30_000);
        assert_eq!(host.sysctl("net.netfilter.nf_conntrack_count").unwrap(), "30000");
        let one = host.conntrack("-p tcp --orig-src 172.16.0.1 --sport 34767").unwrap();
        assert_eq!(one.len(), 1, "{one:?}");
        assert!(one[0].contains("ESTABLISHED") && one[0].contains("[ASSURED]"), "{one:?}");
    }

    #[test]
    fn failures_are_read_out_of_the_answer() {
        let mut message = [0; 36];
        message[..4].copy_from_slice(&36_u32.to_ne_bytes());
        message[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        message[16..20].copy_from_slice(&(-12_i32).to_ne_bytes());
        assert_eq!(errors(&message.repeat(2)), [-12, -12]);
        assert_eq!(errors(&message[..10]), [0_i32; 0]);
    }
}
