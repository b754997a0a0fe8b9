//! Hazards 11 and 33: rules before connection tracking that give a packet a zone or another address.
#![allow(clippy::unwrap_used, reason = "a test")]

use notrack_core::net::Family;
use notrack_lab::{Namespace, Pair};
use notrack_netns::track;
use notrack_netns::traffic::{self, entries};

use super::support::{
    NOTHING, Tool, flush, ip, judge, like, naive, place, reaches, serves, serves_at, without_naive,
};

const PORT: &str = "10.77.0.1:80";

fn zone(node: &Namespace, priority: i32) -> String {
    node.nft(&format!(
        "table inet site {{
            chain prerouting {{
                type filter hook prerouting priority {priority}
                ct zone set 5
            }}
            chain output {{
                type filter hook output priority {priority}
                ct zone set 5
            }}
        }}"
    ))
    .unwrap();
    place(node, "inet site", "prerouting")
}

#[test]
fn a_zone_of_nft_before_or_after_makes_a_bypass_void() {
    for (priority, family) in
        [-400, -300].into_iter().flat_map(|priority| Family::ALL.map(|family| (priority, family)))
    {
        let Pair { client, node } = &Pair::new().unwrap();
        let port = &like(family, PORT);
        track(node).unwrap();
        let place = zone(node, priority);
        naive(node, "tcp dport 80 notrack", "tcp sport 80 notrack");
        traffic::tcp(client, node, port).unwrap();
        let tracked = entries(node, 80).unwrap();
        assert_eq!(tracked.len(), 1, "a zone at {priority}: {tracked:?}");
        assert!(tracked[0].contains("zone=5"), "{tracked:?}");
        without_naive(node);

        judge(node, &serves(&[80])).is("Refused").says(&["NT011 Zones: sets a conntrack zone", &place]);
        assert!(!node.ruleset().unwrap().contains("tcp . 80 :"));
        traffic::tcp(client, node, port).unwrap();
        assert_eq!(entries(node, 80).unwrap().len(), 1);
    }
}

#[test]
fn a_zone_of_iptables_is_no_harm() {
    for (tool, family) in Tool::each(&Tool::IPTABLES) {
        let Pair { client, node } = &Pair::new().unwrap();
        let port = &like(family, PORT);
        track(node).unwrap();
        for chain in ["PREROUTING", "OUTPUT"] {
            tool.hang(family, node, "", "", &format!("raw {chain} -j CT --zone 5"));
        }
        traffic::tcp(client, node, port).unwrap();
        assert!(entries(node, 80).unwrap()[0].contains("zone=5"));
        judge(node, &serves(&[80])).is_clean();
        flush(node);
        traffic::tcp(client, node, port).unwrap();
        assert_eq!(entries(node, 80).unwrap(), NOTHING, "{tool:?} {family}");
    }
}

/// A balancer with direct return (L3DSR): it sends packets for its virtual address to the server's own one, and the
/// server turns them back without an entry. The client rewrites in the balancer's place.
#[test]
fn a_rewritten_address_between_bypass_and_tracking_refuses() {
    for family in Family::ALL {
        let virtual_ip = &like(family, "10.99.0.1:80");
        let Pair { client, node } = &Pair::new().unwrap();
        ip(family, node, "address add 10.99.0.1/32 dev lo");
        ip(family, client, "route add 10.99.0.1 via 10.77.0.1");
        let table = like(family, "ip balancer");
        let rewrites = |host: &Namespace, hook: &str, from: &str, to: &str| {
            let rule = like(family, &format!("tcp dport 80 ip daddr {from} ip daddr set {to}"));
            host.nft(&format!(
                "table {table} {{\n chain {hook} {{\n type filter hook {hook} priority -250\n {rule}\n }}\n}}\n"
            ))
            .unwrap();
        };
        rewrites(client, "output", "10.99.0.1", "10.77.0.1");
        rewrites(node, "prerouting", "10.77.0.1", "10.99.0.1");
        let place = place(node, &table, "prerouting");
        // What begins in the middle is nobody's connection, as where failovers are not to be guessed at.
        node.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", "0").unwrap();
        node.nft(
            "table inet firewall {
                chain output {
                    type filter hook output priority filter
                    ct state invalid drop
                }
            }",
        )
        .unwrap();
        let reach = || reaches(client, virtual_ip, node, virtual_ip);
        reach().unwrap();
        let halves = ["ip daddr 10.77.0.1 tcp dport 80 notrack", "ip saddr 10.77.0.1 tcp sport 80 notrack"];
        let [request, reply] = halves.map(|half| like(family, half));
        naive(node, &request, &reply);
        for _ in 0..3 {
            assert!(reach().is_err(), "{family}: half of the connection is tracked");
        }
        without_naive(node);

        judge(node, &serves_at(&[80], &like(family, "10.77.0.1/32")))
            .is("Refused")
            .says(&["NT033 AddressRewrite: rewrites addresses", &place]);
        for _ in 0..3 {
            reach().unwrap();
        }
    }
}
