//! What a cluster's Services need tracked: the kernel translates their addresses, for which it needs entries.
//! Hazards 1, 2 and 31.

use std::net::IpAddr;

use crate::hazard::HazardKind;
use crate::kept::Kept;
use crate::net::{AddressRange, PortRange, Proto};

/// What must be known of a Service: nothing of one without a virtual address (headless, ExternalName).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `namespace/name`.
    pub name: String,
    /// Its cluster addresses.
    pub cluster_addresses: Vec<IpAddr>,
    /// Its external addresses, and those of its load balancers.
    pub outer_addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The protocol.
    pub protocol: Proto,
    /// The port at its addresses.
    pub port: u16,
    /// The port at every node's address.
    pub node_port: Option<u16>,
}

/// What backs a Service: one EndpointSlice. Endpoints that are not ready or going down count too: translated entries
/// may still lead to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The Service's `namespace/name`.
    pub service: String,
    /// The addresses, with the node of each where it is known.
    pub addresses: Vec<(IpAddr, Option<String>)>,
    /// The ports; all of them where a slice names none.
    pub ports: Vec<(Proto, PortRange)>,
}

/// The ranges from which Services get what they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRanges {
    /// Of cluster addresses.
    pub addresses: Vec<AddressRange>,
    /// Of node ports.
    pub node_ports: Option<PortRange>,
}

/// The Service through which a cluster's own API server is reached.
const API_SERVER: &str = "default/kubernetes";

impl Service {
    /// Whether the kernel translates anything for it.
    pub fn is_virtual(&self) -> bool {
        !self.cluster_addresses.is_empty() || !self.outer_addresses.is_empty()
    }

    /// Whether clients reach it by nothing but a cluster address, which is translated on the client's own node.
    pub fn has_cluster_address_alone(&self) -> bool {
        self.outer_addresses.is_empty() && self.ports.iter().all(|port| port.node_port.is_none())
    }

    /// The Service's own tuples: hazard 1.
    pub fn kept(&self) -> Vec<Kept> {
        let addresses = || self.cluster_addresses.iter().chain(&self.outer_addresses);
        let mut kept = Vec::new();
        for port in &self.ports {
            let tuple = |addresses: Option<AddressRange>, number: u16, what: &str| Kept {
                hazard: self.hazard(HazardKind::ServiceAddress),
                protocol: port.protocol,
                addresses,
                ports: PortRange::one(number),
                clients: None,
                spares_interfaces: false,
                evidence: self.evidence(what),
            };
            for address in addresses() {
                kept.push(tuple(Some(AddressRange::one(*address)), port.port, "an address of"));
            }
            kept.extend(port.node_port.map(|number| tuple(None, number, "a node port of")));
        }
        kept
    }

    /// What backs the Service: hazard 2.
    pub fn kept_endpoint(&self, address: IpAddr, protocol: Proto, ports: PortRange) -> Kept {
        Kept {
            hazard: self.hazard(HazardKind::ServiceEndpoint),
            protocol,
            addresses: Some(AddressRange::one(address)),
            ports,
            clients: None,
            spares_interfaces: self.name != API_SERVER && self.has_cluster_address_alone(),
            evidence: self.evidence("an endpoint of"),
        }
    }

    fn hazard(&self, kind: HazardKind) -> HazardKind {
        if self.name == API_SERVER { HazardKind::Protected } else { kind }
    }

    fn evidence(&self, what: &str) -> String {
        if self.name == API_SERVER {
            format!("the Kubernetes API server ({what} Service {API_SERVER})")
        } else {
            format!("{what} Service {}", self.name)
        }
    }
}

impl ServiceRanges {
    /// Whatever Services may come: hazard 31.
    pub fn kept(&self) -> Vec<Kept> {
        let tuple = |protocol, addresses, ports, evidence: String| Kept {
            hazard: HazardKind::FutureService,
            protocol,
            addresses,
            ports,
            clients: None,
            spares_interfaces: false,
            evidence,
        };
        let mut kept = Vec::new();
        for protocol in Proto::ALL {
            for range in &self.addresses {
                let evidence = format!("Services get their addresses from {range}");
                kept.push(tuple(protocol, Some(*range), PortRange::ALL, evidence));
            }
            if let Some(ports) = self.node_ports {
                kept.push(tuple(protocol, None, ports, format!("Services get node ports from {ports}")));
            }
        }
        kept
    }
}
