//! TCP sockets of this network namespace that listen, and which processes hold them, from /proc.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state `TCP_LISTEN` in /proc/net/tcp.
const LISTEN: &str = "0A";

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// Where; the address may be unspecified.
    pub address: SocketAddr,
    /// Of the socket.
    pub inode: String,
}

impl Listener {
    /// Whether only this node itself can reach it.
    pub fn is_loopback_only(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

/// Every socket that listens.
pub fn all() -> Vec<Listener> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| File::open(path).ok())
        .flat_map(|file| {
            let lines = BufReader::new(file).lines().map_while(Result::ok).skip(1);
            // The kernel gives those that listen first (tcp_get_idx), before perhaps 100,000 connections.
            lines.map_while(|line| listener(&line)).collect::<Vec<_>>()
        })
        .collect()
}

/// Inodes of the sockets that visible processes hold, with the names of the processes. To see those of others needs
/// their PID namespace and CAP_SYS_PTRACE or their user. `wanted` tells which processes to look into.
pub fn holders(wanted: impl Fn(&str) -> bool) -> BTreeMap<String, BTreeSet<String>> {
    let mut holders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return holders };
    for process in processes.flatten() {
        let Ok(comm) = fs::read_to_string(process.path().join("comm")) else { continue };
        let comm = comm.trim_end();
        if !wanted(comm) {
            continue;
        }
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            if let Some(inode) = fs::read_link(descriptor.path()).ok().as_deref().and_then(socket) {
                holders.entry(inode).or_default().insert(comm.to_owned());
            }
        }
    }
    holders
}

/// The inode in a link such as `socket:[4711]`.
fn socket(link: &std::path::Path) -> Option<String> {
    Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

/// A line of /proc/net/tcp or tcp6 that listens.
fn listener(line: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (address, port) = fields.get(1)?.rsplit_once(':')?;
    let address = SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?);
    Some(Listener { address, inode: (*fields.get(9)?).to_owned() })
}

/// The kernel prints each 32 bits of an address as a number of the machine's own byte order.
fn ip(text: &str) -> Option<IpAddr> {
    let word = |place: usize| {
        let digits = text.get(place * 8..place * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (place, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(place)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_count() {
        let line = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        let found = listener(line).unwrap();
        assert_eq!((found.address, found.inode.as_str()), ("0.0.0.0:22".parse().unwrap(), "4711"));
        assert!(!found.is_loopback_only());
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(listener("  sl  local_address rem_address   st"), None);
    }

    #[test]
    fn real_listeners_are_found_with_their_addresses_and_holders() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine without IPv6 has no second one.
            let Ok(socket) = std::net::TcpListener::bind(address) else { continue };
            let address = socket.local_addr().unwrap();
            let found = all().into_iter().find(|listener| listener.address == address).unwrap();
            assert!(found.is_loopback_only());
            assert!(holders(|_| true).contains_key(&found.inode), "{found:?}");
        }
    }
}
