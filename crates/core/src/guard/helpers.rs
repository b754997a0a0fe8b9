//! Hazard 9: protocols whose helpers expect further connections by what they read in a tracked one.

use crate::hazard::HazardKind;
use crate::net::{PortRange, Proto, subtract_ports};
use crate::policy::{Action, ValidatedFlow};

/// The ports on which the kernel's helpers look for their protocol unless they are told otherwise.
const PORTS: [(Proto, u16, &str); 5] = [
    (Proto::Tcp, 21, "FTP"),
    (Proto::Udp, 69, "TFTP"),
    (Proto::Tcp, 1723, "PPTP"),
    (Proto::Tcp, 5060, "SIP"),
    (Proto::Udp, 5060, "SIP"),
];

/// Servers of such protocols that a flow names, does not acknowledge and so leaves tracked: protocol, port, name.
pub(crate) fn helper_ports(flow: &ValidatedFlow) -> impl Iterator<Item = (Proto, u16, &'static str)> {
    let leaves = flow.action == Action::NoTrack && !flow.acknowledged.contains(&HazardKind::Helper);
    PORTS.into_iter().filter(move |(proto, port, _)| leaves && flow.names_port(*proto, PortRange::one(*port)))
}

/// The servers' ports of a protocol that a flow is about, without those.
pub(crate) fn ports(flow: &ValidatedFlow, proto: Proto) -> Vec<PortRange> {
    let named: Vec<PortRange> =
        flow.ports.iter().filter(|(of, _)| *of == proto).map(|(_, ports)| *ports).collect();
    let left = helper_ports(flow).filter(|(of, ..)| *of == proto);
    subtract_ports(&named, &left.map(|(_, port, _)| PortRange::one(port)).collect::<Vec<_>>())
}
