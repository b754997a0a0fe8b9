//! The agent's metrics, by Prometheus' conventions: base units, totals end in `_total`.

use notrack_core::pressure::{ConntrackSample, PressureLevel};
use notrack_runtime::metrics::{Maker, Snapshot};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::report::PolicyReport;

/// Every metric of the agent.
pub struct Metrics {
    /// Where they are gathered.
    pub registry: Registry,
    figures: Snapshot,
    applies: IntCounterVec,
    apply_seconds: Histogram,
    evicted: IntCounter,
    status_writes: IntCounterVec,
}

/// What figures are made of.
pub struct Seen<'a> {
    /// The table's figures.
    pub sample: ConntrackSample,
    /// What they mean.
    pub level: PressureLevel,
    /// The policies' reports.
    pub policies: &'a [PolicyReport],
    /// How many files were refused.
    pub bad_files: usize,
    /// How the plan stands, where there is one.
    pub plan: Option<&'a str>,
}

/// Metrics that show what was seen last. The kernel counts; counters among them only show its figures.
struct Figures {
    entries: IntGauge,
    limit: IntGauge,
    drops: IntCounter,
    insert_failed: IntCounter,
    pressure: IntGaugeVec,
    packets: IntCounterVec,
    bytes: IntCounterVec,
    state: IntGaugeVec,
    hazards: IntGaugeVec,
    bad_files: IntGauge,
    plan_state: IntGaugeVec,
}

impl Metrics {
    /// Registers them all.
    pub fn new() -> prometheus::Result<Metrics> {
        Metrics::made_by(&Maker::default())
    }

    fn made_by(make: &Maker) -> prometheus::Result<Metrics> {
        make.build_info("notrack_build_info", env!("CARGO_PKG_VERSION"))?;
        let empty = Maker::default();
        Figures::made_by(&empty)?;
        Ok(Metrics {
            figures: make.snapshot(empty)?,
            applies: make.counters(
                "notrack_applies_total",
                "Attempts to bring the kernel to what the policies ask for, by how they ended: ok, or the step that failed.",
                &["result"],
            )?,
            evicted: make.counter(
                "notrack_evicted_entries_total",
                "Entries deleted from the connection table because their packets skip it now.",
            )?,
            status_writes: make.counters(
                "notrack_status_writes_total",
                "Writes of the NodePlan's status, by how they ended: ok, gone (there is no plan) or failed.",
                &["result"],
            )?,
            registry: make.registry.clone(),
            apply_seconds: make.seconds(
                "notrack_apply_duration_seconds",
                "Seconds from policies to rules read back from the kernel.",
            )?,
        })
    }

    /// An attempt to apply: how it ended ("ok" or the name of the step that failed).
    pub fn attempted(&self, result: &str) {
        self.applies.with_label_values(&[result]).inc();
    }

    /// An attempt that came past the facts, and how long it took.
    pub fn applied(&self, seconds: f64, result: &str) {
        self.attempted(result);
        self.apply_seconds.observe(seconds);
    }

    /// A write of the plan's status.
    pub fn status_written(&self, result: &str) {
        self.status_writes.with_label_values(&[result]).inc();
    }

    /// Entries deleted.
    pub fn evicted(&self, entries: u64) {
        self.evicted.inc_by(entries);
    }

    /// Shows what was seen in the place of what was seen before it.
    pub fn saw(&self, seen: &Seen<'_>) -> prometheus::Result<()> {
        let make = Maker::default();
        Figures::made_by(&make)?.fill(seen);
        self.figures.show(make);
        Ok(())
    }
}

impl Figures {
    fn made_by(make: &Maker) -> prometheus::Result<Figures> {
        Ok(Figures {
            entries: make.gauge(
                "notrack_conntrack_entries",
                "Entries of the connection table in this network namespace.",
            )?,
            limit: make.gauge(
                "notrack_conntrack_entries_limit",
                "Most entries that the kernel takes (nf_conntrack_max); 0 means no limit.",
            )?,
            drops: make.counter(
                "notrack_conntrack_drops_total",
                "Packets that tracking dropped (no room in the table, no memory, an unresolved clash) and entries given up early to make room; since the node started.",
            )?,
            insert_failed: make.counter(
                "notrack_conntrack_insert_failures_total",
                "Entries that could not be inserted, mostly because another packet was first (a clash); since the node started.",
            )?,
            pressure: make.gauges(
                "notrack_conntrack_pressure_level",
                "1 for the level that the table is at, 0 for the others: Normal, Elevated, High, Full.",
                &["level"],
            )?,
            packets: make.counters(
                "notrack_policy_bypassed_packets_total",
                "Packets that skipped tracking because of a policy, both directions, since its counter was made; in mode Audit those that would have.",
                &["policy"],
            )?,
            bytes: make.counters(
                "notrack_policy_bypassed_bytes_total",
                "Bytes that skipped tracking because of a policy, IP header included; else as notrack_policy_bypassed_packets_total.",
                &["policy"],
            )?,
            state: make.gauges(
                "notrack_policy_state",
                "1 for the state that a policy is in on this node; its other states are absent.",
                &["policy", "state"],
            )?,
            hazards: make.gauges(
                "notrack_policy_hazards",
                "Findings of a hazard in a policy on this node, by what they do to it: Warning, Subtracted, Refused, Blocked.",
                &["policy", "hazard", "effect"],
            )?,
            bad_files: make
                .gauge("notrack_bad_policy_files", "Policy files that were refused at the last reading of the folder.")?,
            plan_state: make.gauges(
                "notrack_plan_state",
                "1 for how the NodePlan stands: Followed, Pending (none was taken yet), or the reason why it is not followed.",
                &["state"],
            )?,
        })
    }

    fn fill(&self, seen: &Seen<'_>) {
        let Seen { sample, level, policies, bad_files, plan } = *seen;
        self.entries.set(number(sample.entries));
        self.limit.set(number(sample.max));
        self.drops.inc_by(sample.drops);
        self.insert_failed.inc_by(sample.insert_failed);
        for known in
            [PressureLevel::Normal, PressureLevel::Elevated, PressureLevel::High, PressureLevel::Full]
        {
            self.pressure.with_label_values(&[&format!("{known:?}")]).set(i64::from(known == level));
        }
        for policy in policies {
            let name = policy.name.as_str();
            let traffic = policy.status.traffic.clone().unwrap_or_default();
            self.packets.with_label_values(&[name]).inc_by(traffic.packets);
            self.bytes.with_label_values(&[name]).inc_by(traffic.bytes);
            self.state.with_label_values(&[name, policy.state.name()]).set(1);
            for (hazard, effect) in &policy.hazards {
                self.hazards.with_label_values(&[name, hazard.name(), effect.name()]).inc();
            }
        }
        self.bad_files.set(number(bad_files));
        if let Some(state) = plan {
            self.plan_state.with_label_values(&[state]).set(1);
        }
    }
}

fn number<N: TryInto<i64>>(value: N) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use notrack_api::{NoTrackPolicyStatus, Traffic};

    use super::*;
    use crate::report::State;

    fn policy(name: &str) -> PolicyReport {
        PolicyReport {
            name: name.to_owned(),
            state: State::Programmed,
            findings: Vec::new(),
            hazards: Vec::new(),
            seen_here: Vec::new(),
            status: NoTrackPolicyStatus {
                traffic: Some(Traffic { packets: 7, bytes: 700, ..Traffic::default() }),
                ..NoTrackPolicyStatus::default()
            },
        }
    }

    fn seen(policies: &[PolicyReport]) -> Seen<'_> {
        let sample = ConntrackSample { entries: 1, max: 2, drops: 3, insert_failed: 4 };
        Seen { sample, level: PressureLevel::Normal, policies, bad_files: 0, plan: Some("Followed") }
    }

    /// What is shown of metrics, by name and labels.
    fn shown(metrics: &Metrics) -> Vec<(String, f64)> {
        let mut shown = Vec::new();
        for family in metrics.registry.gather() {
            for metric in family.get_metric() {
                let labels: Vec<&str> = metric.get_label().iter().map(|label| label.value()).collect();
                let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
                shown.push((format!("{} {}", family.name(), labels.join(" ")), value));
            }
        }
        shown
    }

    #[test]
    fn a_scrape_never_sees_counters_that_begin_anew() {
        let metrics = Metrics::new().unwrap();
        let policies = [policy("a"), policy("b")];
        metrics.saw(&seen(&policies)).unwrap();
        let wanted = shown(&metrics);
        for (name, value) in [
            ("notrack_conntrack_drops_total ", 3.0),
            ("notrack_policy_bypassed_packets_total a", 7.0),
            ("notrack_policy_state b Programmed", 1.0),
            ("notrack_plan_state Followed", 1.0),
        ] {
            assert!(wanted.contains(&(name.to_owned(), value)), "{name} is not in {wanted:?}");
        }
        let ends = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let scrapes = scope.spawn(|| {
                let differing = |_| Some(shown(&metrics)).filter(|shown| *shown != wanted);
                let found = (0..500).find_map(differing);
                ends.store(true, Ordering::Relaxed);
                found
            });
            while !ends.load(Ordering::Relaxed) {
                metrics.saw(&seen(&policies)).unwrap();
            }
            assert_eq!(scrapes.join().unwrap(), None);
        });
    }

    #[test]
    fn what_is_gone_is_not_shown() {
        let metrics = Metrics::new().unwrap();
        metrics.saw(&seen(&[policy("a"), policy("b")])).unwrap();
        metrics.saw(&Seen { plan: Some("PlanMissing"), ..seen(&[policy("b")]) }).unwrap();
        let shown: Vec<String> = shown(&metrics).into_iter().map(|(name, _)| name).collect();
        assert!(!shown.iter().any(|name| name.ends_with(" a") || name.ends_with("Followed")), "{shown:?}");
        assert!(shown.contains(&"notrack_plan_state PlanMissing".to_owned()), "{shown:?}");
    }

    #[test]
    fn the_documentation_lists_them() {
        let make = Maker::default();
        Metrics::made_by(&make).unwrap();
        notrack_runtime::metrics::list::keep("agent", &make.made()).unwrap();
    }
}
