//! A network namespace of our own.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

use crate::process::{run_ok, run_ok_with_input};
use crate::tools::{locate, require_root};

/// A network namespace that lives as long as this value, where this value made it.
///
/// It is held by a file descriptor alone, not by a name under `/run/netns`: when the last
/// descriptor closes, be it by drop, panic or SIGKILL, the kernel removes the namespace with every
/// link, rule and entry in it. To look inside while a test runs: `nsenter --net=<path>`.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    file: Arc<File>,
}

impl Namespace {
    /// Makes an empty namespace with `lo` up; `label` says in errors which host of a test it is.
    pub fn new(label: &str) -> Result<Self> {
        require_root()?;
        let file = thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
                    File::open("/proc/thread-self/ns/net").context("cannot hold a network namespace")
                })
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        let random = RandomState::new().build_hasher().finish() as u32;
        let namespace = Self { name: format!("nt-{label}-{random:08x}"), file: Arc::new(file) };
        namespace.ip("link set lo up")?;
        // Without duplicate address detection new addresses can be used at once.
        namespace.set_sysctl("net.ipv6.conf.default.accept_dad", "0")?;
        Ok(namespace)
    }

    /// One that somebody else has made and holds, such as a node's of a test cluster.
    pub fn open(name: &str, path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open the namespace of {name}"))?;
        Ok(Self { name: name.to_owned(), file: Arc::new(file) })
    }

    /// `nt-`, its label and a random part; or the name that it was opened with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path that `ip`, `nsenter` and our own children can open while this process runs.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// A command that will run in here, and die together with the thread that starts it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(locate(program).unwrap_or_else(|| program.into()));
        let file = Arc::clone(&self.file);
        let parent = std::process::id();
        let prepare = move || {
            // Rust's children inherit blocked signals, and could then not be stopped by one.
            SigSet::empty().thread_set_mask()?;
            set_pdeathsig(Signal::SIGKILL)?;
            // A parent that died before the line above will send nothing.
            if getppid().as_raw() as u32 != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            setns(&*file, CloneFlags::CLONE_NEWNET)?;
            Ok(())
        };
        // SAFETY: `prepare` runs between fork and exec; it makes four system calls, and neither
        // allocates nor takes a lock.
        unsafe { command.pre_exec(prepare) };
        command
    }

    /// Runs `work` on a thread of its own inside the namespace: what it opens belongs to it, and
    /// may be used outside afterwards. Programs started in there die with the thread: start them
    /// with [`Self::command`] instead.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&*self.file, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("cannot enter {}", self.name))?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs `ip` with the words of `arguments`.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run_ok(self.command("ip").args(arguments.split_whitespace()))
            .with_context(|| format!("in {}", self.name))
    }

    /// Loads an nft script, as one transaction.
    pub fn nft(&self, script: &str) -> Result<String> {
        run_ok_with_input(self.command("nft").args(["-f", "-"]), script)
            .with_context(|| format!("in {}", self.name))
    }

    /// Has nft parse and check a script without loading it.
    pub fn nft_check(&self, script: &str) -> Result<String> {
        run_ok_with_input(self.command("nft").args(["-c", "-f", "-"]), script)
            .with_context(|| format!("in {}", self.name))
    }

    /// The ruleset as nft prints it, without counters and element timeouts.
    pub fn ruleset(&self) -> Result<String> {
        run_ok(self.command("nft").args(["--stateless", "list", "ruleset"]))
            .with_context(|| format!("in {}", self.name))
    }

    /// Reads a named counter of `table`, as in `inet filter`.
    pub fn counter(&self, table: &str, name: &str) -> Result<Counter> {
        let mut nft = self.command("nft");
        nft.args(["--json", "list", "counter"]).args(table.split_whitespace()).arg(name);
        let listed: serde_json::Value = serde_json::from_str(&run_ok(&mut nft)?)?;
        let figure = |key| {
            let counters = listed["nftables"].as_array().into_iter().flatten();
            counters.filter_map(|object| object["counter"][key].as_u64()).next()
        };
        match (figure("packets"), figure("bytes")) {
            (Some(packets), Some(bytes)) => Ok(Counter { packets, bytes }),
            _ => bail!("nft lists no figures of counter {name} in {}: {listed}", self.name),
        }
    }

    /// The entries that `conntrack -L <words of filter>` shows, one a line.
    pub fn conntrack(&self, filter: &str) -> Result<Vec<String>> {
        let listed = run_ok(self.command("conntrack").arg("-L").args(filter.split_whitespace()))
            .with_context(|| format!("in {}", self.name))?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Reads a sysctl, such as `net.netfilter.nf_conntrack_count`, as this namespace sees it.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        let file = sysctl_file(key);
        let value = self.enter(|| fs::read_to_string(&file))?;
        Ok(value.with_context(|| format!("cannot read {file} in {}", self.name))?.trim().into())
    }

    /// Sets a sysctl of this namespace. Those of the whole machine are not for a test to change:
    /// the kernel refuses most from in here, and none of ours tries.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let file = sysctl_file(key);
        self.enter(|| fs::write(&file, value))?
            .with_context(|| format!("cannot write {file} in {}", self.name))
    }

    /// A TCP port that nobody listens on.
    pub fn free_port(&self) -> Result<u16> {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let port = self.enter(|| TcpListener::bind(any)?.local_addr())?;
        Ok(port.with_context(|| format!("no free port in {}", self.name))?.port())
    }
}

/// What a counter of nftables has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

fn sysctl_file(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn commands_and_sockets_belong_to_the_namespace() {
        let here = fs::read_link("/proc/self/ns/net").unwrap();
        let namespace = Namespace::new("a").unwrap();
        let inside = namespace.enter(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
        assert_ne!(here, inside);
        let child = run_ok(namespace.command("readlink").arg("/proc/self/ns/net")).unwrap();
        assert_eq!(child.trim(), inside.to_str().unwrap());
        assert_eq!(fs::read_link("/proc/self/ns/net").unwrap(), here);

        let listener = namespace.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let listening = run_ok(namespace.command("ss").args(["-ltnH"])).unwrap();
        assert!(listening.contains(&format!("127.0.0.1:{port} ")), "{listening}");
    }

    #[test]
    fn a_dropped_namespace_is_gone() {
        let namespace = Namespace::new("gone").unwrap();
        let path = namespace.path();
        assert!(path.exists());
        drop(namespace);
        // Other tests may have taken the descriptor's number for something else by now.
        let target = fs::read_link(path).unwrap_or_default();
        assert!(!target.to_string_lossy().starts_with("net:") || Namespace::new("b").is_ok());
    }

    #[test]
    fn rules_sysctls_and_entries_are_its_own() {
        let namespace = Namespace::new("rules").unwrap();
        namespace.nft("add table inet t\nadd chain inet t c").unwrap();
        assert!(namespace.ruleset().unwrap().contains("table inet t"));
        assert!(!Namespace::new("other").unwrap().ruleset().unwrap().contains("table inet t"));
        let error = format!("{:#}", namespace.nft("add nonsense").unwrap_err());
        assert!(error.contains("syntax error") && error.contains(namespace.name()), "{error}");

        namespace.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
        assert_eq!(namespace.sysctl("net.ipv4.ip_forward").unwrap(), "1");
        assert_eq!(namespace.conntrack("-p tcp").unwrap(), Vec::<String>::new());
        assert_ne!(namespace.free_port().unwrap(), 0);
    }
}
