//! Two servers at one address of this network namespace: one whose port the policy names, and one that no policy names.
//! Connections to them go over `lo`, where both halves of each pass both hooks.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use notrack_core::facts::well_known_protected;
use notrack_core::net::{PortRange, Proto, subtract_ports};
use notrack_netlink::conntrack::{Conntrack, Family, Filter, Tuple};
use notrack_netlink::facts;
use notrack_netlink::socket::NetlinkError;

use super::Failure;

/// For a packet within this machine; longer than a lost one needs to be sent again.
const PATIENCE: Duration = Duration::from_secs(3);
/// What is sent each way.
const BYTES: &[u8] = b"notrack";
/// IPPROTO_TCP
const TCP: u8 = 6;

/// The two servers.
pub struct Pair {
    /// At the port that the policy names.
    pub bypassed: Server,
    /// At one of the kernel's choice.
    pub tracked: Server,
}

/// A socket that listens.
pub struct Server {
    listener: TcpListener,
    /// Where.
    pub address: SocketAddr,
}

/// Servers at an address of each family, and the port that those to be bypassed share.
pub fn listen(addresses: &BTreeSet<IpAddr>) -> Result<(u16, Vec<Pair>), Failure> {
    let chosen: Vec<IpAddr> =
        [Family::V4, Family::V6].into_iter().filter_map(|family| choose(addresses, family)).collect();
    if chosen.is_empty() {
        let remedy = "this network namespace has no address that can be listened on: ip link set lo up";
        return Err(Failure::NoServer(remedy.to_owned()));
    }
    let pairs = |port: u16| -> io::Result<Vec<Pair>> {
        let pair = |address: &IpAddr| {
            Ok(Pair { bypassed: Server::new(*address, port)?, tracked: Server::new(*address, 0)? })
        };
        chosen.iter().map(pair).collect()
    };
    let found = ports().find_map(|port| Some((port, pairs(port).ok()?)));
    found.ok_or_else(|| {
        Failure::NoServer("net.ipv4.ip_local_port_range leaves no port for a server: narrow it".to_owned())
    })
}

/// An address of a family: rather one that others could reach than loopback. One that is not to be listened on yet (IPv6
/// looks for duplicates first) is none.
fn choose(addresses: &BTreeSet<IpAddr>, family: Family) -> Option<IpAddr> {
    let mut known: Vec<IpAddr> =
        addresses.iter().copied().filter(|address| Family::of(*address) == family).collect();
    known.sort_by_key(IpAddr::is_loopback);
    known.into_iter().find(|address| TcpListener::bind((*address, 0)).is_ok())
}

/// Ports that a policy may bypass on any node, the highest first: neither clients' nor protected.
fn ports() -> impl Iterator<Item = u16> {
    // To bind to 0 is to ask for any.
    let mut holes = vec![PortRange::one(0)];
    holes.extend(facts::ephemeral());
    let protected = well_known_protected();
    holes.extend(protected.iter().filter(|known| known.protocol == Proto::Tcp).map(|known| known.ports));
    let ranges = subtract_ports(&[PortRange::ALL], &holes);
    ranges.into_iter().rev().flat_map(|range| (range.first()..=range.last()).rev())
}

impl Server {
    fn new(address: IpAddr, port: u16) -> io::Result<Server> {
        let listener = TcpListener::bind((address, port))?;
        // accept(2) too waits no longer.
        setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE.as_secs() as i64, 0))?;
        let address = listener.local_addr()?;
        Ok(Server { listener, address })
    }

    /// A whole connection: opened, bytes each way, closed from both ends.
    pub fn exchange(&self) -> io::Result<()> {
        let mut client = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        let (mut server, _) = self.listener.accept()?;
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE))?;
        }
        client.write_all(BYTES)?;
        client.shutdown(Shutdown::Write)?;
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        server.read_to_end(&mut asked)?;
        server.write_all(&asked)?;
        drop(server);
        client.read_to_end(&mut answered)?;
        if answered == BYTES { Ok(()) } else { Err(io::Error::other("other bytes came back")) }
    }
}

/// How many entries of the connection table have a server of ours at any end: a reply alone would make one as well.
pub fn entries(server: SocketAddr) -> Result<usize, NetlinkError> {
    let has = |tuple: &Tuple| {
        [(tuple.source, tuple.source_port()), (tuple.destination, tuple.destination_port())]
            .contains(&(server.ip(), Some(server.port())))
    };
    let filter = Filter { family: Some(Family::of(server.ip())), protocol: Some(TCP), ..Filter::default() };
    let mut found = 0;
    Conntrack::open()?.dump(&filter, |entry| found += usize::from(has(&entry.original)))?;
    Ok(found)
}
