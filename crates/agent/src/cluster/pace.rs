//! When a report is due: changes at once but within a budget, figures with the heartbeat, failures again and again at
//! growing distance. Pure: the moment is an argument.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use notrack_api::{ConditionStatus, NodePlanStatus, PressureLevel};
use notrack_runtime::bucket::TokenBucket;

/// A node's budget: a token comes back in this time, and so many are saved up.
const REFILL: Duration = Duration::from_secs(30);
const BURST: u32 = 3;
/// The first distance between two attempts that fail, and the longest.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(120);

/// What of a report is worth a write of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    generation: Option<i64>,
    level: Option<PressureLevel>,
    digest: Option<String>,
    conditions: Vec<(String, ConditionStatus, String)>,
    policies: BTreeSet<(String, String)>,
    addresses: Vec<String>,
}

impl Key {
    fn of(status: &NodePlanStatus) -> Key {
        let conditions = status.conditions.iter();
        let policies = status.policies.iter();
        Key {
            generation: status.observed_generation,
            level: status.conntrack.as_ref().and_then(|figures| figures.level),
            digest: status.programmed_digest.clone(),
            conditions: conditions
                .map(|found| (found.type_.clone(), found.status, found.reason.clone()))
                .collect(),
            policies: policies.map(|policy| (policy.name.clone(), policy.state.clone())).collect(),
            addresses: status.addresses.clone(),
        }
    }
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The API server has it.
    Ok,
    /// There is no plan to write to.
    Gone,
    /// It failed.
    Failed,
}

impl Written {
    /// The name, as a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Written::Ok => "ok",
            Written::Gone => "gone",
            Written::Failed => "failed",
        }
    }
}

/// Decides when to report.
#[derive(Debug)]
pub struct Pace {
    bucket: TokenBucket,
    /// What the API server has.
    known: Option<Key>,
    /// What is being written.
    writing: Option<Key>,
    /// When the figures were last written or tried.
    last: Instant,
    failures: u32,
    not_before: Option<Instant>,
    /// Differs from node to node and from beat to beat.
    seed: u64,
}

impl Pace {
    /// For the node of a name.
    pub fn new(node: &str, now: Instant) -> Pace {
        // FNV-1a: all that matters is that the nodes' numbers differ.
        let seed = node.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Pace {
            bucket: TokenBucket::new(BURST, REFILL, now),
            known: None,
            writing: None,
            last: now,
            failures: 0,
            not_before: None,
            seed,
        }
    }

    /// Whether to write the report now. Where it says so, [`Pace::written`] must follow.
    pub fn is_due(&mut self, status: &NodePlanStatus, every: Duration, now: Instant) -> bool {
        if self.writing.is_some() || self.not_before.is_some_and(|at| now < at) {
            return false;
        }
        let key = Key::of(status);
        let beats = now.saturating_duration_since(self.last) >= self.stretched(every);
        // An attempt that failed has had its token.
        let due = if self.known.as_ref() == Some(&key) {
            beats
        } else {
            self.failures > 0 || beats || self.bucket.take(now)
        };
        if due {
            self.writing = Some(key);
            self.last = now;
        }
        due
    }

    /// How the write ended.
    pub fn written(&mut self, written: Written, now: Instant) {
        let key = self.writing.take();
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        match written {
            Written::Ok => {
                self.known = key;
                self.failures = 0;
                self.not_before = None;
            }
            Written::Gone | Written::Failed => {
                let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(10)).min(LAST_RETRY);
                self.failures += 1;
                self.not_before = Some(now + self.stretched(wait));
                // What the API server has is not known any more, or is gone.
                self.known = None;
            }
        }
    }

    /// The plan is gone: one of its name that comes has no status yet.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// The API server has answered elsewhere: the next attempt need not wait.
    pub fn hurry(&mut self) {
        self.not_before = None;
    }

    /// To half as much again, so that the nodes' reports spread.
    fn stretched(&self, time: Duration) -> Duration {
        // The middle of the product: names that differ in their last letter alone differ there.
        let mixed = (self.seed ^ (self.seed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let part = u32::try_from((mixed >> 32) % 1024).unwrap_or_default();
        time + time * part / 2048
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(300);

    fn status(digest: &str) -> NodePlanStatus {
        NodePlanStatus { programmed_digest: Some(digest.into()), ..NodePlanStatus::default() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn changes_go_at_once_and_figures_with_the_heartbeat() {
        let start = Instant::now();
        let mut pace = Pace::new("n1", start);
        assert!(pace.is_due(&status("a"), EVERY, start), "the first report");
        assert!(!pace.is_due(&status("b"), EVERY, start), "one at a time");
        pace.written(Written::Ok, start);
        assert!(!pace.is_due(&status("a"), EVERY, start + seconds(299)));
        let mut figures = status("a");
        figures.reported_at = Some(notrack_api::Time(jiff::Timestamp::UNIX_EPOCH));
        assert!(!pace.is_due(&figures, EVERY, start + seconds(1)), "figures wait");
        assert!(pace.is_due(&status("b"), EVERY, start + seconds(1)), "a change does not");
        pace.written(Written::Ok, start + seconds(1));
        let beat = (2..=500).find(|second| pace.is_due(&status("b"), EVERY, start + seconds(*second)));
        assert!(beat.is_some_and(|second| (301..=451).contains(&second)), "{beat:?}");
    }

    #[test]
    fn what_flaps_every_second_is_written_within_the_budget() {
        let start = Instant::now();
        let mut pace = Pace::new("n1", start);
        let mut writes = 0;
        for second in 0..300 {
            let now = start + seconds(second);
            if pace.is_due(&status(if second % 2 == 0 { "a" } else { "b" }), seconds(3600), now) {
                pace.written(Written::Ok, now);
                writes += 1;
            }
        }
        // A state that is back to what is known takes no token.
        assert!((3..=12).contains(&writes), "{writes}");
    }

    #[test]
    fn failures_are_tried_again_ever_more_slowly_until_the_api_server_is_back() {
        let start = Instant::now();
        let mut pace = Pace::new("n1", start);
        let mut now = start;
        let mut tries = 0;
        while now < start + seconds(3600) {
            if pace.is_due(&status("a"), EVERY, now) {
                tries += 1;
                pace.written(if tries % 2 == 0 { Written::Gone } else { Written::Failed }, now);
            }
            now += seconds(1);
        }
        assert!((20..=45).contains(&tries), "{tries}");
        pace.written(Written::Failed, now);
        assert!(!pace.is_due(&status("a"), EVERY, now));
        pace.hurry();
        assert!(pace.is_due(&status("a"), EVERY, now));
    }

    #[test]
    fn nodes_report_at_different_distances() {
        let now = Instant::now();
        let interval = |name: &str| Pace::new(name, now).stretched(EVERY);
        let all: BTreeSet<Duration> = (0..100).map(|number| interval(&format!("node-{number}"))).collect();
        assert!(all.len() > 80, "{}", all.len());
        assert!(all.iter().all(|time| (seconds(300)..=seconds(450)).contains(time)));
    }
}
