//! What the health server shows.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use notrack_runtime::server::Source;
use serde::Serialize;

/// The main loop looks up at least so often.
const ALIVE: Duration = Duration::from_secs(120);

/// What is shown.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Who this is in the lease.
    pub identity: String,
    /// The term, while this controller leads.
    pub term: Option<i64>,
    /// Kinds that were not listed yet.
    pub awaited: Vec<&'static str>,
    /// Why nothing is written, where it is not for want of the lease.
    pub stopped: Option<String>,
    /// What the installed CRDs lack.
    pub crds_lack: Vec<String>,
    /// Policies known.
    pub policies: usize,
    /// Nodes known.
    pub nodes: usize,
    /// RuleSets in the API.
    pub rule_sets: usize,
}

/// The state, and when the main loop last looked up.
#[derive(Debug)]
pub struct Shown(Mutex<(State, Instant)>);

impl Shown {
    /// Nothing known yet.
    pub fn new(identity: &str) -> Shown {
        let awaited = crate::world::Kind::ALL.iter().map(|kind| kind.name()).collect();
        let state = State { identity: identity.to_owned(), awaited, ..State::default() };
        Shown(Mutex::new((state, Instant::now())))
    }

    /// Replaces the state.
    pub fn show(&self, state: State) {
        *self.lock() = (state, Instant::now());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (State, Instant)> {
        // A reader that panicked has changed nothing.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Source for Shown {
    fn healthy(&self) -> Result<(), String> {
        let since = self.lock().1.elapsed();
        if since < ALIVE { Ok(()) } else { Err(format!("the main loop has hung for {} s", since.as_secs())) }
    }

    /// A controller that does not lead is ready when it could.
    fn ready(&self) -> Result<(), String> {
        let State { awaited, stopped, crds_lack, .. } = &self.lock().0;
        if let Some(stopped) = stopped {
            return Err(stopped.clone());
        }
        if !awaited.is_empty() {
            return Err(format!("not listed yet: {}", awaited.join(", ")));
        }
        if !crds_lack.is_empty() {
            return Err(format!("upgrade the CRDs: {}", crds_lack.join(", ")));
        }
        Ok(())
    }

    fn status(&self) -> serde_json::Value {
        serde_json::to_value(&self.lock().0).unwrap_or_default()
    }
}
