//! What the pure code must know of one node. The agent reads it from the kernel; tests and
//! `kubectl-notrack render --node-facts` write it by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::kept::Kept;
use crate::net::{AddressRange, Family, PortRange, Proto};
use crate::packet::Tuple;

/// The facts of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeFacts {
    /// The node's own unicast addresses, loopback included, without those of devices that only hold
    /// addresses for others (`kube-ipvs0`, `nodelocaldns`).
    pub addresses: BTreeSet<IpAddr>,
    /// Source ports that the kernel gives to local clients, of both families: `net.ipv4.ip_local_port_range`
    /// without `net.ipv4.ip_local_reserved_ports`.
    pub ephemeral: Vec<PortRange>,
    /// Local ports that must stay tracked, with the reason to show ("sshd listens here").
    #[serde(default)]
    pub protected: Vec<ProtectedPort>,
    /// Which families this network namespace tracks.
    pub tracked: Tracked,
    /// Servers that stay tracked on this node: what the controller's plan and the agent's own view add to a rule set's.
    #[serde(default)]
    pub kept: Vec<Kept>,
    /// What else lives on the node: other programs' rules, translated connections, what changes how packets go.
    #[serde(default)]
    pub host: Arc<Host>,
    /// Connections that stay tracked under policies with `existingEntries: Keep`, as their clients send: they were
    /// tracked when their policy took effect, and have not ended since.
    #[serde(default)]
    pub lasting: Arc<BTreeSet<Tuple>>,
    /// Labels of the node, for `nodeSelector`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Whether connection tracking is registered, per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracked {
    /// IPv4 packets are tracked.
    pub ipv4: bool,
    /// IPv6 packets are tracked.
    pub ipv6: bool,
}

impl Tracked {
    /// Whether packets of the family are tracked.
    pub fn family(self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }

    /// Whether anything is tracked at all.
    pub fn any(self) -> bool {
        self.ipv4 || self.ipv6
    }

    /// Whether a `ct` expression of ours changes nothing: in an `inet` table it registers both families
    /// (`nf_ct_netns_get` with `NFPROTO_INET`), so both must be tracked already.
    pub fn ct_expression_is_free(self) -> bool {
        self.ipv4 && self.ipv6
    }
}

/// A port that must stay tracked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProtectedPort {
    /// The protocol.
    pub protocol: Proto,
    /// The ports.
    pub ports: PortRange,
    /// Which end of the connection has the port.
    pub side: ProtectedSide,
    /// Why, for people: "SSH".
    pub reason: String,
}

/// Which end of a connection a protected port is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProtectedSide {
    /// This node has the port (its sshd): every packet from or to the port on this node.
    Local,
    /// The other end has the port (the API server that this node asks).
    Remote,
    /// Either end.
    Both,
}

impl NodeFacts {
    /// Facts of a node with nothing but the well-known protected ports: where nothing better is known.
    pub fn assumed() -> NodeFacts {
        NodeFacts {
            addresses: [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])].into(),
            ephemeral: vec![DEFAULT_EPHEMERAL],
            protected: well_known_protected(),
            tracked: Tracked { ipv4: true, ipv6: true },
            kept: Vec::new(),
            host: Arc::default(),
            lasting: Arc::default(),
            labels: BTreeMap::new(),
        }
    }

    /// Whether the address is one of the node's own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// The node's own addresses, each as a range.
    pub(crate) fn own_ranges(&self) -> Vec<AddressRange> {
        self.addresses.iter().map(|address| AddressRange::one(*address)).collect()
    }
}

/// The kernel's default for `net.ipv4.ip_local_port_range`.
pub const DEFAULT_EPHEMERAL: PortRange = match PortRange::new(32768, 60999) {
    Some(range) => range,
    None => PortRange::ALL,
};

/// The ports that no policy may bypass on any node, as server and as client. To bypass one
/// could lock an operator out, or take a node out of its cluster.
pub fn well_known_protected() -> Vec<ProtectedPort> {
    use ProtectedSide::{Both, Local};
    let port = |protocol, port, side, reason: &str| ProtectedPort {
        protocol,
        ports: PortRange::one(port),
        side,
        reason: reason.to_owned(),
    };
    let range = |protocol, first, last, side, reason: &str| ProtectedPort {
        protocol,
        ports: PortRange::new(first, last).unwrap_or(PortRange::one(first)),
        side,
        reason: reason.to_owned(),
    };
    vec![
        port(Proto::Tcp, 22, Both, "SSH"),
        port(Proto::Tcp, 179, Both, "BGP"),
        range(Proto::Udp, 67, 68, Both, "DHCP"),
        range(Proto::Udp, 546, 547, Both, "DHCPv6"),
        range(Proto::Tcp, 2379, 2380, Both, "etcd"),
        port(Proto::Tcp, 6443, Both, "Kubernetes API server"),
        port(Proto::Tcp, 10250, Both, "kubelet"),
        range(Proto::Tcp, 10255, 10259, Local, "Kubernetes node components"),
    ]
}
