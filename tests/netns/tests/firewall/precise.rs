//! Firewalls that would stop nothing untracked that they accept: no policy is blocked by them.

use notrack_core::net::Family;
use notrack_lab::{Line, Namespace};
use notrack_netns::agent::{Live, Policies};
use notrack_netns::firewalld::Firewalld;
use notrack_netns::traffic::{self, entries};

use super::check::{findings, of_firewall, state};
use super::site::{Role, Site, Tool};

const CLIENT: Role = Role::ClientTcp;
const SERVER: Role = Role::ServerTcp;
const ESTABLISHED: &str = "ct state established,related accept";

fn chain(name: &str, policy: &str, rules: &str) -> String {
    format!("chain {name} {{\ntype filter hook {name} priority filter; policy {policy};\n{rules}\n}}\n")
}

/// The agent finds nothing to say of the firewall, and is right.
fn lets_it_through(rules: &str, role: Role, family: Family, rest: &str) {
    let site = Site::new(Tool::Nft, family).unwrap();
    site.node().nft(&format!("delete table inet site\ntable inet other {{\n{rules}}}\n")).unwrap();
    site.naive(role).unwrap();
    site.talk(role).unwrap();
    site.node().nft("delete table inet naive").unwrap();
    let policies = Policies::of(&role.policy("").replace("role:", &format!("{rest}role:"))).unwrap();
    let agent = Live::start(site.node(), &policies, &[]).unwrap();
    state(&agent, &role.name(), "Programmed");
    assert_eq!(of_firewall(&agent, &role.name()), Vec::<String>::new(), "{rules}");
    site.talk(role).unwrap();
}

#[test]
fn what_needs_no_state_is_not_blocked() {
    let stateless = format!(
        "iifname lo accept\nmeta l4proto {{ icmp, ipv6-icmp }} accept\n{ESTABLISHED}\ntcp dport 80 accept"
    );
    let by_interface =
        "iifname { lo, eth0 } accept\nct state established accept\nmeta l4proto ipv6-icmp accept";
    let firewalls = [
        chain("input", "drop", &stateless),
        chain("input", "accept", &format!("{ESTABLISHED}\ntcp dport 22 ct state new drop")),
        chain(
            "input",
            "accept",
            "ct state invalid drop\nct state new counter\nct state new log prefix \"new \"",
        ),
        chain("input", "drop", &stateless) + &chain("output", "accept", ESTABLISHED),
        chain("forward", "drop", "ct state established accept\nct state new tcp dport 80 accept"),
        chain("input", "drop", by_interface),
    ];
    for (number, rules) in firewalls.iter().enumerate() {
        let family = Family::ALL[number % 2];
        lets_it_through(rules, SERVER, family, "");
    }
    let any_answer = format!(
        "meta l4proto {{ icmp, ipv6-icmp }} accept\niifname lo accept\n{ESTABLISHED}\ntcp sport 8080 accept"
    );
    lets_it_through(&chain("input", "drop", &any_answer), CLIENT, Family::Ipv4, "");
}

#[test]
fn a_firewall_of_another_interface_is_none_of_the_flows() {
    let only_eth1 = format!(
        "iifname != eth1 accept\nmeta l4proto ipv6-icmp accept\n{ESTABLISHED}\ntcp dport 80 ct state new accept"
    );
    lets_it_through(&chain("input", "drop", &only_eth1), SERVER, Family::Ipv4, "interfaces: [eth0], ");
    let site = Site::new(Tool::Nft, Family::Ipv4).unwrap();
    let rules = chain("input", "drop", &only_eth1);
    site.node().nft(&format!("delete table inet site\ntable inet other {{\n{rules}}}\n")).unwrap();
    let policies = Policies::of(&SERVER.policy("")).unwrap();
    let agent = Live::start(site.node(), &policies, &[]).unwrap();
    state(&agent, &SERVER.name(), "Blocked");
}

fn served(client: &Namespace, node: &Namespace, to: &str) {
    traffic::tcp(client, node, to).unwrap();
    assert_eq!(entries(node, 80).unwrap(), Vec::<String>::new());
}

/// firewalld accepts what is new and what is untracked at its open ports alike, and drops nothing on the way out.
#[test]
fn firewalld_s_open_port_needs_no_state() {
    let line = Line::new().unwrap();
    let Line { client, node, .. } = &line;
    let firewalld = Firewalld::start(node).unwrap();
    firewalld.say("--add-service=http").unwrap();
    let policies = Policies::of(&SERVER.policy("")).unwrap();
    let agent = Live::start(node, &policies, &[]).unwrap();
    state(&agent, &SERVER.name(), "Programmed");
    assert_eq!(of_firewall(&agent, &SERVER.name()), Vec::<String>::new());
    served(client, node, "10.77.0.1:80");
    client.ip("-6 route replace default via fd77::1 src fd77::2").unwrap();
    served(client, node, "[fd77::1]:80");
    assert!(findings(&agent, &SERVER.name()).unwrap().len() < 3);
}
