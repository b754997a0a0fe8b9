//! The two networks that nearly every test needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::link::{End, veth};
use crate::namespace::Namespace;

/// A client and a node on one cable (`eth0` at both ends).
#[derive(Debug)]
pub struct Pair {
    /// The one that asks.
    pub client: Namespace,
    /// The one that a policy is for.
    pub node: Namespace,
}

impl Pair {
    /// The client's address.
    pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
    /// A second address of the client, in another network (10.78.0.0/24, fd78::/64).
    pub const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 0, 2));
    /// The node's address.
    pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
    /// The client's IPv6 address.
    pub const CLIENT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2));
    /// A second IPv6 address of the client, in another network.
    pub const STRANGER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 2));
    /// The node's IPv6 address.
    pub const NODE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));

    /// Makes both hosts and the cable; the node reaches all of the client's addresses.
    pub fn new() -> Result<Self> {
        let pair = Self { client: Namespace::new("client")?, node: Namespace::new("node")? };
        let addresses = ["10.77.0.2/24", "fd77::2/64", "10.78.0.2/24", "fd78::2/64"];
        veth(
            End::new(&pair.client, "eth0", &addresses),
            End::new(&pair.node, "eth0", &["10.77.0.1/24", "fd77::1/64"]),
        )?;
        pair.node.ip("route add 10.78.0.0/24 via 10.77.0.2")?;
        pair.node.ip("-6 route add fd78::/64 via fd77::2")?;
        Ok(pair)
    }
}

/// A client and a server with a forwarding node between them.
#[derive(Debug)]
pub struct Line {
    /// 10.77.0.2, fd77::2 on `eth0`.
    pub client: Namespace,
    /// 10.77.0.1, fd77::1 on `eth0` to the client; 10.88.0.1, fd88::1 on `eth1` to the server.
    pub node: Namespace,
    /// 10.88.0.2, fd88::2 on `eth0`.
    pub server: Namespace,
}

impl Line {
    /// The client's address.
    pub const CLIENT: IpAddr = Pair::CLIENT;
    /// The server's address.
    pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 2));
    /// The client's IPv6 address.
    pub const CLIENT6: IpAddr = Pair::CLIENT6;
    /// The server's IPv6 address.
    pub const SERVER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 2));

    /// Makes the three hosts and two cables; the node forwards.
    pub fn new() -> Result<Self> {
        let Pair { client, node } = Pair::new()?;
        let server = Namespace::new("server")?;
        veth(
            End::new(&server, "eth0", &["10.88.0.2/24", "fd88::2/64"]),
            End::new(&node, "eth1", &["10.88.0.1/24", "fd88::1/64"]),
        )?;
        node.set_sysctl("net.ipv4.ip_forward", "1")?;
        node.set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
        client.ip("route add default via 10.77.0.1")?;
        client.ip("-6 route add default via fd77::1")?;
        server.ip("route add default via 10.88.0.1")?;
        server.ip("-6 route add default via fd88::1")?;
        Ok(Self { client, node, server })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn listen(host: &Namespace, address: IpAddr) -> TcpListener {
        host.enter(|| TcpListener::bind(SocketAddr::new(address, 80)).unwrap()).unwrap()
    }

    fn connect(host: &Namespace, address: IpAddr) -> bool {
        let target = SocketAddr::new(address, 80);
        host.enter(|| TcpStream::connect_timeout(&target, SECOND).is_ok()).unwrap()
    }

    #[test]
    fn a_client_reaches_the_node_at_once_over_both_families() {
        let pair = Pair::new().unwrap();
        for address in [Pair::NODE, Pair::NODE6] {
            let _listener = listen(&pair.node, address);
            assert!(connect(&pair.client, address), "{address}");
            assert!(connect(&pair.node, address), "{address} over lo");
        }
        let answer = pair.node.enter(|| UdpSocket::bind("10.77.0.1:53").unwrap()).unwrap();
        let ask = pair.client.enter(|| UdpSocket::bind("10.78.0.2:0").unwrap()).unwrap();
        ask.set_read_timeout(Some(SECOND)).unwrap();
        ask.send_to(b"?", "10.77.0.1:53").unwrap();
        let (_, from) = answer.recv_from(&mut [0; 9]).unwrap();
        assert_eq!(from.ip(), Pair::STRANGER);
        answer.send_to(b"!", from).unwrap();
        assert_eq!(ask.recv(&mut [0; 9]).unwrap(), 1);
    }

    #[test]
    fn a_line_forwards_both_families() {
        let line = Line::new().unwrap();
        for address in [Line::SERVER, Line::SERVER6] {
            let _listener = listen(&line.server, address);
            assert!(connect(&line.client, address), "{address}");
        }
    }
}
