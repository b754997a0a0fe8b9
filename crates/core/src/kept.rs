//! Tuples that a cluster needs tracked: its Services' addresses, what backs them, its API server.

use serde::{Deserialize, Serialize};

use crate::hazard::HazardKind;
use crate::net::{AddressRange, PortRange, Proto};

/// Servers that stay tracked whatever a policy says, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kept {
    /// What a bypass of them would be.
    pub hazard: HazardKind,
    /// The protocol.
    pub protocol: Proto,
    /// The servers' addresses. `None`: every address of the node itself, as node ports have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<AddressRange>,
    /// The servers' ports.
    pub ports: PortRange,
    /// The other ends. `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<AddressRange>,
    /// Whether a flow of role Server that names interfaces may bypass them all the same. So it is for what backs a
    /// Service with nothing but a cluster address: clients elsewhere are translated on their own node, and what comes
    /// in by an uplink is direct; this node's own clients use other interfaces.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spares_interfaces: bool,
    /// What proves it, for people: "endpoint of Service default/web".
    pub evidence: String,
}

impl Kept {
    /// Whether the servers of another are all among these, where their addresses are named.
    pub fn covers(&self, other: &Kept) -> bool {
        let addresses = match (self.addresses, other.addresses) {
            (Some(own), Some(other)) => own.intersection(other) == Some(other),
            (own, other) => own == other,
        };
        addresses
            && self.protocol == other.protocol
            && self.ports.intersection(other.ports) == Some(other.ports)
            && self.clients.is_none_or(|clients| Some(clients) == other.clients)
    }
}
