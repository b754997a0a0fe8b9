//! Hazards 6, 13 and 28: programs that take packets off before netfilter, the port of a bridge, and tunnels, whose two ends
//! both send first.
#![allow(clippy::unwrap_used, reason = "a test")]

use notrack_lab::{Namespace, Pair, run_ok};
use notrack_netns::agent::{policy, server};
use notrack_netns::track;
use notrack_netns::traffic::{self, entries};

use super::support::{NOTHING, flush, judge, naive, serves, without_naive};

/// What a program in traffic control takes is seen by no rule: this one drops all that comes.
#[test]
fn a_program_ahead_of_netfilter_is_named() {
    let Pair { client, node } = &Pair::new().unwrap();
    track(node).unwrap();
    node.nft(
        "table inet site {
            counter came {}
            chain prerouting {
                type filter hook prerouting priority -450
                tcp dport 80 counter name came
            }
        }",
    )
    .unwrap();
    let came = || node.counter("inet site", "came").unwrap().packets;
    let tc = |words: &str| run_ok(node.command("tc").args(words.split(' '))).unwrap();
    let attach = |verdict: u8| {
        let bytecode = format!("1,6 0 0 {verdict}");
        let filter = ["filter", "add", "dev", "eth0", "ingress", "bpf", "direct-action", "bytecode"];
        run_ok(node.command("tc").args(filter).arg(bytecode)).unwrap();
    };
    traffic::tcp(client, node, "10.77.0.1:80").unwrap();
    naive(node, "tcp dport 80 notrack", "tcp sport 80 notrack");
    let before = came();
    tc("qdisc add dev eth0 clsact");
    attach(2);
    assert!(traffic::tcp(client, node, "10.77.0.1:80").is_err(), "the program took nothing");
    assert_eq!(came(), before, "netfilter saw what the program took");
    without_naive(node);

    tc("filter del dev eth0 ingress");
    judge(node, &serves(&[80])).is_clean();
    attach(0);
    judge(node, &serves(&[80])).is("Programmed").says(&[
        "f: warning: NT006 ForeignDataplane: a BPF program in traffic control handles packets of eth0",
    ]);
    let acknowledged = "acknowledge: [{hazard: ForeignDataplane, reason: it only counts}], ports:";
    judge(node, &serves(&[80]).replace("ports:", acknowledged))
        .is("Programmed")
        .says(&["warning: NT006 ForeignDataplane: acknowledged: "]);
    judge(node, &serves(&[80]).replace("ports:", "interfaces: [lo], ports:")).is_clean();
}

#[test]
fn what_comes_by_the_port_of_a_bridge_has_the_bridge_for_its_interface() {
    let Pair { client, node } = &Pair::new().unwrap();
    track(node).unwrap();
    node.ip("link add br0 type bridge").unwrap();
    node.ip("address flush dev eth0").unwrap();
    node.ip("link set eth0 master br0").unwrap();
    node.ip("address add 10.77.0.1/24 dev br0").unwrap();
    node.ip("link set br0 up").unwrap();
    let reach = || traffic::tcp(client, node, "10.77.0.1:80").unwrap();
    naive(node, "iifname eth0 tcp dport 80 notrack", "oifname eth0 tcp sport 80 notrack");
    reach();
    assert_eq!(entries(node, 80).unwrap().len(), 1, "a rule for the port matched");
    without_naive(node);

    let on = |interface: &str| serves(&[80]).replace("ports:", &format!("interfaces: [{interface}], ports:"));
    judge(node, &on("eth0"))
        .is("Programmed")
        .says(&["f: warning: NT013 BridgedFrames: eth0 is a port of bridge br0"]);
    reach();
    assert_eq!(entries(node, 80).unwrap().len(), 1, "ours for the port matched");
    judge(node, &on("br0")).is_clean();
    flush(node);
    reach();
    assert_eq!(entries(node, 80).unwrap(), NOTHING);
}

/// Both ends of a VXLAN by `eth0`.
fn tunnel(Pair { client, node }: &Pair) {
    for (host, own, other, inner) in
        [(node, "10.77.0.1", "10.77.0.2", "10.200.0.1"), (client, "10.77.0.2", "10.77.0.1", "10.200.0.2")]
    {
        let tunnel = format!("link add vx0 type vxlan id 7 dstport 4789 local {own} remote {other} dev eth0");
        host.ip(&tunnel).unwrap();
        host.ip(&format!("address add {inner}/24 dev vx0")).unwrap();
        host.ip("link set vx0 up").unwrap();
    }
}

/// Whether an entry is left of what the node itself sends through the tunnel.
fn own_is_tracked(node: &Namespace) -> bool {
    entries(node, 4789).unwrap().iter().any(|entry| entry.contains("src=10.77.0.1 dst=10.77.0.2"))
}

#[test]
fn a_tunnel_as_a_server_leaves_what_the_node_sends_tracked() {
    let pair = Pair::new().unwrap();
    let Pair { client, node } = &pair;
    track(node).unwrap();
    tunnel(&pair);
    let mut port = 50;
    let mut talk = || {
        flush(node);
        // Another port each time: the tunnel gets its own source port from the inner ones.
        port += 1;
        traffic::udp(client, node, "10.200.0.2:0", &format!("10.200.0.1:{port}")).unwrap();
    };
    naive(node, "udp dport 4789 notrack", "udp sport 4789 notrack");
    talk();
    assert!(own_is_tracked(node), "the rules matched both ways");
    without_naive(node);

    judge(node, &server("p", "UDP", "4789"))
        .is("Programmed")
        .says(&["f: warning: NT028 OneWayTunnel: UDP 4789 is the port of vx0 (vxlan)"]);
    talk();
    assert!(own_is_tracked(node), "what is warned of is not so");

    let peer = "flows:\n- {name: f, action: NoTrack, role: Peer, ports: [{protocol: UDP, port: 4789}], \
                peers: [{cidr: 10.77.0.2/32}]}\ncompensation: {icmpErrors: Ignore}";
    judge(node, &policy("p", peer)).is_clean();
    talk();
    assert_eq!(entries(node, 4789).unwrap(), NOTHING);
}
