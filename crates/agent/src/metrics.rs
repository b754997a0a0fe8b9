//! The agent's metrics, by Prometheus' conventions: base units, totals end in `_total`.

use std::collections::BTreeMap;

use notrack_core::pressure::{ConntrackSample, PressureLevel};
use notrack_runtime::metrics::Maker;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::report::PolicyReport;

/// Every metric of the agent.
pub struct Metrics {
    /// Where they are gathered.
    pub registry: Registry,
    entries: IntGauge,
    limit: IntGauge,
    drops: IntCounter,
    insert_failed: IntCounter,
    pressure: IntGaugeVec,
    packets: IntCounterVec,
    bytes: IntCounterVec,
    state: IntGaugeVec,
    hazards: IntGaugeVec,
    applies: IntCounterVec,
    apply_seconds: Histogram,
    evicted: IntCounter,
    bad_files: IntGauge,
    status_writes: IntCounterVec,
    plan_state: IntGaugeVec,
}

impl Metrics {
    /// Registers them all.
    pub fn new() -> prometheus::Result<Metrics> {
        let make = Maker::default();
        make.build_info("notrack_build_info", env!("CARGO_PKG_VERSION"))?;
        Ok(Metrics {
            entries: make.gauge(
                "notrack_conntrack_entries",
                "Entries of the connection table in this network namespace.",
            )?,
            limit: make.gauge(
                "notrack_conntrack_entries_limit",
                "Most entries that the kernel takes; 0 means no limit.",
            )?,
            drops: make.counter(
                "notrack_conntrack_drops_total",
                "Packets and entries dropped because the table was full.",
            )?,
            insert_failed: make
                .counter("notrack_conntrack_insert_failures_total", "Entries that could not be inserted.")?,
            pressure: make.gauges(
                "notrack_conntrack_pressure_level",
                "1 for the current level, 0 for the others.",
                &["level"],
            )?,
            packets: make.counters(
                "notrack_policy_bypassed_packets_total",
                "Packets that a policy bypassed since its counter was made.",
                &["policy"],
            )?,
            bytes: make.counters(
                "notrack_policy_bypassed_bytes_total",
                "Bytes that a policy bypassed since its counter was made.",
                &["policy"],
            )?,
            state: make.gauges(
                "notrack_policy_state",
                "1 for the state that a policy is in.",
                &["policy", "state"],
            )?,
            hazards: make.gauges(
                "notrack_policy_hazards",
                "Findings of a hazard in a policy on this node, by what they do to it.",
                &["policy", "hazard", "effect"],
            )?,
            bad_files: make
                .gauge("notrack_bad_policy_files", "Policy files of the last reading that were refused.")?,
            applies: make.counters(
                "notrack_applies_total",
                "Attempts to bring the kernel to what the policies ask for.",
                &["result"],
            )?,
            evicted: make.counter(
                "notrack_evicted_entries_total",
                "Entries deleted from the connection table because their packets are bypassed now.",
            )?,
            status_writes: make.counters(
                "notrack_status_writes_total",
                "Writes of the NodePlan's status: ok, gone (there is no plan) or failed.",
                &["result"],
            )?,
            plan_state: make.gauges(
                "notrack_plan_state",
                "1 for Followed or Pending, or for the reason why the NodePlan is not followed as it is now.",
                &["state"],
            )?,
            registry: make.registry.clone(),
            apply_seconds: make.seconds(
                "notrack_apply_duration_seconds",
                "From policies to rules read back from the kernel.",
            )?,
        })
    }

    /// The table's figures.
    pub fn sampled(&self, sample: ConntrackSample, level: PressureLevel) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.entries.set(number(sample.entries));
        self.limit.set(number(sample.max));
        // The kernel counts; these only show its figures.
        for (shown, figure) in [(&self.drops, sample.drops), (&self.insert_failed, sample.insert_failed)] {
            shown.reset();
            shown.inc_by(figure);
        }
        for known in
            [PressureLevel::Normal, PressureLevel::Elevated, PressureLevel::High, PressureLevel::Full]
        {
            self.pressure.with_label_values(&[&format!("{known:?}")]).set(i64::from(known == level));
        }
    }

    /// An attempt to apply: how long it took and how it ended ("ok" or the name of the step that failed).
    pub fn applied(&self, seconds: f64, result: &str) {
        self.applies.with_label_values(&[result]).inc();
        self.apply_seconds.observe(seconds);
    }

    /// A write of the plan's status.
    pub fn status_written(&self, result: &str) {
        self.status_writes.with_label_values(&[result]).inc();
    }

    /// How the plan stands.
    pub fn plan_seen(&self, state: &str) {
        self.plan_state.reset();
        self.plan_state.with_label_values(&[state]).set(1);
    }

    /// Entries deleted.
    pub fn evicted(&self, entries: u64) {
        self.evicted.inc_by(entries);
    }

    /// The policies' states and counters. Those of policies that are gone go too.
    pub fn reported(&self, policies: &[PolicyReport], bad_files: usize) {
        let traffic: BTreeMap<&str, _> =
            policies.iter().map(|policy| (policy.name.as_str(), policy.status.traffic.clone())).collect();
        self.packets.reset();
        self.bytes.reset();
        self.state.reset();
        self.hazards.reset();
        for (name, traffic) in traffic {
            let traffic = traffic.unwrap_or_default();
            self.packets.with_label_values(&[name]).inc_by(traffic.packets);
            self.bytes.with_label_values(&[name]).inc_by(traffic.bytes);
        }
        for policy in policies {
            self.state.with_label_values(&[policy.name.as_str(), policy.state.name()]).set(1);
            for (hazard, effect) in &policy.hazards {
                self.hazards.with_label_values(&[policy.name.as_str(), hazard.name(), effect.name()]).inc();
            }
        }
        self.bad_files.set(i64::try_from(bad_files).unwrap_or(i64::MAX));
    }
}
