//! The agent's modes: once, for ever, remove, prove.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use notrack_api::ConditionStatus;
use notrack_api::condition::{PROGRAMMED, READY};
use notrack_core::diff::{Op, Transaction};
use notrack_core::facts::Tracked;
use notrack_core::nf::Table;
use notrack_netlink::adapters;
use notrack_netlink::facts;
use notrack_netlink::nft::{Netfilter, Nft};
use notrack_runtime::server;
use notrack_runtime::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::agent::Agent;
use crate::args::{self, Args, Command, Keep, Mode};
use crate::cluster;
use crate::cluster::source::PlanSource;
use crate::engine::Settings;
use crate::handover::{Before, Handover};
use crate::intent::{FolderSource, Source};
use crate::report::condition_of;
use crate::{lock, prove};

const DEFAULT_LEASE: Duration = Duration::from_secs(24 * 3600);
/// The connection table is sampled, and everything else looked at, this often.
pub const TICK: Duration = Duration::from_secs(1);
/// Editors write a file in several steps: a change is acted on when no other has followed for so long.
const SETTLE: Duration = Duration::from_millis(50);

/// Runs the mode that the arguments ask for.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.log.start()?;
    match args.command {
        Some(Command::Remove) => return remove(),
        Some(Command::Prove) => {
            // A failure's text has its cause in it.
            prove::prove().map_err(|failure| anyhow::Error::msg(failure.to_string()))?;
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    let mode = args.mode()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Ahead of all work: a signal that comes meanwhile ends the agent once it is done.
    let stop = match args.once {
        true => None,
        false => {
            let _context = runtime.enter();
            Some(Shutdown::listen()?)
        }
    };
    let labels = args::labels(&args.node_labels);
    let source = match &mode {
        Mode::Folder(folder) => {
            anyhow::ensure!(
                folder.is_dir(),
                "{} is not a folder: name one with NoTrackPolicy files",
                folder.display()
            );
            Source::Folder(FolderSource::new(folder.clone(), labels.clone()))
        }
        Mode::Node(_) => Source::Plan(PlanSource::default()),
    };
    let _lock = lock::take()?;
    let default = if args.once { Keep::Forever } else { Keep::For(DEFAULT_LEASE) };
    let settings = Settings {
        labels,
        own_port: (!args.once).then(|| args.listen.port()),
        owns_table: !args.once,
        lease: args.keep_without_agent.unwrap_or(default).lifetime(),
    };
    let agent = Agent::open(source, settings)?;
    let Some(stop) = stop else { return Ok(once(agent)) };
    match mode {
        Mode::Folder(folder) => runtime.block_on(live(agent, &args, folder, stop))?,
        Mode::Node(name) => runtime.block_on(cluster::live::live(agent, &args, name, stop))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn remove() -> anyhow::Result<ExitCode> {
    let mut nft = Nft::open_without_owning()?;
    if nft.observe()?.is_none() {
        println!("no table of ours in this network namespace");
    } else {
        remove_table(&mut nft)?;
        println!("removed table inet {}", notrack_core::nf::TABLE_NAME);
    }
    // Last: until the table was gone they let through what was bypassed.
    let added = adapters::present()?;
    if !added.is_empty() {
        adapters::apply(&[], &added)?;
        println!("removed {} rules from other programs' firewalls", added.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn remove_table(nft: &mut Nft) -> anyhow::Result<()> {
    let (next, ephemeral) = (Table::default(), facts::ephemeral());
    // Whatever is unknown, the rules go.
    let tracked = facts::tracked().unwrap_or_else(|error| {
        tracing::warn!("bypassed connections are not handed over to tracking: {error}");
        Tracked { ipv4: false, ipv6: false }
    });
    let handover = Handover { before: Before::Unknown, next: &next, tracked, ephemeral: &ephemeral };
    handover.ahead();
    nft.commit(&Transaction { ops: vec![Op::DeleteTable] })?;
    handover.behind();
    Ok(())
}

fn once(mut agent: Agent) -> ExitCode {
    agent.read_folder();
    agent.step(true);
    agent.finish_sweeps();
    agent.step(false);
    let report = agent.report();
    let width = report.policies.iter().map(|policy| policy.name.len()).max().unwrap_or_default().max(6);
    println!("{:width$}  {:11}  MESSAGE", "POLICY", "STATE");
    for policy in &report.policies {
        let ready = condition_of(&policy.status.conditions, READY);
        let message = ready.map_or("", |condition| condition.message.as_str());
        println!("{:width$}  {:11}  {message}", policy.name, policy.state.name());
    }
    let programmed = condition_of(&report.node.conditions, PROGRAMMED);
    let applied = programmed.is_some_and(|condition| condition.status == ConditionStatus::True);
    let good =
        applied && agent.bad_files() == 0 && report.policies.iter().all(|policy| policy.state.is_good());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Until a signal asks to stop. The rules stay then: an upgrade must not lose a packet.
async fn live(mut agent: Agent, args: &Args, folder: PathBuf, mut stop: Shutdown) -> anyhow::Result<()> {
    server::start(args.listen, agent.shown.clone(), agent.metrics.registry.clone())?;
    let (changed, mut changes) = mpsc::channel(1);
    let _watcher = watch(&folder, changed)?;
    tracing::info!(folder = %folder.display(), status = %args.listen, "started");
    agent.read_folder();
    agent.step(true);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut settled: Option<Instant> = None;
    loop {
        let at = settled.unwrap_or_else(Instant::now);
        tokio::select! {
            signal = stop.requested() => {
                tracing::info!(signal, "stopped; the rules stay");
                return Ok(());
            }
            Some(()) = changes.recv() => settled = Some(Instant::now() + SETTLE),
            () = sleep_until(at), if settled.is_some() => {
                settled = None;
                agent.read_folder();
                agent.step(true);
            }
            _ = ticks.tick() => agent.step(false),
        }
    }
}

/// Watches the folder. Events are only a hint to look: what they say is not used.
fn watch(folder: &Path, changed: mpsc::Sender<()>) -> anyhow::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the folder is an event too; an error means that events were lost.
        let read_only = |kind: &EventKind| {
            let written = AccessKind::Close(AccessMode::Write);
            matches!(kind, EventKind::Access(access) if *access != written)
        };
        if event.is_ok_and(|event| read_only(&event.kind)) {
            return;
        }
        // A full channel already tells that there is something to look at.
        let _ = changed.try_send(());
    })?;
    watcher
        .watch(folder, RecursiveMode::NonRecursive)
        .with_context(|| format!("cannot watch {}", folder.display()))?;
    Ok(watcher)
}
