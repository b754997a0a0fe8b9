//! When a status is written: at once where something of substance changed, within a budget; rarely for figures.

use std::collections::BTreeMap;
use std::time::Duration;

use notrack_api::NoTrackPolicyStatus;
use notrack_runtime::bucket::TokenBucket;
use tokio::time::Instant;

use crate::write::WriteError;

/// Writes of a policy's status in a row, and the time after which another one is due.
const BURST: u32 = 3;
const REFILL: Duration = Duration::from_secs(10);
/// Figures alone are written no more often.
const FIGURES: Duration = Duration::from_secs(60);

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// The policy's name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its status.
    pub status: NoTrackPolicyStatus,
}

/// What was written of each policy, and what ought to be.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    uid: String,
    wanted: NoTrackPolicyStatus,
    /// The last one known to be in the API.
    written: Option<NoTrackPolicyStatus>,
    written_at: Instant,
    budget: TokenBucket,
    in_flight: bool,
    failures: u32,
    not_before: Option<Instant>,
}

impl Ledger {
    /// The status that is in the API, as far as is known.
    pub fn written(&self, name: &str, uid: &str) -> Option<&NoTrackPolicyStatus> {
        self.entries.get(name).filter(|entry| entry.uid == uid)?.written.as_ref()
    }

    /// What the status of a policy ought to be. `seen` is what the API has of it, when it is met for the first time.
    pub fn want(
        &mut self,
        name: &str,
        uid: &str,
        wanted: NoTrackPolicyStatus,
        seen: Option<&NoTrackPolicyStatus>,
        now: Instant,
    ) {
        match self.entries.get_mut(name) {
            Some(entry) if entry.uid == uid => entry.wanted = wanted,
            _ => {
                let entry = Entry {
                    uid: uid.to_owned(),
                    wanted,
                    written: seen.cloned(),
                    written_at: now,
                    budget: TokenBucket::new(BURST, REFILL, now.into_std()),
                    in_flight: false,
                    failures: 0,
                    not_before: None,
                };
                self.entries.insert(name.to_owned(), entry);
            }
        }
    }

    /// Forgets the policies that are gone.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| exists(name));
    }

    /// What is wanted of all policies.
    pub fn wanted(&self) -> impl Iterator<Item = &NoTrackPolicyStatus> {
        self.entries.values().map(|entry| &entry.wanted)
    }

    /// What is to be written now; it counts as being written until [`Ledger::wrote`].
    pub fn take_due(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        for (name, entry) in &mut self.entries {
            if entry.due(now).is_some_and(|time| time <= now) {
                entry.in_flight = true;
                entry.budget.take(now.into_std());
                let (uid, status) = (entry.uid.clone(), entry.wanted.clone());
                due.push(Due { name: name.clone(), uid, status });
            }
        }
        due
    }

    /// When the next one is to be written.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.due(now)).min()
    }

    /// How a write ended.
    pub fn wrote(&mut self, name: &str, result: Result<NoTrackPolicyStatus, &WriteError>, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.in_flight = false;
        match result {
            Ok(status) => {
                entry.written = Some(status);
                entry.written_at = now;
                entry.failures = 0;
                entry.not_before = None;
            }
            Err(error) => {
                entry.not_before = Some(now + error.retry_after(entry.failures));
                entry.failures += 1;
            }
        }
    }
}

impl Entry {
    /// When the status is to be written: `None` where it already is, or is being written.
    fn due(&self, now: Instant) -> Option<Instant> {
        if self.in_flight || self.written.as_ref() == Some(&self.wanted) {
            return None;
        }
        let same = self.written.as_ref().is_some_and(|written| substance(written) == substance(&self.wanted));
        let due = match same {
            true => self.written_at + FIGURES,
            false => Instant::from_std(self.budget.next(now.into_std())),
        };
        Some(self.not_before.map_or(due, |time| due.max(time)))
    }
}

/// A status without its figures.
fn substance(status: &NoTrackPolicyStatus) -> NoTrackPolicyStatus {
    let mut status = NoTrackPolicyStatus { traffic: None, ..status.clone() };
    if let Some(pressure) = &mut status.pressure {
        // The level stays: it changes with hysteresis.
        pressure.highest_percent = None;
        pressure.node = None;
    }
    status
}

#[cfg(test)]
mod tests {
    use notrack_api::{HighestPressure, NodeCounts, PressureLevel, Traffic};

    use super::*;

    fn status(matched: u32, packets: u64) -> NoTrackPolicyStatus {
        NoTrackPolicyStatus {
            nodes: Some(NodeCounts { matched, ..NodeCounts::default() }),
            traffic: Some(Traffic { packets, ..Traffic::default() }),
            pressure: Some(HighestPressure {
                level: Some(PressureLevel::Normal),
                highest_percent: u32::try_from(packets).ok(),
                node: Some(format!("node{packets}")),
            }),
            ..NoTrackPolicyStatus::default()
        }
    }

    /// One write from decision to success.
    fn write(ledger: &mut Ledger, now: Instant) -> Option<NoTrackPolicyStatus> {
        let due = ledger.take_due(now).pop()?;
        assert_eq!(ledger.next(now), None, "in flight");
        ledger.wrote(&due.name, Ok(due.status.clone()), now);
        Some(due.status)
    }

    #[test]
    fn substance_is_written_at_once_within_a_budget() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        for change in 1..=3 {
            ledger.want("a", "u", status(change, 0), None, start);
            assert_eq!(write(&mut ledger, start), Some(status(change, 0)));
        }
        ledger.want("a", "u", status(4, 0), None, start);
        assert_eq!(write(&mut ledger, start), None);
        assert_eq!(ledger.next(start), Some(start + REFILL));
        assert_eq!(write(&mut ledger, start + REFILL), Some(status(4, 0)));
        assert_eq!(ledger.next(start + REFILL), None);
    }

    #[test]
    fn figures_alone_wait() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        ledger.want("a", "u", status(1, 1), Some(&status(1, 0)), start);
        assert_eq!(write(&mut ledger, start + REFILL), None);
        assert_eq!(ledger.next(start), Some(start + FIGURES));
        assert_eq!(write(&mut ledger, start + FIGURES), Some(status(1, 1)));
        // With something of substance they go along.
        ledger.want("a", "u", status(2, 2), None, start + FIGURES);
        assert_eq!(write(&mut ledger, start + FIGURES), Some(status(2, 2)));
    }

    #[test]
    fn what_is_there_already_is_not_written_again() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.want("a", "u", status(1, 0), Some(&status(1, 0)), now);
        assert_eq!(ledger.next(now), None);
        // Another policy of this name has none of it.
        ledger.want("a", "v", status(1, 0), None, now);
        assert_eq!(ledger.next(now), Some(now));
        assert_eq!(ledger.written("a", "u"), None);
    }

    #[test]
    fn a_failed_write_is_tried_again_later() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.want("a", "u", status(1, 0), None, now);
        let due = ledger.take_due(now);
        assert_eq!(due.len(), 1);
        ledger.wrote("a", Err(&WriteError::Unreachable("refused".into())), now);
        assert!(ledger.next(now).is_some_and(|next| next > now));
        ledger.retain(|_| false);
        assert_eq!(ledger.next(now), None);
    }
}
