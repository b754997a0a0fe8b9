//! Who may write: the holder of a Lease.
//!
//! The lease manager takes and renews the lease, but trusts its own memory: it does not say so when a renewal fails or
//! the lease is gone. So the lease is read back while it is held; who cannot confirm it in time stops writing. Should
//! two controllers write all the same, the API server refuses the one with the earlier term.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManagerBuilder, LeaseParams};
use notrack_runtime::api_server::causes;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::write::within;

const DURATION_SECONDS: u64 = 15;
const GRACE_SECONDS: u64 = 5;
/// How often a held lease is read back.
const CONFIRM: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(2);
/// A shutdown waits no longer than this for the release.
const RELEASE: Duration = Duration::from_secs(5);

/// Which lease, and as whom.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// Who we are.
    pub identity: String,
}

/// The term while this controller leads: the lease's resourceVersion, read while it was held.
pub type Term = Option<i64>;

/// Runs for leader until `stop` closes; then the lease is released. `doubt` asks to read the lease back at once.
pub async fn run(
    client: Client,
    election: Election,
    term: watch::Sender<Term>,
    mut doubt: watch::Receiver<u64>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let ended = one(&client, &election, &term, &mut doubt, stop.clone()).await;
        term.send_replace(None);
        match ended {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(namespace = election.namespace, lease = election.name, "cannot lead: {error}");
                tokio::select! {
                    () = asked(&mut stop) => return,
                    () = sleep(RETRY) => {}
                }
            }
        }
    }
}

/// One lease manager's life. An error asks for another one.
async fn one(
    client: &Client,
    election: &Election,
    term: &watch::Sender<Term>,
    doubt: &mut watch::Receiver<u64>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), String> {
    let api = Api::<Lease>::namespaced(client.clone(), &election.namespace);
    let params = LeaseParams::new(election.identity.clone(), DURATION_SECONDS, GRACE_SECONDS);
    let builder = LeaseManagerBuilder::new(client.clone(), &election.name)
        .with_namespace(&election.namespace)
        .with_parameters(params);
    let manager = tokio::select! {
        () = asked(&mut stop) => return Ok(()),
        manager = builder.build() => manager.map_err(|error| causes(&error))?,
    };
    let (mut held, task) = manager.watch().await;
    // Whatever ends this function ends the manager too: it must not go on renewing for nobody.
    let _abort = AbortOnDrop(task.abort_handle());
    let mut confirmed = Instant::now();
    let mut ticks = interval(CONFIRM);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let doubted = tokio::select! {
            () = asked(&mut stop) => {
                term.send_replace(None);
                drop(held);
                // The manager releases the lease when nobody listens any more.
                if timeout(RELEASE, task).await.is_err() {
                    tracing::warn!("the lease was not released in time; it runs out by itself");
                }
                return Ok(());
            }
            changed = held.changed() => {
                changed.map_err(|_| "the lease manager has ended".to_owned())?;
                true
            }
            changed = doubt.changed() => changed.is_ok(),
            _ = ticks.tick() => false,
        };
        if !*held.borrow_and_update() {
            set(term, None);
            continue;
        }
        match within(api.get_opt(&election.name)).await {
            Ok(Some(lease)) => match version_if_held(&lease, &election.identity) {
                Some(version) => {
                    confirmed = Instant::now();
                    if doubted || term.borrow().is_none() {
                        set(term, Some(version));
                    }
                }
                None => return Err("another one holds the lease".into()),
            },
            Ok(None) => return Err("the lease was deleted".into()),
            Err(error) => {
                tracing::warn!("the lease cannot be read back: {error}");
                if confirmed.elapsed() >= Duration::from_secs(DURATION_SECONDS) {
                    set(term, None);
                }
            }
        }
    }
}

/// Waits until the flag is raised, or nobody is left to raise it.
async fn asked(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn set(term: &watch::Sender<Term>, value: Term) {
    term.send_if_modified(|known| std::mem::replace(known, value) != value);
}

fn version_if_held(lease: &Lease, identity: &str) -> Option<i64> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    (holder == identity).then(|| lease.metadata.resource_version.as_ref()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_has_a_term() {
        let lease = |holder: Option<&str>, version: &str| -> Lease {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"resourceVersion": version}, "spec": {"holderIdentity": holder},
            }))
            .unwrap()
        };
        assert_eq!(version_if_held(&lease(Some("a"), "42"), "a"), Some(42));
        assert_eq!(version_if_held(&lease(Some("b"), "42"), "a"), None);
        assert_eq!(version_if_held(&lease(None, "42"), "a"), None);
        assert_eq!(version_if_held(&lease(Some("a"), "x"), "a"), None);
    }
}
