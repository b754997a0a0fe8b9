//! Hazard 3: packets that leave with another source address.
#![allow(clippy::unwrap_used, reason = "a test")]

use notrack_lab::{Line, Namespace};
use notrack_netns::track;
use notrack_netns::traffic::{self, Connection, entries};

use super::support::{NOTHING, Tool, asks, judge, naive, routes, without_naive};

const SERVER: &str = "10.88.0.2:80";
const SERVERS: &str = "10.88.0.0/24";

/// Behind `eth1` nobody knows the way to the node's other networks, as on the way out of a site.
fn gateway() -> Line {
    let line = Line::new().unwrap();
    line.server.ip("route del default").unwrap();
    line
}

fn masquerade(tool: Tool, node: &Namespace) -> String {
    let base = "nat hook postrouting priority srcnat";
    tool.hang(node, base, "oifname eth1 masquerade", "nat POSTROUTING -o eth1 -j MASQUERADE")
}

#[test]
fn a_gateway_stays_tracked_with_its_rule_and_a_connection_as_evidence() {
    for tool in Tool::ALL {
        let Line { client, node, server } = &gateway();
        let place = masquerade(tool, node);
        traffic::tcp(client, server, SERVER).unwrap();
        naive(node, "tcp dport 80 notrack; tcp sport 80 notrack", "");
        assert!(traffic::tcp(client, server, SERVER).is_err(), "{tool:?}: the inner address was answered");
        without_naive(node);

        let mut open = Connection::open(client, server, SERVER.parse().unwrap()).unwrap();
        open.talk().unwrap();
        let connection = format!("{} to {SERVER} is answered {SERVER} to 10.88.0.1:", open.ends().unwrap().0);
        judge(node, &routes(&[80], SERVERS))
            .is("Refused")
            .says(&["NT003 Masquerade", &place])
            .says(&["NT016 LiveNAT", &connection]);
        open.talk().unwrap();
        traffic::tcp(client, server, SERVER).unwrap();
    }
}

#[test]
fn a_plain_router_bypasses_the_same_flow() {
    let Line { client, node, server } = &Line::new().unwrap();
    track(node).unwrap();
    traffic::tcp(client, server, SERVER).unwrap();
    assert_eq!(entries(node, 80).unwrap().len(), 1);
    judge(node, &routes(&[80], SERVERS)).is_clean();
    assert_eq!(entries(node, 80).unwrap(), NOTHING);
    traffic::tcp(client, server, SERVER).unwrap();
    assert_eq!(entries(node, 80).unwrap(), NOTHING);
}

#[test]
fn a_node_that_hides_its_own_address_stays_tracked_as_a_client() {
    for tool in Tool::ALL {
        let Line { client: _client, node, server } = &gateway();
        node.ip("route replace 10.88.0.0/24 dev eth1 src 10.77.0.1").unwrap();
        let place = masquerade(tool, node);
        traffic::tcp(node, server, SERVER).unwrap();
        naive(node, "tcp sport 80 notrack", "tcp dport 80 notrack");
        assert!(traffic::tcp(node, server, SERVER).is_err(), "{tool:?}: the inner address was answered");
        without_naive(node);

        judge(node, &asks(&[80], SERVERS)).is("Refused").says(&["NT003 Masquerade", &place]);
        traffic::tcp(node, server, SERVER).unwrap();

        // Without the rule and with a way back there is nothing against it.
        tool.empty(node, "postrouting", "nat -F POSTROUTING");
        super::support::flush(node);
        server.ip("route add default via 10.88.0.1").unwrap();
        track(node).unwrap();
        judge(node, &asks(&[80], SERVERS)).is_clean();
        traffic::tcp(node, server, SERVER).unwrap();
        assert_eq!(entries(node, 80).unwrap(), NOTHING, "{tool:?}");
    }
}

/// The replies to both come to the node's own address, from the same server's port.
#[test]
fn a_client_beside_masqueraded_pods_stays_tracked() {
    for tool in Tool::ALL {
        let Line { client, node, server } = &gateway();
        let base = "nat hook postrouting priority srcnat";
        let place = tool.hang(
            node,
            base,
            "ip saddr 10.77.0.2 oifname eth1 masquerade",
            "nat POSTROUTING -s 10.77.0.2 -o eth1 -j MASQUERADE",
        );
        naive(node, "tcp sport 80 notrack", "tcp dport 80 notrack");
        assert!(traffic::tcp(client, server, SERVER).is_err(), "{tool:?}: the reply found its way");
        without_naive(node);

        judge(node, &asks(&[80], SERVERS)).is("Refused").says(&["NT003 Masquerade", &place]);
        traffic::tcp(client, server, SERVER).unwrap();
        traffic::tcp(node, server, SERVER).unwrap();
    }
}
