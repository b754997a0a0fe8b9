//! ICMP errors about bypassed packets, at firewalls that let them in as related to a connection.

use notrack_core::net::Family;
use notrack_lab::{Flow, IcmpError, icmp_error, run_ok, wait_until};
use notrack_netns::agent::{Live, PATIENCE, Policies};
use notrack_netns::traffic::Connection;

use super::adapt::{ADAPT, bypassed};
use super::check::{commands, of_firewall, state};
use super::site::{NFT, Role, Site, Tool};

pub const ROLES: [Role; 2] = [Role::ServerTcp, Role::Forward];
const ALL_ICMP: &str = "meta l4proto { icmp, ipv6-icmp } accept";
/// Neighbour discovery, without which IPv6 has no link.
const NEIGHBOURS: [&str; 2] = ["neighbour-solicitation", "neighbour-advertisement"];

/// The site's firewall, but that errors come in by their state alone; counters before it and behind.
fn strict(tool: Tool, family: Family) -> Site {
    let site = Site::new(tool, family).unwrap();
    if tool == Tool::Nft {
        let neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept";
        let rules = NFT.replace(ALL_ICMP, neighbours);
        site.node().nft(&format!("table inet site\ndelete table inet site\n{rules}")).unwrap();
    } else {
        let proto = if family == Family::Ipv4 { "icmp" } else { "ipv6-icmp" };
        for chain in ["INPUT", "FORWARD", "OUTPUT"] {
            let kinds = if family == Family::Ipv6 { NEIGHBOURS.as_slice() } else { &[] };
            for kind in kinds {
                iptables(&site, &["-I", chain, "-p", proto, "--icmpv6-type", kind, "-j", "ACCEPT"]);
            }
            iptables(&site, &["-D", chain, "-p", proto, "-j", "ACCEPT"]);
        }
    }
    let chain = |name: &str, hook: &str, priority: i32| {
        let rules = "icmp type destination-unreachable counter name passed\n\
                     icmpv6 type packet-too-big counter name passed\n";
        let rules = rules.replace("passed", name);
        format!(
            "counter {name} {{}}\nchain {name} {{\ntype filter hook {hook} priority {priority}\n{rules}}}\n"
        )
    };
    let chains =
        [chain("came", "prerouting", -500), chain("entered", "input", 100), chain("routed", "forward", 100)];
    site.node().nft(&format!("table inet errors {{\n{}}}\n", chains.concat())).unwrap();
    site
}

fn iptables(site: &Site, rule: &[&str]) {
    run_ok(site.node().command(&site.iptables("")).args(rule)).unwrap();
}

/// What an administrator adds for a port that is to be untracked: the connections, and no thought of errors.
fn open(site: &Site, port: u16) {
    for chain in ["input", "forward", "output"] {
        for end in ["sport", "dport"] {
            if site.tool == Tool::Nft {
                site.node().nft(&format!("insert rule inet site {chain} tcp {end} {port} accept\n")).unwrap();
            } else {
                let (end, port) = (format!("--{end}"), port.to_string());
                iptables(site, &["-I", &chain.to_uppercase(), "-p", "tcp", &end, &port, "-j", "ACCEPT"]);
            }
        }
    }
}

/// Whether the server of a live connection learns that the way to its client is narrow.
fn learns_of_the_narrow_way(site: &Site, role: Role) -> bool {
    let (host, address, behind) = match role {
        Role::Forward => (&site.line.server, "10.88.0.2", "routed"),
        _ => (site.node(), "10.77.0.1", "entered"),
    };
    let server = site.socket(address, role.port());
    let mut connection = Connection::open(&site.line.client, host, server).unwrap();
    connection.talk().unwrap();
    let (client, _) = connection.ends().unwrap();
    let raw = site.line.client.raw_socket().unwrap();
    let count = |name| site.node().counter("inet errors", name).unwrap().packets;
    let before = count(behind);
    // The second about nothing: when that has come, the first has gone all its way.
    for client in [client, site.socket("10.77.0.2", 1)] {
        let came = count("came");
        let answer = Flow::new(server, client).unwrap().segment(notrack_lab::tcp::ACK, 1000, 7, b"answer");
        raw.send(&icmp_error(client.ip(), IcmpError::TooBig { mtu: 1400 }, &answer).unwrap()).unwrap();
        wait_until("the error", PATIENCE, || count("came") > came).unwrap();
    }
    connection.talk_back().unwrap();
    count(behind) > before
}

/// Plain rules lose them; the agent says so, and what it prints mends it.
pub fn are_missed_and_the_printed_commands_are_the_remedy(tool: Tool, family: Family, role: Role) {
    let what = format!("{tool:?} {family:?} {role:?}");
    let site = strict(tool, family);
    assert!(learns_of_the_narrow_way(&site, role), "{what}: tracked");
    open(&site, role.port());
    site.naive(role).unwrap();
    site.talk(role).unwrap();
    assert!(!learns_of_the_narrow_way(&site, role), "{what}: an untracked error is related to nothing");
    site.node().nft("delete table inet naive").unwrap();

    let policies = Policies::of(&role.policy("")).unwrap();
    let agent = Live::start(site.node(), &policies, &[]).unwrap();
    state(&agent, &role.name(), "Programmed");
    let found = of_firewall(&agent, &role.name());
    assert!(!found.is_empty(), "{what}");
    for text in &found {
        assert!(text.contains("warning: ") && text.contains("such as ICMP errors from"), "{text}");
    }
    bypassed(&site, role);
    assert!(!learns_of_the_narrow_way(&site, role), "{what}: nothing has been added yet");
    for command in found.iter().flat_map(|text| commands(text)) {
        run_ok(site.node().command("sh").args(["-c", &command])).unwrap();
    }
    wait_until("nothing is missing", PATIENCE, || of_firewall(&agent, &role.name()).is_empty()).unwrap();
    assert!(learns_of_the_narrow_way(&site, role), "{what}: {}", site.rules().unwrap());
}

/// And the agent's own rules, which are all that this firewall needs.
pub fn are_given_back_by_adapting(tool: Tool, family: Family, role: Role) {
    let what = format!("{tool:?} {family:?} {role:?}");
    let site = strict(tool, family);
    let policies = Policies::of(&role.policy(ADAPT)).unwrap();
    let agent = Live::start(site.node(), &policies, &[]).unwrap();
    state(&agent, &role.name(), "Programmed");
    assert_eq!(of_firewall(&agent, &role.name()), Vec::<String>::new(), "{what}");
    bypassed(&site, role);
    assert!(learns_of_the_narrow_way(&site, role), "{what}: {}", site.rules().unwrap());
    assert_eq!(site.attack(role).unwrap(), 0, "{what}: {}", site.rules().unwrap());
}
