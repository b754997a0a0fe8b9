//! Policies behind the edge: parsed once by [`validate`], then only ever seen as [`ValidatedPolicy`].

mod validate;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use validate::{Invalid, validate};

use crate::hazard::HazardKind;
use crate::net::{AddressRange, PortRange, Proto};
use crate::selector::Selector;

/// Whether a policy acts or only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Bypass tracking.
    Enforce,
    /// Count what would be bypassed, change nothing.
    Audit,
}

/// What a flow asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Do not track.
    NoTrack,
    /// Track, whatever any other flow says.
    Track,
}

/// The node's part in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// This node answers.
    Server,
    /// This node asks.
    Client,
    /// Both at once, on fixed ports.
    Peer,
    /// This node only routes.
    Forward,
}

/// A policy that passed every check that needs no facts of a node. All lists are sorted, disjoint and merged,
/// so that the same meaning has the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidatedPolicy {
    /// `metadata.name`: at most 63 characters.
    pub name: String,
    /// `metadata.uid`; files have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// `metadata.generation`; files have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// `metadata.creationTimestamp` in seconds since 1970; files have none.
    pub created: Option<i64>,
    /// Which nodes.
    pub selector: Selector,
    /// Act or count.
    pub mode: Mode,
    /// The flows, by name.
    pub flows: Vec<ValidatedFlow>,
    /// What stands in for the state.
    pub compensation: Compensation,
    /// Whether the host's own firewall may be completed; otherwise the policy is blocked where that is needed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adapts_firewall: bool,
    /// Whether connections that are in the table already stay tracked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_entries: bool,
    /// When the policy ends by itself, in seconds since 1970.
    pub expires: Option<i64>,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidatedFlow {
    /// The name, unique in the policy.
    pub name: String,
    /// Bypass or exception.
    pub action: Action,
    /// The node's part.
    pub role: Role,
    /// The server's ports.
    pub ports: Vec<(Proto, PortRange)>,
    /// The other end's addresses, exceptions subtracted. `None`: any.
    pub peers: Option<Vec<AddressRange>>,
    /// The server's addresses. `None`: this node's own.
    pub server_addresses: Option<Vec<AddressRange>>,
    /// Client: the local ports. `None`: the node's ephemeral range.
    pub local_ports: Option<Vec<PortRange>>,
    /// Interface names, a `*` at the end allowed. Empty: any.
    pub interfaces: Vec<Arc<str>>,
    /// Hazards that the user takes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub acknowledged: BTreeSet<HazardKind>,
}

impl ValidatedFlow {
    /// Whether any of the ports is one of the server's ports.
    pub fn names_port(&self, protocol: Proto, ports: PortRange) -> bool {
        self.ports.iter().any(|(of, range)| *of == protocol && range.intersection(ports).is_some())
    }
}

/// What stands in for the state of bypassed packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compensation {
    /// Packets with flags that tracking would call invalid, or that run against the flow's direction, stay
    /// tracked, so that the host's firewall judges them.
    pub strict_tcp_flags: bool,
    /// ICMP errors about bypassed packets are bypassed too; tracking would call them invalid.
    pub icmp_errors: bool,
    /// Upper limit of new TCP connections to a server of the policy, per second and node. 0: none.
    pub new_connections_per_second: u32,
}

impl ValidatedPolicy {
    /// Whether the policy has ended at `now` (seconds since 1970).
    pub fn is_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// Whether connections of before may stay tracked: all of them where that is asked for, and else those of flows that name
    /// interfaces, because an entry does not tell whether it is one to delete.
    pub fn may_keep_entries(&self) -> bool {
        self.keeps_entries || self.flows.iter().any(|flow| !flow.interfaces.is_empty())
    }

    /// The order in which policies own what they share: the older first, then by name. Policies from files
    /// have no creation time and come after those that have one.
    pub fn precedence(&self) -> (i64, &str) {
        (self.created.unwrap_or(i64::MAX), &self.name)
    }
}
