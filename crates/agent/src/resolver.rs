//! The node's resolver stays tracked: the answers to the node's own questions come from it.

use std::fs;
use std::net::IpAddr;

use notrack_core::hazard::HazardKind;
use notrack_core::kept::Kept;
use notrack_core::net::{AddressRange, PortRange, Proto};

const DNS: u16 = 53;

/// The name servers of /etc/resolv.conf. In a pod that file is the node's own where dnsPolicy is Default.
pub fn kept() -> Vec<Kept> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines().filter_map(name_server).flat_map(of).collect()
}

/// A resolver on loopback is asked by nobody else, and is no peer of a policy.
fn name_server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace();
    let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
    let without_zone = address.split('%').next()?;
    let address: IpAddr = without_zone.parse().ok()?;
    (!address.is_loopback()).then(|| address.to_canonical())
}

fn of(address: IpAddr) -> [Kept; 2] {
    [Proto::Udp, Proto::Tcp].map(|protocol| Kept {
        hazard: HazardKind::Protected,
        protocol,
        addresses: Some(AddressRange::one(address)),
        ports: PortRange::one(DNS),
        clients: None,
        spares_interfaces: false,
        evidence: "this node's resolver".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_elsewhere_are_found() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1 # old\nnameserver 127.0.0.53\n\
                    nameserver fe80::1%eth0\nnameserver x\nnameserver\n";
        let found: Vec<String> = text.lines().filter_map(name_server).map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["192.0.2.1", "fe80::1"]);
    }
}
