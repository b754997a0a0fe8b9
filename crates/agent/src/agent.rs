//! The agent: what is wanted in, kernel programmed, report out. One step a second and one at every change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use notrack_core::diff::CounterValue;
use notrack_core::facts::NodeFacts;
use notrack_core::idle::Idle;
use notrack_core::rules::counter_name;
use notrack_netlink::facts;
use notrack_runtime::reminder::Reminder;

use crate::cluster::source::News;
use crate::engine::{Engine, EngineError, Programmed, Settings};
use crate::evict::Eviction;
use crate::intent::{Intent, Source};
use crate::metrics::{Metrics, Seen};
use crate::report::{Facts, Plan, Report, Since, report};
use crate::sampler::Sampler;
use crate::shown::Shown;

mod sweep;

/// After a change entries may still be made by packets that were on their way.
const SECOND_SWEEP: Duration = Duration::from_secs(1);
/// A step waits so long for what it has evicted or counted: most tables are done by then, and its report tells it.
const EVICTION: Duration = Duration::from_millis(250);
/// Where other programs change their rules while they are read, what is programmed stands for so long as it was judged.
const UNSETTLED: Duration = Duration::from_secs(30);
/// The kernel lease is renewed this many times in its life.
const RENEWALS: u32 = 4;

/// The agent's state.
pub struct Agent {
    source: Source,
    /// What is wanted now; `None` before the first complete view: nothing is written then.
    intent: Option<Arc<Intent>>,
    /// Whether nobody has looked yet for everything that it may harm.
    is_new: bool,
    engine: Engine,
    eviction: Eviction,
    sampler: Sampler,
    lease: Option<Duration>,
    /// Where the report is shown.
    pub shown: Arc<Shown>,
    /// The agent's metrics.
    pub metrics: Metrics,
    programmed: Option<Programmed>,
    /// Whether the kernel was last seen to run what is programmed.
    stands: bool,
    failure: Option<(&'static str, String)>,
    /// Since when other programs' rules could not be read for all their changes.
    unsettled: Option<Instant>,
    counters: BTreeMap<String, CounterValue>,
    since: Since,
    evicted: u64,
    /// Entries that policies in mode Audit would evict, and when they are to be counted again.
    evictable: BTreeMap<String, u64>,
    count_at: Option<Instant>,
    /// Whether they are being counted.
    counts: bool,
    idle: Idle,
    sweep_at: Option<Instant>,
    renew_at: Option<Instant>,
    said: Said,
}

/// What was said of each thing that may go wrong at every step.
#[derive(Debug, Default)]
struct Said {
    borne: Reminder,
    failed: Reminder,
    renewal: Reminder,
    figures: Reminder,
    counters: Reminder,
    metrics: Reminder,
}

impl Agent {
    /// Opens everything that the agent needs of the kernel.
    pub fn open(source: Source, settings: Settings) -> anyhow::Result<Agent> {
        let eviction = Eviction::start()?;
        Ok(Agent {
            source,
            intent: None,
            is_new: false,
            lease: settings.lease,
            engine: Engine::open(settings, eviction.stop())?,
            eviction,
            sampler: Sampler::open()?,
            shown: Arc::default(),
            metrics: Metrics::new()?,
            programmed: None,
            stands: false,
            failure: None,
            unsettled: None,
            counters: BTreeMap::new(),
            since: Since::default(),
            evicted: 0,
            evictable: BTreeMap::new(),
            count_at: None,
            counts: false,
            idle: Idle::default(),
            sweep_at: None,
            renew_at: None,
            said: Said::default(),
        })
    }

    /// Reads the folder again, where there is one.
    pub fn read_folder(&mut self) {
        if let Source::Folder(folder) = &mut self.source {
            folder.read();
        }
    }

    /// Takes news of the plan, where there is one. Returns whether what is wanted may have changed.
    pub fn hear(&mut self, news: News) -> bool {
        match &mut self.source {
            Source::Plan(plan) => plan.hear(news),
            Source::Folder(_) => false,
        }
    }

    /// One step: look, reconcile where anything changed, sample, report.
    pub fn step(&mut self, changed: bool) {
        self.shown.begins();
        let addresses = facts::addresses();
        self.reconcile_if_needed(changed, &addresses);
        self.sweep_if_due();
        self.count_evictable_if_due();
        self.renew_if_due();
        self.take_sample();
        self.take_evicted(EVICTION);
        self.publish(&addresses);
    }

    fn reconcile_if_needed(&mut self, changed: bool, addresses: &BTreeSet<IpAddr>) {
        let now = Timestamp::now().as_second();
        if changed || self.intent.as_ref().is_none_or(|intent| intent.has_expired(now)) {
            self.intent = self.source.intent(now).map(Arc::new);
            self.is_new = true;
        }
        let Some(intent) = self.intent.clone() else { return };
        let is_new = self.is_new;
        let facts = match self.engine.facts(&intent, is_new, addresses) {
            Ok(facts) => facts,
            Err(error) => {
                self.metrics.attempted(error.reason());
                return self.failed(&error, is_new);
            }
        };
        self.is_new = false;
        if is_new || self.failure.is_some() || self.is_outdated(&facts) {
            self.reconcile(&intent, &facts, is_new);
        } else {
            self.unsettled = None;
        }
    }

    /// Whether anything but what is wanted has changed: the node, or the kernel's rules.
    fn is_outdated(&mut self, facts: &NodeFacts) -> bool {
        let Some(programmed) = &self.programmed else { return true };
        programmed.facts != *facts || self.engine.is_disturbed().unwrap_or(true)
    }

    fn reconcile(&mut self, intent: &Intent, facts: &NodeFacts, is_new: bool) {
        let started = Instant::now();
        let before = self.programmed.as_ref().map(|programmed| &*programmed.table);
        let result = self.engine.reconcile(intent, facts, before);
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
                    self.eviction.sweep(programmed.table.clone());
                    self.sweep_at = Some(Instant::now() + SECOND_SWEEP);
                    self.count_at = None;
                    self.renew_at = self.lease.map(|lease| Instant::now() + lease / RENEWALS);
                } else if self.programmed.is_none() {
                    // Adopted from an earlier agent: the lease may be near its end, a sweep may not have come to its own.
                    self.renew_at = self.lease.map(|_| Instant::now());
                    self.sweep_at = Some(Instant::now());
                }
                self.programmed = Some(programmed);
                self.stands = true;
                self.failure = None;
                self.unsettled = None;
            }
            Err(error) => {
                self.metrics.applied(seconds, error.reason());
                self.failed(&error, is_new);
            }
        }
    }

    fn failed(&mut self, error: &EngineError, is_new: bool) {
        let message = error.to_string();
        if self.is_borne(error, is_new) {
            if self.said.borne.is_due(&message, Instant::now()) {
                tracing::warn!("what is programmed stands and is looked at again: {message}");
            }
            return;
        }
        if self.said.failed.is_due(&message, Instant::now()) {
            tracing::error!(reason = error.reason(), "{message}");
        }
        if self.failure.as_ref().is_none_or(|(_, known)| *known != message) {
            // The handover has made entries for a change that was then refused: they are swept.
            self.sweep_at = Some(Instant::now() + SECOND_SWEEP);
        }
        if self.engine.is_in_doubt() {
            self.sweep_at.get_or_insert(Instant::now() + SECOND_SWEEP);
        }
        self.failure = Some((error.reason(), message));
        // A step that failed may have removed the old rules: the kernel is asked.
        self.stands = match &self.programmed {
            Some(programmed) => self.engine.runs(&programmed.table),
            None => false,
        };
    }

    /// Whether the error is no failure yet: others are changing their rules just now, and what was programmed stands.
    fn is_borne(&mut self, error: &EngineError, is_new: bool) -> bool {
        let stood = self.programmed.is_some() && self.failure.is_none();
        let stands = stood && !is_new && error.is_transient();
        stands && self.unsettled.get_or_insert_with(Instant::now).elapsed() < UNSETTLED
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
            Err(error) if self.said.renewal.is_due(&error.to_string(), Instant::now()) => {
                tracing::warn!("the kernel lease was not renewed and is tried again: {error}");
            }
            Err(_) => {}
        }
    }

    fn take_sample(&mut self) {
        if let Err(error) = self.sampler.take()
            && self.said.figures.is_due(&error.to_string(), Instant::now())
        {
            tracing::warn!("the connection table's figures are not known: {error}");
        }
        match self.engine.counters() {
            Ok(counters) => {
                self.counters = counters;
                let packets = |policy: &str| {
                    self.counters.get(&counter_name(policy)).map_or(0, |counter| counter.packets)
                };
                let none = BTreeSet::new();
                let in_force = self.programmed.as_ref().map_or(&none, |programmed| &programmed.policies);
                self.idle.observe(in_force, packets, Timestamp::now().as_second());
            }
            Err(error) if self.said.counters.is_due(&error.to_string(), Instant::now()) => {
                tracing::warn!("the policies' counters are not known: {error}");
            }
            Err(_) => {}
        }
    }

    fn publish(&mut self, addresses: &BTreeSet<IpAddr>) {
        let plan = match &self.source {
            Source::Plan(source) => Some(Plan { source, stands: self.stands, addresses }),
            Source::Folder(_) => None,
        };
        let report = report(Facts {
            policies: self.source.policies(),
            labels: self.source.labels(),
            plan,
            programmed: self.programmed.as_ref(),
            failure: self.failure.clone(),
            counters: &self.counters,
            sample: self.sampler.sample,
            assessment: self.sampler.assessment,
            now: Timestamp::now(),
            since: &mut self.since,
            problems: self.source.problems(),
            evicted: self.evicted,
            evictable: &self.evictable,
            idle: &self.idle,
        });
        let seen = Seen {
            sample: self.sampler.sample,
            level: self.sampler.assessment.level,
            policies: &report.policies,
            bad_files: self.source.bad_files(),
            plan: match &self.source {
                Source::Plan(source) => Some(source.state()),
                Source::Folder(_) => None,
            },
        };
        if let Err(error) = self.metrics.saw(&seen)
            && self.said.metrics.is_due(&error.to_string(), Instant::now())
        {
            tracing::error!("the metrics are not brought up to date: {error}");
        }
        self.shown.set(report);
    }

    /// The report whose part on the node is the plan's status, and how often its figures are written, where there is a
    /// plan to write it to.
    pub fn plan_report(&self) -> Option<(Arc<Report>, Duration)> {
        let Source::Plan(source) = &self.source else { return None };
        let report = self.shown.get().filter(|_| source.takes_reports())?;
        Some((report, source.report_every()))
    }

    /// The last report.
    pub fn report(&self) -> Arc<Report> {
        self.shown.get().unwrap_or_default()
    }

    /// How many files were refused.
    pub fn bad_files(&self) -> usize {
        self.source.bad_files()
    }
}
