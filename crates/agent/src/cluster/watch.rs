//! The plan's object, watched by name.

use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Client};
use notrack_api::NodePlan;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::Trouble;

/// What there is to see. "Never there" and "not any more" are one: unknown, keep.
#[derive(Debug)]
pub enum Sight {
    /// The plan.
    Plan(Box<NodePlan>),
    /// There is none.
    Missing,
    /// The plan cannot be asked for.
    Away(Trouble),
    /// It can.
    Watching,
}

/// A watch that has lasted so long works. One that begins says nothing, and failing at once is failing again.
const SETTLED: Duration = Duration::from_secs(5);

/// Watches until nobody listens.
pub async fn watch(client: Client, name: String, seen: Sender<Sight>) {
    let plans: Api<NodePlan> = Api::all(client);
    let mut backoff = DefaultBackoff::default();
    let mut failures = 0u32;
    loop {
        // A new watcher after every failure: it begins with a list, so that success shows.
        let (trouble, lasted) = one_watch(&plans, &name, &seen).await;
        if seen.is_closed() {
            return;
        }
        failures = if lasted { 1 } else { failures + 1 };
        tracing::debug!(failures, "{trouble}");
        // An API server that restarts is away for a moment: no news.
        if failures > 1 && seen.send(Sight::Away(trouble)).await.is_err() {
            return;
        }
        sleep(backoff.next().unwrap_or(SETTLED)).await;
    }
}

/// Why it ended, and whether it had worked.
async fn one_watch(plans: &Api<NodePlan>, name: &str, seen: &Sender<Sight>) -> (Trouble, bool) {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(plans.clone(), config));
    let ended = || Trouble::ApiUnavailable("the watch has ended".to_owned());
    let (mut found, mut listed, mut lasted) = (false, false, false);
    loop {
        let next =
            if listed && !lasted { timeout(SETTLED, events.next()).await } else { Ok(events.next().await) };
        let sight = match next {
            Err(_) => {
                lasted = true;
                Some(Sight::Watching)
            }
            Ok(None) => return (ended(), lasted),
            Ok(Some(Err(error))) => return (trouble(&error), lasted),
            Ok(Some(Ok(event))) => match event {
                Event::Init => {
                    found = false;
                    None
                }
                Event::InitApply(plan) => {
                    found = true;
                    Some(Sight::Plan(Box::new(plan)))
                }
                Event::InitDone => {
                    listed = true;
                    (!found).then_some(Sight::Missing)
                }
                Event::Apply(plan) => Some(Sight::Plan(Box::new(plan))),
                Event::Delete(_) => Some(Sight::Missing),
            },
        };
        if let Some(sight) = sight
            && seen.send(sight).await.is_err()
        {
            return (ended(), lasted);
        }
    }
}

fn trouble(error: &watcher::Error) -> Trouble {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Trouble::of(error),
        watcher::Error::WatchError(status) => Trouble::of(&kube::Error::Api(status.clone())),
        watcher::Error::NoResourceVersion => Trouble::ApiUnavailable(error.to_string()),
    }
}
