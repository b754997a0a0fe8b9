//! A node's facts, as far as the kernel tells them: of the network namespace of the calling thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use nix::ifaddrs::getifaddrs;
use notrack_core::facts::{DEFAULT_EPHEMERAL, NodeFacts, Tracked};
use notrack_core::guard::{Concern, concerns};
use notrack_core::host::{Host, HostRules, Translated};
use notrack_core::net::{PortRange, subtract_ports};
use notrack_core::nf::TABLE_NAME;
use notrack_core::packet::Tuple;
use notrack_core::policy::ValidatedFlow;

use crate::conntrack::{self, Conntrack, Filter, Masked, Status};
use crate::socket::NetlinkError;
use crate::tracking::{self, tracking};
use crate::{host, surroundings};

/// Devices that hold addresses of others: kube-proxy's Service addresses (IPVS) and NodeLocal DNSCache.
const DEVICES_OF_OTHERS: [&str; 2] = ["kube-ipvs0", "nodelocaldns"];
/// More servers of translated connections than this are not told apart.
const MOST_TRANSLATED: usize = 256;

/// Everything here at once, for policies with these flows. What only a living agent knows is as in
/// [`NodeFacts::assumed`]: the ports of SSH, the node's resolvers, its labels, what a cluster keeps.
///
/// # Errors
/// When the kernel refuses to show nf_tables or the connection table (CAP_NET_ADMIN).
pub fn read(flows: &[ValidatedFlow]) -> Result<NodeFacts, NetlinkError> {
    let addresses = addresses();
    let (translated, more_translated) = translated(concerns(flows, &addresses))?;
    let host = Host {
        rules: rules()?,
        surroundings: surroundings::read(),
        translated,
        more_translated,
        unadaptable: None,
    };
    Ok(NodeFacts {
        addresses,
        ephemeral: ephemeral(),
        tracked: tracked()?,
        host: Arc::new(host),
        ..NodeFacts::assumed()
    })
}

/// The node's own addresses, loopback included. None where they cannot be read.
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

/// `ip_local_port_range` without `ip_local_reserved_ports`, which the kernel never gives to a client. The kernel's
/// default where they cannot be read.
pub fn ephemeral() -> Vec<PortRange> {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let range = port_range(&read("ip_local_port_range")).unwrap_or(DEFAULT_EPHEMERAL);
    subtract_ports(&[range], &reserved(&read("ip_local_reserved_ports")))
}

/// Which families are tracked for others than us.
///
/// # Errors
/// As [`tracking`] has them.
pub fn tracked() -> Result<Tracked, NetlinkError> {
    let found = tracking(TABLE_NAME)?;
    let yes = |family: &tracking::Tracked| matches!(family, tracking::Tracked::Yes(_));
    Ok(Tracked { ipv4: yes(&found.v4), ipv6: yes(&found.v6) })
}

/// Other programs' rules. Our own additions to them are none.
///
/// # Errors
/// When the kernel refuses to show nf_tables (CAP_NET_ADMIN).
pub fn rules() -> Result<HostRules, NetlinkError> {
    Ok(host::read()?.without_own())
}

/// The translated connections that concern anybody, one a server, and whether there are more.
///
/// # Errors
/// When the connection table cannot be read (CAP_NET_ADMIN).
pub fn translated(
    concerns: impl Fn(&Translated) -> Concern,
) -> Result<(Vec<Translated>, bool), NetlinkError> {
    let mut servers: BTreeMap<_, Translated> = BTreeMap::new();
    let mut more = false;
    let mut conntrack = Conntrack::open()?;
    for bit in [Status::SRC_NAT, Status::DST_NAT] {
        let filter = Filter { status: Some(Masked { mask: bit.0, value: bit.0 }), ..Filter::default() };
        conntrack.dump(&filter, |entry| {
            let (Some(to), Some(from)) = (tuple(&entry.original), tuple(&entry.reply)) else { return };
            let found = Translated { original: to, reply: from };
            let Concern { server, own_port } = concerns(&found);
            if !server && !own_port {
                return;
            }
            let own_end = own_port.then_some((from.destination, from.destination_port));
            let key = (to.proto, to.destination, to.destination_port, from.source, from.source_port, own_end);
            if servers.len() < MOST_TRANSLATED || servers.contains_key(&key) {
                // The least of those alike, so that the same connections are the same facts.
                let known = servers.entry(key).or_insert_with(|| found.clone());
                if found < *known {
                    *known = found;
                }
            } else {
                more = true;
            }
        })?;
    }
    Ok((servers.into_values().collect(), more))
}

/// A direction of an entry as a packet has it, where its protocol has ports.
pub fn tuple(tuple: &conntrack::Tuple) -> Option<Tuple> {
    Some(Tuple {
        source: tuple.source,
        destination: tuple.destination,
        proto: tuple.protocol,
        source_port: tuple.source_port()?,
        destination_port: tuple.destination_port()?,
    })
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
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reserved_ports_are_no_ephemeral_ones() {
        let rest = subtract_ports(&[port_range("32768\t60999\n").unwrap()], &reserved("32768-32770,40000\n"));
        let shown: Vec<String> = rest.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["32771-39999", "40001-60999"]);
        assert_eq!(reserved("\n"), []);
    }
}
