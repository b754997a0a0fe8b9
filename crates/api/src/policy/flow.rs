//! A flow: one kind of traffic, seen from the node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{self, Rule};

/// One kind of traffic, seen from the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new(
        "!(self.role in ['Client', 'Peer']) || (has(self.peers) && size(self.peers) > 0)",
        "roles Client and Peer need peers: without them any remote host could reach local ports by choosing its source port",
    ).required().at(".peers"),
    Rule::new(
        "self.role != 'Forward' || (has(self.serverAddresses) && size(self.serverAddresses) > 0)",
        "role Forward needs serverAddresses: the servers whose forwarded traffic is meant",
    ).required().at(".serverAddresses"),
    Rule::new(
        "self.role != 'Client' || !has(self.serverAddresses) || size(self.serverAddresses) == 0",
        "role Client takes no serverAddresses: name the servers in peers",
    ).forbidden().at(".serverAddresses"),
    Rule::new(
        "self.action != 'Track' || !has(self.acknowledge) || size(self.acknowledge) == 0",
        "acknowledge belongs to action NoTrack",
    ).forbidden().at(".acknowledge"),
    Rule::new("self.role == 'Client' || !has(self.localPorts)", "localPorts belongs to role Client")
        .forbidden().at(".localPorts"),
]))]
pub struct Flow {
    /// Name of the flow, unique in the policy: lower-case letters, digits and `-`, at most 40. Example: `http`.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// NoTrack: this traffic skips tracking. Track: an exception, this traffic stays tracked whatever any policy says.
    pub action: Action,
    /// Server: this node answers on ports. Client: this node asks, peers answer on ports. Peer: both sides use the
    /// same ports (VXLAN, Geneve, NTP). Forward: traffic that this node only routes.
    pub role: Role,
    /// The server's ports, whatever the role; 1 to 32. Example: `[{protocol: TCP, port: 80}]`.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<ServerPort>,
    /// Who is at the other end, at most 64. Required for Client and Peer. Empty otherwise means anyone.
    /// Example: `[{cidr: 10.0.0.0/8, except: [10.9.0.0/16]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub peers: Vec<Peer>,
    /// Addresses of the server, as CIDRs, at most 64. Server and Peer: empty means the node's own addresses.
    /// Forward: required. Client: not allowed, name the servers in peers. Example: `[192.0.2.10/32]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::server_addresses")]
    pub server_addresses: Vec<String>,
    /// Client only: this node's own ports, where they are not ephemeral; 1 to 8. Example: NFS uses
    /// `[{port: 665, endPort: 1023}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub local_ports: Vec<LocalPort>,
    /// Interfaces (with an IP address of their own: not the port of a bridge) that the traffic uses, at most 16.
    /// `*` at the end stands for any ending. Empty: all. Example: `[eth0, "bond*"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 16), regex(pattern = r"^[A-Za-z0-9_.@:-]{1,15}\*?$|^[A-Za-z0-9_.@:-]{0,14}\*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub interfaces: Vec<String>,
    /// Hazards that are known and taken in this flow, at most 16, each with a reason. Needs the verb `acknowledge` on
    /// notrackpolicies. Example: `[{hazard: HostFirewallDrops, reason: "port 80 is open in the site firewall"}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["hazard"])
    )]
    pub acknowledge: Vec<Acknowledgement>,
}

/// A hazard that the user knows and takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledgement {
    /// Name of the hazard, as in the policy's status. Example: `HostFirewallDrops`.
    #[schemars(length(max = 40), regex(pattern = "^[A-Z][A-Za-z0-9]+$"))]
    pub hazard: String,
    /// Why it does no harm here, for whoever reads the policy later; 10 to 256 characters.
    #[schemars(length(min = 10, max = 256))]
    pub reason: String,
}

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// It skips tracking.
    NoTrack,
    /// It stays tracked, whatever any policy says.
    Track,
}

/// What this node is in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// It answers on the ports.
    Server,
    /// It asks; the peers answer on the ports.
    Client,
    /// Both: either side may begin, and both use the ports.
    Peer,
    /// Neither: it only routes the traffic.
    Forward,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the server, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [end_port_rule()]))]
pub struct ServerPort {
    /// TCP, UDP or SCTP. Must be given.
    pub protocol: Protocol,
    /// The port, or the first one of a range: 1 to 65535. Example: 80.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The last port of the range, itself included. Absent: one port. Example: 8099.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<u16>,
}

/// A port of this node as a client, or a range of them; of the protocols in `ports`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [end_port_rule()]))]
pub struct LocalPort {
    /// The port, or the first one of a range: 1 to 65535. Example: 665.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The last port of the range, itself included. Absent: one port. Example: 1023.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<u16>,
}

fn end_port_rule() -> Rule {
    Rule::new("!has(self.endPort) || self.endPort >= self.port", "endPort must not be below port")
        .at(".endPort")
}

/// Remote addresses: one range, less some parts of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("has(self.cidr)", "cidr is required").required().at(".cidr"),
    // Prefix lengths, because comparing two CIDRs in a loop exceeds the API server's cost limit.
    Rule::new(
        "!has(self.except) || !has(self.cidr) || !isCIDR(self.cidr) || self.except.all(e, !isCIDR(e) || (cidr(self.cidr).containsCIDR(e) && cidr(self.cidr).prefixLength() < cidr(e).prefixLength()))",
        "every except must lie inside cidr and be smaller",
    ).expression("'every except must lie inside ' + self.cidr + ' and be smaller'").at(".except"),
]))]
pub struct Peer {
    /// Addresses of the peer, IPv4 or IPv6, without host bits; one address is /32 or /128. Example: `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "schema::peer_cidr")]
    pub cidr: String,
    /// Parts of `cidr` that are not meant, at most 16. Example: `[10.9.0.0/16]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::except")]
    pub except: Vec<String>,
}
