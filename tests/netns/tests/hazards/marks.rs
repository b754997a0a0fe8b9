//! Hazard 14: marks that are kept on the entry.
#![allow(clippy::unwrap_used, reason = "a test")]

use notrack_core::net::Family;
use notrack_lab::Line;
use notrack_netns::traffic::{self, entries};

use super::support::{NOTHING, Tool, flush, ip, judge, like, naive, without_naive};
use notrack_netns::agent::server;

/// The asker's network lies behind `eth1` for all but marked packets: those of connections that came in by `eth0`.
fn by_mark(line: &Line, family: Family) {
    let node = &line.node;
    ip(family, node, "route replace 10.78.0.0/24 via 10.88.0.2");
    ip(family, node, "route add 10.78.0.0/24 via 10.77.0.2 dev eth0 table 100");
    ip(family, node, "rule add fwmark 1 lookup 100 priority 100");
    // The strict filter, of IPv4 alone, applies to the address that ARP asks from as well, and ARP has no mark.
    line.client.set_sysctl("net.ipv4.conf.all.arp_announce", "2").unwrap();
    node.set_sysctl("net.ipv4.conf.all.rp_filter", "0").unwrap();
    node.set_sysctl("net.ipv4.conf.eth0.rp_filter", "1").unwrap();
    node.set_sysctl("net.ipv4.conf.eth0.src_valid_mark", "1").unwrap();
}

/// Marks new connections and restores the mark of later packets; returns the place of what restores.
fn restores(tool: Tool, family: Family, line: &Line) -> [String; 2] {
    let hang = |base: &str, rule: &str, iptables: &str| tool.hang(family, &line.node, base, rule, iptables);
    let prerouting = "filter hook prerouting priority mangle";
    let save = "mangle PREROUTING -i eth0 -m conntrack --ctstate NEW -j CONNMARK --set-mark 1";
    hang(prerouting, "iifname eth0 ct state new ct mark set 1", save);
    [
        hang(prerouting, "meta mark set ct mark", "mangle PREROUTING -j CONNMARK --restore-mark"),
        hang(
            "route hook output priority mangle",
            "meta mark set ct mark",
            "mangle OUTPUT -j CONNMARK --restore-mark",
        ),
    ]
}

fn ask(Line { client, node, server: _ }: &Line, family: Family) -> anyhow::Result<()> {
    traffic::udp(client, node, &like(family, "10.78.0.2:0"), &like(family, "10.77.0.1:53"))
}

#[test]
fn a_mark_that_routing_and_a_strict_filter_go_by_refuses() {
    for (tool, family) in Tool::each(&Tool::ALL) {
        let line = Line::new().unwrap();
        let node = &line.node;
        by_mark(&line, family);
        let [incoming, outgoing] = restores(tool, family, &line);
        ask(&line, family).unwrap();
        naive(node, "udp dport 53 notrack", "udp sport 53 notrack");
        assert!(ask(&line, family).is_err(), "{tool:?} {family}: an unmarked packet found its way");
        without_naive(node);

        judge(node, &server("p", "UDP", "53"))
            .is("Refused")
            .says(&["refused: NT014 MarksLost: restores a mark that routing goes by", &incoming])
            .says(&["refused: NT014 MarksLost", &outgoing]);
        ask(&line, family).unwrap();
    }
}

#[test]
fn a_mark_that_nothing_goes_by_is_a_warning() {
    for (tool, family) in Tool::each(&Tool::ALL) {
        let line = Line::new().unwrap();
        let node = &line.node;
        let [incoming, _] = restores(tool, family, &line);
        judge(node, &server("p", "UDP", "53"))
            .is("Programmed")
            .says(&["warning: NT014 MarksLost: restores a mark", &incoming]);
        flush(node);
        ask(&line, family).unwrap();
        assert_eq!(entries(node, 53).unwrap(), NOTHING, "{tool:?} {family}");
    }
}
