//! Starts everything, and the main loop.

use std::sync::Arc;

use anyhow::Context;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Client};
use notrack_core::net::AddressRange;
use notrack_runtime::api_server::{causes, config};
use notrack_runtime::server;
use notrack_runtime::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::args::Args;
use crate::controller::{Controller, Parts};
use crate::effects::Effects;
use crate::jobs;
use crate::leader::{self, Election};
use crate::metrics::Metrics;
use crate::shown::Shown;
use crate::watch::Watches;
use crate::world::{Change, Kind, Update, World};

/// Runs until a signal asks to stop.
pub fn run(args: Args) -> anyhow::Result<()> {
    args.log.start()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // Ahead of all work: the kernel drops what reaches process 1 without a handler.
        let mut stop = Shutdown::listen()?;
        let Some(command) = &args.command else { return live(args, stop).await };
        tokio::select! {
            signal = stop.requested() => anyhow::bail!("ended by {signal} before it was done"),
            done = jobs::run(command, &args.namespace) => done,
        }
    })
}

async fn live(args: Args, mut stop_signal: Shutdown) -> anyhow::Result<()> {
    let config = config().await.context("no access to a cluster: neither in a pod nor KUBECONFIG")?;
    let client = Client::try_from(config)?;
    let identity = args.identity.clone().unwrap_or_else(random_identity);
    let metrics = Metrics::new()?;
    let shown = Arc::new(Shown::new(&identity));
    server::start(args.listen, shown.clone(), metrics.registry.clone())?;
    tracing::info!(identity, listen = %args.listen, version = env!("CARGO_PKG_VERSION"), "started");

    let (updates, mut learned) = mpsc::channel(1024);
    let (answers, mut answered) = mpsc::channel(1024);
    let (again, again_asked) = watch::channel(0);
    let (doubt, doubted) = watch::channel(0);
    let (term, mut terms) = watch::channel(None);
    let (stop, stopped) = watch::channel(false);

    let discovered = tokio::select! {
        _ = stop_signal.requested() => return Ok(()),
        discovered = has_service_cidrs(&client, &args) => discovered,
    };
    if !discovered {
        // There will be no listing: what the command line says is all there is.
        drop(updates.send(Update::ServiceCidrs(Change::Reset(Default::default()))).await);
    }
    let watches = Watches {
        client: client.clone(),
        namespace: args.namespace.clone(),
        updates,
        again: again_asked,
        metrics: metrics.clone(),
    };
    watches.start(discovered);
    let election = Election {
        namespace: args.namespace.clone(),
        name: args.lease_name.clone(),
        identity: identity.clone(),
    };
    let elected = tokio::spawn(leader::run(client.clone(), election, term, doubted, stopped));

    let fixed = args.service_cidrs.iter().copied().map(AddressRange::from).collect();
    let mut controller = Controller::new(
        Parts {
            world: World::new(fixed, args.node_port_range.0),
            identity,
            rule_sets_stay: args.rule_sets_stay(),
            doubt,
            again,
            effects: Effects { client, answers },
            metrics,
            shown,
        },
        Instant::now(),
    );
    loop {
        let next = controller.next(Instant::now());
        tokio::select! {
            signal = stop_signal.requested() => {
                tracing::info!(signal, "stops; the nodes go on as they are");
                break;
            }
            Some(update) = learned.recv() => controller.learn(update, Instant::now()),
            Some(answer) = answered.recv() => controller.answer(answer, Instant::now()),
            Ok(()) = terms.changed() => controller.lead(*terms.borrow_and_update(), Instant::now()),
            () = sleep_until(next) => {}
        }
        controller.step(Instant::now());
    }
    // What still writes must end before another one leads.
    controller.lead(None, Instant::now());
    stop.send_replace(true);
    elected.await.context("the lease")
}

/// Whether ServiceCIDRs are to be watched: not where the command line says what they would, nor on a cluster before
/// Kubernetes 1.33, which has none.
async fn has_service_cidrs(client: &Client, args: &Args) -> bool {
    if !args.service_cidrs.is_empty() {
        return false;
    }
    let api = Api::<PartialObjectMeta<ServiceCIDR>>::all(client.clone());
    loop {
        match api.list(&ListParams::default().limit(1)).await {
            Ok(_) => return true,
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                tracing::warn!(
                    "the cluster has no {}s: give --service-cidrs as the API server has it, or Services to come are not foreseen",
                    Kind::ServiceCidrs.name()
                );
                return false;
            }
            Err(error) => tracing::warn!("waiting for the API server: {}", causes(&error)),
        }
        sleep(Duration::from_secs(2)).await;
    }
}

/// Two controllers of one name would both lead.
fn random_identity() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("notrack-controller-{:016x}", RandomState::new().hash_one(std::process::id()))
}
