//! The node's facts: the kernel's, and what the agent knows besides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use notrack_core::facts::{NodeFacts, ProtectedPort, ProtectedSide, Tracked, well_known_protected};
use notrack_core::host::Host;
use notrack_core::kept::Kept;
use notrack_core::net::{PortRange, Proto};
use notrack_core::packet::Tuple;
use notrack_netlink::facts;

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

/// Puts the facts together. An ephemeral range that cannot be read is the kernel's default.
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
        ephemeral: facts::ephemeral(),
        protected,
        tracked,
        kept,
        host,
        lasting,
        labels: labels.clone(),
    }
}
