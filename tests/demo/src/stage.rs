//! What all lines share: the folder for their files, the agent's program, the clock, Ctrl-C.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use notrack_lab::wait_until;
use tempfile::TempDir;

/// Where the demo takes place.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    agent: PathBuf,
    started: Instant,
}

impl Stage {
    /// Makes the folder, and sees to it that an interrupted demo leaves nothing behind.
    pub fn new(agent: Option<PathBuf>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("notrack-demo-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        clean_up_on_signal(folder.path().to_owned())?;
        let agent = match agent {
            Some(agent) => agent,
            None => std::env::current_exe()?.with_file_name("notrack-agent"),
        };
        if !agent.is_file() {
            bail!("no agent at {}: build it with cargo build -p notrack-agent", agent.display());
        }
        Ok(Self { folder, agent, started: Instant::now() })
    }

    /// The agent's program.
    pub fn agent(&self) -> &Path {
        &self.agent
    }

    /// A new folder below the demo's own.
    pub fn folder(&self, label: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(label);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Tells the watcher what happens now.
    pub fn say(&self, what: &str) {
        eprintln!("{:>4.0} s  {what}", self.started.elapsed().as_secs_f64());
    }

    /// Since the start.
    pub fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

/// On Ctrl-C and its like: the kernel ends our children and removes our namespaces when we exit,
/// so that the folder is all there is to remove.
fn clean_up_on_signal(folder: PathBuf) -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Blocked in this thread and in all that it starts; taken by the one below alone.
    signals.thread_block().context("cannot block signals")?;
    thread::spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        eprintln!("\ndemo: {signal}: cleaning up");
        // The other threads may be writing there still.
        let _ = wait_until("an empty folder", Duration::from_secs(2), || {
            fs::remove_dir_all(&folder).is_ok() || !folder.exists()
        });
        process::exit(128 + signal as i32);
    });
    Ok(())
}
