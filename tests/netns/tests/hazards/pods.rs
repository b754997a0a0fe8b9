//! Hazard 8: engines for network policies, which judge the packets of their pods by the state.
#![allow(clippy::unwrap_used, reason = "a test")]

use notrack_core::net::Family;
use notrack_lab::{End, Namespace, Pair, run_ok_with_input, veth};
use notrack_netns::track;
use notrack_netns::traffic::{self, entries};

use super::support::{NOTHING, Tool, asks, flush, judge, naive, serves, without_naive};

/// Calico's filter table for a pod whose policy lets it ask DNS and this node's port 80, and nobody ask it but this node.
const CALICO: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:cali-FORWARD - [0:0]
:cali-INPUT - [0:0]
:cali-OUTPUT - [0:0]
:cali-from-wl-dispatch - [0:0]
:cali-to-wl-dispatch - [0:0]
:cali-wl-to-host - [0:0]
:cali-fw-cali1a2b3c4d5e6 - [0:0]
:cali-tw-cali1a2b3c4d5e6 - [0:0]
:cali-po-_egress - [0:0]
:cali-pi-_ingress - [0:0]
-A INPUT -m comment --comment cali:Cz_u1IQiXIMmKD4c -j cali-INPUT
-A FORWARD -m comment --comment cali:wUHhoiAYhphO9Mso -j cali-FORWARD
-A FORWARD -m comment --comment cali:S93hcgKJrXEqnTfs -m comment --comment accepted -m mark --mark 0x10000/0x10000 -j ACCEPT
-A OUTPUT -m comment --comment cali:tVnHkvAo15HuiPy0 -j cali-OUTPUT
-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-FORWARD -o cali+ -j cali-to-wl-dispatch
-A cali-INPUT -i cali+ -g cali-wl-to-host
-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-INPUT -j MARK --set-xmark 0x0/0xf0000
-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-OUTPUT -o cali+ -j RETURN
-A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000
-A cali-from-wl-dispatch -i cali1a2b3c4d5e6 -g cali-fw-cali1a2b3c4d5e6
-A cali-from-wl-dispatch -m comment --comment unknown -j DROP
-A cali-to-wl-dispatch -o cali1a2b3c4d5e6 -g cali-tw-cali1a2b3c4d5e6
-A cali-to-wl-dispatch -m comment --comment unknown -j DROP
-A cali-wl-to-host -j cali-from-wl-dispatch
-A cali-wl-to-host -m comment --comment DefaultEndpointToHostAction -j ACCEPT
-A cali-fw-cali1a2b3c4d5e6 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-cali1a2b3c4d5e6 -m conntrack --ctstate INVALID -j DROP
-A cali-fw-cali1a2b3c4d5e6 -j MARK --set-xmark 0x0/0x10000
-A cali-fw-cali1a2b3c4d5e6 -p udp -m multiport --dports 4789 -j DROP
-A cali-fw-cali1a2b3c4d5e6 -p ipencap -j DROP
-A cali-fw-cali1a2b3c4d5e6 -j MARK --set-xmark 0x0/0x20000
-A cali-fw-cali1a2b3c4d5e6 -m mark --mark 0x0/0x20000 -j cali-po-_egress
-A cali-fw-cali1a2b3c4d5e6 -m comment --comment accepted -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-cali1a2b3c4d5e6 -m comment --comment none -m mark --mark 0x0/0x20000 -j DROP
-A cali-tw-cali1a2b3c4d5e6 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-tw-cali1a2b3c4d5e6 -m conntrack --ctstate INVALID -j DROP
-A cali-tw-cali1a2b3c4d5e6 -j MARK --set-xmark 0x0/0x10000
-A cali-tw-cali1a2b3c4d5e6 -j MARK --set-xmark 0x0/0x20000
-A cali-tw-cali1a2b3c4d5e6 -m mark --mark 0x0/0x20000 -j cali-pi-_ingress
-A cali-tw-cali1a2b3c4d5e6 -m comment --comment accepted -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-cali1a2b3c4d5e6 -m comment --comment none -m mark --mark 0x0/0x20000 -j DROP
-A cali-po-_egress -d 10.77.0.1/32 -p tcp -m multiport --dports 80 -j MARK --set-xmark 0x10000/0x10000
-A cali-po-_egress -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-po-_egress -p udp -m multiport --dports 53 -j MARK --set-xmark 0x10000/0x10000
-A cali-pi-_ingress -p tcp -m multiport --dports 8080 -j MARK --set-xmark 0x10000/0x10000
-A cali-pi-_ingress -m mark --mark 0x10000/0x10000 -j RETURN
COMMIT
";

/// The same policy as kube-router writes it.
const KUBE_ROUTER: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-ROUTER-INPUT - [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
:KUBE-ROUTER-OUTPUT - [0:0]
:KUBE-POD-FW-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-NWPLCY-BBBBBBBBBBBBBBBB - [0:0]
-A INPUT -m comment --comment router -j KUBE-ROUTER-INPUT
-A FORWARD -m comment --comment router -j KUBE-ROUTER-FORWARD
-A OUTPUT -m comment --comment router -j KUBE-ROUTER-OUTPUT
-A KUBE-ROUTER-INPUT -d 10.96.0.0/12 -m comment --comment services -j RETURN
-A KUBE-ROUTER-INPUT -p tcp -m comment --comment nodeports -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN
-A KUBE-ROUTER-INPUT -s 10.244.1.7/32 -j KUBE-POD-FW-AAAAAAAAAAAAAAAA
-A KUBE-ROUTER-INPUT -m mark --mark 0x20000/0x20000 -j ACCEPT
-A KUBE-ROUTER-FORWARD -d 10.244.1.7/32 -j KUBE-POD-FW-AAAAAAAAAAAAAAAA
-A KUBE-ROUTER-FORWARD -s 10.244.1.7/32 -j KUBE-POD-FW-AAAAAAAAAAAAAAAA
-A KUBE-ROUTER-FORWARD -m mark --mark 0x20000/0x20000 -j ACCEPT
-A KUBE-ROUTER-OUTPUT -d 10.244.1.7/32 -j KUBE-POD-FW-AAAAAAAAAAAAAAAA
-A KUBE-ROUTER-OUTPUT -s 10.244.1.7/32 -j KUBE-POD-FW-AAAAAAAAAAAAAAAA
-A KUBE-ROUTER-OUTPUT -m mark --mark 0x20000/0x20000 -j ACCEPT
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m conntrack --ctstate INVALID -j DROP
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -d 10.244.1.7/32 -m addrtype --src-type LOCAL -j ACCEPT
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -d 10.244.1.7/32 -j KUBE-NWPLCY-BBBBBBBBBBBBBBBB
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -s 10.244.1.7/32 -j KUBE-NWPLCY-BBBBBBBBBBBBBBBB
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m mark ! --mark 0x10000/0x10000 -m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-group 100
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -m mark ! --mark 0x10000/0x10000 -j REJECT
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -j MARK --set-xmark 0x0/0x10000
-A KUBE-POD-FW-AAAAAAAAAAAAAAAA -j MARK --set-xmark 0x20000/0x20000
-A KUBE-NWPLCY-BBBBBBBBBBBBBBBB -s 10.244.1.7/32 -d 10.77.0.1/32 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x10000/0x10000
-A KUBE-NWPLCY-BBBBBBBBBBBBBBBB -s 10.244.1.7/32 -d 10.77.0.1/32 -p tcp -m tcp --dport 80 -m mark --mark 0x10000/0x10000 -j RETURN
-A KUBE-NWPLCY-BBBBBBBBBBBBBBBB -s 10.244.1.7/32 -p udp -m udp --dport 53 -j MARK --set-xmark 0x10000/0x10000
-A KUBE-NWPLCY-BBBBBBBBBBBBBBBB -s 10.244.1.7/32 -p udp -m udp --dport 53 -m mark --mark 0x10000/0x10000 -j RETURN
COMMIT
";

/// Calico's for the node itself: whoever asks port 80 may, and the node may ask DNS alone.
const HOST_ENDPOINT: &str = "*filter
:cali-INPUT - [0:0]
:cali-OUTPUT - [0:0]
:cali-from-host-endpoint - [0:0]
:cali-to-host-endpoint - [0:0]
:cali-fh-eth0 - [0:0]
:cali-th-eth0 - [0:0]
:cali-pi-_hosts - [0:0]
:cali-po-_hosts - [0:0]
-A INPUT -m comment --comment cali:Cz_u1IQiXIMmKD4c -j cali-INPUT
-A OUTPUT -m comment --comment cali:tVnHkvAo15HuiPy0 -j cali-OUTPUT
-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-INPUT -j MARK --set-xmark 0x0/0xf0000
-A cali-INPUT -j cali-from-host-endpoint
-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-OUTPUT -o cali+ -j RETURN
-A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000
-A cali-OUTPUT -m conntrack ! --ctstate DNAT -j cali-to-host-endpoint
-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-from-host-endpoint -i eth0 -g cali-fh-eth0
-A cali-to-host-endpoint -o eth0 -g cali-th-eth0
-A cali-fh-eth0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fh-eth0 -m conntrack --ctstate INVALID -j DROP
-A cali-fh-eth0 -j MARK --set-xmark 0x0/0x30000
-A cali-fh-eth0 -m mark --mark 0x0/0x20000 -j cali-pi-_hosts
-A cali-fh-eth0 -m comment --comment accepted -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fh-eth0 -m comment --comment none -m mark --mark 0x0/0x20000 -j DROP
-A cali-th-eth0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-th-eth0 -m conntrack --ctstate INVALID -j DROP
-A cali-th-eth0 -j MARK --set-xmark 0x0/0x30000
-A cali-th-eth0 -m mark --mark 0x0/0x20000 -j cali-po-_hosts
-A cali-th-eth0 -m comment --comment accepted -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-th-eth0 -m comment --comment none -m mark --mark 0x0/0x20000 -j DROP
-A cali-pi-_hosts -p tcp -m multiport --dports 80 -j MARK --set-xmark 0x10000/0x10000
-A cali-po-_hosts -p udp -m multiport --dports 53 -j MARK --set-xmark 0x10000/0x10000
COMMIT
";

/// An engine, its rules, and its chain that judges what the pod sends.
const ENGINES: [(&str, &str, &str); 2] = [
    ("Calico", CALICO, "cali-fw-cali1a2b3c4d5e6"),
    ("kube-router", KUBE_ROUTER, "KUBE-POD-FW-AAAAAAAAAAAAAAAA"),
];

const POD: &str = "10.244.1.7:8080";
const PODS: &str = "10.244.1.0/24";
const NODE: &str = "10.77.0.1:80";

/// A node, a host outside and a pod with a policy.
struct Site {
    node: Namespace,
    outside: Namespace,
    pod: Namespace,
}

fn site(tool: Tool, rules: &str) -> Site {
    let Pair { client: outside, node } = Pair::new().unwrap();
    let pod = Namespace::new("pod").unwrap();
    veth(End::new(&pod, "eth0", &["10.244.1.7/32"]), End::new(&node, "cali1a2b3c4d5e6", &[])).unwrap();
    node.ip("route add 10.244.1.7 dev cali1a2b3c4d5e6 scope link").unwrap();
    pod.ip("route add 10.77.0.1 dev eth0 scope link").unwrap();
    pod.ip("route add default via 10.77.0.1").unwrap();
    node.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
    track(&node).unwrap();
    run_ok_with_input(&mut node.command(&tool.program(Family::Ipv4, "-restore")), rules).unwrap();
    Site { node, outside, pod }
}

/// How evidence begins that names a chain of the filter table.
fn place(tool: Tool, chain: &str) -> String {
    let program = if tool == Tool::IptablesNft { "iptables" } else { "iptables-legacy" };
    format!("{program} filter, chain {chain}, ")
}

fn each() -> impl Iterator<Item = (Tool, (&'static str, &'static str, &'static str))> {
    Tool::IPTABLES.into_iter().flat_map(|tool| ENGINES.map(|engine| (tool, engine)))
}

#[test]
fn a_pod_that_the_node_asks_would_be_cut_off_and_blocks() {
    for (tool, (engine, rules, chain)) in each() {
        let Site { node, pod, outside } = &site(tool, rules);
        let ask = || traffic::tcp(node, pod, POD);
        ask().unwrap();
        naive(node, "tcp sport 8080 notrack", "tcp dport 8080 notrack");
        assert!(ask().is_err(), "{tool:?} {engine}: an untracked answer passed");
        without_naive(node);

        let place = place(tool, chain);
        let client = asks(&[8080], PODS);
        judge(node, &client)
            .is("Blocked")
            .says(&["f: warning: NT008 PodPolicy: ", engine, "judges packets of the pods at 10.244.1.7"])
            .says(&[
                "blocked: NT008 PodPolicy: ",
                &place,
                "drop untracked what it accepts by state, such as 10.244.1.",
                " port 8080 to 10.77.0.1",
            ]);
        ask().unwrap();
        judge(node, &(client.clone() + "  hostFirewall: Adapt\n")).is("Blocked").says(&[
            "blocked: NT008 PodPolicy: ",
            &place,
            &format!("{engine} writes its chains anew, a rule added there would not last"),
        ]);
        ask().unwrap();

        let acknowledged =
            client.replace("peers:", "acknowledge: [{hazard: PodPolicy, reason: no such pod}], peers:");
        judge(node, &acknowledged)
            .is("Programmed")
            .says(&["warning: NT008 PodPolicy: acknowledged: ", &place]);
        assert!(ask().is_err(), "{tool:?} {engine}: what was acknowledged is not so");

        // Whatever comes by the pod's interface is judged, so that another interface is to be named as well.
        let others = asks(&[8080], "10.77.0.0/24").replace("peers:", "interfaces: [eth0], peers:");
        judge(node, &others).is_clean();
        flush(node);
        traffic::tcp(node, outside, "10.77.0.2:8080").unwrap();
        assert_eq!(entries(node, 8080).unwrap(), NOTHING, "{tool:?} {engine}");
        ask().unwrap();
        assert_eq!(entries(node, 8080).unwrap().len(), 1, "{tool:?} {engine}: the pod stays tracked");
    }
}

#[test]
fn a_pod_that_asks_the_node_is_cut_off_by_half_a_bypass_and_warned_of() {
    for (tool, (engine, rules, _)) in each() {
        let Site { node, pod, outside } = &site(tool, rules);
        let reach = || traffic::tcp(pod, node, NODE);
        reach().unwrap();
        // The answers are missing in the table, so that what follows them is INVALID.
        naive(node, "", "tcp sport 80 notrack");
        assert!(reach().is_err(), "{tool:?} {engine}: half of it was tracked, and passed");
        without_naive(node);

        judge(node, &serves(&[80])).is("Programmed").says(&[
            "f: warning: NT008 PodPolicy: ",
            engine,
            "judges packets of the pods at 10.244.1.7: except them from peers",
        ]);
        flush(node);
        reach().unwrap();
        traffic::tcp(outside, node, NODE).unwrap();
        assert_eq!(entries(node, 80).unwrap(), NOTHING, "{tool:?} {engine}");
        let known = serves(&[80]).replace("ports:", "peers: [{cidr: 10.77.0.0/24}], ports:");
        judge(node, &known).is_clean();
        reach().unwrap();
        assert_eq!(entries(node, 80).unwrap().len(), 1, "{tool:?} {engine}: the pod stays tracked");
    }
}

#[test]
fn a_server_whose_own_answers_an_engine_judges_would_be_cut_off_and_blocks() {
    for tool in Tool::IPTABLES {
        let Site { node, outside, pod: _pod } = &site(tool, HOST_ENDPOINT);
        let reach = || traffic::tcp(outside, node, NODE);
        reach().unwrap();
        naive(node, "tcp dport 80 notrack", "tcp sport 80 notrack");
        assert!(reach().is_err(), "{tool:?}: an untracked answer passed");
        without_naive(node);

        let place = place(tool, "cali-th-eth0");
        let known = serves(&[80]).replace("ports:", "peers: [{cidr: 10.77.0.0/24}], ports:");
        judge(node, &known).is("Blocked").says(&[
            "blocked: NT008 PodPolicy: ",
            &place,
            "drop untracked what it accepts by state, such as 10.77.0.1 port 80 to 10.77.0.",
        ]);
        let why = "Calico writes its chains anew, a rule added there would not last";
        judge(node, &(known + "  hostFirewall: Adapt\n")).is("Blocked").says(&[&place, why]);
        reach().unwrap();
    }
}
