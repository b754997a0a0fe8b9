//! Making entries of TCP connections that were not tracked until now.
//!
//! Nobody knows their windows and sequence numbers. An entry that was never given any takes them from the first
//! packet of each side (`tcp_in_window`, `td_maxwin == 0`); the window scale stays unknown, so that the entry is
//! liberal: packets beyond the window are no INVALID ones.

use std::net::SocketAddr;
use std::thread;

use super::{CT_NEW, Conntrack, Family, Pace, Status, TcpState, Tuple, cta, write};
use crate::attr::Buffer;
use crate::socket::{NetlinkError, Refusal, Reply, flags};

const WHAT: &str = "make entries of the connection table";
/// `IP_CT_TCP_FLAG_BE_LIBERAL`
const BE_LIBERAL: u8 = 0x08;

/// What becomes of an entry that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is left as it is.
    Stays,
    /// It is stale, as packets have passed it by: it becomes what a new one would be, and keeps its translation, mark
    /// and helper.
    IsRenewed,
}

/// What became of connections that were to be tracked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Tracked from now on.
    pub adopted: u64,
    /// Left alone: they have an entry, perhaps with another original tuple (`EEXIST`), or one that a helper foresaw
    /// (`EBUSY`).
    pub known: u64,
    /// Not taken, because the table is full (`ENOMEM`).
    pub full: u64,
}

impl Conntrack {
    /// Tracks open TCP connections from now on, each given as (client, server), as if both sides had been seen. An
    /// entry ends `timeout` seconds after the last packet. It sleeps between batches.
    ///
    /// # Errors
    /// When the kernel refuses one for another reason than those of [`Adopted`]; others may be tracked by then.
    pub fn adopt_tcp(
        &mut self,
        connections: impl IntoIterator<Item = (SocketAddr, SocketAddr)>,
        timeout: u32,
        existing: Existing,
        pace: Pace,
    ) -> Result<Adopted, NetlinkError> {
        let mut total = Adopted::default();
        let mut connections = connections.into_iter();
        let size = pace.batch.max(1);
        loop {
            let batch: Vec<_> = connections.by_ref().take(size).collect();
            if batch.is_empty() {
                return Ok(total);
            }
            let done = self.adopt_batch(&batch, timeout, existing)?;
            total.adopted += done.adopted;
            total.known += done.known;
            total.full += done.full;
            if batch.len() == size && !pace.pause.is_zero() {
                thread::sleep(pace.pause);
            }
        }
    }

    fn adopt_batch(
        &mut self,
        connections: &[(SocketAddr, SocketAddr)],
        timeout: u32,
        existing: Existing,
    ) -> Result<Adopted, NetlinkError> {
        let mut batch = Buffer::with_capacity(connections.len() * 256);
        let first = self.socket.reserve_seqs(connections.len());
        for (seq, (client, server)) in (first..).zip(connections) {
            message(&mut batch, seq, (*client, *server), timeout, existing);
        }
        let batch = batch.finish().map_err(|source| NetlinkError::Malformed { what: WHAT, source })?;
        let last = first + u32::try_from(connections.len().saturating_sub(1)).unwrap_or(u32::MAX);
        // Only refusals are answered.
        let mut done = Adopted { adopted: connections.len() as u64, ..Adopted::default() };
        let mut failed: Option<Refusal> = None;
        self.socket.transact(WHAT, &batch, &(first..=last), |reply| {
            let Reply::Refused(refusal) = reply else {
                return;
            };
            done.adopted = done.adopted.saturating_sub(1);
            match refusal.errno {
                libc::EEXIST | libc::EBUSY => done.known += 1,
                libc::ENOMEM => done.full += 1,
                _ => failed = failed.take().or(Some(refusal)),
            }
        })?;
        match failed {
            None => Ok(done),
            Some(refusal) => Err(refusal.into_error(WHAT)),
        }
    }
}

fn message(
    batch: &mut Buffer,
    seq: u32,
    (client, server): (SocketAddr, SocketAddr),
    timeout: u32,
    existing: Existing,
) {
    let family = Family::of(client.ip()).number();
    let flags = flags::REQUEST
        | flags::CREATE
        | match existing {
            Existing::Stays => flags::EXCL,
            Existing::IsRenewed => 0,
        };
    batch.nfnl(CT_NEW, flags, seq, family, 0, |writer| {
        write::tuple(writer, cta::TUPLE_ORIG, &Tuple::tcp(client, server), 0);
        write::tuple(writer, cta::TUPLE_REPLY, &Tuple::tcp(server, client), 0);
        // Without CONFIRMED the kernel takes the status for a wish to clear that bit, and refuses
        // (`ctnetlink_change_status`).
        writer.be32(cta::STATUS, (Status::ASSURED | Status::SEEN_REPLY | Status::CONFIRMED).0);
        writer.be32(cta::TIMEOUT, timeout);
        writer.nested(cta::PROTOINFO, |writer| {
            writer.nested(cta::PROTOINFO_TCP, |writer| {
                writer.u8(cta::PROTOINFO_TCP_STATE, TcpState::Established as u8);
                // `struct nf_ct_tcp_flags`: the flags, and which of them count.
                writer.bytes(cta::PROTOINFO_TCP_FLAGS_ORIGINAL, &[BE_LIBERAL, BE_LIBERAL]);
                writer.bytes(cta::PROTOINFO_TCP_FLAGS_REPLY, &[BE_LIBERAL, BE_LIBERAL]);
            });
        });
    });
}
