//! A namespace that tracks, traffic in it, and its table as Debian's `conntrack` shows it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use notrack_lab::{Namespace, run_ok, wait_until};
use notrack_netlink::conntrack::{Conntrack, Entry, Filter};

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Rules that turn tracking on for both families, and do nothing else.
const TRACK: &str = "table inet t {
    chain c {
        type filter hook input priority 0
        ct state established accept
    }
}
";

/// A namespace whose packets are tracked, with more rules of nftables.
pub fn tracked(label: &str, rules: &str) -> (Namespace, Conntrack) {
    let namespace = Namespace::new(label).unwrap();
    namespace.nft(&format!("{TRACK}{rules}")).unwrap();
    let table = namespace.enter(Conntrack::open).unwrap().unwrap();
    (namespace, table)
}

/// Sends one datagram to each port; nobody answers. The socket keeps the source port.
pub fn udp(namespace: &Namespace, to: IpAddr, ports: &[u16]) -> UdpSocket {
    let socket = namespace.enter(|| UdpSocket::bind(SocketAddr::new(to, 0))).unwrap().unwrap();
    for port in ports {
        send(&socket, SocketAddr::new(to, *port));
    }
    socket
}

/// Sends one datagram. A refusal is an ICMP error about an earlier one, reported late.
pub fn send(socket: &UdpSocket, to: SocketAddr) {
    let sent = (0..3).any(|_| socket.send_to(b"x", to).is_ok());
    assert!(sent, "cannot send to {to}");
}

/// An open TCP connection to a port, or to any: the client's side, the server's side.
pub fn tcp(namespace: &Namespace, to: IpAddr, port: u16) -> (TcpStream, TcpStream) {
    namespace
        .enter(|| {
            let listener = TcpListener::bind(SocketAddr::new(to, port)).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        })
        .unwrap()
}

pub fn entries(table: &mut Conntrack, filter: &Filter) -> Vec<Entry> {
    let mut entries = Vec::new();
    let dumped = table.dump(filter, |entry| entries.push(*entry)).unwrap();
    assert_eq!(dumped.matched, entries.len() as u64);
    entries
}

/// The one entry to a UDP port.
pub fn to_port(table: &mut Conntrack, port: u16) -> Option<Entry> {
    let all = entries(table, &Filter::default());
    let mut found = all.into_iter().filter(|entry| entry.original.destination_port() == Some(port));
    let first = found.next();
    assert_eq!(found.next(), None, "two entries to port {port}");
    first
}

/// `conntrack -C`.
pub fn count(namespace: &Namespace) -> u32 {
    let printed = run_ok(namespace.command("conntrack").arg("-C")).unwrap();
    printed.trim().parse().unwrap()
}

/// Waits until the table has as many entries: a TCP handshake's last packet may be on its way.
pub fn wait_for(namespace: &Namespace, entries: u32) {
    wait_until(&format!("{entries} entries"), PATIENCE, || count(namespace) == entries).unwrap();
}
