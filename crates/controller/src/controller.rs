//! The steps of the controller, and when each is due. Decisions are made here, in one task; writes run beside it.

mod answers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use notrack_core::plan::{self, ClusterPlan};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::collect;
use crate::debounce::Debounce;
use crate::effects::Effects;
use crate::kinds::Kinds;
use crate::leader::Term;
use crate::metrics::Metrics;
use crate::publish::{self, TooLarge};
use crate::shown::{Shown, State};
use crate::status::{self, Ledger};
use crate::world::{Update, World};

/// A burst of changes is compiled once: so long after its last, and no longer than that after its first.
const QUIET: Duration = Duration::from_millis(50);
const LONGEST_BURST: Duration = Duration::from_millis(500);
/// Reports of nodes are added up less eagerly.
const STATUS_QUIET: Duration = Duration::from_millis(200);
const STATUS_LONGEST_BURST: Duration = Duration::from_secs(1);
/// Nodes that go silent say nothing: all is added up again after this time.
const STATUS_AGAIN: Duration = Duration::from_secs(15);
/// How often CRDs are looked for, where they are there and where they are not.
const CRDS_EVERY: Duration = Duration::from_secs(15);
const CRDS_MISSING_EVERY: Duration = Duration::from_secs(3);
/// How often they are compared.
const CRDS_COMPARED_EVERY: Duration = Duration::from_secs(300);
const COLLECT_EVERY: Duration = Duration::from_secs(30);
/// After a write was refused because another controller leads.
const STALE_PAUSE: Duration = Duration::from_secs(15);

/// The controller.
pub struct Controller {
    /// What is known.
    world: World,
    /// What follows from it.
    compiled: Option<ClusterPlan>,
    /// Until when that is nothing, because all was withdrawn.
    withdrawn_until: Option<Timestamp>,
    too_large: TooLarge,
    must_compile: bool,
    reconcile: Debounce,
    /// The publication that runs: setting the flag stops it.
    publication: Option<Arc<AtomicBool>>,
    /// Compare again when it has ended.
    publish_again: bool,
    failures: u32,
    /// When what failed is tried again.
    retry_at: Option<Instant>,
    ledger: Ledger,
    aggregate: Debounce,
    aggregate_again: Instant,
    kinds: Kinds,
    crds_lack: Vec<String>,
    look_for_crds: Instant,
    compare_crds: Instant,
    collect: Instant,
    rule_sets_stay: Duration,
    term: Term,
    /// No writes before this time.
    paused_until: Option<Instant>,
    /// Each send has the lease read back.
    doubt: watch::Sender<u64>,
    /// Each send has our own kinds listed anew.
    again: watch::Sender<u64>,
    identity: String,
    effects: Effects,
    metrics: Metrics,
    shown: Arc<Shown>,
}

/// What a controller is made of.
pub struct Parts {
    /// What is known: at first the address and port ranges of the command line.
    pub world: World,
    /// Who this is in the lease.
    pub identity: String,
    /// How long an unused RuleSet stays.
    pub rule_sets_stay: Duration,
    /// Each send has the lease read back.
    pub doubt: watch::Sender<u64>,
    /// Each send has our own kinds listed anew.
    pub again: watch::Sender<u64>,
    /// Starts the writes.
    pub effects: Effects,
    /// Figures.
    pub metrics: Metrics,
    /// For the health server.
    pub shown: Arc<Shown>,
}

impl Controller {
    /// Knows nothing yet.
    pub fn new(parts: Parts, now: Instant) -> Controller {
        let Parts { world, identity, rule_sets_stay, doubt, again, effects, metrics, shown } = parts;
        Controller {
            world,
            compiled: None,
            withdrawn_until: None,
            too_large: TooLarge::new(),
            must_compile: true,
            reconcile: Debounce::new(QUIET, LONGEST_BURST),
            publication: None,
            publish_again: false,
            failures: 0,
            retry_at: None,
            ledger: Ledger::default(),
            aggregate: Debounce::new(STATUS_QUIET, STATUS_LONGEST_BURST),
            aggregate_again: now,
            kinds: Kinds::default(),
            crds_lack: Vec::new(),
            look_for_crds: now,
            compare_crds: now,
            collect: now,
            rule_sets_stay,
            term: None,
            paused_until: None,
            doubt,
            again,
            identity,
            effects,
            metrics,
            shown,
        }
    }

    /// Takes in what a watch learned.
    pub fn learn(&mut self, update: Update, now: Instant) {
        self.world.learn(update);
        self.note_stale(now);
    }

    /// This controller leads, or no longer does.
    pub fn lead(&mut self, term: Term, now: Instant) {
        let led = self.term.is_some();
        self.term = term;
        self.metrics.leads(term.is_some());
        match (led, term) {
            (false, Some(term)) => {
                tracing::info!(term, "leads");
                self.must_compile = true;
                self.ledger = Ledger::default();
                self.reconcile.touch(now);
                self.aggregate.touch(now);
            }
            (true, None) => {
                tracing::warn!("does not lead any more");
                self.stop_publication();
            }
            _ => {}
        }
    }

    /// Everything that is due.
    pub fn step(&mut self, now: Instant) {
        self.check_crds(now);
        self.check_expiry(now);
        if self.may_write(now) {
            if self.retry_at.is_some_and(|time| time <= now) || self.reconcile.take(now) {
                self.retry_at = None;
                let changed = self.compile(now);
                self.publish(changed);
            }
            self.add_up(now);
            self.write_statuses(now);
            self.collect(now);
        }
        self.show(now);
    }

    /// When something is due next.
    pub fn next(&self, now: Instant) -> Instant {
        let orders = [self.reconcile.due(), self.retry_at];
        let reports =
            [self.aggregate.due(), Some(self.aggregate_again), self.ledger.next(now), Some(self.collect)];
        let reports = reports.into_iter().filter(|_| self.compiled.is_some());
        let writes = orders.into_iter().chain(reports).flatten().min();
        let begin = [self.paused_until, self.kinds.writable_at().flatten()].into_iter().flatten().max();
        let writes = if self.may_write(now) {
            writes
        } else {
            // Until then nothing of it is due, and some of it not even then.
            begin.filter(|time| *time > now)
        };
        let always = self.look_for_crds.min(self.compare_crds);
        let next = writes.map_or(always, |time| time.min(always));
        // What has ended is acted on where plans can be compiled; then the next end counts.
        let expiry = self.expiry().filter(|_| self.may_write(now) && !self.must_compile);
        expiry.map_or(next, |time| next.min(now + time))
    }

    fn may_write(&self, now: Instant) -> bool {
        self.term.is_some()
            && self.world.awaited().is_empty()
            && self.kinds.writable(now)
            && self.paused_until.is_none_or(|time| time <= now)
    }

    fn note_stale(&mut self, now: Instant) {
        let stale = self.world.take_stale();
        self.must_compile |= stale.compiled;
        if stale.compiled || stale.published {
            self.reconcile.touch(now);
        }
        if stale.status {
            self.aggregate.touch(now);
        }
    }

    fn check_crds(&mut self, now: Instant) {
        if self.look_for_crds <= now {
            let missing = self.kinds.writable_at().is_none();
            self.look_for_crds = now + if missing { CRDS_MISSING_EVERY } else { CRDS_EVERY };
            self.effects.look_for_crds();
        }
        if self.compare_crds <= now {
            self.compare_crds = now + CRDS_COMPARED_EVERY;
            self.effects.compare_crds();
        }
    }

    /// How long until a policy ends that is still in the plans, or the withdrawal of all of them does.
    fn expiry(&self) -> Option<Duration> {
        let compiled = self.compiled.as_ref()?;
        let running = compiled.rule_sets.values().flat_map(|rule_set| rule_set.policies());
        let ends = running.filter_map(|policy| Timestamp::from_second(policy.expires?).ok());
        // While all is withdrawn no policy is in the plans.
        let end = ends.min().or(self.withdrawn_until)?;
        let left = end.duration_since(Timestamp::now());
        Some(Duration::try_from(left).unwrap_or_default())
    }

    fn check_expiry(&mut self, now: Instant) {
        if self.expiry() == Some(Duration::ZERO) && !self.must_compile {
            self.must_compile = true;
            self.reconcile.touch(now);
        }
    }

    /// Whether anything else came of it than the last time.
    fn compile(&mut self, now: Instant) -> bool {
        if !std::mem::take(&mut self.must_compile) {
            return false;
        }
        let started = std::time::Instant::now();
        let time = Timestamp::now();
        self.withdrawn_until = self.world.withdrawn_until().filter(|end| time < *end);
        let compiled = plan::plan(self.world.cluster(time), time.as_second());
        let cost = started.elapsed();
        self.metrics.compiled(cost.as_secs_f64(), compiled.rule_sets.len());
        tracing::debug!(
            nodes = compiled.nodes.len(),
            rule_sets = compiled.rule_sets.len(),
            ?cost,
            "compiled"
        );
        let changed = self.compiled.as_ref() != Some(&compiled);
        self.compiled = Some(compiled);
        // Endless changes, of EndpointSlices mostly, must not take the whole core.
        self.reconcile.hold_until(now + 2 * cost);
        self.aggregate.touch(now);
        changed
    }

    fn publish(&mut self, changed: bool) {
        if self.publication.is_some() {
            self.publish_again = true;
            if changed {
                // What it writes is out of date by now.
                self.stop_publication();
            }
            return;
        }
        let (Some(compiled), Some(epoch)) = (&self.compiled, self.term) else { return };
        let work = publish::work(&self.world, compiled, &mut self.too_large, epoch);
        if work.rule_sets.is_empty() && work.plans.is_empty() {
            self.failures = 0;
            return;
        }
        tracing::info!(rule_sets = work.rule_sets.len(), plans = work.plans.len(), epoch, "publishes");
        self.publication = Some(self.effects.publish(work, self.kinds.known()));
    }

    fn stop_publication(&self) {
        if let Some(stop) = &self.publication {
            stop.store(true, Ordering::Relaxed);
        }
    }

    fn add_up(&mut self, now: Instant) {
        let again = self.aggregate_again <= now;
        let Some(compiled) = &self.compiled else { return };
        if !self.aggregate.take(now) && !again {
            return;
        }
        let started = std::time::Instant::now();
        let time = Timestamp::now();
        for (name, policy) in &self.world.policies {
            let uid = policy.uid.as_str();
            let seen = policy.status.as_deref();
            let previous = self.ledger.written(name, uid).or(seen);
            let wanted =
                status::wanted(&self.world, compiled, &self.too_large, (name, policy), previous, time);
            self.ledger.want(name, uid, wanted, seen, now);
        }
        let policies = &self.world.policies;
        self.ledger.retain(|name| policies.contains_key(name));
        let (ready, not_ready, unknown) = status::ready_counts(self.ledger.wanted());
        self.metrics.policies(ready, not_ready, unknown);
        let (programmed, behind, silent) = status::node_states(&self.world, compiled, time);
        self.metrics.nodes(programmed, behind, silent);
        // Thousands of nodes report all the time: a twentieth of a core is enough for adding up.
        self.aggregate.hold_until(now + 20 * started.elapsed());
        self.aggregate_again = now + STATUS_AGAIN;
    }

    fn write_statuses(&mut self, now: Instant) {
        let due = self.ledger.take_due(now);
        if !due.is_empty() {
            self.effects.write_statuses(due);
        }
    }

    fn collect(&mut self, now: Instant) {
        let Some(compiled) = &self.compiled else { return };
        // While plans are being written it is not settled which RuleSets they name.
        if self.collect > now || self.publication.is_some() || self.reconcile.due().is_some() {
            self.collect = self.collect.max(now + QUIET);
            return;
        }
        self.collect = now + COLLECT_EVERY.min(self.rule_sets_stay / 4).max(Duration::from_secs(1));
        let used = status::used_rule_sets(&self.world, compiled);
        let time = Timestamp::now();
        let steps = collect::steps(&self.world.rule_sets, &used, time, self.rule_sets_stay);
        if !steps.is_empty() {
            self.effects.collect(steps, time);
        }
    }

    fn show(&self, now: Instant) {
        self.shown.show(State {
            identity: self.identity.clone(),
            term: self.term,
            awaited: self.world.awaited().iter().map(|kind| kind.name()).collect(),
            stopped: self.kinds.stopped(now),
            crds_lack: self.crds_lack.clone(),
            policies: self.world.policies.len(),
            nodes: self.world.nodes.len(),
            rule_sets: self.world.rule_sets.len(),
        });
    }
}
