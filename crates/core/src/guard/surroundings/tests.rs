use std::sync::Arc;

use super::*;
use crate::facts::NodeFacts;
use crate::hazard::Effect;
use crate::host::{
    Act, Backend, ConntrackListener, FixedSource, FlowTable, Host, HostChain, HostRule, HostRules, HostTable,
    IpvsService, Program, Step, TableFamily, TableId,
};
use crate::policy::{Compensation, Mode};
use crate::selector::Selector;

fn range(text: &str) -> AddressRange {
    AddressRange::from(text.parse::<ipnet::IpNet>().unwrap())
}

fn flow(role: Role, protocol: Proto, first: u16, last: u16) -> ValidatedFlow {
    ValidatedFlow {
        name: "f".to_owned(),
        action: Action::NoTrack,
        role,
        ports: vec![(protocol, PortRange::new(first, last).unwrap())],
        peers: None,
        server_addresses: None,
        local_ports: None,
        interfaces: Vec::new(),
        acknowledged: Default::default(),
    }
}

fn on(interfaces: &[&str], flow: ValidatedFlow) -> ValidatedFlow {
    ValidatedFlow { interfaces: interfaces.iter().map(|name| Arc::from(*name)).collect(), ..flow }
}

fn web() -> ValidatedFlow {
    flow(Role::Server, Proto::Tcp, 80, 80)
}

fn host(surroundings: Surroundings, rules: HostRules) -> NodeFacts {
    NodeFacts { host: Arc::new(Host { rules, surroundings, ..Host::default() }), ..NodeFacts::assumed() }
}

fn around(surroundings: Surroundings) -> NodeFacts {
    host(surroundings, HostRules::default())
}

fn policy(icmp_errors: bool) -> ValidatedPolicy {
    ValidatedPolicy {
        name: "p".to_owned(),
        uid: None,
        generation: None,
        created: None,
        selector: Selector::default(),
        mode: Mode::Enforce,
        flows: Vec::new(),
        compensation: Compensation { strict_tcp_flags: true, icmp_errors, new_connections_per_second: 0 },
        adapts_firewall: false,
        keeps_entries: false,
        expires: None,
    }
}

/// What is found, as a user reads it.
fn found(flow: &ValidatedFlow, facts: &NodeFacts) -> Vec<String> {
    let shown = |found: Found| format!("{:?} {}: {}", found.effect, found.kind.name(), found.evidence);
    surroundings(&policy(false), flow, facts).into_iter().map(shown).collect()
}

const NOTHING: [&str; 0] = [];

fn interface(name: &str, kind: &str) -> Interface {
    Interface { name: name.to_owned(), kind: kind.to_owned(), ..Interface::default() }
}

fn member(name: &str, kind: &str, master: &str) -> Interface {
    Interface { master: Some(master.to_owned()), ..interface(name, kind) }
}

fn devices(interfaces: &[Interface]) -> NodeFacts {
    around(Surroundings { interfaces: interfaces.to_vec(), ..Surroundings::default() })
}

/// NodeLocal DNSCache, an address of a load balancer that answers directly (LVS), pods on a bridge, loose filters.
#[test]
fn an_ordinary_node_has_nothing_to_say() {
    let mut facts = devices(&[
        interface("lo", ""),
        interface("eth0", ""),
        interface("nodelocaldns", "dummy"),
        interface("kube-ipvs0", "dummy"),
        interface("cni0", "bridge"),
        member("veth1", "veth", "cni0"),
        interface("ovs-system", "openvswitch"),
    ]);
    facts.addresses.insert([10, 200, 0, 1].into());
    for role in [Role::Server, Role::Client, Role::Peer, Role::Forward] {
        for (proto, port) in [(Proto::Tcp, 80), (Proto::Udp, 53), (Proto::Udp, 123)] {
            assert_eq!(found(&flow(role, proto, port, port), &facts), NOTHING, "{role:?} {proto} {port}");
        }
    }
    assert_eq!(found(&on(&["eth0", "cni0"], web()), &facts), NOTHING);
    assert_eq!(kept_by_surroundings(&facts), []);
}

#[test]
fn an_exception_is_no_bypass() {
    let facts = devices(&[Interface { programs: vec![Program::Xdp], ..interface("eth0", "") }]);
    assert_eq!(found(&ValidatedFlow { action: Action::Track, ..web() }, &facts), NOTHING);
}

#[test]
fn what_ipvs_balances_stays_tracked_and_so_does_what_it_translates_to() {
    let service = |balanced, translated_to: &[&str]| IpvsService {
        balanced,
        translated_to: translated_to.iter().map(|server| server.parse().unwrap()).collect(),
    };
    let facts = around(Surroundings {
        ipvs: vec![
            service(Balanced::Server(Proto::Tcp, "10.96.0.1:443".parse().unwrap()), &["10.77.0.1:6443"]),
            service(Balanced::Server(Proto::Udp, "[fd96::a]:0".parse().unwrap()), &[]),
            service(Balanced::Mark(5), &["10.77.0.9:0"]),
        ],
        ..Surroundings::default()
    });
    let kept: Vec<String> = kept_by_surroundings(&facts)
        .into_iter()
        .map(|kept| {
            assert_eq!((kept.hazard, kept.spares_interfaces), (HazardKind::IPVS, false));
            format!("{} {} {}: {}", kept.protocol, kept.addresses.unwrap(), kept.ports, kept.evidence)
        })
        .collect();
    assert_eq!(
        kept,
        [
            "TCP 10.77.0.1 6443: a server that the IPVS service 10.96.0.1:443 translates to",
            "TCP 10.77.0.9 0-65535: a server that the IPVS service of mark 0x5 translates to",
            "TCP 10.96.0.1 443: the IPVS service 10.96.0.1:443",
            "UDP 10.77.0.9 0-65535: a server that the IPVS service of mark 0x5 translates to",
            "UDP fd96::a 0-65535: the IPVS service [fd96::a]:0",
            "SCTP 10.77.0.9 0-65535: a server that the IPVS service of mark 0x5 translates to",
        ]
    );
    assert_eq!(
        found(&web(), &facts),
        ["Warning IPVS: IPVS balances packets with mark 0x5, whatever their addresses"]
    );
    assert_eq!(found(&flow(Role::Client, Proto::Tcp, 80, 80), &facts), NOTHING);
}

#[test]
fn a_program_counts_where_the_flow_is() {
    let facts = devices(&[
        interface("eth0", ""),
        Interface { programs: vec![Program::Xdp, Program::TrafficControl], ..interface("eth1", "") },
        interface("br-int", "openvswitch"),
        member("eth2", "", "ovs-system"),
        interface("ovs-system", "openvswitch"),
        interface("cilium_host", "veth"),
    ]);
    assert_eq!(found(&on(&["eth0"], web()), &facts), NOTHING);
    assert_eq!(
        found(&on(&["eth*"], web()), &facts),
        [
            "Warning ForeignDataplane: Open vSwitch handles packets of eth2",
            "Warning ForeignDataplane: an XDP program handles packets of eth1",
        ]
    );
    assert_eq!(
        found(&web(), &facts),
        [
            "Warning ForeignDataplane: Cilium handles packets of cilium_host",
            "Warning ForeignDataplane: Open vSwitch handles packets of br-int, eth2",
            "Warning ForeignDataplane: an XDP program handles packets of eth1",
        ]
    );
}

/// A table with a chain, and perhaps a rule that offloads.
fn rules(chain: &str, offloads_to: Option<&str>) -> HostRules {
    let step = |name: &str| Step::Act(Act::Offload(name.to_owned()));
    let rule = |name| HostRule { handle: 1, text: String::new(), comment: None, steps: vec![step(name)] };
    let chains =
        [(chain.to_owned(), HostChain { base: None, rules: offloads_to.map(rule).into_iter().collect() })];
    let id = TableId { backend: Backend::Nft, family: TableFamily::Inet, name: "site".to_owned() };
    HostRules {
        tables: vec![HostTable { id, owner: None, dormant: false, chains: chains.into(), sets: [].into() }],
        incomplete: Vec::new(),
    }
}

#[test]
fn a_flow_table_takes_what_is_routed_between_its_devices() {
    let flow_table = FlowTable {
        family: TableFamily::Inet,
        table: "site".to_owned(),
        name: "fast".to_owned(),
        devices: vec!["eth0".to_owned(), "eth1".to_owned()],
    };
    let facts = |rules| {
        host(Surroundings { flow_tables: vec![flow_table.clone()], ..Surroundings::default() }, rules)
    };
    let routed = flow(Role::Forward, Proto::Tcp, 80, 80);
    let expected = ["Warning FlowOffload: flow table inet site fast (eth0, eth1)"];
    assert_eq!(found(&routed, &facts(HostRules::default())), expected);
    assert_eq!(found(&routed, &facts(rules("forward", Some("fast")))), expected);
    assert_eq!(found(&routed, &facts(rules("forward", None))), NOTHING, "no rule puts anything into it");
    assert_eq!(found(&on(&["eth2"], routed), &facts(HostRules::default())), NOTHING);
    assert_eq!(found(&web(), &facts(HostRules::default())), NOTHING, "what ends here is never offloaded");
}

#[test]
fn a_port_of_a_bridge_is_no_interface_of_a_flow() {
    let facts = devices(&[
        interface("br0", "bridge"),
        interface("eth0", ""),
        member("eth1", "", "br0"),
        member("veth1", "veth", "br0"),
        member("veth2", "veth", "br0"),
        member("eth3", "", "bond0"),
        interface("bond0", "bond"),
    ]);
    assert_eq!(
        found(&on(&["eth1", "veth*"], web()), &facts),
        [
            "Warning BridgedFrames: eth1 is a port of bridge br0",
            "Warning BridgedFrames: veth1, veth2 is a port of bridge br0",
        ]
    );
    for named in [&["br0"][..], &["eth0"], &["eth*"], &["eth3"], &["eth9"], &[]] {
        assert_eq!(found(&on(named, web()), &facts), NOTHING, "{named:?}");
    }
}

#[test]
fn a_tunnel_has_two_ends_that_send_first() {
    let vxlan = Interface { tunnel_port: Some(14789), ..interface("vx0", "vxlan") };
    let facts = devices(&[vxlan]);
    let server = |first, last| flow(Role::Server, Proto::Udp, first, last);
    let of_device = ["Warning OneWayTunnel: UDP 14789 is the port of vx0 (vxlan)"];
    assert_eq!(found(&server(14789, 14789), &facts), of_device);
    assert_eq!(found(&server(1, 65535), &facts), of_device);
    assert_eq!(
        found(&server(8472, 8472), &facts),
        ["Warning OneWayTunnel: UDP 8472 is the port of a tunnel"]
    );
    assert_eq!(found(&server(8000, 9000), &facts), NOTHING, "a range that holds one by chance");
    assert_eq!(found(&flow(Role::Server, Proto::Tcp, 8472, 8472), &facts), NOTHING);
    assert_eq!(found(&flow(Role::Peer, Proto::Udp, 14789, 14789), &facts), NOTHING);
}

#[test]
fn a_vrf_matters_to_flows_on_it() {
    let facts = devices(&[
        interface("red", "vrf"),
        member("eth1", "", "red"),
        interface("eth0", ""),
        interface("blue", "vrf"),
    ]);
    let red = ["Warning VRF: packets of eth1 pass the hooks again for VRF red"];
    for named in [&["eth1"][..], &["red"], &[], &["eth*"]] {
        assert_eq!(found(&on(named, web()), &facts), red, "{named:?}");
    }
    assert_eq!(found(&on(&["eth0"], web()), &facts), NOTHING);
    assert_eq!(found(&on(&["blue"], web()), &facts), NOTHING, "nothing belongs to it");
}

#[test]
fn forged_errors_concern_udp_servers_that_believe_them() {
    let kinds = |flow: &ValidatedFlow, believed| {
        let found = surroundings(&policy(believed), flow, &NodeFacts::assumed());
        found.into_iter().map(|found| (found.effect, found.kind)).collect::<Vec<_>>()
    };
    let dns = |role| flow(role, Proto::Udp, 53, 53);
    let expected = [(Effect::Warning, HazardKind::ForgedPathMTU)];
    assert_eq!(kinds(&dns(Role::Server), true), expected);
    assert_eq!(kinds(&dns(Role::Peer), true), expected);
    assert_eq!(kinds(&dns(Role::Server), false), []);
    assert_eq!(kinds(&dns(Role::Client), true), []);
    assert_eq!(kinds(&web(), true), []);
}

#[test]
fn pods_that_an_engine_judges() {
    let pods = Surroundings {
        interfaces: vec![interface("cni0", "bridge"), member("veth1", "veth", "cni0")],
        pod_networks: vec![range("10.244.1.0/24")],
        ..Surroundings::default()
    };
    let kube_router = host(pods.clone(), rules("KUBE-ROUTER-FORWARD", None));
    let toward = |servers: &str| ValidatedFlow {
        server_addresses: Some(vec![range(servers)]),
        ..flow(Role::Forward, Proto::Tcp, 80, 80)
    };
    let with_peers = |peers: &str| ValidatedFlow { peers: Some(vec![range(peers)]), ..web() };
    assert_eq!(
        found(&toward("10.244.1.7/32"), &kube_router),
        ["Refused PodPolicy: kube-router judges packets of the pods at 10.244.1.7"]
    );
    let from_pods = ValidatedFlow { peers: Some(vec![range("10.244.0.0/16")]), ..toward("10.88.0.2/32") };
    assert_eq!(found(&from_pods, &kube_router).len(), 1);
    assert_eq!(found(&toward("10.88.0.2/32"), &kube_router), NOTHING);
    let warned = [
        "Warning PodPolicy: kube-router judges packets of the pods at 10.244.1.0/24: except them from peers",
    ];
    assert_eq!(found(&web(), &kube_router), warned, "every peer is any pod");
    assert_eq!(found(&with_peers("10.0.0.0/8"), &kube_router), warned);
    assert_eq!(found(&with_peers("10.77.0.0/24"), &kube_router), NOTHING);

    assert_eq!(found(&web(), &host(pods.clone(), rules("KUBE-SERVICES", None))), NOTHING, "no engine");
    assert_eq!(found(&web(), &host(Surroundings::default(), rules("cali-INPUT", None))), NOTHING, "no pods");
    let calico = Surroundings { interfaces: vec![interface("cali1a2b3c", "veth")], ..pods };
    assert_eq!(
        found(&web(), &around(calico)),
        ["Warning PodPolicy: Calico judges packets of the pods at 10.244.1.0/24: except them from peers"]
    );
}

#[test]
fn source_ports_that_are_not_the_flows() {
    let source = |protocol, port, remote: Option<&str>, program: Option<&str>| FixedSource {
        protocol,
        port,
        remote: remote.map(|remote| remote.parse().unwrap()),
        program: program.map(str::to_owned),
    };
    let facts = |source| around(Surroundings { fixed_sources: vec![source], ..Surroundings::default() });
    let client = |protocol, port| flow(Role::Client, protocol, port, port);

    let nfs = facts(source(Proto::Tcp, 700, Some("10.77.0.9:2049"), None));
    let asks_nfs = client(Proto::Tcp, 2049);
    assert_eq!(
        found(&asks_nfs, &nfs),
        ["Warning LocalPorts: a program of this node asks TCP 10.77.0.9:2049 from port 700"]
    );
    let named = |first, last| ValidatedFlow {
        local_ports: Some(vec![PortRange::new(first, last).unwrap()]),
        ..asks_nfs.clone()
    };
    assert_eq!(found(&named(665, 1023), &nfs), NOTHING);
    assert_eq!(found(&named(800, 1023), &nfs).len(), 1);
    let others = ValidatedFlow { peers: Some(vec![range("10.88.0.0/24")]), ..asks_nfs.clone() };
    assert_eq!(found(&others, &nfs), NOTHING, "it asks another server");
    assert_eq!(found(&client(Proto::Udp, 2049), &nfs), NOTHING);
    assert_eq!(found(&flow(Role::Server, Proto::Tcp, 2049, 2049), &nfs), NOTHING);

    let ntp = client(Proto::Udp, 123);
    let ntpd = facts(source(Proto::Udp, 123, None, Some("ntpd")));
    assert_eq!(found(&ntp, &ntpd), ["Warning LocalPorts: ntpd asks UDP port 123 from port 123"]);
    assert_eq!(found(&ntp, &facts(source(Proto::Udp, 123, None, None))).len(), 1);
    assert_eq!(found(&ntp, &facts(source(Proto::Udp, 123, None, Some("chronyd")))), NOTHING);

    let dns = client(Proto::Udp, 53);
    let unbound = facts(source(Proto::Udp, 53, None, Some("unbound")));
    assert_eq!(found(&dns, &unbound), ["Warning LocalPorts: unbound asks UDP port 53 from port 1024-65535"]);
    assert_eq!(found(&dns, &facts(source(Proto::Udp, 53, None, None))), NOTHING, "NodeLocal DNSCache");
    let all = ValidatedFlow { local_ports: Some(vec![PortRange::new(1024, 65535).unwrap()]), ..dns };
    assert_eq!(found(&all, &unbound), NOTHING);
}

#[test]
fn who_copies_the_table() {
    let facts = |groups, program: Option<&str>| {
        let listener = ConntrackListener { groups, program: program.map(str::to_owned) };
        around(Surroundings { conntrack_listeners: vec![listener], ..Surroundings::default() })
    };
    let all = ConntrackListener::ENTRIES;
    assert_eq!(
        found(&web(), &facts(all, Some("conntrackd"))),
        ["Warning ReplicatedTable: conntrackd follows every change of the connection table"]
    );
    assert_eq!(found(&web(), &facts(all | 0b111_000, None)).len(), 1);
    assert_eq!(found(&web(), &facts(0b101, None)), NOTHING, "a log of connections");
    assert_eq!(found(&web(), &facts(all, Some("conntrack"))), NOTHING, "somebody looks on");
}

#[test]
fn routing_by_mark_is_a_fact_of_its_own() {
    let filtered = |name: &str, strict, marked| Interface {
        reverse_path: crate::host::ReversePath { strict, marked },
        ..interface(name, "")
    };
    let mut around = Surroundings {
        interfaces: vec![
            filtered("eth0", true, true),
            filtered("eth1", true, false),
            filtered("eth2", false, true),
        ],
        ..Surroundings::default()
    };
    assert!(!around.routes_by_mark(), "a strict filter asks the routing rules, and none looks at marks");
    around.mark_rules.push("100: from all fwmark 0x1 lookup 100".to_owned());
    assert!(around.routes_by_mark());
    assert_eq!(around.strict_interfaces().collect::<Vec<_>>(), [("eth0", true), ("eth1", false)]);
}
