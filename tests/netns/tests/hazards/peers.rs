//! Hazards 34 and 36: peers that are everybody, and addresses that belong to a group.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{Ipv4Addr, UdpSocket};

use notrack_lab::{Namespace, Pair, wait_until};
use notrack_netns::agent::{PATIENCE, policy};
use notrack_netns::track;
use notrack_netns::traffic::entries;

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

#[test]
fn a_group_address_is_nobodys_own() {
    const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
    let Pair { client, node } = &Pair::new().unwrap();
    track(node).unwrap();
    let listener = node.enter(|| UdpSocket::bind("0.0.0.0:5353")).unwrap().unwrap();
    let joined = node.enter(|| listener.join_multicast_v4(&GROUP, &Ipv4Addr::new(10, 77, 0, 1))).unwrap();
    joined.unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();

    let flow = "name: f, action: NoTrack, role: Server, ports: [{protocol: UDP, port: 5353}]";
    let named = policy("p", &format!("flows:\n- {{{flow}, serverAddresses: [{GROUP}/32]}}"));
    judge(node, &named).is("Refused").says(&["NT036 Multicast"]);
    // A policy for the node's own addresses does not reach packets to the group either: they stay tracked.
    judge(node, &policy("p", &format!("flows:\n- {{{flow}}}"))).is("Programmed");
    let speaker = client.enter(|| UdpSocket::bind("10.77.0.2:5353")).unwrap().unwrap();
    speaker.send_to(b"?", (GROUP, 5353)).unwrap();
    assert_eq!(listener.recv(&mut [0; 8]).unwrap(), 1);
    let tracked = entries(node, 5353).unwrap();
    assert!(tracked.iter().any(|entry| entry.contains("dst=224.0.0.251")), "{tracked:?}");
}
