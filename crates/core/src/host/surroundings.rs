//! What changes how packets go on a node, apart from rules: devices, routing, balancers, listeners.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::TableFamily;
use crate::net::{AddressRange, Proto};

/// What there is of it. All lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Surroundings {
    /// Every network interface.
    pub interfaces: Vec<Interface>,
    /// What IPVS balances.
    pub ipvs: Vec<IpvsService>,
    /// nf_tables' flow tables.
    pub flow_tables: Vec<FlowTable>,
    /// Routing rules that look at the packet's mark, as `ip rule` shows them.
    pub mark_rules: Vec<String>,
    /// Sockets that are told each change of the connection table.
    pub conntrack_listeners: Vec<ConntrackListener>,
    /// Sockets from which this node asks, or may ask, with a source port that is none of the ephemeral range.
    pub fixed_sources: Vec<FixedSource>,
    /// Addresses that routes send to pods and containers on this node, merged.
    pub pod_networks: Vec<AddressRange>,
    /// What could not be read, in words.
    pub unknown: Vec<String>,
}

impl Surroundings {
    /// Whether a packet may be routed, or refused by the reverse path filter, by its mark.
    ///
    /// The filter itself (`rp_filter`) asks the same routing rules backwards, with the mark where `src_valid_mark` is
    /// set, and so depends on marks only where a rule does.
    pub fn routes_by_mark(&self) -> bool {
        !self.mark_rules.is_empty()
    }

    /// The interfaces whose packets are dropped unless the route back to their source leaves there, and whether that
    /// route is looked up with the packet's mark.
    pub fn strict_interfaces(&self) -> impl Iterator<Item = (&str, bool)> {
        let strict = self.interfaces.iter().filter(|interface| interface.reverse_path.strict);
        strict.map(|interface| (interface.name.as_str(), interface.reverse_path.marked))
    }

    /// The interfaces that belong to another one: ports of a bridge, members of a VRF.
    pub fn members<'a>(&'a self, master: &'a str) -> impl Iterator<Item = &'a Interface> {
        self.interfaces.iter().filter(move |interface| interface.master.as_deref() == Some(master))
    }

    /// The device that an interface belongs to.
    pub fn master_of(&self, interface: &Interface) -> Option<&Interface> {
        let master = interface.master.as_deref()?;
        self.interfaces.iter().find(|other| other.name == master)
    }
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Interface {
    /// The name.
    pub name: String,
    /// The driver's name for what it is, as `ip -details link` shows it: `veth`, `bridge`, `vrf`, `openvswitch`,
    /// `vxlan`. Empty for hardware.
    pub kind: String,
    /// The device that it belongs to.
    pub master: Option<String>,
    /// The UDP port of a tunnel (VXLAN, Geneve).
    pub tunnel_port: Option<u16>,
    /// Programs that get its packets ahead of the IP hooks, or behind them.
    pub programs: Vec<Program>,
    /// The reverse path filter of IPv4.
    pub reverse_path: ReversePath,
    /// A bridge alone: whether the frames that it forwards pass the IP hooks (br_netfilter), by its own setting or the
    /// namespace's.
    pub calls_iptables: bool,
}

/// How IPv4's reverse path filter is set on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReversePath {
    /// The larger of the interface's and of `all`'s `rp_filter` is 1. It is loose with 2.
    pub strict: bool,
    /// `src_valid_mark` is set, on the interface or for all.
    pub marked: bool,
}

/// A BPF program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Program {
    /// XDP: ahead of everything.
    Xdp,
    /// In traffic control: behind XDP and ahead of IP, or behind it on the way out.
    TrafficControl,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Program::Xdp => "an XDP program",
            Program::TrafficControl => "a BPF program in traffic control",
        })
    }
}

/// A virtual server of IPVS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IpvsService {
    /// What is balanced.
    pub balanced: Balanced,
    /// The servers behind it to which packets go with a new destination (`Masq`); those that get them as they were
    /// (`Route`, `Tunnel`, `Local`) are left out: what they answer is not translated.
    pub translated_to: Vec<SocketAddr>,
}

/// What IPVS balances.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Balanced {
    /// Packets to an address; port 0 is every port.
    Server(Proto, SocketAddr),
    /// Packets with a mark.
    Mark(u32),
}

/// A flow table: connections in it do not pass the hooks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowTable {
    /// The family of the table that it is in.
    pub family: TableFamily,
    /// The table that it is in.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The interfaces whose packets are looked up in it.
    pub devices: Vec<String>,
}

/// A socket that gets conntrack's events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConntrackListener {
    /// Which: bit `n - 1` is group `n` of `enum nfnetlink_groups` (new, update, destroy; then those of expectations).
    pub groups: u32,
    /// The program, where it is one of those that are known here and can be seen.
    #[serde(default)]
    pub program: Option<String>,
}

impl ConntrackListener {
    /// New, changed and destroyed entries: who keeps a copy of the table needs all three.
    pub const ENTRIES: u32 = 0b111;
}

/// A socket with a source port of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FixedSource {
    /// The protocol.
    pub protocol: Proto,
    /// The local port.
    pub port: u16,
    /// Whom it asks, where the socket is connected.
    #[serde(default)]
    pub remote: Option<SocketAddr>,
    /// The program, where it is one of those that are known here and can be seen.
    #[serde(default)]
    pub program: Option<String>,
}

impl FixedSource {
    /// Whether it asks an address among these, as far as it shows.
    pub fn may_ask(&self, peers: Option<&[AddressRange]>) -> bool {
        let asks =
            |address: IpAddr| peers.is_none_or(|peers| peers.iter().any(|peer| peer.contains(address)));
        self.remote.is_none_or(|remote| asks(remote.ip()))
    }
}
