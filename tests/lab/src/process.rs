//! Running other programs: once, or in the background for as long as a guard lives.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::tools::require_tools;

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);
/// What a program gets to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// Waits until `condition` holds; after `timeout` an error says `what` was waited for.
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while !condition() {
        if Instant::now() >= deadline {
            bail!("waited {timeout:?} in vain: {what}");
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Runs a command to its end and returns what it printed; where it fails, the error shows its
/// standard error.
pub fn run_ok(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(command)?;
    finish(command, child.wait_with_output())
}

/// As [`run_ok`], with `input` on the command's standard input.
pub fn run_ok_with_input(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let pipe = child.stdin.take();
    thread::scope(|scope| {
        // Beside the reader: both pipes may fill. A program that stops reading says why itself.
        scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(input.as_bytes())));
        finish(command, child.wait_with_output())
    })
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().or_else(|error| {
        if error.kind() == ErrorKind::NotFound {
            require_tools(&[&command.get_program().to_string_lossy()])?;
        }
        Err(error).with_context(|| format!("cannot start {}", describe(command)))
    })
}

fn finish(command: &Command, output: std::io::Result<Output>) -> Result<String> {
    let output = output.with_context(|| format!("cannot wait for {}", describe(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        // iptables, wrk and others tell their errors on standard output.
        let said = if stderr.trim().is_empty() { stdout.trim() } else { stderr.trim() };
        bail!("{}: {}: {said}", describe(command), output.status);
    }
    Ok(stdout)
}

fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// A program that runs until this guard is dropped, with its output kept.
///
/// It leads a process group of its own: a Ctrl-C at the terminal reaches us alone, and the whole
/// group dies with the guard. Start it on a thread that outlives the guard: the kernel ends the
/// child together with that thread.
#[derive(Debug)]
pub struct Background {
    name: String,
    child: Child,
    output: File,
}

impl Background {
    /// Starts `command`.
    pub fn spawn(mut command: Command) -> Result<Self> {
        // Has no name: nothing to remove, whatever ends us.
        let output = tempfile::tempfile().context("cannot make a file for a program's output")?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?).process_group(0);
        let child = spawn(&mut command)?;
        Ok(Self { name: describe(&command), child, output })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far, on standard output and standard error together.
    pub fn output(&self) -> String {
        let mut bytes = vec![0; self.output.metadata().map_or(0, |meta| meta.len() as usize)];
        match self.output.read_exact_at(&mut bytes, 0) {
            Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(its output is unreadable: {error})"),
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// As [`wait_until`], and fails at once, showing its output, where the program ends first.
    pub fn wait_ready(
        &mut self,
        what: &str,
        timeout: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Result<()> {
        let mut ended = false;
        let waited = wait_until(what, timeout, || {
            ended = !self.is_running();
            ended || condition()
        });
        if ended {
            bail!("{} ended early: {}", self.name, self.output().trim());
        }
        waited.with_context(|| format!("{}: {}", self.name, self.output().trim()))
    }

    /// Waits for its end by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        wait_until(&format!("the end of {}", self.name), timeout, || !self.is_running())?;
        Ok(self.child.wait()?)
    }

    /// Asks it to end (SIGTERM) and waits; a program that does not is killed, and that is an error.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let ended = self.wait(GRACE);
        if ended.is_err() {
            self.kill();
        }
        ended
    }

    /// Kills it and its group at once (SIGKILL), as a crash would.
    pub fn kill(&mut self) {
        // Errors mean that it is gone already.
        let _ = killpg(self.group(), Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.group(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_shows_what_the_program_said() {
        let error = run_ok(&mut shell("echo no such thing >&2; exit 3")).unwrap_err().to_string();
        assert!(error.contains("exit status: 3: no such thing"), "{error}");
        let error = run_ok(&mut Command::new("no-such-tool")).unwrap_err().to_string();
        assert!(error.contains("install"), "{error}");
    }

    #[test]
    fn input_larger_than_a_pipe_is_passed() {
        let input = "x".repeat(1 << 20);
        assert_eq!(run_ok_with_input(&mut Command::new("cat"), &input).unwrap(), input);
    }

    #[test]
    fn a_background_group_dies_with_its_guard() {
        let mut guard = Background::spawn(shell("sleep 100 & echo $!; wait")).unwrap();
        guard.wait_ready("its pid", GRACE, || true).unwrap();
        wait_until("the pid", GRACE, || guard.output().ends_with('\n')).unwrap();
        let child = Pid::from_raw(guard.output().trim().parse().unwrap());
        drop(guard);
        // A killed grandchild may stay a zombie for a moment, until init reaps it.
        wait_until("the grandchild's end", GRACE, || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        })
        .unwrap();
    }

    #[test]
    fn an_early_end_is_told_with_the_output() {
        let mut guard = Background::spawn(shell("echo bad configuration; exit 1")).unwrap();
        let error = guard.wait_ready("never", GRACE, || false).unwrap_err().to_string();
        assert!(error.contains("ended early: bad configuration"), "{error}");
    }
}
