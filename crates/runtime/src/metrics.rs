//! Making metrics: registered as they are made, so that none is forgotten.

pub mod list;
mod snapshot;

use std::cell::RefCell;

use prometheus::core::{Collector, Desc};
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    Result,
};

use list::Described;
pub use snapshot::Snapshot;

/// A registry that makes its metrics.
#[derive(Debug, Default)]
pub struct Maker {
    /// Where they all are.
    pub registry: Registry,
    /// What was made, in this order. A registry does not tell: metrics with labels are not in it before they have a value.
    made: RefCell<Vec<Described>>,
    /// The same as a registry wants it.
    descs: RefCell<Vec<Desc>>,
}

impl Maker {
    fn registered<M: Collector + Clone + 'static>(&self, metric: Result<M>) -> Result<M> {
        let metric = metric?;
        self.registry.register(Box::new(metric.clone()))?;
        self.made.borrow_mut().extend(list::describe(&metric));
        self.descs.borrow_mut().extend(metric.desc().into_iter().cloned());
        Ok(metric)
    }

    /// What was made, in this order.
    pub fn made(&self) -> Vec<Described> {
        self.made.borrow().clone()
    }

    /// A gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.registered(IntGauge::new(name, help))
    }

    /// A gauge for each value of the labels.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A counter.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.registered(IntCounter::new(name, help))
    }

    /// A counter for each value of the labels.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A histogram of seconds, from a millisecond to some seconds.
    pub fn seconds(&self, name: &str, help: &str) -> Result<Histogram> {
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
        self.registered(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
    }

    /// What version runs: always 1, the label tells it.
    pub fn build_info(&self, name: &str, version: &str) -> Result<()> {
        let help = "Always 1; the label tells the version.";
        let build = self.registered(GaugeVec::new(Opts::new(name, help), &["version"]))?;
        build.with_label_values(&[version]).set(1.0);
        Ok(())
    }
}
