//! The table's own figures.

use anyhow::{Context, Result};
use notrack_netlink::conntrack::{Conntrack, CpuStats, Stats, sysctl};

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
            stats: table.stats().context(HINT)?,
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

/// What to do when the first question is refused.
const HINT: &str = "cannot read this machine's connection table (try sudo, run it on the node itself, and see \
                    that nf_conntrack_netlink is loaded)";
