//! Hazard 37: a table that a program copies to another machine, which takes over with it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use notrack_lab::{Background, Namespace, Pair, require_tools, run_ok, wait_until};
use notrack_netns::agent::PATIENCE;
use notrack_netns::track;
use notrack_netns::traffic::{Connection, entries};
use tempfile::TempDir;

use super::support::{NOTHING, flush, judge, naive, serves, without_naive};

const START: Duration = Duration::from_secs(60);

/// A running conntrackd, with files of its own. Ended with this value.
struct Conntrackd {
    host: Namespace,
    settings: PathBuf,
    _process: Background,
    _folder: TempDir,
}

impl Conntrackd {
    fn start(host: &Namespace, own: &str, other: &str) -> Conntrackd {
        require_tools(&["conntrackd"]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let settings = format!(
            "Sync {{\n Mode NOTRACK {{\n }}\n UDP {{\n IPv4_address {own}\n IPv4_Destination_Address {other}\n \
             Port 3780\n Interface eth0\n }}\n}}\nGeneral {{\n LockFile {}\n UNIX {{\n Path {}\n }}\n}}\n",
            path("lock"),
            path("control")
        );
        fs::write(path("settings"), settings).unwrap();
        let settings = folder.path().join("settings");
        let mut command = host.command("conntrackd");
        command.arg("-C").arg(&settings);
        let mut process = Background::spawn(command).unwrap();
        let control = folder.path().join("control");
        process.wait_ready("conntrackd", START, || control.exists()).unwrap();
        Conntrackd { host: host.clone(), settings, _process: process, _folder: folder }
    }

    /// The entries that the other machine has told of.
    fn external(&self) -> String {
        run_ok(self.host.command("conntrackd").arg("-C").arg(&self.settings).arg("-e")).unwrap()
    }
}

#[test]
fn a_bypassed_connection_is_missing_on_the_machine_that_takes_over() {
    let Pair { client, node } = &Pair::new().unwrap();
    for host in [client, node] {
        track(host).unwrap();
    }
    // The client of the connections is the node's other machine as well.
    let _primary = Conntrackd::start(node, "10.77.0.1", "10.77.0.2");
    let backup = Conntrackd::start(client, "10.77.0.2", "10.77.0.1");
    let open = |port: u16| {
        let mut connection =
            Connection::open(client, node, format!("10.77.0.1:{port}").parse().unwrap()).unwrap();
        connection.talk().unwrap();
        connection
    };
    // A later one that arrives shows that an earlier one is not on its way.
    let arrives = |connection: &Connection| {
        let port = format!("sport={} ", connection.client_port().unwrap());
        wait_until("an entry on the other machine", PATIENCE, || backup.external().contains(&port)).unwrap();
    };
    let knows = |connection: &Connection| {
        backup.external().contains(&format!("sport={} ", connection.client_port().unwrap()))
    };
    arrives(&open(80));
    naive(node, "tcp dport 80 notrack", "tcp sport 80 notrack");
    let (missing, tracked) = (open(80), open(81));
    arrives(&tracked);
    assert!(!knows(&missing), "{}", backup.external());
    drop((missing, tracked));
    without_naive(node);

    let replicated = ["NT037 ReplicatedTable", "conntrackd follows every change of the connection table"];
    judge(node, &serves(&[80])).is("Programmed").says(&["f: warning: ", replicated[0], replicated[1]]);
    let (bypassed, tracked) = (open(80), open(81));
    arrives(&tracked);
    assert!(!knows(&bypassed), "{}", backup.external());
    assert_eq!(entries(node, 80).unwrap(), NOTHING);
    // What must survive a failover is left tracked.
    judge(node, &serves(&[82])).is("Programmed").says(&replicated);
    flush(node);
    arrives(&open(80));
}
