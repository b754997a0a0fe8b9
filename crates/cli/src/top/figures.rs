//! The table's own figures.

use anyhow::{Error, Result};
use notrack_netlink::conntrack::{Conntrack, CpuStats, Stats, sysctl};
use notrack_netlink::socket::NetlinkError;

/// What the kernel tells without a look at the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// How full the table is.
    pub stats: Stats,
    /// What went wrong since boot.
    pub counters: CpuStats,
    /// Buckets of the hash table, where they can be read.
    pub buckets: Option<u32>,
}

impl Figures {
    /// Reads them; some 50 us.
    pub fn read(table: &mut Conntrack) -> Result<Self> {
        Ok(Self {
            stats: table.stats().map_err(explain)?,
            counters: table.cpu_stats()?,
            buckets: sysctl::read(sysctl::BUCKETS).ok(),
        })
    }

    /// How full the table is, in per cent, or `-` where it has no limit.
    pub fn used(&self) -> String {
        let part = self.stats.utilisation();
        part.map_or_else(|| "-".to_owned(), |part| format!("{:.1}%", part * 100.0))
    }
}

/// Says what to do where the kernel refuses the first question.
fn explain(error: NetlinkError) -> Error {
    match &error {
        // What nfnetlink answers for a subsystem that is not there.
        NetlinkError::Kernel { errno: EINVAL, .. } => Error::from(error)
            .context("this kernel shows no connection table: load the module nf_conntrack_netlink"),
        _ => error.into(),
    }
}

const EINVAL: i32 = 22;
