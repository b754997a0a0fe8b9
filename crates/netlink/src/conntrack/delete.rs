//! Deleting entries, each named exactly.
//!
//! A `IPCTNL_MSG_CT_DELETE` without a tuple empties the whole table, and kernels before 6.6 or so do that
//! even when it carries a zone. Every message that is built here has the original tuple: with it the kernel
//! deletes one entry or none.

use std::thread;
use std::time::Duration;

use super::{CT_DELETE, Conntrack, Entry, Family, cta, write};
use crate::attr::Buffer;
use crate::socket::{NetlinkError, Refusal, Reply, flags};

const WHAT: &str = "delete entries of the connection table";

/// How fast entries are deleted. One costs the kernel a microsecond or two, under the lock of its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Entries in one message to the kernel; at least 1.
    pub batch: usize,
    /// Rest after each batch.
    pub pause: Duration,
}

impl Default for Pace {
    /// Some 40,000 a second.
    fn default() -> Self {
        Self { batch: 256, pause: Duration::from_millis(5) }
    }
}

/// What became of the entries that were to be deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Deleted by us.
    pub deleted: u64,
    /// No longer there.
    pub gone: u64,
    /// Kept by the kernel: flows in a flowtable, on kernels before 5.14 (`EBUSY`).
    pub busy: u64,
}

impl Conntrack {
    /// Deletes this entry: by its original tuple, its zone and its id. Gives whether it was there. A later
    /// entry of the same tuple usually stays; see [`Entry::id`] for when it does not.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than its absence.
    pub fn delete(&mut self, entry: &Entry) -> Result<bool, NetlinkError> {
        let deleted = self.delete_batch(&[*entry])?;
        Ok(deleted.deleted == 1)
    }

    /// Deletes entries, several in one message, at a pace. It sleeps between batches.
    ///
    /// # Errors
    /// When the kernel refuses one for another reason than its absence; those before it are deleted.
    pub fn delete_all(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
        pace: Pace,
    ) -> Result<Deleted, NetlinkError> {
        let mut total = Deleted::default();
        let mut entries = entries.into_iter();
        let size = pace.batch.max(1);
        let mut batch = Vec::with_capacity(size);
        loop {
            batch.clear();
            batch.extend(entries.by_ref().take(size));
            if batch.is_empty() {
                return Ok(total);
            }
            let done = self.delete_batch(&batch)?;
            total.deleted += done.deleted;
            total.gone += done.gone;
            total.busy += done.busy;
            if batch.len() == size && !pace.pause.is_zero() {
                thread::sleep(pace.pause);
            }
        }
    }

    fn delete_batch(&mut self, entries: &[Entry]) -> Result<Deleted, NetlinkError> {
        let mut batch = Buffer::with_capacity(entries.len() * 128);
        let first = self.socket.reserve_seqs(entries.len());
        for (seq, entry) in (first..).zip(entries) {
            message(&mut batch, seq, entry);
        }
        let batch = batch.finish().map_err(|source| NetlinkError::Malformed { what: WHAT, source })?;
        let last = first + u32::try_from(entries.len().saturating_sub(1)).unwrap_or(u32::MAX);
        // Only refusals are answered: no answer means deleted.
        let mut done = Deleted { deleted: entries.len() as u64, ..Deleted::default() };
        let mut failed: Option<Refusal> = None;
        self.socket.transact(WHAT, &batch, &(first..=last), |reply| {
            let Reply::Refused(refusal) = reply else {
                return;
            };
            done.deleted = done.deleted.saturating_sub(1);
            match refusal.errno {
                libc::ENOENT => done.gone += 1,
                libc::EBUSY => done.busy += 1,
                _ => failed = failed.take().or(Some(refusal)),
            }
        })?;
        match failed {
            None => Ok(done),
            Some(refusal) => Err(refusal.into_error(WHAT)),
        }
    }
}

fn message(batch: &mut Buffer, seq: u32, entry: &Entry) {
    let family = Family::of(entry.original.source).number();
    batch.nfnl(CT_DELETE, flags::REQUEST, seq, family, 0, |writer| {
        write::tuple(writer, cta::TUPLE_ORIG, &entry.original, entry.zone.original);
        writer.be32(cta::ID, entry.id);
        if entry.zone.both != 0 {
            writer.be16(cta::ZONE, entry.zone.both);
        }
    });
}
