//! The agent of a cluster's node, until a signal asks to stop. The rules stay then.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::{Duration, Instant};

use kube::Client;
use kube::runtime::watcher::DefaultBackoff;
use notrack_runtime::server;
use notrack_runtime::shutdown::Shutdown;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::client::{Clients, Server};
use super::load::Loader;
use super::pace::{Pace, Written};
use super::source::News;
use super::watch::{Sight, watch};
use super::{identity, report};
use crate::agent::Agent;
use crate::args::Args;
use crate::run::TICK;

/// Names may get other addresses: they are looked up again this often.
const LOOKUP: Duration = Duration::from_secs(60);

type Writing = Pin<Box<dyn Future<Output = (Written, String)>>>;

/// The status' writer.
struct Reporter {
    client: Client,
    name: String,
    pace: Pace,
    writing: Option<Writing>,
    /// What the last failure said.
    failure: Option<String>,
}

/// Runs the agent of the node `name`.
pub async fn live(mut agent: Agent, args: &Args, name: String, mut stop: Shutdown) -> anyhow::Result<()> {
    server::start(args.listen, agent.shown.clone(), agent.metrics.registry.clone())?;
    let clients = Clients::open().await?;
    let (tell, mut news) = mpsc::channel(4);
    let mut reporter = Reporter::new(clients.ask.clone(), name.clone());
    let follower = tokio::spawn(follow(clients, name.clone(), args.node_uid.clone(), tell));
    tracing::info!(node = %name, status = %args.listen, "started");
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            signal = stop.requested() => {
                tracing::info!(signal, "stopped; the rules stay");
                follower.abort();
                return Ok(());
            }
            Some(news) = news.recv() => {
                if matches!(news, News::Watching | News::Order(_)) {
                    reporter.pace.hurry();
                }
                if matches!(news, News::Refused { generation: None, .. }) {
                    reporter.pace.forget();
                }
                let changed = agent.hear(news);
                agent.step(changed);
            }
            (written, text) = reporter.finished() => {
                agent.metrics.status_written(written.name());
                reporter.done(written, text);
            }
            _ = ticks.tick() => agent.step(false),
        }
        reporter.look(&agent);
    }
}

/// Finds out which node this is, then watches its plan, for ever.
async fn follow(clients: Clients, name: String, given: Option<String>, tell: Sender<News>) {
    let Clients { watch: watching, ask, server } = clients;
    let mut backoff = DefaultBackoff::default();
    let uid = loop {
        match identity::node_uid(&ask, &name, given.as_deref()).await {
            Ok(uid) => break uid,
            Err(trouble) => {
                if tell.send(News::Away(trouble)).await.is_err() {
                    return;
                }
                sleep(backoff.next().unwrap_or(LOOKUP)).await;
            }
        }
    };
    // Before any order, so that the first table already spares the way to the API server.
    let first = [News::Node(uid.clone()), News::Servers(server.kept().await.0)];
    for news in first {
        if tell.send(news).await.is_err() {
            return;
        }
    }
    let (seen, sights) = mpsc::channel::<Sight>(4);
    tokio::join!(
        watch(watching, name.clone(), seen),
        Loader::new(ask, name, uid, tell.clone()).run(sights),
        look_up(server, tell),
    );
}

async fn look_up(server: Server, tell: Sender<News>) {
    while server.has_names() {
        sleep(LOOKUP).await;
        let (kept, is_complete) = server.kept().await;
        // The resolver is away: the addresses stay.
        if is_complete && tell.send(News::Servers(kept)).await.is_err() {
            return;
        }
    }
}

impl Reporter {
    fn new(client: Client, name: String) -> Reporter {
        let pace = Pace::new(&name, Instant::now());
        Reporter { client, name, pace, writing: None, failure: None }
    }

    /// Begins to write where a report is due.
    fn look(&mut self, agent: &Agent) {
        let Some((report, every)) = agent.plan_report() else { return };
        if self.pace.is_due(&report.node, every, Instant::now()) {
            let (client, name) = (self.client.clone(), self.name.clone());
            self.writing = Some(Box::pin(report::write(client, name, report.node.clone())));
        }
    }

    async fn finished(&mut self) -> (Written, String) {
        match &mut self.writing {
            Some(writing) => writing.await,
            None => pending().await,
        }
    }

    fn done(&mut self, written: Written, text: String) {
        self.writing = None;
        self.pace.written(written, Instant::now());
        match written {
            Written::Ok => {
                if self.failure.take().is_some() {
                    tracing::info!("reported again");
                }
            }
            // The watch tells it too, in better words.
            Written::Gone => tracing::debug!("not reported: {text}"),
            Written::Failed => {
                if self.failure.as_ref() != Some(&text) {
                    tracing::warn!("the node's status was not written and is tried again: {text}");
                }
                self.failure = Some(text);
            }
        }
    }
}
