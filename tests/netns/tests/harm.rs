//! What a plain `notrack` rule does to a host, and that ours does not: each test shows the harm first.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use notrack_lab::{Flow, IcmpError, Namespace, Pair, RawSocket, icmp_error, run_ok, tcp, wait_until};
use notrack_netns::agent::{PATIENCE, Policies, once, policy, server};
use notrack_netns::traffic::{self, entries};

/// The node's stateful firewall, with what it thought of each packet.
const FIREWALL: &str = "table inet site {
    counter invalid {}
    counter untracked {}
    counter unasked {}
    chain input {
        type filter hook input priority filter; policy drop;
        iifname lo accept
        ct state invalid counter name invalid drop
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
        ct state untracked tcp dport 80 counter name untracked accept
        tcp dport { 22, 80, 81 } accept
        udp dport 53 accept
        udp dport 40000 counter name unasked drop
    }
}
";

/// A client and a node with that firewall.
struct Site {
    client: Namespace,
    node: Namespace,
}

impl Site {
    fn new() -> Site {
        let Pair { client, node } = Pair::new().unwrap();
        node.nft(FIREWALL).unwrap();
        Site { client, node }
    }

    /// The rules that one would write by hand, one a line, in front of connection tracking.
    fn naive(&self, prerouting: &str, output: &str) {
        let chain = |hook: &str, rules: &str| {
            format!(
                "chain {hook} {{\n type filter hook {hook} priority raw\n {}\n}}\n",
                rules.replace("; ", "\n")
            )
        };
        let chains = chain("prerouting", prerouting) + &chain("output", output);
        self.node.nft(&format!("table inet naive {{\n{chains}\n}}\n")).unwrap();
    }

    /// The same by the agent, in place of the rules by hand.
    fn ours(&self, policy: &str) {
        self.node.nft("delete table inet naive").unwrap();
        run_ok(self.node.command("conntrack").arg("-F")).unwrap();
        once(&self.node, &Policies::of(policy).unwrap()).unwrap();
    }

    fn count(&self, counter: &str) -> u64 {
        self.node.counter("inet site", counter).unwrap().packets
    }

    /// By how much a counter of the firewall grows: at least one packet is to come.
    fn grows(&self, counter: &str, packets: u64, send: impl FnOnce()) {
        let before = self.count(counter);
        send();
        wait_until(&format!("{packets} packets {counter}"), PATIENCE, || {
            self.count(counter) >= before + packets
        })
        .unwrap();
        assert_eq!(self.count(counter), before + packets, "{counter}");
    }

    fn raw(&self) -> RawSocket {
        self.client.raw_socket().unwrap()
    }
}

fn flow(source: &str, destination: &str) -> Flow {
    Flow::parse(source, destination).unwrap()
}

const NOTHING: [&str; 0] = [];

#[test]
fn half_a_bypass_leaves_junk_and_ours_leaves_no_entry() {
    let site = Site::new();
    let Site { client, node } = &site;
    // One direction only.
    site.naive("udp dport 53 notrack; tcp dport 80 notrack", "");
    traffic::udp(client, node, "10.77.0.2:0", "10.77.0.1:53").unwrap();
    assert!(
        entries(node, 53).unwrap().iter().any(|entry| entry.contains("[UNREPLIED]")),
        "{:?}",
        entries(node, 53)
    );
    // Both, but in prerouting alone: on the loopback device packets meet the output hook first.
    node.nft("delete table inet naive").unwrap();
    site.naive("udp dport 53 notrack; udp sport 53 notrack; tcp dport 80 notrack; tcp sport 80 notrack", "");
    traffic::udp(node, node, "127.0.0.1:0", "127.0.0.1:53").unwrap();
    traffic::tcp(node, node, "127.0.0.1:80").unwrap();
    assert!(entries(node, 80).unwrap().iter().any(|entry| entry.contains("src=127.0.0.1")));

    let both = "flows:\n- {name: f, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 80}, {protocol: UDP, port: 53}]}";
    site.ours(&policy("both", both));
    for (asker, from, to) in [
        (client, "10.77.0.2", "10.77.0.1"),
        (client, "[fd77::2]", "[fd77::1]"),
        (node, "127.0.0.1", "127.0.0.1"),
        (node, "10.77.0.1", "10.77.0.1"),
        (node, "[::1]", "[::1]"),
        (node, "[fd77::1]", "[fd77::1]"),
    ] {
        traffic::tcp(asker, node, &format!("{to}:80")).unwrap();
        traffic::udp(asker, node, &format!("{from}:0"), &format!("{to}:53")).unwrap();
        assert_eq!(entries(node, 80).unwrap(), NOTHING, "TCP to {to}");
        assert_eq!(entries(node, 53).unwrap(), NOTHING, "UDP to {to}");
    }
    traffic::tcp(client, node, "[fd77::1]:81").unwrap();
    assert_eq!(entries(node, 81).unwrap().len(), 1, "everything else stays tracked");
}

#[test]
fn every_port_cuts_the_node_off_and_ours_does_not() {
    let site = Site::new();
    let Site { client, node } = &site;
    traffic::tcp(node, client, "10.77.0.2:8080").unwrap();
    site.naive("tcp dport != 22 notrack", "tcp sport != 22 notrack");
    assert!(traffic::tcp(node, client, "10.77.0.2:8080").is_err(), "an untracked answer passed the firewall");

    site.ours(&server("every", "TCP", "1-65535"));
    traffic::tcp(node, client, "10.77.0.2:8080").unwrap();
    traffic::tcp(client, node, "10.77.0.1:80").unwrap();
    assert_eq!(entries(node, 80).unwrap(), NOTHING);
    traffic::tcp(client, node, "10.77.0.1:22").unwrap();
    assert_eq!(entries(node, 22).unwrap().len(), 1, "SSH stays tracked");
}

#[test]
fn path_mtu_discovery_works_for_untracked_flows_and_forgeries_stay_invalid() {
    let site = Site::new();
    let Site { client: _, node } = &site;
    let raw = site.raw();
    // "Too big" about an answer of the node's port, as the router next to the client sends it.
    let too_big = |mtu: u16, port: u16| {
        let error = IcmpError::TooBig { mtu };
        [
            icmp_error(
                Pair::CLIENT,
                error,
                &flow(&format!("10.77.0.1:{port}"), "10.78.0.2:40000").udp(b"answer"),
            )
            .unwrap(),
            icmp_error(
                Pair::CLIENT6,
                error,
                &flow(&format!("[fd77::1]:{port}"), "[fd78::2]:40000").udp(b"answer"),
            )
            .unwrap(),
        ]
    };
    let send = |packets: [Vec<u8>; 2]| packets.iter().for_each(|packet| raw.send(packet).unwrap());
    // The kernel notes a path's MTU only for a socket that may have sent the packet.
    let bind = |address: &str| node.enter(|| UdpSocket::bind(address).unwrap()).unwrap();
    let _services = [bind("10.77.0.1:53"), bind("[fd77::1]:53"), bind("10.77.0.1:54"), bind("[fd77::1]:54")];
    let paths = |mtu: u16| {
        let knows = |to: &str| node.ip(&format!("route get {to}")).unwrap().contains(&format!("mtu {mtu}"));
        [knows("10.78.0.2"), knows("fd78::2")]
    };

    site.naive("udp dport 53 notrack", "udp sport 53 notrack");
    site.grows("invalid", 2, || send(too_big(1300, 53)));
    assert_eq!(paths(1300), [false; 2]);

    site.ours(&server("dns", "UDP", "53"));
    let invalid = site.count("invalid");
    send(too_big(1300, 53));
    wait_until("the paths' MTU", PATIENCE, || paths(1300) == [true; 2]).unwrap();
    assert_eq!(site.count("invalid"), invalid);
    // Embedded: a tuple that no policy names.
    site.grows("invalid", 2, || send(too_big(1400, 54)));
    // A redirect is no error about a packet, whatever it embeds.
    let about = flow("10.77.0.1:53", "10.78.0.2:40000").udp(b"answer");
    let redirect = icmp_error(Pair::CLIENT, IcmpError::Redirect, &about).unwrap();
    site.grows("invalid", 1, || raw.send(&redirect).unwrap());
}

/// Connects from a served port of the node to a server at the client, and talks.
fn from_served_port(site: &Site) -> std::io::Result<()> {
    let listener = site.client.enter(|| TcpListener::bind("10.77.0.2:8080")).unwrap().unwrap();
    let raw_connect = "import socket\ns = socket.socket()\ns.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
        s.bind(('10.77.0.1', 80))\ns.settimeout(2.5)\ns.connect(('10.77.0.2', 8080))\ns.close()\n";
    run_ok(site.node.command("python3").args(["-c", raw_connect])).map_err(std::io::Error::other)?;
    listener.accept().map(|_| ())
}

#[test]
fn a_served_port_may_be_a_source_port() {
    let site = Site::new();
    // "A server never sends a bare SYN": the usual stateless compensation.
    site.naive(
        "tcp dport 80 notrack",
        "tcp sport 80 tcp flags syn / fin,syn,rst,ack drop; tcp sport 80 notrack",
    );
    assert!(from_served_port(&site).is_err(), "a dropped SYN connected");
    site.ours(&server("web", "TCP", "80"));
    from_served_port(&site).unwrap();
    let tracked = entries(&site.node, 8080).unwrap();
    assert_eq!(tracked.len(), 1, "{tracked:?}");
}

#[test]
fn flags_that_fit_no_flow_stay_with_the_firewall() {
    let site = Site::new();
    let raw = site.raw();
    let xmas = tcp::FIN | tcp::PSH | tcp::URG;
    let wrong = [0, xmas, tcp::SYN | tcp::FIN, tcp::SYN | tcp::RST, tcp::SYN | tcp::ACK];
    let send = || {
        for (port, flags) in (40000..).zip(wrong) {
            raw.send(&flow(&format!("10.77.0.2:{port}"), "10.77.0.1:80").tcp(flags)).unwrap();
            raw.send(&flow(&format!("[fd77::2]:{port}"), "[fd77::1]:80").tcp(flags)).unwrap();
        }
    };
    let all = 2 * wrong.len() as u64;
    site.naive("tcp dport 80 notrack", "tcp sport 80 notrack");
    site.grows("untracked", all, send);
    site.ours(&server("web", "TCP", "80"));
    site.grows("invalid", all, send);
    let syn = flow("10.77.0.2:41000", "10.77.0.1:80").tcp(tcp::SYN);
    site.grows("untracked", 1, || raw.send(&syn).unwrap());
}

#[test]
fn who_is_not_a_named_peer_stays_tracked() {
    let site = Site::new();
    let Site { client, node } = &site;
    site.naive("udp dport 53 notrack", "udp sport 53 notrack");
    traffic::udp(client, node, "10.78.0.2:0", "10.77.0.1:53").unwrap();
    assert_eq!(entries(node, 53).unwrap(), NOTHING);

    let flows = "flows:\n- {name: f, action: NoTrack, role: Server, ports: [{protocol: UDP, port: 53}], \
                 peers: [{cidr: 10.77.0.0/24}, {cidr: 'fd77::/64'}]}";
    site.ours(&policy("dns", flows));
    for (peer, stranger, to) in
        [("10.77.0.2:0", "10.78.0.2:0", "10.77.0.1:53"), ("[fd77::2]:0", "[fd78::2]:0", "[fd77::1]:53")]
    {
        let before = entries(node, 53).unwrap().len();
        traffic::udp(client, node, peer, to).unwrap();
        assert_eq!(entries(node, 53).unwrap().len(), before, "{peer} is a peer");
        traffic::udp(client, node, stranger, to).unwrap();
        assert_eq!(entries(node, 53).unwrap().len(), before + 1, "{stranger} is none");
    }
}

#[test]
fn an_exception_of_another_policy_wins() {
    let site = Site::new();
    let Site { client, node } = &site;
    site.naive("tcp dport 80-90 notrack", "tcp sport 80-90 notrack");
    // Accept ends one chain, not what another has said already.
    node.nft("table inet naive {\n chain late {\n type filter hook prerouting priority -299\n tcp dport 81 accept\n }\n}\n").unwrap();
    traffic::tcp(client, node, "10.77.0.1:81").unwrap();
    assert_eq!(entries(node, 81).unwrap(), NOTHING);

    let exception =
        policy("zz", "flows:\n- {name: f, action: Track, role: Server, ports: [{protocol: TCP, port: 81}]}");
    site.ours(&format!("{}\n---\n{exception}", server("aa", "TCP", "80-90")));
    traffic::tcp(client, node, "10.77.0.1:80").unwrap();
    traffic::tcp(client, node, "10.77.0.1:81").unwrap();
    assert_eq!(entries(node, 80).unwrap(), NOTHING);
    assert_eq!(entries(node, 81).unwrap().len(), 1);
}

#[test]
fn an_unasked_answer_stays_out() {
    let site = Site::new();
    let Site { client, node } = &site;
    let waits = node.enter(|| UdpSocket::bind("10.77.0.1:40000")).unwrap().unwrap();
    waits.set_read_timeout(Some(PATIENCE)).unwrap();
    let forger = client.enter(|| UdpSocket::bind("10.77.0.2:53")).unwrap().unwrap();
    let forge = || assert_eq!(forger.send_to(b"forged", "10.77.0.1:40000").unwrap(), 6);
    // Both ports in both hooks, and the blanket accept that one then needs.
    let both = "udp dport 53 notrack; udp sport 53 notrack";
    site.naive(both, both);
    node.nft("insert rule inet site input ct state untracked accept").unwrap();
    forge();
    assert_eq!(waits.recv(&mut [0; 8]).unwrap(), 6, "the forged answer came in");

    site.ours(&server("dns", "UDP", "53"));
    site.grows("unasked", 1, forge);
    waits.set_nonblocking(true).unwrap();
    assert!(waits.recv(&mut [0; 8]).is_err());
    traffic::udp(client, node, "10.77.0.2:0", "10.77.0.1:53").unwrap();
}

#[test]
fn the_limit_drops_new_connections_beyond_it_and_nothing_else() {
    let site = Site::new();
    let raw = site.raw();
    let burst = |to: &str, flags: u8| {
        for port in 10_000..10_060 {
            raw.send(&flow(&format!("10.77.0.2:{port}"), to).tcp(flags)).unwrap();
        }
    };
    // The usual limit on new connections never sees an untracked one.
    site.node
        .nft("insert rule inet site input ct state new tcp dport 80 limit rate over 5/second drop")
        .unwrap();
    site.naive("tcp dport 80 notrack", "tcp sport 80 notrack");
    site.grows("untracked", 60, || burst("10.77.0.1:80", tcp::SYN));

    let acknowledged = server("web", "TCP", "80")
        .replace("}]}", "}], acknowledge: [{hazard: StatefulLimits, reason: another limit is set}]}");
    site.ours(&(acknowledged + "  compensation: {newConnectionsPerSecond: 5}\n"));
    let node = &site.node;
    let dropped = || node.counter("inet notrack-dev", "l-web").unwrap().packets;
    let before = site.count("untracked");
    burst("10.77.0.1:80", tcp::SYN);
    wait_until("the fate of 60 SYNs", PATIENCE, || dropped() + site.count("untracked") - before == 60)
        .unwrap();
    // Five at once and those of the time that it took.
    let passed = site.count("untracked") - before;
    assert!((5..30).contains(&passed), "{passed} of 60 SYNs passed a limit of 5 a second");
    let after = dropped();
    site.grows("untracked", 60, || burst("10.77.0.1:80", tcp::ACK));
    for _ in 0..20 {
        traffic::tcp(&site.client, node, "10.77.0.1:81").unwrap();
    }
    assert_eq!(dropped(), after, "something else met the limit");
}

/// A namespace's own addresses decide what is served: a connection to an address that is none of them is not ours.
#[test]
fn a_flow_that_is_only_routed_stays_tracked() {
    let line = notrack_lab::Line::new().unwrap();
    line.node.nft(FIREWALL).unwrap();
    let to = SocketAddr::new(IpAddr::V4([10, 88, 0, 2].into()), 80);
    let _server = line.server.enter(|| TcpListener::bind(to)).unwrap().unwrap();
    let connect =
        || line.client.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)).unwrap()).unwrap();
    line.node.nft("table inet naive {\n chain c {\n type filter hook prerouting priority raw\n tcp dport 80 notrack\n tcp sport 80 notrack\n }\n}\n").unwrap();
    drop(connect());
    assert_eq!(entries(&line.node, 80).unwrap(), NOTHING, "a rule by port alone takes what is routed too");
    line.node.nft("delete table inet naive").unwrap();
    once(&line.node, &Policies::of(&server("web", "TCP", "80")).unwrap()).unwrap();
    drop(connect());
    assert_eq!(entries(&line.node, 80).unwrap().len(), 1);
}
