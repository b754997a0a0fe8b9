//! The kernel lease: rules that an agent keeps up, and that end without it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use notrack_lab::{Namespace, run_ok, wait_until};
use notrack_netns::agent::{Live, PATIENCE, Policies, server};
use notrack_netns::{track, traffic};

/// The shortest that the agent takes.
const LEASE: [&str; 2] = ["--keep-without-agent", "10s"];
const SECONDS: f64 = 10.0;

fn host() -> (Namespace, Policies) {
    let host = Namespace::new("lease").unwrap();
    track(&host).unwrap();
    (host, Policies::of(&server("web", "TCP", "80")).unwrap())
}

/// Whether a connection to the served port is tracked now.
fn is_tracked(host: &Namespace) -> bool {
    run_ok(host.command("conntrack").arg("-F")).unwrap();
    traffic::tcp(host, host, "127.0.0.1:80").unwrap();
    !traffic::entries(host, 80).unwrap().is_empty()
}

/// What is left of the lease in seconds, as nft shows it: `ipv4 expires 9s852ms : goto prerouting4`.
fn remaining(host: &Namespace) -> Option<f64> {
    let listed =
        run_ok(host.command("nft").args(["list", "map", "inet", "notrack-dev", "lease-prerouting"])).unwrap();
    let (_, expires) = listed.split_once(" expires ")?;
    let text = expires.split_whitespace().next()?.trim_end_matches("ms");
    let (seconds, milliseconds) = text.split_once('s').unwrap_or(("0", text));
    Some(seconds.parse::<f64>().unwrap() + milliseconds.parse().unwrap_or(0.0) / 1000.0)
}

#[test]
fn rules_end_by_themselves_once_the_agent_is_dead() {
    let (host, policies) = host();
    let mut agent = Live::start(&host, &policies, &LEASE).unwrap();
    assert!(!is_tracked(&host));
    agent.process.kill();
    assert!(!is_tracked(&host), "the rules outlive the agent for the time of the lease");
    wait_until("the kernel to end the lease", Duration::from_secs(15), || is_tracked(&host)).unwrap();
    assert_eq!(remaining(&host), None);

    // A new agent brings them back.
    let _agent = Live::start(&host, &policies, &LEASE).unwrap();
    wait_until("the rules' return", PATIENCE, || !is_tracked(&host)).unwrap();
}

#[test]
fn a_restarted_agent_renews_the_lease_of_its_predecessor() {
    let (host, policies) = host();
    let mut first = Live::start(&host, &policies, &LEASE).unwrap();
    first.process.kill();
    wait_until("an aged lease", PATIENCE, || remaining(&host).unwrap() < SECONDS - 2.0).unwrap();
    let _second = Live::start(&host, &policies, &LEASE).unwrap();
    wait_until("a renewal", PATIENCE, || remaining(&host).unwrap() > SECONDS - 1.5).unwrap();
}

#[test]
fn a_live_agent_keeps_the_lease_up() {
    let (host, policies) = host();
    let _agent = Live::start(&host, &policies, &LEASE).unwrap();
    let mut last = remaining(&host).unwrap();
    let mut passed = 0.0;
    while passed <= SECONDS + 1.0 {
        let before = last;
        wait_until("a change of the lease", PATIENCE, || {
            last = remaining(&host).unwrap_or_else(|| unreachable!("the lease ended under a live agent"));
            last != before
        })
        .unwrap();
        // Downwards is time; upwards is a renewal.
        passed += (before - last).max(0.0);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!is_tracked(&host));
}

#[test]
fn a_foreign_flush_does_not_take_the_rules_from_a_live_agent() {
    let (host, policies) = host();
    let agent = Live::start(&host, &policies, &LEASE).unwrap();
    // As a host's own /etc/nftables.conf does when it is loaded again.
    let again =
        format!("flush ruleset\n{}", host.ruleset().unwrap().split("table inet notrack-dev").next().unwrap());
    host.nft(&again).unwrap();
    wait_until("healing", PATIENCE, || !is_tracked(&host)).unwrap();
    for attack in [
        "delete table inet notrack-dev",
        "flush chain inet notrack-dev prerouting",
        "flush map inet notrack-dev lease-output",
    ] {
        // Refused by kernels with table owners; others take it, and the agent heals.
        let refused = host.nft(attack).is_err();
        assert!(!refused || !is_tracked(&host), "{attack}");
        wait_until("healing", PATIENCE, || !is_tracked(&host)).unwrap();
    }
    assert_eq!(agent.state("web").as_deref(), Some("Programmed"));
}

#[test]
fn a_flush_is_healed_where_the_table_has_no_owner() {
    let (host, policies) = host();
    let forever = ["--keep-without-agent", "forever"];
    let mut first = Live::start(&host, &policies, &forever).unwrap();
    first.process.stop().unwrap();
    // It finds its rules there and writes nothing, so that the table is nobody's, as on an older kernel.
    let _second = Live::start(&host, &policies, &forever).unwrap();
    host.nft("delete table inet notrack-dev").unwrap();
    wait_until("healing", PATIENCE, || !is_tracked(&host)).unwrap();
}

/// Hazard 29.
#[test]
fn a_saved_ruleset_loads_only_without_our_table_while_the_agent_lives() {
    let (host, policies) = host();
    let _agent = Live::start(&host, &policies, &LEASE).unwrap();
    let saved = host.ruleset().unwrap();
    let (site, ours) = saved.split_once("table inet notrack-dev").unwrap();
    let added = "table inet later {\n}\n";
    // One message that is refused drops the whole file.
    let refused = host.nft(&format!("{added}table inet notrack-dev{ours}")).unwrap_err();
    assert!(format!("{refused:#}").contains("Operation not permitted"), "{refused:#}");
    assert!(!host.ruleset().unwrap().contains("table inet later"));
    host.nft(&format!("{site}{added}")).unwrap();
    assert!(host.ruleset().unwrap().contains("table inet later"));
    assert!(!is_tracked(&host));
}
