//! How full the table is, and what went wrong in it.

use super::{CT_GET_STATS, CT_GET_STATS_CPU, Conntrack, sysctl};
use crate::attr::{AttrError, Attrs};
use crate::socket::{NetlinkError, flags};

/// How full the table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries of this network namespace.
    pub entries: u32,
    /// Most entries that one namespace may have (`nf_conntrack_max`, one figure for the machine). 0 means
    /// no limit.
    pub max: u32,
}

impl Stats {
    /// Entries as a part of the maximum, 0 to 1, or a little more: the kernel checks before it counts.
    /// Nothing where there is no limit.
    #[must_use]
    pub fn utilisation(&self) -> Option<f64> {
        (self.max != 0).then(|| f64::from(self.entries) / f64::from(self.max))
    }
}

/// Counters since boot, summed over all CPUs (`struct ip_conntrack_stat`). Each CPU's counter is 32 bits
/// wide and wraps. A kernel that does not have a counter leaves it 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Entries found by others than packets; the packet path does not count here.
    pub found: u64,
    /// Packets that could not be tracked.
    pub invalid: u64,
    /// Entries inserted by others than packets.
    pub insert: u64,
    /// Entries not inserted: another packet of the same flow was first.
    pub insert_failed: u64,
    /// Packets dropped: the table was full, memory was short or a clash could not be resolved.
    pub drop: u64,
    /// Entries thrown out, not yet assured, to make room for new ones.
    pub early_drop: u64,
    /// Packets of a protocol with errors (ICMP).
    pub error: u64,
    /// Look-ups that had to start again, because the table was resized or the chain changed.
    pub search_restart: u64,
    /// Clashes resolved.
    pub clash_resolve: u64,
    /// Entries not inserted because a hash chain was too long: more buckets are wanted.
    pub chain_toolong: u64,
}

impl Conntrack {
    /// Entries and maximum. Costs 30 to 70 us.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn stats(&mut self) -> Result<Stats, NetlinkError> {
        let mut stats = Stats::default();
        let mut max = None;
        // The answer claims to be one of several (NLM_F_MULTI) and no end follows, hence the acknowledgement
        // that `request` asks for.
        self.socket.request(
            "read the connection table's figures",
            (CT_GET_STATS, 0, 0),
            |_| {},
            |message| {
                for attr in message.attrs()? {
                    let attr = attr?;
                    match attr.kind {
                        1 => stats.entries = attr.be32()?,
                        2 => max = Some(attr.be32()?),
                        _ => {}
                    }
                }
                Ok(())
            },
        )?;
        // Kernels before 4.18 give the entries alone.
        stats.max = max.or_else(|| sysctl::read(sysctl::MAX).ok()).unwrap_or(0);
        Ok(stats)
    }

    /// Counters, summed over all CPUs. Costs 15 to 25 us on two CPUs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cpu_stats(&mut self) -> Result<CpuStats, NetlinkError> {
        let mut sum = CpuStats::default();
        self.socket.request(
            "read the connection table's counters",
            (CT_GET_STATS_CPU, flags::DUMP, 0),
            |_| {},
            |message| sum.add(message.attrs()?),
        )?;
        Ok(sum)
    }
}

impl CpuStats {
    /// Adds one CPU's attributes (`enum ctattr_stats_cpu`).
    fn add(&mut self, attrs: Attrs<'_>) -> Result<(), AttrError> {
        for attr in attrs {
            let attr = attr?;
            let counter = match attr.kind {
                2 => &mut self.found,
                4 => &mut self.invalid,
                8 => &mut self.insert,
                9 => &mut self.insert_failed,
                10 => &mut self.drop,
                11 => &mut self.early_drop,
                12 => &mut self.error,
                13 => &mut self.search_restart,
                14 => &mut self.clash_resolve,
                15 => &mut self.chain_toolong,
                _ => continue,
            };
            *counter += u64::from(attr.be32()?);
        }
        Ok(())
    }
}
