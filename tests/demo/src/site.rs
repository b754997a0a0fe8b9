//! A node with a stateful firewall, and a client on the other end of its cable.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use notrack_lab::{Namespace, Pair};

/// The site's own firewall. It uses connection tracking, as nearly every machine's does: without
/// a user of it a namespace tracks nothing, and a bypass of nothing proves nothing.
const FIREWALL: &str = "
table inet site {
  counter stranger {}
  counter unasked {}
  chain input {
    type filter hook input priority filter; policy drop;
    iifname lo accept
    meta l4proto { icmp, ipv6-icmp } accept
    ct state established,related accept
    udp dport 53 ip saddr 10.77.0.0/24 accept
    udp dport 53 counter name stranger drop
    udp sport 53 counter name unasked drop
    tcp dport { 22, 80 } accept
  }
}";

/// A client and a node.
#[derive(Debug)]
pub struct Site {
    pub client: Namespace,
    pub node: Namespace,
}

impl Site {
    /// The node's address, where its services listen.
    pub const NODE: IpAddr = Pair::NODE;
    /// The client's address, in the network that the DNS policy is for.
    pub const CLIENT: IpAddr = Pair::CLIENT;
    /// An address of the client in another network.
    pub const STRANGER: IpAddr = Pair::STRANGER;

    /// Makes both, with the firewall in place.
    pub fn new() -> Result<Self> {
        Self::with(FIREWALL)
    }

    /// The same with other rules of the site's own.
    pub fn with(rules: &str) -> Result<Self> {
        let Pair { client, node } = Pair::new()?;
        node.nft(rules)?;
        Ok(Self { client, node })
    }

    /// A service of the node.
    pub fn service(port: u16) -> SocketAddr {
        SocketAddr::new(Self::NODE, port)
    }

    /// How many entries the node's table has for a service.
    pub fn entries(&self, protocol: &str, port: u16) -> Result<u64> {
        Ok(self.node.conntrack(&format!("-p {protocol} --dport {port}"))?.len() as u64)
    }

    /// How many packets a rule of the firewall dropped.
    pub fn dropped(&self, rule: &str) -> Result<u64> {
        Ok(self.node.counter("inet site", rule)?.packets)
    }
}
