//! The real agent with real policy files, on a host of a test.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use notrack_lab::{Background, Namespace, built, run_ok};
use serde_json::Value;
use tempfile::TempDir;

/// What anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The agent's own port where nothing else is said.
const PORT: u16 = 9811;

/// The agent that cargo built beside this test.
pub fn binary() -> Result<PathBuf> {
    built("notrack-agent")
}

/// A policy file; `spec` is what it has beside a selector of every node.
pub fn policy(name: &str, spec: &str) -> String {
    let spec: String = spec.trim().lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata:\n  name: {name}\nspec:\n  nodeSelector: {{}}\n  \
         mode: Enforce\n{spec}"
    )
}

/// A policy for this node as the server of a protocol's ports, such as `80` or `1-65535`.
pub fn server(name: &str, protocol: &str, ports: &str) -> String {
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let port = format!("{{protocol: {protocol}, port: {first}, endPort: {last}}}");
    policy(name, &format!("flows:\n- {{name: f, action: NoTrack, role: Server, ports: [{port}]}}"))
}

/// A folder of policy files, gone with this value.
#[derive(Debug)]
pub struct Policies {
    folder: TempDir,
}

impl Policies {
    /// An empty folder.
    pub fn new() -> Result<Policies> {
        Ok(Policies { folder: tempfile::tempdir()? })
    }

    /// A folder with one file.
    pub fn of(text: &str) -> Result<Policies> {
        let policies = Policies::new()?;
        policies.write("policy.yaml", text)?;
        Ok(policies)
    }

    /// Writes a file in one step, so that no agent sees a half of it.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let hidden = self.folder.path().join(format!(".{name}"));
        fs::write(&hidden, text)?;
        Ok(fs::rename(hidden, self.folder.path().join(name))?)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.folder.path().join(name))?)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The agent's command on a host, still without what it should do.
pub fn command(host: &Namespace) -> Result<Command> {
    Ok(host.command(&binary()?.to_string_lossy()))
}

/// The command that applies a folder and ends.
pub fn once_command(host: &Namespace, policies: &Policies) -> Result<Command> {
    let mut command = command(host)?;
    command.arg("--once").arg("--policies").arg(policies.path());
    Ok(command)
}

/// Applies a folder and returns what was printed. Fails where the agent does.
pub fn once(host: &Namespace, policies: &Policies) -> Result<String> {
    run_ok(&mut once_command(host, policies)?)
}

/// An agent that goes on, killed with this value.
#[derive(Debug)]
pub struct Live {
    /// The process.
    pub process: Background,
    host: Namespace,
    address: SocketAddr,
}

impl Live {
    /// Starts it and waits until it has programmed what it is told. The host is not to have another live one.
    pub fn start(host: &Namespace, policies: &Policies, arguments: &[&str]) -> Result<Live> {
        // The same at each start, and no client's: the agent's own port stays tracked.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let mut command = command(host)?;
        command
            .arg("--policies")
            .arg(policies.path())
            .arg("--listen")
            .arg(address.to_string())
            .args(arguments);
        let process = Background::spawn(command)?;
        let mut live = Live { process, host: host.clone(), address };
        let Live { process, host, .. } = &mut live;
        process.wait_ready("a ready agent", PATIENCE, || {
            get(host, address, "/readyz").is_ok_and(|(code, _)| code == 200)
        })?;
        Ok(live)
    }

    /// What a path of its server gives: code and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        get(&self.host, self.address, path)
    }

    /// `/status`.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get("/status")?.1)?)
    }

    /// The state of a policy, where the agent knows the policy.
    pub fn state(&self, policy: &str) -> Option<String> {
        let status = self.status().ok()?;
        let policies = status["policies"].as_array()?;
        let found = policies.iter().find(|known| known["name"] == policy)?;
        found["state"].as_str().map(str::to_owned)
    }
}

fn get(host: &Namespace, address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = host.enter(|| TcpStream::connect_timeout(&address, PATIENCE))??;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("no HTTP answer: {answer:?}"))?;
    let code = head.split(' ').nth(1).context("no HTTP code")?.parse()?;
    Ok((code, body.to_owned()))
}
