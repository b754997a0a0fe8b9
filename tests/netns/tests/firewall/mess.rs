//! Firewalls that change all the time, that are large, or that go.

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use notrack_core::net::Family;
use notrack_lab::{Background, Namespace, run_ok, wait_until};
use notrack_netns::agent::{Live, PATIENCE, Policies};

use super::adapt::{ADAPT, bypassed, others, present};
use super::check::state;
use super::site::{Role, Site, Tool};

const ROLE: Role = Role::ServerTcp;

#[test]
fn bans_that_come_later_still_ban_and_a_removed_firewall_needs_nothing() {
    let site = Site::new(Tool::Nft, Family::Ipv4).unwrap();
    let node = site.node();
    let policies = Policies::of(&ROLE.policy(ADAPT)).unwrap();
    policies.write("other.yaml", &Role::ClientTcp.policy(ADAPT)).unwrap();
    let agent = Live::start(node, &policies, &[]).unwrap();
    state(&agent, "servertcp", "Programmed");
    state(&agent, "clienttcp", "Programmed");
    bypassed(&site, ROLE);
    bypassed(&site, Role::ClientTcp);
    let ours = present(&site);
    node.nft("insert rule inet site input ip saddr 10.77.0.2 drop").unwrap();
    assert!(site.talk(ROLE).is_err(), "our rules let in whom the site has banned");
    wait_until("the ban in the agent's eyes", PATIENCE, || site.talk(Role::ClientTcp).is_ok()).unwrap();
    policies.remove("other.yaml").unwrap();
    wait_until("one policy's rules", PATIENCE, || {
        present(&site).iter().all(|rule| rule.comment.starts_with("notrack-dev:servertcp:"))
    })
    .unwrap();
    assert!(ours.iter().any(|rule| rule.comment.starts_with("notrack-dev:clienttcp:")));
    node.nft("delete table inet site").unwrap();
    wait_until("talk", PATIENCE, || site.talk(ROLE).is_ok()).unwrap();
    state(&agent, "servertcp", "Programmed");
}

/// A table of another program with many rules.
fn five_thousand(node: &Namespace) {
    let mut many = String::from(
        "table ip services {\n chain every {\n type filter hook input priority 5; policy accept;\n",
    );
    for number in 0..5000 {
        let (high, low) = (number / 250, number % 250);
        writeln!(many, "ip daddr 10.96.{high}.{low} tcp dport {} jump one", 1000 + number).unwrap();
    }
    many.push_str(" }\n chain one {\n counter\n }\n}\n");
    // A chain is to be there before a jump to it.
    node.nft("table ip services {\n chain one {\n }\n}\n").unwrap();
    node.nft(&many).unwrap();
}

#[test]
fn rules_that_never_rest_leave_what_is_programmed_as_it_stands() {
    let site = Site::new(Tool::Nft, Family::Ipv4).unwrap();
    let node = site.node();
    five_thousand(node);
    let policies = Policies::of(&ROLE.policy(ADAPT)).unwrap();
    let agent = Live::start(node, &policies, &[]).unwrap();
    state(&agent, "servertcp", "Programmed");
    node.nft("table inet restless {\n chain one {\n }\n}\n").unwrap();
    let mut busy = node.command("sh");
    // Each is a generation of its own, and many come in the time of one reading.
    busy.args([
        "-c",
        "while nft 'flush chain inet restless one; add rule inet restless one counter'; do :; done",
    ]);
    let mut restless = Background::spawn(busy).unwrap();
    wait_until("a reading that changes cut short", PATIENCE, || {
        assert_eq!(agent.state("servertcp").as_deref(), Some("Programmed"), "{}", agent.process.output());
        assert!(restless.is_running(), "{}", restless.output());
        agent.process.output().contains("what is programmed stands and is looked at again")
    })
    .unwrap();
    bypassed(&site, ROLE);
    restless.kill();
    // Then it is read again, and what was taken away meanwhile comes back.
    let ours = present(&site);
    let taken = ours.first().expect("a rule of ours in the firewall");
    node.nft(&format!("delete rule inet site {} handle {}", taken.chain, taken.handle)).unwrap();
    wait_until("all our rules", PATIENCE, || present(&site).len() == ours.len()).unwrap();
    bypassed(&site, ROLE);
}

#[test]
fn restless_rules_and_five_thousand_of_them_leave_the_agent_responsive() {
    let site = Site::new(Tool::Nft, Family::Ipv4).unwrap();
    let node = site.node();
    five_thousand(node);
    let before = site.rules().unwrap();
    let policies = Policies::of(&ROLE.policy(ADAPT)).unwrap();
    let started = Instant::now();
    let agent = Live::start(node, &policies, &[]).unwrap();
    state(&agent, "servertcp", "Programmed");
    println!("5,000 rules: programmed {:?} after the start", started.elapsed());
    let until = Instant::now() + Duration::from_secs(5);
    let mut longest = Duration::ZERO;
    while Instant::now() < until {
        node.nft("add rule inet site services tcp dport 9999 drop").unwrap();
        node.nft("flush chain inet site inside\nadd rule inet site inside tcp dport 22 ct state new accept")
            .unwrap();
        let asked = Instant::now();
        let found = agent.state("servertcp");
        longest = longest.max(asked.elapsed());
        assert_eq!(found.as_deref(), Some("Programmed"), "{:#}", agent.status().unwrap());
        thread::sleep(Duration::from_millis(50));
    }
    println!("restless rules: the longest answer took {longest:?}");
    assert!(longest < PATIENCE);
    bypassed(&site, ROLE);
    let now = site.rules().unwrap();
    let kept: Vec<&str> = others(&now).into_iter().filter(|line| !line.contains("dport 9999")).collect();
    assert_eq!(kept, before.lines().collect::<Vec<_>>());
    run_ok(node.command("nft").args(["list", "table", "ip", "services"])).unwrap();
}
