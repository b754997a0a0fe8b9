//! The node's facts, read from the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use nix::ifaddrs::getifaddrs;
use notrack_core::facts::{
    DEFAULT_EPHEMERAL, NodeFacts, ProtectedPort, ProtectedSide, Tracked, well_known_protected,
};
use notrack_core::host::Host;
use notrack_core::kept::Kept;
use notrack_core::net::{PortRange, Proto, subtract_ports};
use notrack_core::packet::Tuple;

/// Devices that hold addresses of others: kube-proxy's Service addresses (IPVS) and NodeLocal DNSCache.
const DEVICES_OF_OTHERS: [&str; 2] = ["kube-ipvs0", "nodelocaldns"];

/// What was found out elsewhere.
pub struct Observations<'a> {
    /// The node's own addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Labels of the node.
    pub labels: &'a BTreeMap<String, String>,
    /// Where SSH is spoken, and how that is known.
    pub ssh: BTreeMap<u16, &'static str>,
    /// The port of the agent's own server.
    pub own_port: Option<u16>,
    /// Which families are tracked.
    pub tracked: Tracked,
    /// Servers that stay tracked.
    pub kept: Vec<Kept>,
    /// What else lives on the node.
    pub host: Arc<Host>,
    /// Connections that stay tracked.
    pub lasting: Arc<BTreeSet<Tuple>>,
}

/// Reads the facts. What cannot be read is taken at its safest: no address, the kernel's default range.
pub fn read(observations: Observations<'_>) -> NodeFacts {
    let Observations { addresses, labels, ssh, own_port, tracked, kept, host, lasting } = observations;
    let local = |port: u16, reason: &str| ProtectedPort {
        protocol: Proto::Tcp,
        ports: PortRange::one(port),
        side: ProtectedSide::Local,
        reason: reason.to_owned(),
    };
    let mut protected = well_known_protected();
    protected.extend(ssh.into_iter().map(|(port, reason)| local(port, reason)));
    protected.extend(own_port.map(|port| local(port, "the agent's own status port")));
    // sshd on its usual port is known already.
    protected.sort();
    protected.dedup();
    NodeFacts {
        addresses,
        ephemeral: ephemeral(),
        protected,
        tracked,
        kept,
        host,
        lasting,
        labels: labels.clone(),
    }
}

/// The node's own addresses, loopback included.
pub fn addresses() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return BTreeSet::new() };
    interfaces
        .filter(|interface| !DEVICES_OF_OTHERS.contains(&interface.interface_name.as_str()))
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        // A link-local address means nothing without its link.
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect()
}

/// `ip_local_port_range` without `ip_local_reserved_ports`, which the kernel never gives to a client.
pub fn ephemeral() -> Vec<PortRange> {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let range = port_range(&read("ip_local_port_range")).unwrap_or(DEFAULT_EPHEMERAL);
    subtract_ports(&[range], &reserved(&read("ip_local_reserved_ports")))
}

fn port_range(text: &str) -> Option<PortRange> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    PortRange::new(numbers.next()?.ok()?, numbers.next()?.ok()?)
}

/// `8000,9000-9010` as the kernel writes it: sorted and disjoint.
fn reserved(text: &str) -> Vec<PortRange> {
    let one = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        PortRange::new(first.parse().ok()?, last.parse().ok()?)
    };
    text.trim().split(',').filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_no_ephemeral_ones() {
        let rest = subtract_ports(&[port_range("32768\t60999\n").unwrap()], &reserved("32768-32770,40000\n"));
        let shown: Vec<String> = rest.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["32771-39999", "40001-60999"]);
        assert_eq!(reserved("\n"), []);
    }
}
