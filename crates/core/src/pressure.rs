//! How full the connection table is, as a level with hysteresis and a trend.

use serde::{Deserialize, Serialize};

/// The figures of a node's table at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackSample {
    /// Entries in this network namespace.
    pub entries: u64,
    /// The most entries the kernel takes; 0 where it sets no bound.
    pub max: u64,
    /// Packets that tracking dropped and entries given up early for want of room, since boot.
    pub drops: u64,
    /// Entries that could not be inserted, since boot. Where another packet was first (a clash that the kernel could not
    /// resolve) they are among the drops too (`nf_ct_resolve_clash`).
    pub insert_failed: u64,
}

impl ConntrackSample {
    /// Whether packets were lost since then for want of room: clashes say nothing of it.
    fn lost_since(&self, earlier: &ConntrackSample) -> bool {
        let clashes = self.insert_failed.saturating_sub(earlier.insert_failed);
        self.drops.saturating_sub(earlier.drops) > clashes
    }

    /// Entries in per cent of the maximum, rounded down; may exceed 100 where the maximum was lowered.
    pub fn used_percent(&self) -> u32 {
        match self.max {
            0 => 0,
            max => u32::try_from(self.entries.saturating_mul(100) / max).unwrap_or(u32::MAX),
        }
    }
}

/// How near the table is to full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PressureLevel {
    /// Below 60 %.
    #[default]
    Normal,
    /// From 60 %.
    Elevated,
    /// From 80 %.
    High,
    /// From 95 %, or connections were dropped for want of room since the last sample.
    Full,
}

/// Where the entries are going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trend {
    /// Fewer.
    Falling,
    /// Within 2 % of the maximum of where they were.
    #[default]
    Steady,
    /// More.
    Rising,
}

/// Lower bounds of the levels in per cent.
const ELEVATED: u32 = 60;
const HIGH: u32 = 80;
const FULL: u32 = 95;
/// A level is left only this far below its bound, so that it does not flap.
const HYSTERESIS: u32 = 5;
/// A change below this part of the maximum is no trend, in per cent.
const STEADY: u64 = 2;

/// What a sample means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assessment {
    /// The level.
    pub level: PressureLevel,
    /// The trend against the sample that `assess` was given as earlier.
    pub trend: Trend,
}

/// Assesses a sample. `earlier` is the one to compare with, `level` the level until now.
pub fn assess(now: ConntrackSample, earlier: Option<ConntrackSample>, level: PressureLevel) -> Assessment {
    let used = now.used_percent();
    let reached = |used: u32| match used {
        FULL.. => PressureLevel::Full,
        HIGH.. => PressureLevel::High,
        ELEVATED.. => PressureLevel::Elevated,
        _ => PressureLevel::Normal,
    };
    let lost = earlier.is_some_and(|earlier| now.lost_since(&earlier));
    let next = match reached(used) {
        _ if lost => PressureLevel::Full,
        up if up >= level => up,
        // Downwards: as if the table were fuller than it is, and never up by that.
        _ => reached(used.saturating_add(HYSTERESIS)).min(level),
    };
    Assessment { level: next, trend: trend(now, earlier) }
}

fn trend(now: ConntrackSample, earlier: Option<ConntrackSample>) -> Trend {
    let Some(earlier) = earlier else { return Trend::Steady };
    let margin = now.max.saturating_mul(STEADY) / 100;
    if now.entries > earlier.entries.saturating_add(margin) {
        Trend::Rising
    } else if earlier.entries > now.entries.saturating_add(margin) {
        Trend::Falling
    } else {
        Trend::Steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(entries: u64) -> ConntrackSample {
        ConntrackSample { entries, max: 100, ..ConntrackSample::default() }
    }

    #[test]
    fn a_level_is_left_only_below_its_bound() {
        let high = assess(sample(80), None, PressureLevel::Normal).level;
        assert_eq!(high, PressureLevel::High);
        assert_eq!(assess(sample(76), None, high).level, PressureLevel::High);
        assert_eq!(assess(sample(74), None, high).level, PressureLevel::Elevated);
        assert_eq!(assess(sample(10), None, high).level, PressureLevel::Normal);
    }

    #[test]
    fn a_dropped_connection_means_full_whatever_the_figures() {
        let now = ConntrackSample { drops: 5, ..sample(10) };
        assert_eq!(assess(now, Some(sample(10)), PressureLevel::Normal).level, PressureLevel::Full);
        assert_eq!(assess(now, Some(now), PressureLevel::Full).level, PressureLevel::Normal);
    }

    #[test]
    fn a_clash_is_no_want_of_room() {
        let now = ConntrackSample { drops: 5, insert_failed: 5, ..sample(10) };
        assert_eq!(assess(now, Some(sample(10)), PressureLevel::Normal).level, PressureLevel::Normal);
        let more = ConntrackSample { drops: 6, ..now };
        assert_eq!(assess(more, Some(sample(10)), PressureLevel::Normal).level, PressureLevel::Full);
    }

    #[test]
    fn a_table_without_a_bound_is_never_full() {
        let endless = ConntrackSample { entries: 1_000_000, ..ConntrackSample::default() };
        assert_eq!(assess(endless, None, PressureLevel::Normal).level, PressureLevel::Normal);
    }

    #[test]
    fn small_changes_are_no_trend() {
        assert_eq!(assess(sample(52), Some(sample(50)), PressureLevel::Normal).trend, Trend::Steady);
        assert_eq!(assess(sample(53), Some(sample(50)), PressureLevel::Normal).trend, Trend::Rising);
        assert_eq!(assess(sample(40), Some(sample(50)), PressureLevel::Normal).trend, Trend::Falling);
    }
}
