//! The TCP sockets of one network namespace, over sock_diag (`net/ipv4/inet_diag.c`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::attr::{AttrError, Buffer};
use crate::socket::{NetlinkError, Socket, flags};

const WHAT: &str = "list TCP sockets";
/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
/// `struct inet_diag_sockid`
const SOCKET_ID_LEN: usize = 48;

/// Bits of the states (`include/net/tcp_states.h`) in which an end still sends or expects more than the repetition of a
/// last packet: ESTABLISHED 1, SYN_RECV 3, FIN_WAIT1 4, FIN_WAIT2 5, CLOSE_WAIT 8, LAST_ACK 9, CLOSING 11,
/// NEW_SYN_RECV 12. A client in SYN_SENT begins anew by itself.
const LIVING: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11 | 1 << 12;

/// A TCP socket of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpSocket {
    /// The end in this namespace. IPv4 in an IPv6 socket is given as IPv4.
    pub local: SocketAddr,
    /// The other end, of the same family.
    pub remote: SocketAddr,
}

/// Every TCP socket of the calling thread's network namespace whose connection lives, of both families. The end of a
/// connection that waits out its time (TIME_WAIT) does not live. No capability is needed.
///
/// # Errors
/// When the kernel lacks sock_diag for TCP, or sends what cannot be read.
pub fn living_tcp() -> Result<Vec<TcpSocket>, NetlinkError> {
    let mut netlink = Socket::open_sock_diag()?;
    let mut sockets = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut request = Buffer::with_capacity(128);
        request.message(BY_FAMILY, flags::REQUEST | flags::DUMP, netlink.next_seq(), |writer| {
            // `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, and a socket that a dump
            // leaves open.
            writer.raw(&[family, TCP, 0, 0]);
            writer.raw(&LIVING.to_ne_bytes());
            writer.raw(&[0; SOCKET_ID_LEN]);
        });
        let request = request.finish().map_err(|source| NetlinkError::Malformed { what: WHAT, source })?;
        netlink.ask(WHAT, &request, |message| {
            sockets.push(socket(message.payload)?);
            Ok(())
        })?;
    }
    Ok(sockets)
}

/// Reads the beginning of a `struct inet_diag_msg`: family, state, timer, retransmissions; then both ports and, in 16
/// bytes each, both addresses.
fn socket(bytes: &[u8]) -> Result<TcpSocket, AttrError> {
    let need = 4 + SOCKET_ID_LEN;
    let truncated = AttrError::Truncated { what: "inet_diag_msg", need, have: bytes.len() };
    let message = bytes.get(..need).ok_or(truncated)?;
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let ip = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&message[at..at + 16]);
        if message[0] == AF_INET {
            IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
        } else {
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
    };
    Ok(TcpSocket { local: SocketAddr::new(ip(8), port(4)), remote: SocketAddr::new(ip(24), port(6)) })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn both_ends_of_a_connection_are_found_and_listeners_are_not() {
        for (listen, connect) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            // A machine without IPv6 has no others.
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let to = (connect.parse::<IpAddr>().unwrap(), listener.local_addr().unwrap().port());
            let client = TcpStream::connect(to).unwrap();
            let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let found = living_tcp().unwrap();
            assert!(found.contains(&TcpSocket { local, remote }), "{listen}");
            assert!(found.contains(&TcpSocket { local: remote, remote: local }), "{listen}");
            assert!(found.iter().all(|socket| socket.remote.port() != 0), "{listen}");
        }
    }

    #[test]
    fn a_short_message_is_an_error() {
        assert!(socket(&[0; 20]).is_err());
    }
}
