//! What changes how packets go on a node, as the real kernel tells it, and what harm comes of it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::UdpSocket;

use notrack_core::host::{Balanced, Interface, Program, ReversePath, Surroundings};
use notrack_core::net::Proto;
use notrack_lab::{Background, Namespace, Pair, run_ok, wait_until};
use notrack_netlink::surroundings;
use notrack_netns::agent::PATIENCE;
use notrack_netns::track;
use notrack_netns::traffic;

fn read(host: &Namespace) -> Surroundings {
    let around = host.enter(surroundings::read).unwrap();
    assert_eq!(around.unknown, [""; 0]);
    around
}

fn interface<'a>(around: &'a Surroundings, name: &str) -> &'a Interface {
    around.interfaces.iter().find(|interface| interface.name == name).unwrap()
}

/// Rules by hand in front of connection tracking.
fn naive(host: &Namespace, prerouting: &str, output: &str) {
    let chain = |hook: &str, rules: &str| {
        let rules = rules.replace("; ", "\n");
        format!("chain {hook} {{\n type filter hook {hook} priority raw\n {rules}\n}}\n")
    };
    let chains = chain("prerouting", prerouting) + &chain("output", output);
    host.nft(&format!("table inet naive {{\n{chains}\n}}\n")).unwrap();
}

#[test]
fn a_host_with_nothing_but_a_cable_has_an_interface() {
    let Pair { client: _client, node } = Pair::new().unwrap();
    node.set_sysctl("net.ipv4.conf.all.rp_filter", "0").unwrap();
    node.set_sysctl("net.ipv4.conf.eth0.rp_filter", "2").unwrap();
    let around = read(&node);
    let names: Vec<&str> = around.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    assert!(names.contains(&"eth0") && names.contains(&"lo"), "{names:?}");
    let eth0 = interface(&around, "eth0");
    assert_eq!(*eth0, Interface { name: "eth0".into(), kind: "veth".into(), ..Interface::default() });
    assert!(!around.routes_by_mark());
    let Surroundings { ipvs, flow_tables, conntrack_listeners, fixed_sources, .. } = &around;
    assert!(ipvs.is_empty() && flow_tables.is_empty(), "{around:?}");
    assert!(conntrack_listeners.is_empty() && fixed_sources.is_empty(), "{around:?}");
}

#[test]
fn bridges_tunnels_filters_and_marks_are_read() {
    let Pair { client: _client, node } = Pair::new().unwrap();
    node.ip("link add br0 type bridge").unwrap();
    node.ip("link add veth0 type veth peer name veth1").unwrap();
    node.ip("link set veth0 master br0").unwrap();
    node.ip("link add vx0 type vxlan id 7 dstport 4789 dev eth0").unwrap();
    node.ip("address add 10.244.1.1/24 dev br0").unwrap();
    node.ip("link set br0 up").unwrap();
    node.ip("link set veth1 up").unwrap();
    node.ip("route add 10.245.0.9 dev veth1").unwrap();
    node.ip("rule add fwmark 0x1/0xff lookup 100 priority 1000").unwrap();
    node.ip("-6 rule add not fwmark 7 lookup 101 priority 1001").unwrap();
    node.ip("rule add from 10.0.0.0/8 lookup 102 priority 1002").unwrap();
    node.set_sysctl("net.ipv4.conf.all.rp_filter", "0").unwrap();
    node.set_sysctl("net.ipv4.conf.veth1.rp_filter", "1").unwrap();
    node.set_sysctl("net.ipv4.conf.veth1.src_valid_mark", "1").unwrap();
    let around = read(&node);
    assert_eq!(interface(&around, "veth0").master.as_deref(), Some("br0"));
    assert_eq!(interface(&around, "vx0").tunnel_port, Some(4789));
    assert_eq!(interface(&around, "veth1").reverse_path, ReversePath { strict: true, marked: true });
    assert_eq!(around.strict_interfaces().collect::<Vec<_>>(), [("veth1", true)]);
    assert_eq!(
        around.mark_rules,
        ["ip -6 rule 1001: not fwmark 0x7 lookup 101", "ip rule 1000: fwmark 0x1/0xff lookup 100"]
    );
    assert!(around.routes_by_mark());
    // eth0 is a veth too, but what it leads to is no pod; behind veth1 there is one.
    let networks: Vec<String> = around.pod_networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.244.1.0/24", "10.245.0.9"]);

    // Where the kernel has br_netfilter, its setting is the namespace's or the bridge's own.
    if node.sysctl("net.bridge.bridge-nf-call-iptables").is_ok() {
        for name in ["iptables", "ip6tables"] {
            node.set_sysctl(&format!("net.bridge.bridge-nf-call-{name}"), "0").unwrap();
        }
        assert!(!interface(&read(&node), "br0").calls_iptables);
        node.ip("link set br0 type bridge nf_call_iptables 1").unwrap();
        assert!(interface(&read(&node), "br0").calls_iptables);
        node.ip("link set br0 type bridge nf_call_iptables 0").unwrap();
        node.set_sysctl("net.bridge.bridge-nf-call-iptables", "1").unwrap();
        let around = read(&node);
        assert!(interface(&around, "br0").calls_iptables);
        assert!(!interface(&around, "veth0").calls_iptables);
    }
}

#[test]
fn a_program_in_traffic_control_is_seen_and_a_plain_qdisc_is_none() {
    let Pair { client: _client, node } = Pair::new().unwrap();
    let tc = |words: &str| run_ok(node.command("tc").args(words.split_whitespace())).unwrap();
    // One instruction: return 0.
    let program = |hook: &str| {
        let bytecode = ["bpf", "direct-action", "bytecode", "1,6 0 0 0"];
        run_ok(node.command("tc").args(["filter", "add", "dev", "eth0", hook]).args(bytecode)).unwrap();
    };
    tc("qdisc add dev eth0 clsact");
    assert_eq!(interface(&read(&node), "eth0").programs, []);
    program("egress");
    assert_eq!(interface(&read(&node), "eth0").programs, [Program::TrafficControl]);
    tc("qdisc del dev eth0 clsact");
    tc("qdisc add dev eth0 ingress");
    program("ingress");
    assert_eq!(interface(&read(&node), "eth0").programs, [Program::TrafficControl]);
}

/// Loads "return XDP_PASS" and holds it on an interface.
const XDP: &str = "
import ctypes, os, platform, socket, struct, time
number = {'x86_64': 321, 'aarch64': 280}[platform.machine()]
def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = ctypes.CDLL(None, use_errno=True).syscall(number, command, buffer, len(attributes))
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result
code = ctypes.create_string_buffer(struct.pack('=QQ', 0x2000000b7, 0x95), 16)
licence = ctypes.create_string_buffer(b'GPL')
program = bpf(5, struct.pack('=IIQQ', 6, 2, ctypes.addressof(code), ctypes.addressof(licence)) + bytes(48))
link = bpf(28, struct.pack('=IIII', program, socket.if_nametoindex('eth0'), 37, 0))
print('attached', flush=True)
time.sleep(600)
";

#[test]
fn an_xdp_program_is_seen_while_it_is_attached() {
    let Pair { client: _client, node } = Pair::new().unwrap();
    let mut python = node.command("python3");
    python.args(["-c", XDP]);
    let mut holder = Background::spawn(python).unwrap();
    wait_until("the program", PATIENCE, || holder.output().contains("attached") || !holder.is_running())
        .unwrap();
    assert_eq!(interface(&read(&node), "eth0").programs, [Program::Xdp], "{}", holder.output());
    drop(holder);
    wait_until("the program's end", PATIENCE, || interface(&read(&node), "eth0").programs.is_empty())
        .unwrap();
}

#[test]
fn who_follows_the_table_is_seen_by_name() {
    let Pair { client: _client, node } = Pair::new().unwrap();
    track(&node).unwrap();
    let mut events = node.command("conntrack");
    events.arg("-E");
    let _events = Background::spawn(events).unwrap();
    wait_until("the listener", PATIENCE, || !read(&node).conntrack_listeners.is_empty()).unwrap();
    let around = read(&node);
    let [listener] = &around.conntrack_listeners[..] else { panic!("{around:?}") };
    assert_eq!((listener.groups, listener.program.as_deref()), (0b111, Some("conntrack")));
}

#[test]
fn sockets_with_source_ports_of_their_own_are_seen() {
    let Pair { client, node } = Pair::new().unwrap();
    let bind = |host: &Namespace, to: &str| traffic::bind(host, || UdpSocket::bind(to)).unwrap();
    let _service = bind(&node, "0.0.0.0:123");
    let _other = bind(&node, "0.0.0.0:67");
    let asks = bind(&node, "10.77.0.1:700");
    asks.connect("10.77.0.2:514").unwrap();
    let ephemeral = bind(&node, "10.77.0.1:0");
    ephemeral.connect("10.77.0.2:53").unwrap();
    // A connection to an NFS server, and one from an ephemeral port that is none of a mount.
    let listener = traffic::bind(&client, || std::net::TcpListener::bind("10.77.0.2:2049")).unwrap();
    let connect = "import socket, sys, time\nfor port in 800, 0:\n s = socket.socket()\n s.bind(('10.77.0.1', port))\n \
        s.connect(('10.77.0.2', 2049))\n globals()[f's{port}'] = s\nprint('connected', flush=True)\ntime.sleep(600)\n";
    let mut python = node.command("python3");
    python.args(["-c", connect]);
    let mounts = Background::spawn(python).unwrap();
    wait_until("both connections", PATIENCE, || mounts.output().contains("connected")).unwrap();

    let around = read(&node);
    let shown: Vec<String> = around
        .fixed_sources
        .iter()
        .map(|source| format!("{} {} {:?} {:?}", source.protocol, source.port, source.remote, source.program))
        .collect();
    assert_eq!(
        shown,
        ["TCP 800 Some(10.77.0.2:2049) None", "UDP 123 None None", "UDP 700 Some(10.77.0.2:514) None"]
    );
    assert!(read(&client).fixed_sources.iter().all(|source| source.protocol != Proto::Udp));
    drop(listener);
}

/// Kernels differ in what they have of IPVS, flow tables and VRFs; what is there is read.
#[test]
fn what_the_kernel_has_of_the_rest_is_read() {
    let Pair { client: _client, node } = Pair::new().unwrap();
    if node.ip("link add red type vrf table 10").is_ok() {
        node.ip("link set eth0 master red").unwrap();
        let around = read(&node);
        assert_eq!(interface(&around, "red").kind, "vrf");
        assert_eq!(interface(&around, "eth0").master.as_deref(), Some("red"));
    }
    let table = "table inet t {\n flowtable fast {\n hook ingress priority 0\n devices = { eth0 }\n }\n}\n";
    let has_flow_tables = node.nft(table).is_ok();
    let around = read(&node);
    let devices: Vec<&[String]> = around.flow_tables.iter().map(|table| &*table.devices).collect();
    assert_eq!(devices == [["eth0"]], has_flow_tables, "{around:?}");
    assert!(around.ipvs.iter().all(|service| matches!(service.balanced, Balanced::Server(..))));
}

/// Without an entry nothing is restored; the reverse path filter then looks where the source is not routed.
#[test]
fn with_a_strict_filter_a_lost_mark_is_a_lost_packet() {
    let Pair { client, node } = Pair::new().unwrap();
    // The other uplink has the default route. ARP has no mark, so its questions come from an address of the cable.
    client.set_sysctl("net.ipv4.conf.eth0.arp_announce", "2").unwrap();
    node.ip("link add eth1 type veth peer name peer1").unwrap();
    node.ip("address add 10.99.0.1/24 dev eth1").unwrap();
    for device in ["eth1", "peer1"] {
        node.ip(&format!("link set {device} up")).unwrap();
    }
    node.ip("route add default via 10.99.0.2").unwrap();
    node.ip("route del 10.78.0.0/24").unwrap();
    node.ip("route add 10.78.0.0/24 via 10.77.0.2 table 100").unwrap();
    node.ip("rule add fwmark 7 lookup 100").unwrap();
    for (name, value) in [("rp_filter", "1"), ("src_valid_mark", "1")] {
        node.set_sysctl(&format!("net.ipv4.conf.eth0.{name}"), value).unwrap();
    }
    node.nft(
        "table inet marks {\n chain prerouting {\n type filter hook prerouting priority mangle\n \
         iifname eth0 ct state new ct mark set 7\n meta mark set ct mark\n }\n chain output {\n \
         type route hook output priority mangle\n meta mark set ct mark\n }\n}\n",
    )
    .unwrap();
    let ask = || traffic::udp(&client, &node, "10.78.0.2:0", "10.77.0.1:53");
    ask().unwrap();
    let around = read(&node);
    assert!(around.routes_by_mark());
    assert!(around.strict_interfaces().any(|strict| strict == ("eth0", true)), "{around:?}");

    naive(&node, "udp dport 53 notrack", "udp sport 53 notrack");
    assert!(ask().is_err(), "an unmarked packet passed");
    node.nft("delete table inet naive").unwrap();
    ask().unwrap();
}
