//! Hazard 34: peers that are everybody.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::UdpSocket;

use notrack_lab::{Namespace, Pair, wait_until};
use notrack_netns::agent::{PATIENCE, policy};

use super::support::judge;

/// With the rule that a bypassed client of DNS needs.
const FIREWALL: &str = "table inet site {
    counter unasked {}
    chain input {
        type filter hook input priority filter; policy drop;
        iifname lo accept
        meta l4proto { icmp, ipv6-icmp } accept
        ct state established,related accept
        ct state untracked udp sport 53 accept
        udp dport 40000 counter name unasked drop
    }
}
";

fn asks(peers: &str) -> String {
    let flow = "name: f, action: NoTrack, role: Client, ports: [{protocol: UDP, port: 53}]";
    policy("p", &format!("flows:\n- {{{flow}, peers: [{{cidr: {peers}}}]}}"))
}

#[test]
fn peers_of_every_address_let_every_source_port_in() {
    let Pair { client, node } = &Pair::new().unwrap();
    node.nft(FIREWALL).unwrap();
    let waits = node.enter(|| UdpSocket::bind("10.77.0.1:40000")).unwrap().unwrap();
    waits.set_read_timeout(Some(PATIENCE)).unwrap();
    let stranger = client.enter(|| UdpSocket::bind("10.78.0.2:53")).unwrap().unwrap();
    let forge = || assert_eq!(stranger.send_to(b"forged", "10.77.0.1:40000").unwrap(), 6);
    let unasked = |node: &Namespace| node.counter("inet site", "unasked").unwrap().packets;

    forge();
    wait_until("the state keeps it out", PATIENCE, || unasked(node) == 1).unwrap();
    judge(node, &asks("0.0.0.0/0")).is("Programmed").says(&["NT034 AnyPeer"]);
    forge();
    assert_eq!(waits.recv(&mut [0; 8]).unwrap(), 6, "everybody is a peer");

    let judged = judge(node, &asks("10.77.0.0/24"));
    judged.is("Programmed");
    assert!(!judged.message.contains("NT034"), "{}", judged.message);
    forge();
    wait_until("who is no peer is kept out", PATIENCE, || unasked(node) == 2).unwrap();
    waits.set_nonblocking(true).unwrap();
    assert!(waits.recv(&mut [0; 8]).is_err());
}
