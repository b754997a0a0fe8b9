//! Hazards 30 and 35: source ports. One that a client uses for two ways to the same server, and one that the node's own
//! client has fixed.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use notrack_core::net::Family;
use notrack_lab::{Background, Namespace, Pair, wait_until};
use notrack_netns::agent::{PATIENCE, policy};
use notrack_netns::traffic::{self, bind, entries};

use super::support::{NOTHING, Tool, flush, judge, like, naive, serves, without_naive};

/// The answers come to a port that the rules do not know, so a stateful firewall sees them as unasked.
#[test]
fn a_client_with_a_port_of_its_own_is_cut_off_by_half_a_flow() {
    let Pair { client, node } = &Pair::new().unwrap();
    node.nft(
        "table inet site {\n chain input {\n type filter hook input priority filter; policy drop;\n \
         iifname lo accept\n ct state established,related accept\n meta l4proto { icmp, ipv6-icmp } accept\n \
         udp sport 53 ct state untracked accept\n }\n}\n",
    )
    .unwrap();
    let ask = |from: &str| traffic::udp(node, client, from, "10.77.0.2:53");
    for from in ["10.77.0.1:0", "10.77.0.1:700"] {
        ask(from).unwrap();
    }
    naive(node, "udp sport 53 udp dport 32768-60999 notrack", "udp dport 53 notrack");
    flush(node);
    ask("10.77.0.1:0").unwrap();
    assert!(ask("10.77.0.1:700").is_err(), "an answer that nothing expected passed");
    without_naive(node);

    let asks = |more: &str| {
        let flow = "name: f, action: NoTrack, role: Client, ports: [{protocol: UDP, port: 53}]";
        policy("p", &format!("flows:\n- {{{flow}, peers: [{{cidr: 10.77.0.2/32}}]{more}}}"))
    };
    // The client's socket, as the agent finds it.
    let socket = bind(node, || UdpSocket::bind("10.77.0.1:700")).unwrap();
    socket.connect("10.77.0.2:53").unwrap();
    judge(node, &asks(""))
        .is("Programmed")
        .says(&["f: warning: NT035 LocalPorts: ", " asks UDP 10.77.0.2:53 from port 700"]);
    let own = ", localPorts: [{port: 700}]";
    drop(socket);
    ask("10.77.0.1:0").unwrap();
    assert_eq!(entries(node, 53).unwrap(), NOTHING);
    // Ours matches no half of it.
    ask("10.77.0.1:700").unwrap();
    let whole = entries(node, 53).unwrap();
    assert!(whole.len() == 1 && !whole[0].contains("[UNREPLIED]"), "{whole:?}");

    let socket = bind(node, || UdpSocket::bind("10.77.0.1:700")).unwrap();
    socket.connect("10.77.0.2:53").unwrap();
    judge(node, &asks(own)).is_clean();
    drop(socket);
    flush(node);
    ask("10.77.0.1:700").unwrap();
    assert_eq!(entries(node, 53).unwrap(), NOTHING);
}

/// Connects from one port to both and holds the connections.
const BOTH: &str = "
import socket, struct, sys, time
host, source, direct, published = sys.argv[1], sys.argv[2], 80, 8080
family = socket.AF_INET6 if ':' in host else socket.AF_INET
for name, port in ('direct', direct), ('published', published):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # A reset at the end: the port is free at once.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.bind((source, 5000))
    s.settimeout(2.5)
    globals()[name] = s
    try:
        s.connect((host, port))
        s.sendall(name[0].encode())
        print(name, 'connected', flush=True)
    except OSError as error:
        print(name, 'failed', flush=True)
time.sleep(600)
";

/// Which of two connections from one source port come about, the direct one first, and from which ports the server sees
/// them come.
fn both_ways(client: &Namespace, node: &Namespace, family: Family) -> ([bool; 2], Vec<u16>) {
    let at: SocketAddr = like(family, "10.77.0.1:80").parse().unwrap();
    let listener = bind(node, || TcpListener::bind(at)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut python = client.command("python3");
    python.args(["-c", BOTH, &like(family, "10.77.0.1"), &like(family, "10.77.0.2")]);
    let asks = Background::spawn(python).unwrap();
    let mut accepted: Vec<TcpStream> = Vec::new();
    wait_until("the fate of both", PATIENCE, || {
        accepted.extend(listener.accept().ok().map(|(stream, _)| stream));
        asks.output().matches('\n').count() == 2
    })
    .unwrap();
    let said = asks.output();
    let connected = ["direct", "published"].map(|name| said.contains(&format!("{name} connected")));
    while let Ok((stream, _)) = listener.accept() {
        accepted.push(stream);
    }
    let mut ports = Vec::new();
    for stream in &mut accepted {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        ports.push(stream.peer_addr().unwrap().port());
    }
    // Its resets come before our ends are closed.
    drop(asks);
    (connected, ports)
}

#[test]
fn one_source_port_for_two_ways_to_a_server_stays_told_apart() {
    for (tool, family) in Tool::each(&Tool::ALL) {
        let Pair { client, node } = &Pair::new().unwrap();
        let place = tool.hang(
            family,
            node,
            "nat hook prerouting priority dstnat",
            "tcp dport 8080 redirect to :80",
            "nat PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 80",
        );
        // Tracking gives the second one another source port.
        let (connected, ports) = both_ways(client, node, family);
        assert_eq!(connected, [true; 2], "{tool:?} {family}");
        assert!(ports.contains(&5000) && ports.iter().any(|port| *port != 5000), "{ports:?}");
        flush(node);

        naive(node, "tcp dport 80 notrack", "tcp sport 80 notrack");
        let (connected, _) = both_ways(client, node, family);
        assert_eq!(connected, [true, false], "{tool:?} {family}: told apart without an entry");
        without_naive(node);

        judge(node, &serves(&[80, 81])).is("Programmed").says(&["NT004 HostPort: TCP 80 is", &place]);
        let (connected, ports) = both_ways(client, node, family);
        assert_eq!(connected, [true; 2], "{tool:?} {family}");
        assert!(ports.contains(&5000) && ports.len() == 2, "{ports:?}");
        assert!(!entries(node, 80).unwrap().is_empty());
    }
}
