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
        Metrics::made_by(&Maker::default())
    }

    fn made_by(make: &Maker) -> prometheus::Result<Metrics> {
        make.build_info("notrack_build_info", env!("CARGO_PKG_VERSION"))?;
        Ok(Metrics {
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
            plan_state: make.gauges(
                "notrack_plan_state",
                "1 for how the NodePlan stands: Followed, Pending (none was taken yet), or the reason why it is not followed.",
                &["state"],
            )?,
            registry: make.registry.clone(),
            apply_seconds: make.seconds(
                "notrack_apply_duration_seconds",
                "Seconds from policies to rules read back from the kernel.",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_them() {
        let make = Maker::default();
        Metrics::made_by(&make).unwrap();
        notrack_runtime::metrics::list::keep("agent", &make.made()).unwrap();
    }
}
