//! Hazards 4, 16 and 20: packets that are sent to another destination, connections that still are, and rules that outlive
//! the server which they kept from being sent there.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use notrack_core::net::Family;
use notrack_lab::{Line, Namespace, Pair, wait_until};
use notrack_netns::agent::{Live, Policies};
use notrack_netns::track;
use notrack_netns::traffic::{self, Connection, entries};

use super::support::{
    NOTHING, Tool, flush, judge, like, naive, place, reaches, routes, serves, serves_at, without_naive,
};

const PORT: &str = "10.77.0.1:8080";
const PREROUTING: &str = "nat hook prerouting priority dstnat";

/// Port 81 of the same policy, which nothing translates.
fn other_port_is_bypassed(family: Family, client: &Namespace, node: &Namespace) {
    traffic::tcp(client, node, &like(family, "10.77.0.1:81")).unwrap();
    assert_eq!(entries(node, 81).unwrap(), NOTHING);
}

#[test]
fn a_port_that_another_host_serves_stays_tracked() {
    for (tool, family) in Tool::each(&Tool::ALL) {
        let Line { client, node, server } = &Line::new().unwrap();
        let (port, at) = (&like(family, PORT), &like(family, "10.88.0.2:80"));
        let rule = "nat PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.88.0.2:80";
        let place = tool.hang(family, node, PREROUTING, "tcp dport 8080 dnat to 10.88.0.2:80", rule);
        reaches(client, port, server, at).unwrap();
        naive(node, "tcp dport 8080 notrack", "tcp sport 8080 notrack");
        assert!(reaches(client, port, server, at).is_err(), "{tool:?} {family}: translated untracked");
        without_naive(node);

        let own = like(family, "10.77.0.1/32");
        judge(node, &serves_at(&[8080], &own)).is("Refused").says(&["NT004 HostPort", &place]);
        judge(node, &serves(&[8080, 81])).is("Programmed").says(&["NT004 HostPort: TCP 8080 is", &place]);
        reaches(client, port, server, at).unwrap();
        other_port_is_bypassed(family, client, node);
    }
}

/// As a DNS cache on every node has it: its rules win its own address from the Service's translation, and are there still
/// when it has died.
#[test]
fn a_server_that_has_gone_leaves_no_rule_that_keeps_its_clients_from_another() {
    const SERVER: &str = "10.88.0.2:80";
    let Line { client, node, server } = &Line::new().unwrap();
    let place = Tool::Nft.hang(
        Family::Ipv4,
        node,
        PREROUTING,
        "ip daddr 10.77.0.1 tcp dport 8080 dnat to 10.88.0.2:80",
        "",
    );
    naive(node, "tcp dport 8080 notrack", "tcp sport 8080 notrack");
    traffic::tcp(client, node, PORT).unwrap();
    // Its listener went with the connection.
    assert!(reaches(client, PORT, server, SERVER).is_err(), "the rules have outlived their server");
    without_naive(node);

    judge(node, &serves_at(&[8080], "10.77.0.1/32")).is("Refused").says(&["NT004 HostPort", &place]);
    reaches(client, PORT, server, SERVER).unwrap();
}

#[test]
fn a_redirected_port_and_the_one_behind_it_stay_tracked() {
    for (tool, family) in Tool::each(&Tool::ALL) {
        let Pair { client, node } = &Pair::new().unwrap();
        let (port, at) = (&like(family, PORT), &like(family, "10.77.0.1:8081"));
        let rule = "nat PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 8081";
        let place = tool.hang(family, node, PREROUTING, "tcp dport 8080 redirect to :8081", rule);
        for number in [8080, 8081] {
            reaches(client, port, node, at).unwrap();
            naive(node, &format!("tcp dport {number} notrack"), &format!("tcp sport {number} notrack"));
            assert!(reaches(client, port, node, at).is_err(), "{tool:?} {family}: {number} untracked");
            without_naive(node);
        }
        judge(node, &serves_at(&[8081], &like(family, "10.77.0.1/32")))
            .is("Refused")
            .says(&["NT004 HostPort", &place]);
        judge(node, &serves(&[8080, 8081, 81]))
            .is("Programmed")
            .says(&["NT004 HostPort: TCP 8080 is", &place])
            .says(&["NT004 HostPort: TCP 8081 is", &place]);
        reaches(client, port, node, at).unwrap();
        traffic::tcp(client, node, at).unwrap();
        assert!(!entries(node, 8081).unwrap().is_empty());
        other_port_is_bypassed(family, client, node);
    }
}

#[test]
fn published_ports_are_found_through_a_jump_and_a_map() {
    const SERVER: &str = "10.88.0.2:80";
    let Line { client, node, server } = &Line::new().unwrap();
    node.nft(
        "table ip engine {
            map published {
                type inet_service : ipv4_addr . inet_service
                elements = { 8080 : 10.88.0.2 . 80, 8443 : 10.88.0.2 . 443 }
            }
            chain prerouting {
                type nat hook prerouting priority dstnat
                fib daddr type local jump containers
            }
            chain containers {
                dnat ip to tcp dport map @published
            }
        }",
    )
    .unwrap();
    let place = place(node, "ip engine", "containers");
    reaches(client, PORT, server, SERVER).unwrap();
    naive(node, "tcp dport 8080 notrack", "tcp sport 8080 notrack");
    assert!(reaches(client, PORT, server, SERVER).is_err());
    without_naive(node);

    let judged = judge(node, &serves(&[8080, 8443, 81]));
    judged.is("Programmed").says(&["NT004 HostPort: TCP 8080 is", &place]);
    judged.says(&["NT004 HostPort: TCP 8443 is", &place]);
    reaches(client, PORT, server, SERVER).unwrap();
    other_port_is_bypassed(Family::Ipv4, client, node);

    // The other half of the same connections: what comes back from the server, before there is any.
    flush(node);
    naive(node, "ip saddr 10.88.0.2 tcp sport 80 notrack", "");
    assert!(reaches(client, PORT, server, SERVER).is_err(), "the replies came untranslated");
    without_naive(node);
    let judged = judge(node, &routes(&[80, 8080], "10.88.0.2/32"));
    judged
        .is("Programmed")
        .says(&["NT004 HostPort: TCP 80 is where translated connections are sent", &place]);
    reaches(client, PORT, server, SERVER).unwrap();
}

#[test]
fn a_connection_that_outlives_its_rule_keeps_its_tuples_until_it_is_gone() {
    const LOCAL: &str = "10.77.0.1:8081";
    // The agent looks for translated connections every 30 s, at a tick of one second.
    const GIVEN_BACK: Duration = Duration::from_secs(40);
    let Pair { client, node } = &Pair::new().unwrap();
    // As a firewall would: without its rules the translation's chain alone does not track.
    track(node).unwrap();
    Tool::Nft.hang(Family::Ipv4, node, PREROUTING, "tcp dport 8080 redirect to :8081", "");
    let open = || {
        let mut open =
            Connection::translated(client, PORT.parse().unwrap(), node, LOCAL.parse().unwrap()).unwrap();
        open.talk().unwrap();
        open
    };
    let (mut harmed, mut spared) = (open(), open());
    Tool::Nft.empty(Family::Ipv4, node, "prerouting", "");
    naive(node, "tcp dport 8081 notrack", "tcp sport 8081 notrack");
    assert!(harmed.talk().is_err(), "its replies were translated untracked");
    node.nft("delete table inet naive").unwrap();
    drop(harmed);
    spared.talk().unwrap();

    let policies = Policies::of(&serves(&[8080, 8081, 81])).unwrap();
    let agent = Live::start(node, &policies, &[]).unwrap();
    let told = || agent.status().unwrap()["policies"][0]["findings"].to_string();
    let said = told();
    for port in [8080, 8081] {
        assert!(
            said.contains(&format!("stays tracked: NT016 LiveNAT: TCP {port} is in the table")),
            "{said}"
        );
    }
    assert!(!said.contains("NT004"), "{said}");
    spared.talk().unwrap();
    other_port_is_bypassed(Family::Ipv4, client, node);

    drop(spared);
    flush(node);
    let gone = Instant::now();
    wait_until("tuples given back", GIVEN_BACK, || !told().contains("NT016")).unwrap();
    println!("given back {:.1} s after the last connection", gone.elapsed().as_secs_f32());
    traffic::tcp(client, node, LOCAL).unwrap();
    assert_eq!(entries(node, 8081).unwrap(), NOTHING);
}
