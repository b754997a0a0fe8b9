//! The controller's metrics, by Prometheus' conventions: base units, totals end in `_total`.

use notrack_runtime::metrics::Maker;
use prometheus::{Histogram, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::write::{WriteError, Written};

/// Every metric of the controller. Clones show the same figures.
#[derive(Clone)]
pub struct Metrics {
    /// Where they are gathered.
    pub registry: Registry,
    leader: IntGauge,
    compile_seconds: Histogram,
    writes: IntCounterVec,
    watch_errors: IntCounterVec,
    unreadable: IntCounterVec,
    policies: IntGaugeVec,
    nodes: IntGaugeVec,
    rule_sets: IntGauge,
    crds_behind: IntGauge,
}

impl Metrics {
    /// Registers them all.
    pub fn new() -> prometheus::Result<Metrics> {
        Metrics::made_by(&Maker::default())
    }

    fn made_by(make: &Maker) -> prometheus::Result<Metrics> {
        make.build_info("notrack_controller_build_info", env!("CARGO_PKG_VERSION"))?;
        Ok(Metrics {
            leader: make.gauge(
                "notrack_controller_leader",
                "1 for the one controller that leads and writes, 0 for the others; their other figures are old or 0.",
            )?,
            writes: make.counters(
                "notrack_controller_writes_total",
                "Writes to the API server, by what was written (ruleset, nodeplan, policystatus) and how it ended: ok, or why it failed.",
                &["kind", "result"],
            )?,
            watch_errors: make.counters(
                "notrack_controller_watch_errors_total",
                "Attempts to list or watch objects of a kind that failed.",
                &["kind"],
            )?,
            unreadable: make.counters(
                "notrack_controller_unreadable_objects_total",
                "Readings of an object that failed; what was known of it stays.",
                &["kind"],
            )?,
            policies: make.gauges(
                "notrack_controller_policies",
                "NoTrackPolicies by the status of their condition Ready: True, False, Unknown.",
                &["ready"],
            )?,
            nodes: make.gauges(
                "notrack_controller_nodes",
                "Linux nodes: programmed (run what their plan says), behind (run something else), silent (no report for three times reportEverySeconds).",
                &["state"],
            )?,
            rule_sets: make.gauge("notrack_controller_rule_sets", "RuleSets that the plans of now name: one a class of nodes.")?,
            crds_behind: make.gauge(
                "notrack_controller_crd_fields_missing",
                "Fields that the installed CRDs lack. Above 0 they must be upgraded.",
            )?,
            registry: make.registry.clone(),
            compile_seconds: make.seconds(
                "notrack_controller_compile_duration_seconds",
                "Seconds from what is known of the cluster to a plan for every node.",
            )?,
        })
    }

    /// Whether this controller writes.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// A compilation, and how many rule sets came of it.
    pub fn compiled(&self, seconds: f64, rule_sets: usize) {
        self.compile_seconds.observe(seconds);
        self.rule_sets.set(number(rule_sets));
    }

    /// A write.
    pub fn wrote<T>(&self, kind: Written, result: &Result<T, WriteError>) {
        let result = result.as_ref().map_or_else(WriteError::reason, |_| "ok");
        self.writes.with_label_values(&[kind.name(), result]).inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_errors.with_label_values(&[kind]).inc();
    }

    /// An object could not be read.
    pub fn unreadable(&self, kind: &str) {
        self.unreadable.with_label_values(&[kind]).inc();
    }

    /// Policies by the value of Ready.
    pub fn policies(&self, ready: usize, not_ready: usize, unknown: usize) {
        for (label, count) in [("True", ready), ("False", not_ready), ("Unknown", unknown)] {
            self.policies.with_label_values(&[label]).set(number(count));
        }
    }

    /// Nodes by state.
    pub fn nodes(&self, programmed: usize, behind: usize, silent: usize) {
        for (label, count) in [("programmed", programmed), ("behind", behind), ("silent", silent)] {
            self.nodes.with_label_values(&[label]).set(number(count));
        }
    }

    /// Fields that the installed CRDs lack.
    pub fn crds_behind(&self, fields: usize) {
        self.crds_behind.set(number(fields));
    }
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_them() {
        let make = Maker::default();
        Metrics::made_by(&make).unwrap();
        notrack_runtime::metrics::list::keep("controller", &make.made()).unwrap();
    }
}
