//! A netlink socket to netfilter: requests, dumps and batches with every answer accounted for.
//!
//! nfnetlink handles a request inside `sendmsg` (`netlink_unicast_kernel` calls `nfnetlink_rcv`), so that
//! when it returns every answer but the rest of a dump is queued. Two things follow: what is left over of an
//! earlier exchange can be thrown away before the next one, and the answers to a batch can be collected
//! without waiting, although the kernel says nothing at all about a batch that succeeded.
//!
//! A socket belongs to the network namespace in which it was opened, whatever its thread does later.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockname, sendmsg,
    setsockopt, sockopt,
};
use nix::sys::time::TimeVal;

mod error;
mod exchange;
mod options;
mod reply;

pub use error::{NetlinkError, Refusal};
use options::{AddMembership, CapAck, ExtAck};
pub use reply::Reply;

/// Message flags of `include/uapi/linux/netlink.h`.
pub mod flags {
    /// It is a request; the kernel ignores others.
    pub const REQUEST: u16 = 0x1;
    /// Part of several messages.
    pub const MULTI: u16 = 0x2;
    /// Answer with an acknowledgement.
    pub const ACK: u16 = 0x4;
    /// The dump is inconsistent: what it reads changed on the way.
    pub const DUMP_INTR: u16 = 0x10;
    /// Give all objects (`NLM_F_ROOT | NLM_F_MATCH`).
    pub const DUMP: u16 = 0x300;
    /// To requests that make an object: refuse where it exists (`NLM_F_EXCL`).
    pub const EXCL: u16 = 0x200;
    /// Make it where it does not exist (`NLM_F_CREATE`).
    pub const CREATE: u16 = 0x400;
}

/// The kernel fills dump buffers up to 32 KiB when the reader has once offered as much
/// (`netlink_recvmsg`: `max_recvmsg_len`), else a page at a time.
const RECEIVE_LEN: usize = 32 * 1024;
/// Alignment that parsers in C may ask of a message.
const RECEIVE_ALIGN: usize = 16;

/// How a socket is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Limit of queued answers, in bytes; the kernel counts some 768 for the smallest. Nothing is allocated.
    pub receive_buffer: usize,
    /// Longest batch in bytes. `send_one` raises it where a batch needs more.
    pub send_buffer: usize,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { receive_buffer: 4 << 20, send_buffer: 1 << 20, timeout: Duration::from_secs(10) }
    }
}

/// A socket to `NETLINK_NETFILTER`, or to another part of the kernel that answers in the same way.
pub struct Socket {
    fd: OwnedFd,
    /// Our address: the kernel repeats it in every answer.
    port: u32,
    /// The next sequence number.
    seq: u32,
    /// Reused by every receive; aligned from `start` on.
    buffer: Box<[u8]>,
    start: usize,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink, or is out of resources.
    pub fn open() -> Result<Self, NetlinkError> {
        Self::with_options(Options::default())
    }

    /// Opens a socket set up in the caller's way.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn with_options(options: Options) -> Result<Self, NetlinkError> {
        Self::of("open a netfilter netlink socket", SockProtocol::NetlinkNetFilter, options)
    }

    /// Opens a socket to `NETLINK_ROUTE`: links, routes, traffic control.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn open_route() -> Result<Self, NetlinkError> {
        Self::of("open a routing netlink socket", SockProtocol::NetlinkRoute, Options::default())
    }

    /// Opens a socket to `NETLINK_SOCK_DIAG`: other programs' sockets.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn open_sock_diag() -> Result<Self, NetlinkError> {
        Self::of("open a socket diagnosis netlink socket", SockProtocol::NetlinkSockDiag, Options::default())
    }

    fn of(what: &'static str, protocol: SockProtocol, options: Options) -> Result<Self, NetlinkError> {
        let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(|errno| NetlinkError::system(what, errno))?;
        let port = Self::set_up(&fd, options).map_err(|errno| NetlinkError::system(what, errno))?;
        let buffer = vec![0; RECEIVE_LEN + RECEIVE_ALIGN].into_boxed_slice();
        let start = buffer.as_ptr().align_offset(RECEIVE_ALIGN).min(RECEIVE_ALIGN);
        Ok(Self { fd, port, seq: 1, buffer, start })
    }

    fn set_up(fd: &OwnedFd, options: Options) -> Result<u32, Errno> {
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid();
        // Both only make errors better: extended acknowledgements are in kernels from 4.12, capped ones
        // (the request is not repeated in an error) from 4.3.
        let _ = setsockopt(fd, ExtAck, &true);
        let _ = setsockopt(fd, CapAck, &true);
        let timeout = TimeVal::new(
            options.timeout.as_secs().try_into().unwrap_or(i64::MAX),
            options.timeout.subsec_micros().into(),
        );
        setsockopt(fd, sockopt::ReceiveTimeout, &timeout)?;
        // The forced variants pass the sysctls `rmem_max` and `wmem_max`, with CAP_NET_ADMIN.
        setsockopt(fd, sockopt::RcvBufForce, &options.receive_buffer)
            .or_else(|_| setsockopt(fd, sockopt::RcvBuf, &options.receive_buffer))?;
        set_send_buffer(fd, options.send_buffer)?;
        Ok(port)
    }

    /// The netlink port that the kernel gave this socket.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// A sequence number that this socket has not used; never 0, which marks notifications.
    pub fn next_seq(&mut self) -> u32 {
        self.reserve_seqs(1)
    }

    /// The first of `count` successive sequence numbers for a batch.
    pub fn reserve_seqs(&mut self, count: usize) -> u32 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (first, next) = match self.seq.checked_add(count) {
            Some(next) => (self.seq, next),
            None => (1, count.saturating_add(1)),
        };
        self.seq = next;
        first
    }

    /// Joins a multicast group (`NFNLGRP_*`). Use a socket of its own: [`Socket::ask`] and
    /// [`Socket::transact`] throw away what waits in the queue.
    ///
    /// # Errors
    /// When the group does not exist or the capability is missing.
    pub fn join(&self, group: u32) -> Result<(), NetlinkError> {
        setsockopt(&self.fd, AddMembership, &group)
            .map_err(|errno| NetlinkError::system("join a netfilter notification group", errno))
    }

    /// Sends all bytes in one `sendmsg`: to the kernel that is what makes a batch one transaction. A batch
    /// over the send buffer is not split; the buffer grows.
    ///
    /// # Errors
    /// [`NetlinkError::MessageTooLarge`] when the buffer cannot grow (without CAP_NET_ADMIN only to
    /// `net.core.wmem_max`).
    pub fn send_one(&self, what: &'static str, bytes: &[u8]) -> Result<(), NetlinkError> {
        let mut sent = self.send(bytes);
        // `netlink_sendmsg` refuses what is longer than the send buffer less 32 bytes. The kernel doubles
        // the value that it is given.
        if sent == Err(Errno::EMSGSIZE) && set_send_buffer(&self.fd, bytes.len()).is_ok() {
            sent = self.send(bytes);
        }
        match sent {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) | Err(Errno::EMSGSIZE) => Err(NetlinkError::MessageTooLarge { what, len: bytes.len() }),
            Err(errno) => Err(NetlinkError::system(what, errno)),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let kernel = NetlinkAddr::new(0, 0);
        sendmsg(self.fd.as_raw_fd(), &[IoSlice::new(bytes)], &[], MsgFlags::empty(), Some(&kernel))
    }

    /// Receives one datagram of the kernel, waiting up to the timeout; to be read by
    /// [`crate::attr::Messages`] and [`Reply`]. For sockets that listen.
    ///
    /// # Errors
    /// [`NetlinkError::NoBuffer`] when messages were lost before this one.
    pub fn recv(&mut self, what: &'static str) -> Result<&[u8], NetlinkError> {
        let len = self.receive(MsgFlags::empty()).map_err(|errno| NetlinkError::receive(what, errno))?;
        Ok(&self.buffer[self.start..self.start + len])
    }

    fn receive(&mut self, how: MsgFlags) -> Result<usize, Errno> {
        loop {
            let buffer = &mut self.buffer[self.start..self.start + RECEIVE_LEN];
            let mut iov = [IoSliceMut::new(buffer)];
            let received = match socket::recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut iov, None, how) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            if received.flags.contains(MsgFlags::MSG_TRUNC) {
                return Err(Errno::EMSGSIZE);
            }
            // Any local process may send to a netlink port; only the kernel has port 0.
            if received.address.is_some_and(|from| from.pid() == 0) {
                return Ok(received.bytes);
            }
        }
    }

    /// Throws away what earlier exchanges left in the queue; see the module's text.
    fn discard_stale(&mut self) {
        // ENOBUFS and EMSGSIZE tell of messages that are of no interest any more; anything else ends it.
        while matches!(self.receive(MsgFlags::MSG_DONTWAIT), Ok(_) | Err(Errno::ENOBUFS | Errno::EMSGSIZE)) {}
    }
}

// Without the 32 KiB of the buffer.
impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("fd", &self.fd).field("port", &self.port).finish_non_exhaustive()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set_send_buffer(fd: &OwnedFd, bytes: usize) -> Result<(), Errno> {
    setsockopt(fd, sockopt::SndBufForce, &bytes).or_else(|_| setsockopt(fd, sockopt::SndBuf, &bytes))
}

#[cfg(test)]
mod tests;
