//! `prove`: what `helm test` runs in a pod, and whether it can fail.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use notrack_lab::{Background, Namespace, Pair, run_ok, wait_until};
use notrack_netns::agent::{Live, PATIENCE, Policies, binary, command, server};
use notrack_netns::track;
use notrack_netns::traffic::{entries, tcp};

fn prove(host: &Namespace) -> Command {
    let mut prove = command(host).unwrap();
    prove.arg("prove");
    prove
}

/// What a proof that fails says.
fn fails(prove: Command) -> String {
    let mut prove = Background::spawn(prove).unwrap();
    assert_eq!(prove.wait(PATIENCE).unwrap().code(), Some(1), "{}", prove.output());
    prove.output()
}

fn proves(printed: &str, address: &str) -> bool {
    let is_line = |line: &&str| line.starts_with(&format!("packets to and from {address}:"));
    let line = printed.lines().find(is_line);
    line.is_some_and(|line| {
        line.contains(", 0 entries; 1 entry for port ") && !line.contains("tracking 0 times")
    })
}

/// Rules that a host has beside ours.
fn ruleset_but(host: &Namespace, others: &str) {
    assert_eq!(host.ruleset().unwrap().trim(), others.trim());
}

#[test]
fn a_network_that_is_new_is_proved_over_both_families_and_left_as_it_was() {
    let host = Namespace::new("new").unwrap();
    let printed = run_ok(&mut prove(&host)).unwrap();
    assert!(proves(&printed, "127.0.0.1") && proves(&printed, "[::1]"), "{printed}");
    assert!(printed.ends_with("table inet notrack-dev is removed\n"), "{printed}");
    ruleset_but(&host, "");
    // Tracking ended with the rules that turned it on.
    tcp(&host, &host, "127.0.0.1:81").unwrap();
    assert_eq!(entries(&host, 81).unwrap(), [""; 0]);
}

#[test]
fn addresses_that_others_reach_are_preferred() {
    let pair = Pair::new().unwrap();
    let printed = run_ok(&mut prove(&pair.node)).unwrap();
    assert!(proves(&printed, "10.77.0.1") && proves(&printed, "[fd77::1]"), "{printed}");
}

#[test]
fn a_network_without_ipv6_that_tracks_already_is_proved_too() {
    let host = Namespace::new("four").unwrap();
    host.set_sysctl("net.ipv6.conf.all.disable_ipv6", "1").unwrap();
    track(&host).unwrap();
    let before = host.ruleset().unwrap();
    let printed = run_ok(&mut prove(&host)).unwrap();
    assert!(proves(&printed, "127.0.0.1") && !printed.contains("[::1]"), "{printed}");
    ruleset_but(&host, &before);
}

#[test]
fn the_agents_rights_are_enough_and_their_lack_is_named() {
    let host = Namespace::new("rights").unwrap();
    let with = |sets: &str| {
        let mut command = host.command("setpriv");
        command.args(["--bounding-set", sets, "--inh-caps", sets, "--no-new-privs"]);
        command.arg(binary().unwrap()).arg("prove");
        command
    };
    run_ok(&mut with("-all,+net_admin")).unwrap();
    let output = fails(with("-all"));
    assert_eq!(output.matches("CAP_NET_ADMIN").count(), 1, "{output}");
}

#[test]
fn rules_that_somebody_needs_are_left_alone() {
    let host = Namespace::new("lived").unwrap();
    track(&host).unwrap();
    let policies = Policies::of(&server("web", "TCP", "80")).unwrap();
    let mut agent = Live::start(&host, &policies, &["--keep-without-agent", "forever"]).unwrap();
    let before = host.ruleset().unwrap();
    let output = fails(prove(&host));
    assert!(output.contains("another agent already runs") && output.contains("such as a pod's"), "{output}");
    ruleset_but(&host, &before);
    assert_eq!(agent.state("web").as_deref(), Some("Programmed"));

    agent.process.stop().unwrap();
    let left = host.ruleset().unwrap();
    let output = fails(prove(&host));
    assert!(output.contains("table inet notrack-dev is in this network namespace"), "{output}");
    assert!(output.contains("notrack-agent remove"), "{output}");
    ruleset_but(&host, &left);

    run_ok(command(&host).unwrap().arg("remove")).unwrap();
    run_ok(&mut prove(&host)).unwrap();
}

/// A foreign chain at both hooks, ahead of everything.
fn foreign(host: &Namespace, rule: &str) -> String {
    let chain = |hook: &str| {
        format!(" chain {hook} {{\n type filter hook {hook} priority -500; policy accept;\n {rule}\n }}\n")
    };
    host.nft(&format!("table inet foreign {{\n{}{}}}\n", chain("prerouting"), chain("output"))).unwrap();
    host.ruleset().unwrap()
}

#[test]
fn nothing_is_proved_where_the_datapath_is_broken() {
    // Packets are lost; nothing would have an entry; untracked packets would be tracked again, or dropped.
    let broken = [
        ("tcp flags & (syn | ack) == syn | ack drop", "no connection to 127.0.0.1:"),
        ("notrack", "has no entry in the connection table, though no policy names its port"),
        ("ct zone set 5", "leaves nothing to bypass:\n  prove/own: refused: NT011 Zones"),
    ];
    for (rule, reason) in broken {
        let host = Namespace::new("broken").unwrap();
        let before = foreign(&host, rule);
        let output = fails(prove(&host));
        assert!(output.contains(reason), "{rule}: {output}");
        ruleset_but(&host, &before);
    }
}

#[test]
fn an_entry_of_the_bypassed_port_is_no_proof() {
    let host = Namespace::new("entry").unwrap();
    track(&host).unwrap();
    // The first that is tried.
    tcp(&host, &host, "127.0.0.1:65535").unwrap();
    let output = fails(prove(&host));
    assert!(output.contains("20 times, and 1 entries of theirs are in the connection table"), "{output}");
}

#[test]
fn a_proof_that_is_told_to_stop_removes_its_rules_first() {
    let host = Namespace::new("stopped").unwrap();
    let before = foreign(&host, "tcp flags & (syn | ack) == syn | ack drop");
    let mut prove = Background::spawn(prove(&host)).unwrap();
    let has_rules = || host.ruleset().unwrap().contains("table inet notrack-dev");
    wait_until("rules of the proof", PATIENCE, has_rules).unwrap();
    prove.stop().unwrap();
    ruleset_but(&host, &before);
}

#[test]
fn a_network_without_an_address_has_nothing_to_connect_to() {
    let host = Namespace::new("down").unwrap();
    for address in ["127.0.0.1/8", "::1/128"] {
        host.ip(&format!("address delete {address} dev lo")).unwrap();
    }
    let output = fails(prove(&host));
    assert!(output.contains("nothing to connect to") && output.contains("ip link set lo up"), "{output}");
    ruleset_but(&host, "");
}
