//! firewalld itself, with a message bus and a configuration of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use notrack_lab::{Background, Namespace, require_tools, run_ok};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(60);

/// A running firewalld, ended with this value.
#[derive(Debug)]
pub struct Firewalld {
    node: Namespace,
    address: String,
    /// Ended before the bus.
    _firewalld: Background,
    _bus: Background,
    _folder: TempDir,
}

impl Firewalld {
    /// Starts it on a host, and waits until it has loaded its rules.
    pub fn start(node: &Namespace) -> Result<Firewalld> {
        require_tools(&["dbus-daemon", "firewalld", "firewall-cmd"])?;
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let socket = path("bus");
        let bus = format!(
            "<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/><allow user=\"*\"/></policy>\
             </busconfig>"
        );
        fs::write(path("bus.conf"), bus)?;
        let settings = "DefaultZone=public\nFirewallBackend=nftables\nCleanupModulesOnExit=no\n";
        fs::create_dir(path("etc"))?;
        fs::write(path("etc") + "/firewalld.conf", settings)?;
        let mut daemon = node.command("dbus-daemon");
        daemon.args(["--nofork", "--nopidfile", "--nosyslog", "--config-file", &path("bus.conf")]);
        let mut bus = Background::spawn(daemon)?;
        bus.wait_ready("the bus", START, || Path::new(&socket).exists())?;
        let address = format!("unix:path={socket}");
        let mut daemon = node.command("firewalld");
        daemon.args(["--nofork", "--nopid", "--system-config", &path("etc"), "--log-file", &path("log")]);
        daemon.env("DBUS_SYSTEM_BUS_ADDRESS", &address);
        let mut firewalld = Background::spawn(daemon)?;
        let running = || run_ok(ask(node, &address).arg("--state")).is_ok();
        firewalld.wait_ready("firewalld", START, running)?;
        Ok(Firewalld { node: node.clone(), address, _firewalld: firewalld, _bus: bus, _folder: folder })
    }

    /// Gives `firewall-cmd` one word, such as `--reload`.
    pub fn say(&self, word: &str) -> Result<()> {
        run_ok(ask(&self.node, &self.address).arg(word)).map(drop)
    }
}

fn ask(node: &Namespace, address: &str) -> Command {
    let mut command = node.command("firewall-cmd");
    command.env("DBUS_SYSTEM_BUS_ADDRESS", address);
    command
}
