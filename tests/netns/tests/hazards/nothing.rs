//! Hazards 19, 25, 27 and 36: policies of which nothing is left to bypass.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

use notrack_lab::{Namespace, Pair, wait_until};
use notrack_netns::agent::{Live, PATIENCE, Policies, policy, server};
use notrack_netns::track;
use notrack_netns::traffic::{self, bind, entries};
use serde_json::Value;

use super::support::{NOTHING, flush, judge, naive, serves, serves_at, without_naive};

/// What a live agent says of its only policy.
fn said(agent: &Live) -> Value {
    agent.status().unwrap()["policies"][0].clone()
}

/// The reason of the condition `Ready`.
fn reason(said: &Value) -> String {
    let conditions = said["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    ready["reason"].as_str().unwrap().to_owned()
}

fn waits_for(agent: &Live, state: &str) -> Value {
    wait_until(state, PATIENCE, || agent.state("p").as_deref() == Some(state)).unwrap();
    said(agent)
}

/// The rule by hand is in the kernel and matches nothing, and who looks at the rules alone takes it for a bypass.
#[test]
fn peers_of_whom_except_leaves_nobody_are_refused() {
    let Pair { client, node } = &Pair::new().unwrap();
    track(node).unwrap();
    let nobody = "ip saddr 10.77.0.0/24 ip saddr != 10.77.0.0/24";
    naive(node, &format!("{nobody} tcp dport 80 notrack"), "");
    traffic::tcp(client, node, "10.77.0.1:80").unwrap();
    assert_eq!(entries(node, 80).unwrap().len(), 1);
    without_naive(node);

    let peers = "peers: [{cidr: 10.77.0.0/24, except: [10.77.0.0/25, 10.77.0.128/25]}]";
    let policies = Policies::of(&serves(&[80]).replace("ports:", &format!("{peers}, ports:"))).unwrap();
    let agent = Live::start(node, &policies, &[]).unwrap();
    let told = waits_for(&agent, "Refused");
    assert_eq!(reason(&told), "NothingMatches");
    assert_eq!(
        told["findings"][0],
        "p/f: refused: NT019 NothingMatches: except leaves nothing of peers; check the ports and addresses of the flow, or \
         delete the policy"
    );
    traffic::tcp(client, node, "10.77.0.1:80").unwrap();
    assert_eq!(entries(node, 80).unwrap().len(), 1);

    let peers = "peers: [{cidr: 10.77.0.0/24, except: [10.77.0.128/25]}]";
    policies.write("policy.yaml", &serves(&[80]).replace("ports:", &format!("{peers}, ports:"))).unwrap();
    waits_for(&agent, "Programmed");
    flush(node);
    traffic::tcp(client, node, "10.77.0.1:80").unwrap();
    assert_eq!(entries(node, 80).unwrap(), NOTHING);
}

#[test]
fn a_flow_that_is_wholly_taken_has_the_name_of_what_took_it() {
    let Pair { client: _client, node } = &Pair::new().unwrap();
    track(node).unwrap();
    let exception =
        policy("q", "flows:\n- {name: e, action: Track, role: Server, ports: [{protocol: TCP, port: 80}]}");
    for (more, ports, name) in [("", 22, "Protected"), (exception.as_str(), 80, "Exception")] {
        let policies = Policies::of(&serves(&[ports])).unwrap();
        if !more.is_empty() {
            policies.write("other.yaml", more).unwrap();
        }
        let agent = Live::start(node, &policies, &[]).unwrap();
        let told = waits_for(&agent, "Refused");
        assert_eq!(reason(&told), name);
        let findings = told["findings"].to_string();
        assert!(findings.contains("nothing of the flow is left to bypass on this node"), "{findings}");
        assert!(!node.ruleset().unwrap().contains(&format!("tcp . {ports} : ")));
    }
}

#[test]
fn an_address_that_comes_later_is_served_and_one_that_goes_is_not() {
    let Pair { client, node } = &Pair::new().unwrap();
    track(node).unwrap();
    let policies = Policies::of(&serves_at(&[80], "10.77.0.9/32")).unwrap();
    let agent = Live::start(node, &policies, &[]).unwrap();
    let told = waits_for(&agent, "Refused");
    assert_eq!(reason(&told), "AddressNotOurs");
    let findings = told["findings"].to_string();
    let wanted = "p/f: refused: NT027 AddressNotOurs: no address of this node lies in 10.77.0.9";
    assert!(findings.contains(wanted), "{findings}");

    let is_served = || node.ruleset().unwrap().contains("10.77.0.9 . tcp . 80 : ");
    for _ in 0..2 {
        node.ip("address add 10.77.0.9/24 dev eth0").unwrap();
        let added = Instant::now();
        wait_until("rules for the new address", PATIENCE, is_served).unwrap();
        println!("an address that came was served after {:?}", added.elapsed());
        assert_eq!(reason(&waits_for(&agent, "Programmed")), "Programmed");
        flush(node);
        traffic::tcp(client, node, "10.77.0.9:80").unwrap();
        assert_eq!(entries(node, 80).unwrap(), NOTHING);

        node.ip("address del 10.77.0.9/24 dev eth0").unwrap();
        let removed = Instant::now();
        wait_until("no rules for the address", PATIENCE, || !is_served()).unwrap();
        println!("an address that went had no rule after {:?}", removed.elapsed());
        assert_eq!(reason(&waits_for(&agent, "Refused")), "AddressNotOurs");
    }
}

/// Rules by hand for what is untracked look at the state, and the kernel tracks where somebody looks.
#[test]
fn a_namespace_that_tracks_nothing_stays_so() {
    let Pair { client, node } = &Pair::new().unwrap();
    let reach = || traffic::tcp(client, node, "10.77.0.1:81").unwrap();
    reach();
    assert_eq!(entries(node, 81).unwrap(), NOTHING);
    naive(node, "tcp dport 80 notrack; ct state untracked counter", "tcp sport 80 notrack");
    reach();
    assert_eq!(
        entries(node, 81).unwrap().len(),
        1,
        "a rule that asks for the state has every packet tracked"
    );
    without_naive(node);
    reach();
    assert_eq!(entries(node, 81).unwrap(), NOTHING, "nobody asks any more");

    let agent = Live::start(node, &Policies::of(&serves(&[80])).unwrap(), &[]).unwrap();
    let told = waits_for(&agent, "Ineffective");
    assert_eq!(reason(&told), "NotTracked");
    assert_eq!(
        told["status"]["conditions"][0]["message"],
        "nothing in this network namespace tracks connections"
    );
    assert!(node.ruleset().unwrap().contains("10.77.0.1 . tcp . 80 : "), "the rules are there");
    reach();
    traffic::tcp(client, node, "10.77.0.1:80").unwrap();
    for port in [80, 81] {
        assert_eq!(entries(node, port).unwrap(), NOTHING);
    }
}

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// A question to the group, and its answer from the node's own address.
fn asks_the_group(client: &Namespace, listener: &UdpSocket) {
    let speaker = bind(client, || UdpSocket::bind("10.77.0.2:5353")).unwrap();
    speaker.set_read_timeout(Some(PATIENCE)).unwrap();
    speaker.send_to(b"?", (GROUP, 5353)).unwrap();
    let (_, asker) = listener.recv_from(&mut [0; 8]).unwrap();
    listener.send_to(b"!", asker).unwrap();
    assert_eq!(speaker.recv(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn a_group_address_is_nobodys_own() {
    let Pair { client, node } = &Pair::new().unwrap();
    track(node).unwrap();
    let listener = bind(node, || UdpSocket::bind("0.0.0.0:5353")).unwrap();
    let joined = node.enter(|| listener.join_multicast_v4(&GROUP, &Ipv4Addr::new(10, 77, 0, 1))).unwrap();
    joined.unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    // Both halves by the group's address. No answer comes from it.
    naive(
        node,
        &format!("ip daddr {GROUP} udp dport 5353 notrack"),
        &format!("ip saddr {GROUP} udp sport 5353 notrack"),
    );
    asks_the_group(client, &listener);
    let left = entries(node, 5353).unwrap();
    let answer =
        |entry: &String| entry.contains("src=10.77.0.1 dst=10.77.0.2") && entry.contains("[UNREPLIED]");
    assert!(left.len() == 1 && left.iter().all(answer), "half of it is tracked: {left:?}");
    without_naive(node);

    let flow = "name: f, action: NoTrack, role: Server, ports: [{protocol: UDP, port: 5353}]";
    let named = policy("p", &format!("flows:\n- {{{flow}, serverAddresses: [{GROUP}/32]}}"));
    judge(node, &named).is("Refused").says(&["NT036 Multicast: 224.0.0.251 is a group address"]);
    // A policy for the node's own addresses does not reach packets to the group either: they stay tracked.
    let own = server("p", "UDP", "5353") + "  compensation: {icmpErrors: Ignore}\n";
    judge(node, &own).is_clean();
    asks_the_group(client, &listener);
    let tracked = entries(node, 5353).unwrap();
    assert!(tracked.iter().any(|entry| entry.contains("dst=224.0.0.251")), "{tracked:?}");
}
