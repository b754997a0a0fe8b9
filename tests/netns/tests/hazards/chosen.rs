//! Hazard 38: the port that a masqueraded connection is given is one that the node serves. And translated connections that
//! have no more than a port's number in common with what a policy names.
#![allow(clippy::unwrap_used, reason = "a test")]

use notrack_core::net::Family;
use notrack_lab::{Line, run_ok};
use notrack_netns::agent::policy;
use notrack_netns::traffic::{self, Connection, entries};

use super::support::{NOTHING, Tool, flush, judge, naive, serves, without_naive};

const SERVER: &str = "10.88.0.2:80";

/// This node serves a range of ports.
fn serves_range(first: u16, last: u16) -> String {
    let ports = format!("[{{protocol: TCP, port: {first}, endPort: {last}}}]");
    policy("p", &format!("flows:\n- {{name: f, action: NoTrack, role: Server, ports: {ports}}}"))
}

/// Behind `eth1` nobody knows the way back but to the node. What the kernel chooses at random is said here.
fn gateway(tool: Tool) -> (Line, String) {
    let line = Line::new().unwrap();
    line.server.ip("route del default").unwrap();
    let base = "nat hook postrouting priority srcnat";
    let iptables = "nat POSTROUTING -p tcp -o eth1 -j MASQUERADE --to-ports 8080";
    let place = tool.hang(
        Family::Ipv4,
        &line.node,
        base,
        "meta l4proto tcp oifname eth1 masquerade to :8080",
        iptables,
    );
    (line, place)
}

#[test]
fn answers_to_a_masqueraded_connection_are_none_to_a_served_port() {
    for tool in Tool::ALL {
        let (line, place) = &gateway(tool);
        let Line { client, node, server } = line;
        traffic::tcp(client, server, SERVER).unwrap();
        flush(node);
        naive(node, "tcp dport 8080 notrack", "tcp sport 8080 notrack");
        assert!(
            traffic::tcp(client, server, SERVER).is_err(),
            "{tool:?}: an untracked answer was translated"
        );
        without_naive(node);

        // Of thousands of ports one is always somebody's.
        judge(node, &serves_range(8000, 8100)).is("Refused").says(&["NT038 MasqueradedPorts", place]);
        traffic::tcp(client, server, SERVER).unwrap();
        flush(node);
        judge(node, &serves(&[80, 443])).is_clean();
        judge(node, &serves(&[8080])).is("Programmed").says(&["warning: NT038 MasqueradedPorts", place]);
    }
}

/// What was there when the policy came goes on, and others are served at that port without an entry.
#[test]
fn a_masqueraded_connection_at_a_served_port_stays_tracked() {
    for tool in Tool::ALL {
        let (line, _) = &gateway(tool);
        let Line { client, node, server } = line;
        let mut open = Connection::open(client, server, SERVER.parse().unwrap()).unwrap();
        open.talk().unwrap();
        let answered = "is answered 10.88.0.2:80 to 10.88.0.1:8080";
        judge(node, &serves(&[8080])).is("Programmed").says(&["of 10.88.0.2 is", "NT016 LiveNAT", answered]);
        open.talk().unwrap();
        open.talk_back().unwrap();
        traffic::tcp(client, node, "10.77.0.1:8080").unwrap();
        let left = entries(node, 8080).unwrap();
        assert!(left.iter().all(|entry| entry.contains("dport=80 ")), "{tool:?}: {left:?}");
    }
}

/// An ingress node whose pods ask half the world by HTTPS.
#[test]
fn connections_that_only_share_a_port_number_are_none_of_a_server_s() {
    let Line { client, node, server: _server } = &Line::new().unwrap();
    notrack_netns::track(node).unwrap();
    for number in 0..300 {
        let to = format!("198.51.{}.{}", 100 + number / 200, 1 + number % 200);
        let entry = format!(
            "-I -p tcp --state ESTABLISHED --timeout 600 -u SEEN_REPLY,ASSURED -s 10.77.0.2 -d {to} --sport 40000 \
             --dport 443 -r {to} -q 10.88.0.1 --reply-port-src 443 --reply-port-dst 40000 --src-nat 10.88.0.1"
        );
        run_ok(node.command("conntrack").args(entry.split_whitespace())).unwrap();
    }
    assert_eq!(entries(node, 443).unwrap().len(), 300);
    judge(node, &serves(&[443])).is_clean();
    let before = entries(node, 443).unwrap().len();
    traffic::tcp(client, node, "10.77.0.1:443").unwrap();
    assert_eq!(entries(node, 443).unwrap().len(), before);
    assert_eq!(entries(node, 444).unwrap(), NOTHING);
}
