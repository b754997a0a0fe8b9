//! Hazard 9: protocols whose helpers expect further connections by what they read in a tracked one.

use crate::hazard::HazardKind;
use crate::kept::Kept;
use crate::net::{AddressRange, Family, PortRange, Proto};
use crate::policy::ValidatedFlow;

/// The ports on which the kernel's helpers look for their protocol unless they are told otherwise.
const PORTS: [(Proto, u16, &str); 5] = [
    (Proto::Tcp, 21, "FTP"),
    (Proto::Udp, 69, "TFTP"),
    (Proto::Tcp, 1723, "PPTP"),
    (Proto::Tcp, 5060, "SIP"),
    (Proto::Udp, 5060, "SIP"),
];

/// Servers of such protocols that a flow names, and does not acknowledge.
pub(crate) fn helper_ports(flow: &ValidatedFlow) -> Vec<Kept> {
    if flow.acknowledged.contains(&HazardKind::Helper) {
        return Vec::new();
    }
    let named = PORTS.into_iter().filter(|(proto, port, _)| flow.names_port(*proto, PortRange::one(*port)));
    named
        .flat_map(|(protocol, port, name)| {
            Family::ALL.map(|family| Kept {
                hazard: HazardKind::Helper,
                protocol,
                addresses: Some(AddressRange::all(family)),
                ports: PortRange::one(port),
                clients: None,
                spares_interfaces: false,
                evidence: format!("{name}, whose other connections are found by a helper"),
            })
        })
        .collect()
}
