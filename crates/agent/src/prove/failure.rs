//! Why nothing is proved: what was seen, and where to look.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use notrack_netlink::adapters::AdapterError;
use notrack_netlink::nft::NftError;
use notrack_netlink::socket::NetlinkError;
use thiserror::Error;

use crate::engine::EngineError;
use crate::lock::LockError;

/// What the kernel needs; the lack of a capability is named by the error itself.
const MODULES: &str = ". Has the kernel nf_tables, nf_conntrack and nft_ct (lsmod, modprobe, dmesg)?";

/// What was not proved, what was seen, and where to look.
#[derive(Debug, Error)]
pub enum Failure {
    /// This process lacks something that has nothing to do with rules.
    #[error("not begun: {0}")]
    Process(#[from] io::Error),
    /// An agent lives here.
    #[error("{0}; prove is for a network namespace of its own, such as a pod's")]
    Agent(#[from] LockError),
    /// Rules of ours are here.
    #[error(
        "{0} is in this network namespace: prove is for one of its own, such as a pod's. What no agent needs any more goes \
         with: notrack-agent remove"
    )]
    Occupied(&'static str),
    /// What is in the namespace is not known.
    #[error("the rules of this network namespace cannot be read: {0}{MODULES}")]
    Unreadable(#[from] NftError),
    /// The same, of other programs' rules.
    #[error("the rules of this network namespace cannot be read: {0}{MODULES}")]
    AdaptersUnreadable(#[from] AdapterError),
    /// No address or no port to listen on.
    #[error("nothing to connect to: {0}")]
    NoServer(String),
    /// The policy was not made.
    #[error("the policy of the proof is refused: {0}")]
    Policy(String),
    /// The kernel did not take the rules, or shows others.
    #[error("the rules are not programmed: {0}{MODULES}")]
    Rules(#[from] EngineError),
    /// They bypass nothing.
    #[error("what else is in this network namespace leaves nothing to bypass:\n  {0}")]
    NotInForce(String),
    /// A connection was not made, or its bytes were lost.
    #[error(
        "no connection to {to}, which is {which}: {source}. Is lo up, and does no other rule of this network namespace drop \
         the packets (ip link, nft list ruleset, iptables-save)?"
    )]
    Connection {
        /// The server.
        to: SocketAddr,
        /// "bypassed" or "tracked".
        which: &'static str,
        /// What was seen.
        source: io::Error,
    },
    /// The connection table cannot be read.
    #[error("the connection table cannot be read: {0}. Is the module nf_conntrack_netlink there?")]
    Table(#[from] NetlinkError),
    /// The control failed: nothing tells a bypass from a kernel that tracks nothing.
    #[error(
        "the connection to {to} has no entry in the connection table, though no policy names its port: nothing is proved \
         where nothing is tracked. Look for other rules that say notrack (nft list ruleset, iptables-save -t raw), and for the \
         module nf_conntrack"
    )]
    NotTracked {
        /// The server that no policy names.
        to: SocketAddr,
    },
    /// The bypass failed.
    #[error(
        "packets to and from {at} were bypassed {times} times, and {entries} entries of theirs are in the connection table: the \
         rules are there and do not work. Look for other rules at raw priority or before (nft list ruleset), and \
         for the module nft_ct"
    )]
    Tracked {
        /// The server that the policy names.
        at: SocketAddr,
        /// By the policy's counter.
        times: u64,
        /// In the connection table.
        entries: usize,
    },
    /// There was no end of it, or it ended without a word.
    #[error("the proof came to no result, for which it has {0:?}")]
    Late(Duration),
    /// The rules stay.
    #[error("table inet notrack-dev is not removed: {0}; try: notrack-agent remove")]
    Left(String),
    /// Two of these.
    #[error("{0}; and {1}")]
    Both(Box<Failure>, Box<Failure>),
}
