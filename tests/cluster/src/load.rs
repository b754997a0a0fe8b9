//! Real servers on nodes' networks, under load from this machine for as long as a test wants, and what was lost of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use notrack_lab::{Background, Namespace, run_ok};

use crate::cluster::Node;

/// For a server to listen.
const START: Duration = Duration::from_secs(20);
/// Longer than any test.
const FOREVER: &str = "1800";

/// wrk's own report is for people; this one is for us.
const WRK_REPORT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("\nfigures %.0f %.0f\n", summary.requests, errors))
end
"#;

/// nginx on a node.
pub fn nginx(node: &Node, port: u16, folder: &Path) -> Result<Background> {
    let (shown, address) = (folder.display(), &node.address);
    // One process, so that its guard ends all of it.
    let configuration = format!(
        "daemon off; master_process off; pid {shown}/nginx.pid; error_log stderr error;
        events {{ worker_connections 1024; }}
        http {{
          access_log off;
          client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy; fastcgi_temp_path {shown}/fastcgi;
          uwsgi_temp_path {shown}/uwsgi; scgi_temp_path {shown}/scgi;
          server {{ listen {address}:{port} backlog=1024; location / {{ return 200 \"served\\n\"; }} }}
        }}"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration)?;
    let network = node.network()?;
    let mut command = network.command("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(file).args(["-e", "stderr"]);
    started(command, "nginx", &network, port)
}

/// unbound on a node, with a name of its own and no way to anyone else's.
pub fn unbound(node: &Node, port: u16, folder: &Path) -> Result<Background> {
    let (shown, address) = (folder.display(), &node.address);
    let configuration = format!(
        "server:
          interface: {address}@{port}
          access-control: 0.0.0.0/0 allow
          do-ip6: no
          chroot: \"\"
          username: \"\"
          directory: \"{shown}\"
          pidfile: \"\"
          use-syslog: no
          module-config: \"iterator\"
          local-zone: \"cluster.test.\" static
          local-data: \"www.cluster.test. A 192.0.2.80\"
        remote-control:
          control-enable: no
        "
    );
    let file = folder.join("unbound.conf");
    fs::write(&file, configuration)?;
    let network = node.network()?;
    let mut command = network.command("unbound");
    command.arg("-d").arg("-c").arg(file);
    started(command, "unbound", &network, port)
}

fn started(command: Command, name: &str, network: &Namespace, port: u16) -> Result<Background> {
    let mut server = Background::spawn(command)?;
    // Looked up, not tried: an attempt would be an entry in the table.
    let filter = format!("sport = :{port}");
    let listens =
        || run_ok(network.command("ss").args(["-ltnH", &filter])).is_ok_and(|found| !found.is_empty());
    server.wait_ready(&format!("{name} to listen"), START, listens)?;
    Ok(server)
}

/// A load generator that runs until it is stopped, or dropped.
pub struct Load(Background);

/// What it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// What was asked.
    pub asked: u64,
    /// What got no good answer.
    pub lost: u64,
}

impl Load {
    /// wrk: two clients, a new connection for each request.
    pub fn http(address: &str, port: u16, folder: &Path) -> Result<Load> {
        let script = folder.join("report.lua");
        fs::write(&script, WRK_REPORT)?;
        let mut wrk = Command::new("nice");
        wrk.args(["wrk", "-t1", "-c2", "-d", FOREVER, "--timeout", "10s", "-H", "Connection: close", "-s"]);
        wrk.arg(script).arg(format!("http://{address}:{port}/"));
        Ok(Load(Background::spawn(wrk)?))
    }

    /// dnsperf: 500 questions a second from 64 sockets.
    pub fn dns(address: &str, port: u16, folder: &Path) -> Result<Load> {
        let queries = folder.join("queries");
        fs::write(&queries, "www.cluster.test A\n")?;
        let mut dnsperf = Command::new("dnsperf");
        dnsperf.args(["-s", address, "-p", &port.to_string(), "-Q", "500", "-c64", "-l", FOREVER, "-d"]);
        dnsperf.arg(queries);
        Ok(Load(Background::spawn(dnsperf)?))
    }

    /// Stops it, and reads what it has counted.
    pub fn stop(mut self) -> Result<Counted> {
        let Load(generator) = &mut self;
        generator.signal(Signal::SIGINT)?;
        generator.wait(START)?;
        let said = generator.output();
        let counted = of_wrk(&said).or_else(|| of_dnsperf(&said));
        let counted = counted.with_context(|| format!("a load generator said something new: {said}"))?;
        ensure!(counted.asked > 0, "nothing was asked: {said}");
        Ok(counted)
    }
}

fn of_wrk(said: &str) -> Option<Counted> {
    let mut figures = said.lines().find_map(|line| line.strip_prefix("figures "))?.split(' ');
    Some(Counted { asked: figures.next()?.parse().ok()?, lost: figures.next()?.parse().ok()? })
}

fn of_dnsperf(said: &str) -> Option<Counted> {
    let field = |name: &str| -> Option<u64> {
        let rest = said.lines().find_map(|line| line.trim().strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let good: u64 = said.split("NOERROR ").nth(1)?.split(' ').next()?.parse().ok()?;
    // What was on its way when it was stopped was not lost.
    let (completed, lost) = (field("Queries completed:")?, field("Queries lost:")?);
    Some(Counted { asked: completed + lost, lost: lost + completed.saturating_sub(good) })
}
