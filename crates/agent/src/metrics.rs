//! The agent's metrics, by Prometheus' conventions: base units, totals end in `_total`.

use std::collections::BTreeMap;

use notrack_core::pressure::{ConntrackSample, PressureLevel};
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::report::PolicyReport;

/// Every metric of the agent.
pub struct Metrics {
    /// Where they are gathered.
    pub registry: Registry,
    entries: IntGauge,
    limit: IntGauge,
    drops: IntGauge,
    insert_failed: IntGauge,
    pressure: IntGaugeVec,
    packets: IntGaugeVec,
    bytes: IntGaugeVec,
    state: IntGaugeVec,
    applies: IntCounterVec,
    apply_seconds: Histogram,
    evicted: IntCounter,
    bad_files: IntGauge,
}

impl Metrics {
    /// Registers them all.
    pub fn new() -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let applies = IntCounterVec::new(
            Opts::new("notrack_applies_total", "Attempts to bring the kernel to what the policies ask for."),
            &["result"],
        )?;
        registry.register(Box::new(applies.clone()))?;
        let apply_seconds = Histogram::with_opts(
            HistogramOpts::new("notrack_apply_duration_seconds", "From policies to rules read back from the kernel.")
                .buckets(vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]),
        )?;
        registry.register(Box::new(apply_seconds.clone()))?;
        let evicted = IntCounter::new(
            "notrack_evicted_entries_total",
            "Entries deleted from the connection table because their packets are bypassed now.",
        )?;
        registry.register(Box::new(evicted.clone()))?;
        let build = GaugeVec::new(Opts::new("notrack_build_info", "Always 1; the label tells the version."), &["version"])?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        Ok(Metrics {
            entries: gauge("notrack_conntrack_entries", "Entries of the connection table in this network namespace.")?,
            limit: gauge("notrack_conntrack_entries_limit", "Most entries that the kernel takes; 0 means no limit.")?,
            drops: gauge("notrack_conntrack_dropped_packets", "Packets dropped since boot because the table was full.")?,
            insert_failed: gauge("notrack_conntrack_insert_failures", "Entries that could not be inserted since boot.")?,
            pressure: gauges("notrack_conntrack_pressure_level", "1 for the current level, 0 for the others.", &["level"])?,
            packets: gauges(
                "notrack_policy_bypassed_packets",
                "Packets that a policy bypassed since its counter was made.",
                &["policy"],
            )?,
            bytes: gauges(
                "notrack_policy_bypassed_bytes",
                "Bytes that a policy bypassed since its counter was made.",
                &["policy"],
            )?,
            state: gauges("notrack_policy_state", "1 for the state that a policy is in.", &["policy", "state"])?,
            bad_files: gauge("notrack_bad_policy_files", "Policy files of the last reading that were refused.")?,
            registry,
            applies,
            apply_seconds,
            evicted,
        })
    }

    /// The table's figures.
    pub fn sampled(&self, sample: ConntrackSample, level: PressureLevel) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.entries.set(number(sample.entries));
        self.limit.set(number(sample.max));
        self.drops.set(number(sample.drops));
        self.insert_failed.set(number(sample.insert_failed));
        for known in [PressureLevel::Normal, PressureLevel::Elevated, PressureLevel::High, PressureLevel::Full] {
            self.pressure.with_label_values(&[&format!("{known:?}")]).set(i64::from(known == level));
        }
    }

    /// An attempt to apply: how long it took and how it ended ("ok" or the name of the step that failed).
    pub fn applied(&self, seconds: f64, result: &str) {
        self.applies.with_label_values(&[result]).inc();
        self.apply_seconds.observe(seconds);
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
        for (name, traffic) in traffic {
            let traffic = traffic.unwrap_or_default();
            self.packets.with_label_values(&[name]).set(i64::try_from(traffic.packets).unwrap_or(i64::MAX));
            self.bytes.with_label_values(&[name]).set(i64::try_from(traffic.bytes).unwrap_or(i64::MAX));
        }
        for policy in policies {
            self.state.with_label_values(&[policy.name.as_str(), policy.state.name()]).set(1);
        }
        self.bad_files.set(i64::try_from(bad_files).unwrap_or(i64::MAX));
    }
}
