//! nf_tables: our one table, read back and changed one transaction at a time.

mod decode;
mod encode;
mod expression;
pub mod fake;
mod message;
pub(crate) mod uapi;

use std::collections::BTreeMap;

pub(crate) use decode::{inner, number, text, value};
use notrack_core::diff::{CounterValue, Observed, Op, Transaction};
use thiserror::Error;

use crate::attr::{Buffer, HEADER_LEN, NFGENMSG_LEN};
use crate::socket::{NetlinkError, Options, Refusal, Reply, Socket};

/// Why nf_tables did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NftError {
    /// One message of a transaction was refused: nothing of it was applied.
    #[error("nf_tables refused to {op}: {source}")]
    Refused {
        /// What the message was for.
        op: String,
        /// Why.
        source: NetlinkError,
    },
    /// Another process owns our table (table flag `owner`).
    #[error(
        "table inet notrack-dev is owned by another process (netlink port {port}): stop the agent that runs in this \
         network namespace first"
    )]
    OwnedByAnother {
        /// The owner's netlink port; the process id where that process has one netlink socket.
        port: u32,
    },
    /// The ruleset kept changing while it was read.
    #[error("nf_tables changed {tries} times while it was read: too many changes by other programs")]
    Unsteady {
        /// How often it was read.
        tries: u32,
    },
    /// The exchange failed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The batch could not be built.
    #[error("the transaction cannot be written: {0}")]
    Encode(#[from] crate::attr::AttrError),
    /// A name that C cannot hold.
    #[error("the name {0:?} holds a NUL byte")]
    Name(String),
}

/// What an agent needs of nf_tables; the kernel and the fake give it alike.
pub trait Netfilter {
    /// Reads our table; `None` where there is none.
    fn observe(&mut self) -> Result<Option<Observed>, NftError>;
    /// Applies a transaction completely or not at all.
    fn commit(&mut self, transaction: &Transaction) -> Result<(), NftError>;
}

/// How often a ruleset that changes while it is read is read again.
pub(crate) const MOST_READS: u32 = 8;
/// How often a commit is tried again that another program's commit overtook.
const MOST_COMMITS: u32 = 64;

/// nf_tables of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    /// The table flags to ask for: fewer on kernels that lack them.
    flags: u32,
    /// Whether this socket has made or adopted the table.
    holds: bool,
    /// Whether the kernel made this socket the table's owner.
    owns: bool,
}

impl Nft {
    /// Opens nf_tables of the calling thread's network namespace. While it is open, and once it has written,
    /// other programs cannot change our table on kernels that have table owners (6.9 and later); afterwards the
    /// table stands.
    pub fn open() -> Result<Nft, NftError> {
        let options = Options { receive_buffer: 16 << 20, ..Options::default() };
        let socket = Socket::with_options(options)?;
        Ok(Nft {
            socket,
            flags: uapi::NFT_TABLE_F_OWNER | uapi::NFT_TABLE_F_PERSIST,
            holds: false,
            owns: false,
        })
    }

    /// As [`Nft::open`], for a program that ends at once: it owns nothing. An owner's table is left with the flag
    /// `persist`, which nft before 1.0.9 lists as a line that it cannot read again.
    pub fn open_without_owning() -> Result<Nft, NftError> {
        Ok(Nft { flags: 0, ..Nft::open()? })
    }

    /// The generation of the ruleset: it grows by one with every commit of anybody in this namespace.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        Ok(generation(&mut self.socket)?)
    }

    /// The named counters of our table.
    pub fn counters(&mut self) -> Result<BTreeMap<String, CounterValue>, NftError> {
        decode::counters(&mut self.socket)
    }

    /// Whether other programs are kept from changing the table that this socket holds.
    pub fn is_owner(&self) -> bool {
        self.owns
    }

    fn try_commit(&mut self, ops: &[Op], flags: u32) -> Result<(), NftError> {
        let generation = self.generation()?;
        let batch = encode::batch(ops, flags, generation)?;
        let mut refusals: Vec<Refusal> = Vec::new();
        let mut acknowledged = false;
        let outcome =
            self.socket.transact("change nf_tables", &batch.bytes, &batch.seqs, |reply| match reply {
                Reply::Refused(refusal) => refusals.push(refusal),
                Reply::Ack { .. } => acknowledged = true,
                Reply::Data(_) => {}
            });
        // The first refusal is the cause; those after it follow from it.
        if let Some(refusal) = refusals.into_iter().next() {
            let place = refusal.seq.checked_sub(batch.first_op).map(|place| place as usize);
            let op = place.and_then(|place| batch.ops.get(place)).cloned();
            let source = refusal.into_error("nf_tables");
            return Err(match op {
                _ if matches!(source, NetlinkError::Restart { .. }) => source.into(),
                Some(op) => NftError::Refused { op, source },
                None => source.into(),
            });
        }
        outcome?;
        if acknowledged || !batch.acknowledged {
            Ok(())
        } else {
            Err(NetlinkError::NoBuffer { what: "change nf_tables" }.into())
        }
    }

    /// The owner's netlink port, where our table has a living owner.
    fn owner(&mut self) -> Result<Option<u32>, NftError> {
        Ok(decode::table(&mut self.socket)?.and_then(|table| table.owner))
    }
}

impl Netfilter for Nft {
    fn observe(&mut self) -> Result<Option<Observed>, NftError> {
        for _ in 0..MOST_READS {
            let before = self.generation()?;
            let observed = match decode::observe(&mut self.socket) {
                Err(NftError::Netlink(error)) if error.is_transient() => continue,
                // A chain or set that went between two dumps.
                Err(NftError::Netlink(error)) if error.errno() == Some(libc::ENOENT) => continue,
                other => other?,
            };
            if self.generation()? == before {
                return Ok(observed);
            }
        }
        Err(NftError::Unsteady { tries: MOST_READS })
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        if transaction.is_empty() {
            return Ok(());
        }
        let mut ops = transaction.ops.clone();
        let removes = ops.as_slice() == [Op::DeleteTable];
        if self.flags != 0 && !self.holds && !removes && ops.first() != Some(&Op::AddTable) {
            // Adopts the table that an earlier agent left; does nothing where it is ours already.
            let place = usize::from(ops.first() == Some(&Op::DeleteTable));
            if ops.get(place) != Some(&Op::AddTable) {
                ops.insert(0, Op::AddTable);
            }
        }
        let mut flags = self.flags;
        for _ in 0..MOST_COMMITS {
            match self.try_commit(&ops, flags) {
                Ok(()) => {
                    if ops.contains(&Op::AddTable) {
                        self.owns = flags & uapi::NFT_TABLE_F_OWNER != 0;
                    }
                    self.holds = !removes;
                    self.owns &= self.holds;
                    return Ok(());
                }
                // Another program committed between our read and our write: the transaction names what it
                // changes, so it is either still right or refused.
                Err(NftError::Netlink(NetlinkError::Restart { .. })) => continue,
                Err(NftError::Refused { op, source })
                    if source.errno() == Some(libc::EOPNOTSUPP)
                        && flags != 0
                        && ops.contains(&Op::AddTable) =>
                {
                    // A kernel below 6.9, or a table that was made without an owner.
                    tracing::debug!(%op, "the table cannot be owned");
                    flags = 0;
                }
                Err(error @ NftError::Refused { source: NetlinkError::PermissionDenied { .. }, .. }) => {
                    return Err(match self.owner() {
                        Ok(Some(port)) => NftError::OwnedByAnother { port },
                        _ => error,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Err(NetlinkError::Restart { what: "change nf_tables" }.into())
    }
}

/// The generation of the ruleset of the socket's namespace.
pub(crate) fn generation(socket: &mut Socket) -> Result<u32, NetlinkError> {
    let mut generation = 0;
    socket.request(
        "read the generation of nf_tables",
        (uapi::kind(uapi::NFT_MSG_GETGEN), 0, 0),
        |_| {},
        |message| {
            if let Some(attr) = message.attrs()?.find(uapi::NFTA_GEN_ID)? {
                generation = attr.be32()?;
            }
            Ok(())
        },
    )?;
    Ok(generation)
}

/// The bytes of one message behind its headers, as [`Buffer`] writes them.
fn body(fill: impl FnOnce(&mut crate::attr::Writer<'_>)) -> Result<Vec<u8>, crate::attr::AttrError> {
    let mut buffer = Buffer::with_capacity(256);
    buffer.nfnl(0, 0, 0, 0, 0, fill);
    Ok(buffer.finish()?.split_off(HEADER_LEN + NFGENMSG_LEN))
}
