//! Metrics that show the state of one moment.

use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Registry, Result};

use super::Maker;

/// Metrics that are made anew for each moment and shown all at once: a scrape in between sees the last moment, never a
/// counter that was set back or a policy without its state.
#[derive(Clone, Debug)]
pub struct Snapshot {
    descs: Arc<[Desc]>,
    shown: Arc<RwLock<Registry>>,
}

impl Snapshot {
    /// Shows what this maker has made, and nothing else of its metrics, from now on.
    pub fn show(&self, made: Maker) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = made.registry;
    }
}

impl Collector for Snapshot {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).gather()
    }
}

impl Maker {
    /// Registers metrics that are shown together. `empty` has made each of them, without values.
    pub fn snapshot(&self, empty: Maker) -> Result<Snapshot> {
        let Maker { registry, made, descs } = empty;
        let descs: Arc<[Desc]> = descs.into_inner().into();
        let snapshot = Snapshot { descs: descs.clone(), shown: Arc::new(RwLock::new(registry)) };
        self.registry.register(Box::new(snapshot.clone()))?;
        self.made.borrow_mut().extend(made.into_inner());
        self.descs.borrow_mut().extend(descs.iter().cloned());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntCounterVec;

    use super::*;

    fn packets(make: &Maker) -> Result<IntCounterVec> {
        make.counters("packets_total", "Packets.", &["policy"])
    }

    fn shown(registry: &Registry) -> Vec<(String, f64)> {
        let families = registry.gather();
        let metrics = families.iter().flat_map(|family| family.get_metric());
        metrics
            .map(|metric| (metric.get_label()[0].value().to_owned(), metric.get_counter().get_value()))
            .collect()
    }

    #[test]
    fn what_is_shown_is_of_one_moment() {
        let (make, empty) = (Maker::default(), Maker::default());
        packets(&empty).unwrap();
        let snapshot = make.snapshot(empty).unwrap();
        assert_eq!(make.made()[0].name, "packets_total");
        assert!(packets(&make).is_err(), "the name is taken");

        let first = Maker::default();
        packets(&first).unwrap().with_label_values(&["a"]).inc_by(7);
        snapshot.show(first);
        let second = Maker::default();
        packets(&second).unwrap().with_label_values(&["b"]).inc_by(9);
        // What is not complete yet is not seen.
        assert_eq!(shown(&make.registry), [("a".to_owned(), 7.0)]);
        snapshot.show(second);
        assert_eq!(shown(&make.registry), [("b".to_owned(), 9.0)]);
    }
}
