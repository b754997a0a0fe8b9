//! Hazard 14: marks that are kept on the entry.
#![allow(clippy::unwrap_used, reason = "a test")]

use notrack_lab::Line;
use notrack_netns::traffic::{self, entries};

use super::support::{NOTHING, Tool, flush, judge, naive, without_naive};
use notrack_netns::agent::server;

const ASKER: &str = "10.78.0.2:0";
const PORT: &str = "10.77.0.1:53";

/// The asker's network lies behind `eth1` for all but marked packets: those of connections that came in by `eth0`.
fn by_mark(line: &Line) {
    let node = &line.node;
    node.ip("route replace 10.78.0.0/24 via 10.88.0.2").unwrap();
    node.ip("route add 10.78.0.0/24 via 10.77.0.2 dev eth0 table 100").unwrap();
    node.ip("rule add fwmark 1 lookup 100 priority 100").unwrap();
    // The strict filter applies to the address that ARP asks from as well, and ARP has no mark.
    line.client.set_sysctl("net.ipv4.conf.all.arp_announce", "2").unwrap();
    node.set_sysctl("net.ipv4.conf.all.rp_filter", "0").unwrap();
    node.set_sysctl("net.ipv4.conf.eth0.rp_filter", "1").unwrap();
    node.set_sysctl("net.ipv4.conf.eth0.src_valid_mark", "1").unwrap();
}

/// Marks new connections and restores the mark of later packets; returns the place of what restores.
fn restores(tool: Tool, line: &Line) -> [String; 2] {
    let hang = |base: &str, rule: &str, iptables: &str| tool.hang(&line.node, base, rule, iptables);
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

#[test]
fn a_mark_that_routing_and_a_strict_filter_go_by_refuses() {
    for tool in Tool::ALL {
        let line = Line::new().unwrap();
        let Line { client, node, server: _ } = &line;
        by_mark(&line);
        let [incoming, outgoing] = restores(tool, &line);
        let ask = || traffic::udp(client, node, ASKER, PORT);
        ask().unwrap();
        naive(node, "udp dport 53 notrack", "udp sport 53 notrack");
        assert!(ask().is_err(), "{tool:?}: the filter let an unmarked packet in");
        without_naive(node);

        judge(node, &server("p", "UDP", "53"))
            .is("Refused")
            .says(&["refused: NT014 MarksLost: restores a mark that routing goes by", &incoming])
            .says(&["refused: NT014 MarksLost", &outgoing]);
        ask().unwrap();
    }
}

#[test]
fn a_mark_that_nothing_goes_by_is_a_warning() {
    for tool in Tool::ALL {
        let line = Line::new().unwrap();
        let Line { client, node, server: _ } = &line;
        let [incoming, _] = restores(tool, &line);
        judge(node, &server("p", "UDP", "53"))
            .is("Programmed")
            .says(&["warning: NT014 MarksLost: restores a mark", &incoming]);
        flush(node);
        traffic::udp(client, node, ASKER, PORT).unwrap();
        assert_eq!(entries(node, 53).unwrap(), NOTHING, "{tool:?}");
    }
}
