//! When entries are evicted and counted, and what became of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use notrack_core::policy::Mode;

use super::{Agent, EVICTION};
use crate::evict::Done;

/// Entries that audited policies would evict are counted again so long after the last time: it reads the whole table.
const COUNT: Duration = Duration::from_secs(60);

impl Agent {
    /// Sweeps for a table that the kernel runs, and for no other: a table that it does not run bypasses nothing, and the
    /// entries are those of connections that are tracked.
    pub(super) fn sweep_if_due(&mut self) {
        let may_sweep = self.stands && (self.failure.is_some() || !self.engine.is_in_doubt());
        if may_sweep && self.sweep_at.is_some_and(|at| at <= Instant::now()) {
            self.sweep_at = None;
            if let Some(programmed) = &self.programmed {
                self.eviction.sweep(programmed.table.clone());
            }
        }
    }

    /// What mode Enforce would evict, for policies in mode Audit: once they are programmed and now and then.
    pub(super) fn count_evictable_if_due(&mut self) {
        if self.counts || self.count_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        let Some(programmed) = &self.programmed else { return };
        let policies = programmed.rule_set.policies().iter();
        let audited: BTreeSet<String> =
            policies.filter(|policy| policy.mode == Mode::Audit).map(|policy| policy.name.clone()).collect();
        self.count_at = Some(Instant::now() + COUNT);
        if audited.is_empty() {
            return self.evictable.clear();
        }
        self.eviction.count(programmed.table.clone(), audited);
        self.counts = true;
    }

    /// Takes up what was evicted and counted meanwhile, waiting a while for what is under way.
    pub(super) fn take_evicted(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        while let Some(done) = self.eviction.next(until) {
            self.counts &= !matches!(done, Done::Counted(_));
            match done {
                Done::Swept(deleted, failure) => {
                    self.evicted += deleted;
                    self.metrics.evicted(deleted);
                    if deleted > 0 {
                        tracing::info!(entries = deleted, "deleted entries of traffic that is bypassed now");
                    }
                    if let Some(error) = failure {
                        tracing::warn!("entries of bypassed traffic stay in the table: {error}");
                    }
                }
                Done::Counted(Ok(Some(evictable))) => {
                    self.evictable = evictable;
                    self.count_at = Some(Instant::now() + COUNT);
                }
                // For a table that is no more.
                Done::Counted(Ok(None)) => self.count_at = None,
                Done::Counted(Err(error)) => {
                    tracing::warn!("what audited policies would evict is not known: {error}");
                }
            }
        }
    }

    /// Waits out the second sweep, for an agent that will not live to do it.
    pub fn finish_sweeps(&mut self) {
        if let Some(at) = self.sweep_at {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            self.sweep_if_due();
        }
        while self.eviction.is_busy() {
            self.take_evicted(EVICTION);
        }
    }
}
