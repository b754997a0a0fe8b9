//! What the agent's server shows.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use notrack_api::ConditionStatus;
use notrack_api::condition::READY;
use notrack_runtime::server::Source;

use crate::report::{Report, condition_of};

/// A step that takes longer hangs: sweeping a table of millions of entries, the longest work there is, takes minutes.
const STUCK: Duration = Duration::from_secs(600);

/// The last report; written by the agent alone.
#[derive(Default)]
pub struct Shown {
    report: RwLock<Option<Arc<Report>>>,
    /// When the last step began.
    began: RwLock<Option<Instant>>,
}

impl Shown {
    /// Shows a report from now on.
    pub fn set(&self, report: Report) {
        *self.report.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(report));
    }

    /// Notes that a step begins.
    pub fn begins(&self) {
        *self.began.write().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// The last report.
    pub fn get(&self) -> Option<Arc<Report>> {
        self.report.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Source for Shown {
    fn healthy(&self) -> Result<(), String> {
        let began = *self.began.read().unwrap_or_else(PoisonError::into_inner);
        let age = began.map(|began| began.elapsed()).unwrap_or_default();
        if age < STUCK { Ok(()) } else { Err(format!("its last step began {} s ago", age.as_secs())) }
    }

    fn ready(&self) -> Result<(), String> {
        let Some(report) = self.get() else { return Err("the policies were not programmed yet".to_owned()) };
        match condition_of(&report.node.conditions, READY) {
            Some(condition) if condition.status == ConditionStatus::True => Ok(()),
            Some(condition) => Err(format!("{}: {}", condition.reason, condition.message)),
            None => Err("nothing is known yet".to_owned()),
        }
    }

    fn status(&self) -> serde_json::Value {
        serde_json::to_value(self.get().as_deref()).unwrap_or_default()
    }
}
