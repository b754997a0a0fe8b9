//! The agent: folder in, kernel programmed, report out. One step a second and one at every change of a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use notrack_core::diff::CounterValue;
use notrack_core::facts::NodeFacts;
use notrack_core::pressure::{Assessment, ConntrackSample, assess};
use notrack_netlink::conntrack::Conntrack;
use notrack_runtime::server::Source;

use crate::engine::{Engine, EngineError, Programmed, Settings};
use crate::evict;
use crate::folder::Folder;
use crate::metrics::Metrics;
use crate::report::{Facts, Report, report};

/// After a change entries may still be made by packets that were on their way.
const SECOND_SWEEP: Duration = Duration::from_secs(1);
/// A trend is judged against a sample this old.
const TREND_WINDOW: Duration = Duration::from_secs(30);
/// The kernel lease is renewed this many times in its life.
const RENEWALS: u32 = 4;

/// What the server shows; written by the agent alone.
#[derive(Default)]
pub struct Shown {
    report: RwLock<Option<Report>>,
}

impl Shown {
    fn set(&self, report: Report) {
        *self.report.write().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }

    fn get(&self) -> Option<Report> {
        self.report.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Source for Shown {
    fn healthy(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        match self.get() {
            None => Err("the policies were not programmed yet".to_owned()),
            Some(report) => match report.node.conditions.first() {
                Some(condition) if condition.status == notrack_api::ConditionStatus::True => Ok(()),
                Some(condition) => Err(format!("{}: {}", condition.reason, condition.message)),
                None => Err("nothing is known yet".to_owned()),
            },
        }
    }

    fn status(&self) -> serde_json::Value {
        serde_json::to_value(self.get()).unwrap_or_default()
    }
}

/// The agent's state.
pub struct Agent {
    folder_path: PathBuf,
    folder: Folder,
    engine: Engine,
    conntrack: Conntrack,
    lease: Option<Duration>,
    /// Where the report is shown.
    pub shown: Arc<Shown>,
    /// The agent's metrics.
    pub metrics: Metrics,
    programmed: Option<Programmed>,
    failure: Option<(&'static str, String)>,
    counters: BTreeMap<String, CounterValue>,
    sample: ConntrackSample,
    earlier: Option<(Instant, ConntrackSample)>,
    assessment: Assessment,
    since: BTreeMap<(String, String), (String, Timestamp)>,
    evicted: u64,
    sweep_at: Option<Instant>,
    renew_at: Option<Instant>,
}

impl Agent {
    /// Opens everything that the agent needs of the kernel.
    pub fn open(folder_path: PathBuf, settings: Settings) -> anyhow::Result<Agent> {
        Ok(Agent {
            folder_path,
            folder: Folder::default(),
            lease: settings.lease,
            engine: Engine::open(settings)?,
            conntrack: Conntrack::open()?,
            shown: Arc::default(),
            metrics: Metrics::new()?,
            programmed: None,
            failure: None,
            counters: BTreeMap::new(),
            sample: ConntrackSample::default(),
            earlier: None,
            assessment: Assessment::default(),
            since: BTreeMap::new(),
            evicted: 0,
            sweep_at: None,
            renew_at: None,
        })
    }

    /// Reads the folder. Where that fails the policies known stay.
    pub fn read_folder(&mut self) {
        if let Err(error) = self.folder.read(&self.folder_path) {
            let text =
                format!("{}: cannot be read: {error}; what is programmed stays", self.folder_path.display());
            self.folder.problems = vec![crate::folder::Problem { text }];
            self.folder.bad_files = 1;
        }
        for problem in &self.folder.problems {
            tracing::warn!("{}", problem.text);
        }
    }

    /// One step: look, reconcile where anything changed, sample, report.
    pub fn step(&mut self, folder_changed: bool) {
        if folder_changed {
            self.read_folder();
        }
        self.reconcile_if_needed(folder_changed);
        self.sweep_if_due();
        self.renew_if_due();
        self.take_sample();
        self.publish();
    }

    fn reconcile_if_needed(&mut self, folder_changed: bool) {
        let facts = match self.engine.facts() {
            Ok(facts) => facts,
            Err(error) => return self.failed(&error),
        };
        if folder_changed || self.failure.is_some() || self.is_outdated(&facts) {
            self.reconcile(&facts);
        }
    }

    /// Whether anything but the files has changed: the node, the kernel's rules, or what has expired.
    fn is_outdated(&mut self, facts: &NodeFacts) -> bool {
        let now = Timestamp::now().as_second();
        let Some(programmed) = &self.programmed else { return true };
        programmed.facts != *facts
            || programmed.rule_set.policies().iter().any(|policy| policy.is_expired(now))
            || self.engine.is_disturbed().unwrap_or(true)
    }

    fn reconcile(&mut self, facts: &NodeFacts) {
        let started = Instant::now();
        let result = self.engine.reconcile(self.folder.index(), facts, Timestamp::now().as_second());
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(programmed) => {
                self.metrics.applied(seconds, "ok");
                if programmed.changed {
                    tracing::info!(
                        rule_set = %programmed.rule_set.digest(),
                        policies = programmed.policies.len(),
                        elements = programmed.table.element_count(),
                        "the kernel runs a new table, read back"
                    );
                    self.sweep(&programmed);
                    self.sweep_at = Some(Instant::now() + SECOND_SWEEP);
                    self.renew_at = self.lease.map(|lease| Instant::now() + lease / RENEWALS);
                } else if self.renew_at.is_none() {
                    // Adopted from an earlier agent: the lease may be near its end.
                    self.renew_at = self.lease.map(|_| Instant::now());
                }
                self.programmed = Some(programmed);
                self.failure = None;
            }
            Err(error) => {
                self.metrics.applied(seconds, error.reason());
                self.failed(&error);
            }
        }
    }

    fn failed(&mut self, error: &EngineError) {
        let message = error.to_string();
        if self.failure.as_ref().is_none_or(|(_, known)| *known != message) {
            tracing::error!(reason = error.reason(), "{message}");
        }
        self.failure = Some((error.reason(), message));
    }

    fn sweep(&mut self, programmed: &Programmed) {
        match evict::sweep(&programmed.table) {
            Ok(deleted) => {
                self.evicted += deleted;
                self.metrics.evicted(deleted);
                if deleted > 0 {
                    tracing::info!(entries = deleted, "deleted entries of traffic that is bypassed now");
                }
            }
            Err(error) => tracing::warn!("entries of bypassed traffic stay in the table: {error}"),
        }
    }

    fn sweep_if_due(&mut self) {
        if self.sweep_at.is_some_and(|at| at <= Instant::now()) {
            self.sweep_at = None;
            if let Some(programmed) = self.programmed.take() {
                self.sweep(&programmed);
                self.programmed = Some(programmed);
            }
        }
    }

    /// Waits out the second sweep, for an agent that will not live to do it.
    pub fn finish_sweeps(&mut self) {
        if let Some(at) = self.sweep_at {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            self.sweep_if_due();
        }
    }

    fn renew_if_due(&mut self) {
        let (Some(lease), Some(at), Some(programmed)) = (self.lease, self.renew_at, &self.programmed) else {
            return;
        };
        if at > Instant::now() || programmed.table.chains.is_empty() {
            return;
        }
        match self.engine.renew(&programmed.table) {
            Ok(()) => self.renew_at = Some(Instant::now() + lease / RENEWALS),
            Err(error) => tracing::warn!("the kernel lease was not renewed and is tried again: {error}"),
        }
    }

    fn take_sample(&mut self) {
        let figures = self.conntrack.stats().and_then(|stats| Ok((stats, self.conntrack.cpu_stats()?)));
        match figures {
            Ok((stats, cpus)) => {
                let sample = ConntrackSample {
                    entries: u64::from(stats.entries),
                    max: u64::from(stats.max),
                    drops: cpus.drop + cpus.early_drop,
                    insert_failed: cpus.insert_failed,
                };
                let last = self.sample;
                self.sample = sample;
                let (since, earlier) = self.earlier.unwrap_or((Instant::now(), sample));
                // Lost packets count against the last sample, the trend against an older one.
                let reference = ConntrackSample {
                    drops: if last.max == 0 { sample.drops } else { last.drops },
                    ..earlier
                };
                self.assessment = assess(sample, Some(reference), self.assessment.level);
                self.earlier = Some(if since.elapsed() > TREND_WINDOW {
                    (Instant::now(), sample)
                } else {
                    (since, earlier)
                });
                self.metrics.sampled(sample, self.assessment.level);
            }
            Err(error) => tracing::warn!("the connection table's figures are not known: {error}"),
        }
        match self.engine.counters() {
            Ok(counters) => self.counters = counters,
            Err(error) => tracing::warn!("the policies' counters are not known: {error}"),
        }
    }

    fn publish(&mut self) {
        let report = report(Facts {
            index: self.folder.index(),
            programmed: self.programmed.as_ref(),
            failure: self.failure.clone(),
            counters: &self.counters,
            sample: self.sample,
            assessment: self.assessment,
            now: Timestamp::now(),
            since: &mut self.since,
            problems: self.folder.problems.iter().map(|problem| problem.text.clone()).collect(),
            evicted: self.evicted,
        });
        self.metrics.reported(&report.policies, self.folder.bad_files);
        self.shown.set(report);
    }

    /// The last report.
    pub fn report(&self) -> Report {
        self.shown.get().unwrap_or_default()
    }

    /// How many files were refused.
    pub fn bad_files(&self) -> usize {
        self.folder.bad_files
    }
}
