//! A packet as our rules see it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::net::Family;
use crate::nf::{Direction, Hook};

const TCP: u8 = 6;
const TCP_ACK: u8 = 0x10;

/// The tuple of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Transport protocol number.
    pub proto: u8,
    /// Source port; 0 for protocols without ports.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

impl Tuple {
    /// The tuple of packets the other way.
    pub fn mirrored(self) -> Tuple {
        Tuple {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..self
        }
    }
}

/// A packet at one of the raw hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The tuple of the packet itself.
    pub tuple: Tuple,
    /// TCP's flags byte; 0 otherwise.
    pub tcp_flags: u8,
    /// The ICMP or ICMPv6 type; 0 otherwise.
    pub icmp_type: u8,
    /// The tuple of the packet that an ICMP error embeds, where it can be read.
    pub embedded: Option<Tuple>,
    /// The interface: incoming in prerouting, outgoing in output.
    pub interface: String,
}

impl Packet {
    /// A packet in the middle of a flow: of TCP an ACK alone, which fits both directions.
    pub fn amid(tuple: Tuple, interface: &str) -> Packet {
        let tcp_flags = if tuple.proto == TCP { TCP_ACK } else { 0 };
        Packet { tuple, tcp_flags, icmp_type: 0, embedded: None, interface: interface.to_owned() }
    }

    /// Whether the interface on the side of `direction` is known at `hook`, and its name.
    pub fn interface(&self, hook: Hook, direction: Direction) -> Option<&str> {
        match (hook, direction) {
            (Hook::Prerouting | Hook::Input, Direction::In) | (Hook::Output, Direction::Out) => {
                Some(&self.interface)
            }
            _ => None,
        }
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is tracked.
    Tracked,
    /// It bypasses tracking; the policy that owns it.
    Bypassed(String),
}

/// The protocol number of ICMP or ICMPv6.
pub fn icmp_number(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 58,
    }
}

/// The types of the ICMP or ICMPv6 messages that tell of another packet, which they embed. Redirects are none of them.
pub fn icmp_errors(family: Family) -> &'static [u8] {
    match family {
        // destination-unreachable, time-exceeded, parameter-problem.
        Family::Ipv4 => &[3, 11, 12],
        // destination-unreachable, packet-too-big, time-exceeded, parameter-problem.
        Family::Ipv6 => &[1, 2, 3, 4],
    }
}

/// Whether an interface's name is meant by a name or pattern.
pub fn interface_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}
