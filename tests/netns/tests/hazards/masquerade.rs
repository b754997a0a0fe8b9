//! Hazard 3: packets that leave with another source address.
#![allow(clippy::unwrap_used, reason = "a test")]

use notrack_core::net::Family;
use notrack_lab::{Line, Namespace};
use notrack_netns::track;
use notrack_netns::traffic::{self, Connection, entries};

use super::support::{NOTHING, Tool, asks, ip, judge, like, naive, routes, without_naive};

const SERVER: &str = "10.88.0.2:80";
const SERVERS: &str = "10.88.0.0/24";

/// Behind `eth1` nobody knows the way to the node's other networks, as on the way out of a site.
fn gateway() -> Line {
    let line = Line::new().unwrap();
    for family in Family::ALL {
        ip(family, &line.server, "route del default");
    }
    // Which of the client's two addresses asks, is for the test to say.
    line.client.ip("-6 route replace default via fd77::1 src fd77::2").unwrap();
    line
}

fn masquerade(tool: Tool, family: Family, node: &Namespace) -> String {
    let base = "nat hook postrouting priority srcnat";
    tool.hang(family, node, base, "oifname eth1 masquerade", "nat POSTROUTING -o eth1 -j MASQUERADE")
}

#[test]
fn a_gateway_stays_tracked_with_its_rule_and_a_connection_as_evidence() {
    for (tool, family) in Tool::each(&Tool::ALL) {
        let Line { client, node, server } = &gateway();
        let at = &like(family, SERVER);
        let place = masquerade(tool, family, node);
        traffic::tcp(client, server, at).unwrap();
        naive(node, "tcp dport 80 notrack; tcp sport 80 notrack", "");
        assert!(
            traffic::tcp(client, server, at).is_err(),
            "{tool:?} {family}: the inner address was answered"
        );
        without_naive(node);

        let mut open = Connection::open(client, server, at.parse().unwrap()).unwrap();
        open.talk().unwrap();
        let hidden = like(family, "10.88.0.1:0");
        let hidden = hidden.trim_end_matches('0');
        let connection = format!("{} to {at} is answered {at} to {hidden}", open.ends().unwrap().0);
        judge(node, &routes(&[80], &like(family, SERVERS)))
            .is("Refused")
            .says(&["NT003 Masquerade", &place])
            .says(&["NT016 LiveNAT", &connection]);
        open.talk().unwrap();
        traffic::tcp(client, server, at).unwrap();
    }
}

#[test]
fn a_plain_router_bypasses_the_same_flow() {
    for family in Family::ALL {
        let Line { client, node, server } = &Line::new().unwrap();
        let at = &like(family, SERVER);
        track(node).unwrap();
        traffic::tcp(client, server, at).unwrap();
        assert_eq!(entries(node, 80).unwrap().len(), 1);
        judge(node, &routes(&[80], &like(family, SERVERS))).is_clean();
        assert_eq!(entries(node, 80).unwrap(), NOTHING);
        traffic::tcp(client, server, at).unwrap();
        assert_eq!(entries(node, 80).unwrap(), NOTHING);
    }
}

#[test]
fn a_node_that_hides_its_own_address_stays_tracked_as_a_client() {
    for (tool, family) in Tool::each(&Tool::ALL) {
        let Line { client: _client, node, server } = &gateway();
        let (at, servers) = (&like(family, SERVER), like(family, SERVERS));
        // Of two IPv6 routes the one with the lower metric counts.
        let metric = if family == Family::Ipv6 { "metric 1" } else { "" };
        ip(family, node, &format!("route replace 10.88.0.0/24 dev eth1 src 10.77.0.1 {metric}"));
        let place = masquerade(tool, family, node);
        traffic::tcp(node, server, at).unwrap();
        naive(node, "tcp sport 80 notrack", "tcp dport 80 notrack");
        assert!(traffic::tcp(node, server, at).is_err(), "{tool:?} {family}: the inner address was answered");
        without_naive(node);

        judge(node, &asks(&[80], &servers)).is("Refused").says(&["NT003 Masquerade", &place]);
        traffic::tcp(node, server, at).unwrap();

        // Without the rule and with a way back there is nothing against it.
        tool.empty(family, node, "postrouting", "nat -F POSTROUTING");
        super::support::flush(node);
        ip(family, server, "route add default via 10.88.0.1");
        track(node).unwrap();
        judge(node, &asks(&[80], &servers)).is_clean();
        traffic::tcp(node, server, at).unwrap();
        assert_eq!(entries(node, 80).unwrap(), NOTHING, "{tool:?} {family}");
    }
}

/// The replies to both come to the node's own address, from the same server's port.
#[test]
fn a_client_beside_masqueraded_pods_stays_tracked() {
    for (tool, family) in Tool::each(&Tool::ALL) {
        let Line { client, node, server } = &gateway();
        let at = &like(family, SERVER);
        let base = "nat hook postrouting priority srcnat";
        let place = tool.hang(
            family,
            node,
            base,
            "ip saddr 10.77.0.2 oifname eth1 masquerade",
            "nat POSTROUTING -s 10.77.0.2 -o eth1 -j MASQUERADE",
        );
        naive(node, "tcp sport 80 notrack", "tcp dport 80 notrack");
        assert!(traffic::tcp(client, server, at).is_err(), "{tool:?} {family}: the reply found its way");
        without_naive(node);

        judge(node, &asks(&[80], &like(family, SERVERS))).is("Refused").says(&["NT003 Masquerade", &place]);
        traffic::tcp(client, server, at).unwrap();
        traffic::tcp(node, server, at).unwrap();
    }
}
