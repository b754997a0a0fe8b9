//! Rules of ours in other programs' chains ([`Adapter`]): found by their comment, added and removed, in nf_tables and
//! in the old iptables.
//!
//! What is another program's stays as it is, its counters too. A rule of ours is known by its comment alone
//! ([`OWN_COMMENT`]): as the userdata of a rule in nf_tables, as the match `comment` in both back ends of iptables,
//! so that each table's own tool shows, saves and restores it.
//!
//! [`OWN_COMMENT`]: notrack_core::host::OWN_COMMENT

mod expressions;
mod legacy;
mod nft;
mod xt;

use std::collections::BTreeSet;
use std::io;

use notrack_core::host::{Adapter, Backend, Carried, OWN_COMMENT, TableFamily, TableId};
use notrack_core::net::{PortRange, Proto};
use thiserror::Error;

use crate::attr::AttrError;
use crate::socket::NetlinkError;

/// A rule of ours as it was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Present {
    /// Its table.
    pub table: TableId,
    /// Its chain.
    pub chain: String,
    /// nf_tables' handle; of the old iptables the number in its chain, from 1.
    pub handle: u64,
    /// Its comment: [`Adapter::comment`] of what it was made from.
    pub comment: String,
}

/// Why rules could not be found or changed.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// The exchange failed, with no table to blame.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The batch could not be built.
    #[error("the rules cannot be written: {0}")]
    Encode(#[from] AttrError),
    /// nf_tables refused one rule: none was changed.
    #[error("nf_tables refused to {action} chain {chain} of table {table}: {source}")]
    Refused {
        /// What was to be done.
        action: &'static str,
        /// The table.
        table: TableId,
        /// The chain.
        chain: String,
        /// Why.
        source: Box<NetlinkError>,
    },
    /// Another process owns the table (table flag `owner`): nobody else may change it.
    #[error(
        "table {table} belongs to another process (netlink port {port}), which alone may change it: have that process \
         accept untracked packets in chain {chain}, or turn its ownership of the table off (firewalld: \
         NftablesTableOwner=no)"
    )]
    Owned {
        /// The table.
        table: TableId,
        /// The chain.
        chain: String,
        /// The owner's netlink port; the process id where that process has one netlink socket.
        port: u32,
    },
    /// The place of a rule is not there (any more).
    #[error("{} of table {table} is gone: read the host's rules again", place(chain, *.before))]
    Gone {
        /// The table.
        table: TableId,
        /// The chain.
        chain: String,
        /// The rule before which the new one was to go.
        before: Option<u64>,
    },
    /// A rule that this kind of table cannot hold.
    #[error("a rule for chain {chain} of table {table} cannot be written: {reason}")]
    Unfit {
        /// The table.
        table: TableId,
        /// The chain.
        chain: String,
        /// What does not fit, and what would.
        reason: &'static str,
    },
    /// Other programs changed the rules between each look and the change that followed.
    #[error("{what} kept changing, {tries} times in a row: try again when the other program is done")]
    Unsteady {
        /// Which rules.
        what: String,
        /// How often it was tried.
        tries: u32,
    },
    /// Another program holds the lock of the old iptables.
    #[error(
        "table {table} cannot be changed while another program holds {file}: see who does with fuser {file}"
    )]
    Locked {
        /// The table.
        table: TableId,
        /// The lock.
        file: &'static str,
    },
    /// The kernel refused to show or replace a table of the old iptables.
    #[error("cannot {action} table {table}{}: {source}{}", chain_names(.chains), hint(.source))]
    Legacy {
        /// What was to be done.
        action: &'static str,
        /// The table.
        table: TableId,
        /// The chains that were to change.
        chains: Vec<String>,
        /// Why.
        source: io::Error,
    },
    /// A table of the old iptables that does not have the layout of `ip_tables.h`.
    #[error("table {table} has a layout that is not understood ({what}): change it with its own tool")]
    Layout {
        /// The table.
        table: TableId,
        /// What is odd about it.
        what: &'static str,
    },
}

fn place(chain: &str, before: Option<u64>) -> String {
    match before {
        Some(handle) => format!("chain {chain} or its rule {handle}"),
        None => format!("chain {chain}"),
    }
}

fn chain_names(chains: &[String]) -> String {
    if chains.is_empty() { String::new() } else { format!(", chains {}", chains.join(", ")) }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (this needs CAP_NET_ADMIN over the network namespace)",
        io::ErrorKind::NotFound => " (load the kernel modules xt_conntrack, xt_comment and xt_tcpudp)",
        _ => "",
    }
}

/// Every rule of ours in any table of the calling thread's network namespace.
///
/// # Errors
/// When the kernel refuses to show its rules (CAP_NET_ADMIN), or they change faster than they can be read.
pub fn present() -> Result<BTreeSet<Present>, AdapterError> {
    let mut present = nft::present()?;
    legacy::present(&mut present)?;
    Ok(present)
}

/// Removes and adds rules. One that is there already is not added, one that is not there any more is not missed.
///
/// All changes of nf_tables, iptables-nft's among them, are one transaction, made for the ruleset in which the rules
/// to be removed were last seen; all changes of one table of the old iptables are one replacement. Each is done as a
/// whole or not at all; nf_tables is first.
///
/// [`Adapter::before`] is taken as it is: whether the rules have changed since it was read, the caller must know.
///
/// # Errors
/// As [`AdapterError`] lists them. What was done before the error stands: [`present`] tells.
pub fn apply(add: &[Adapter], remove: &BTreeSet<Present>) -> Result<(), AdapterError> {
    let is_legacy = |table: &TableId| table.backend == Backend::IptablesLegacy;
    let (legacy_add, nft_add): (Vec<&Adapter>, Vec<&Adapter>) =
        add.iter().partition(|adapter| is_legacy(&adapter.table));
    let (legacy_remove, nft_remove): (Vec<&Present>, Vec<&Present>) =
        remove.iter().partition(|present| is_legacy(&present.table));
    nft::apply(&nft_add, &nft_remove)?;
    let tables: BTreeSet<&TableId> = (legacy_add.iter().map(|adapter| &adapter.table))
        .chain(legacy_remove.iter().map(|present| &present.table))
        .collect();
    for table in tables {
        legacy::apply(
            table,
            &legacy_add.iter().copied().filter(|adapter| adapter.table == *table).collect::<Vec<_>>(),
            &legacy_remove.iter().copied().filter(|present| present.table == *table).collect::<Vec<_>>(),
        )?;
    }
    Ok(())
}

fn is_ours(comment: &str) -> bool {
    comment.starts_with(OWN_COMMENT)
}

/// Refuses what no rule in this table could match, or what it cannot express.
fn check(adapter: &Adapter) -> Result<(), AdapterError> {
    /// `IFNAMSIZ` less the NUL.
    const LONGEST_INTERFACE: usize = 15;
    /// The longest comment that nft reads back, without its NUL (`NFTNL_UDATA_COMMENT_MAXLEN`).
    const LONGEST_COMMENT: usize = 127;
    let packets = &adapter.packets;
    let unfit = |reason| {
        Err(AdapterError::Unfit { table: adapter.table.clone(), chain: adapter.chain.clone(), reason })
    };
    let family = packets.sources.family;
    if family != packets.destinations.family || !adapter.table.family.sees(family) {
        return unfit("its addresses are not of the table's family");
    }
    if adapter.table.backend != Backend::Nft {
        if adapter.table.family == TableFamily::Inet {
            return unfit("iptables has no tables of both families");
        }
        if packets.sources.prefix_len().is_none() || packets.destinations.prefix_len().is_none() {
            return unfit("iptables takes prefixes, not ranges of addresses: split the range");
        }
    }
    if packets.opens.is_some() && packets.carried != Carried::Transport(Proto::Tcp) {
        return unfit("TCP flags of another protocol");
    }
    let has_ports =
        [packets.source_ports, packets.destination_ports].iter().any(|ports| *ports != PortRange::ALL);
    if has_ports && matches!(packets.carried, Carried::IcmpError(_)) {
        return unfit("ports of ICMP");
    }
    for name in [&packets.in_interface, &packets.out_interface].into_iter().flatten() {
        let name = name.strip_suffix('*').unwrap_or(name);
        if name.len() > LONGEST_INTERFACE || name.contains('\0') {
            return unfit("no interface has such a name: at most 15 bytes");
        }
    }
    let comment = adapter.comment();
    if comment.len() > LONGEST_COMMENT || comment.contains(['\0', '"']) {
        return unfit("its policy's name does not fit a comment: at most 100 characters, no quotes");
    }
    Ok(())
}
