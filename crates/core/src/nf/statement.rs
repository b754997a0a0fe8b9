//! The statements that our rules are made of.

use std::sync::Arc;

use super::{FieldType, Verdict};
use crate::net::Family;

/// Which of a packet's interfaces is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The interface that the packet came in by.
    In,
    /// The interface that the packet leaves by.
    Out,
}

/// A field of a look-up, where it is read from in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RawField {
    /// The source address of the IP header.
    SourceAddress(Family),
    /// The destination address of the IP header.
    DestinationAddress(Family),
    /// The number of the transport protocol, behind extension headers.
    L4Proto,
    /// The source port.
    SourcePort,
    /// The destination port.
    DestinationPort,
    /// The family.
    NfProto,
    /// TCP's flags that tracking looks at: FIN, SYN, RST, ACK, URG.
    TcpFlags,
    /// The ICMP type.
    IcmpType,
    /// The ICMPv6 type.
    Icmpv6Type,
    /// Bits of the transport header: of the packet that an ICMP error embeds.
    Transport {
        /// Offset in bits.
        offset: u16,
        /// Length in bits; a multiple of eight.
        bits: u16,
    },
}

impl RawField {
    /// The type that a set must have for this field.
    pub fn field_type(self) -> FieldType {
        match self {
            RawField::SourceAddress(family) | RawField::DestinationAddress(family) => {
                FieldType::address(family)
            }
            RawField::L4Proto => FieldType::InetProto,
            RawField::SourcePort | RawField::DestinationPort => FieldType::InetService,
            RawField::NfProto => FieldType::NfProto,
            RawField::TcpFlags => FieldType::TcpFlag,
            RawField::IcmpType => FieldType::IcmpType,
            RawField::Icmpv6Type => FieldType::Icmpv6Type,
            RawField::Transport { offset, bits } => FieldType::Raw { offset, bits },
        }
    }
}

/// One statement of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// The packet is of this family.
    Family(Family),
    /// The packet's transport protocol has this number.
    L4Proto(u8),
    /// The interface is the loopback device, always index 1.
    Loopback(Direction),
    /// The interface's name, or its beginning where the pattern ends in `*`.
    InterfaceName(Direction, Arc<str>),
    /// Bits of the transport header, masked, have this value.
    TransportBits {
        /// Offset in bits; a multiple of eight.
        offset: u16,
        /// Length in bits: 8 or 16.
        bits: u16,
        /// Which of the bits.
        mask: u16,
        /// Their value.
        value: u16,
    },
    /// The flags FIN, SYN, RST and ACK of a TCP packet are exactly SYN.
    TcpSyn,
    /// The fields are (not) in a set.
    InSet {
        /// The fields of the key.
        key: Vec<RawField>,
        /// The set's name.
        set: Arc<str>,
        /// Match where the set does *not* have the key.
        inverted: bool,
    },
    /// Go where a verdict map leads.
    VerdictMap {
        /// The fields of the key.
        key: Vec<RawField>,
        /// The map's name.
        map: Arc<str>,
    },
    /// Do not track this packet. Does nothing where the packet already has an entry or a template (a zone set
    /// by an earlier hook).
    Notrack,
    /// Conntrack's state of the packet is UNTRACKED.
    CtUntracked,
    /// Count in a named counter.
    Counter(Arc<str>),
    /// More packets than this a second.
    RateOver {
        /// Packets a second.
        per_second: u32,
    },
    /// End with a verdict.
    Verdict(Verdict),
}
