//! firewalld itself, with a message bus of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use notrack_lab::{Background, require_tools};

use super::*;

const START: Duration = Duration::from_secs(30);

struct Firewalld {
    node: Namespace,
    address: String,
    /// Ended before the bus.
    _firewalld: Background,
    _bus: Background,
    _folder: tempfile::TempDir,
}

impl Firewalld {
    fn start(node: Namespace) -> Firewalld {
        require_tools(&["dbus-daemon", "firewalld", "firewall-cmd"]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let socket = path("bus");
        let bus = format!(
            "<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/><allow user=\"*\"/></policy>\
             </busconfig>"
        );
        fs::write(path("bus.conf"), bus).unwrap();
        let settings = "DefaultZone=public\nFirewallBackend=nftables\nCleanupModulesOnExit=no\n";
        fs::create_dir(path("etc")).unwrap();
        fs::write(path("etc") + "/firewalld.conf", settings).unwrap();
        let mut daemon = node.command("dbus-daemon");
        daemon.args(["--nofork", "--nopidfile", "--nosyslog", "--config-file", &path("bus.conf")]);
        let mut bus = Background::spawn(daemon).unwrap();
        bus.wait_ready("the bus", START, || Path::new(&socket).exists()).unwrap();
        let address = format!("unix:path={socket}");
        let mut daemon = node.command("firewalld");
        daemon.args(["--nofork", "--nopid", "--system-config", &path("etc"), "--log-file", &path("log")]);
        daemon.env("DBUS_SYSTEM_BUS_ADDRESS", &address);
        let mut firewalld = Background::spawn(daemon).unwrap();
        let ask = || run_ok(ask(&node, &address).arg("--state")).is_ok();
        firewalld.wait_ready("firewalld", START, ask).unwrap();
        Firewalld { node, address, _firewalld: firewalld, _bus: bus, _folder: folder }
    }

    fn say(&self, word: &str) {
        run_ok(ask(&self.node, &self.address).arg(word)).unwrap();
    }
}

fn ask(node: &Namespace, address: &str) -> Command {
    let mut command = node.command("firewall-cmd");
    command.env("DBUS_SYSTEM_BUS_ADDRESS", address);
    command
}

#[test]
fn firewalld_takes_them_and_a_reload_removes_them() {
    let Pair { client, node } = Pair::new().unwrap();
    let host = Firewalld::start(node);
    let node = &host.node;
    host.say("--add-service=http");
    traffic::tcp(&client, node, "10.77.0.1:80").unwrap();
    bypass(node);
    // firewalld's zones accept new connections and untracked packets alike; on the way out nothing is dropped. What
    // it refuses untracked is the answer to a connection of the node's own.
    let asks = || traffic::tcp(node, &client, "10.77.0.2:80");
    assert!(asks().is_err(), "an untracked answer passed firewalld");

    let table = TableId { backend: Backend::Nft, family: TableFamily::Inet, name: "firewalld".to_owned() };
    let answers = |before| Adapter {
        policy: "upstream".to_owned(),
        table: table.clone(),
        chain: "filter_INPUT".to_owned(),
        before: Some(before),
        packets: Untracked {
            proto: Proto::Tcp,
            sources: range("10.77.0.0/24"),
            source_ports: PortRange::one(80),
            destinations: AddressRange::all(Family::Ipv4),
            destination_ports: PortRange::ALL,
            in_interface: Some("eth0".to_owned()),
            out_interface: None,
            opens: Some(false),
        },
    };
    let place = || {
        let listed =
            run_ok(node.command("nft").args(["-a", "list", "chain", "inet", "firewalld", "filter_INPUT"]));
        let listed = listed.unwrap();
        let line = listed.lines().find(|line| line.contains("ct state") && line.contains("invalid")).unwrap();
        line.split("# handle ").nth(1).unwrap().trim().parse().unwrap()
    };
    apply(node, &[answers(place())], &BTreeSet::new()).unwrap();
    asks().unwrap();
    let with = node.ruleset().unwrap();
    Namespace::new("check").unwrap().nft_check(&with).unwrap();

    host.say("--reload");
    assert_eq!(present(node), BTreeSet::new(), "a reload makes the table anew");
    assert!(asks().is_err());
    let before = node.ruleset().unwrap();
    apply(node, &[answers(place())], &BTreeSet::new()).unwrap();
    asks().unwrap();
    apply(node, &[], &present(node)).unwrap();
    assert_eq!(node.ruleset().unwrap(), before);
}
