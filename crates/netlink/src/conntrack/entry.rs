//! One tracked connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::{Status, TcpState};

/// Layer 4 of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum L4 {
    /// TCP, UDP, SCTP, DCCP, UDP-Lite; for GRE the two call ids.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// Identifier of the echo.
        id: u16,
        /// Message type.
        kind: u8,
        /// Message code.
        code: u8,
    },
    /// A protocol that tracking tells apart by addresses alone.
    Addresses,
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Ports or their like.
    pub l4: L4,
}

impl Tuple {
    /// Source port, where the protocol has one.
    #[must_use]
    pub const fn source_port(&self) -> Option<u16> {
        match self.l4 {
            L4::Ports { source, .. } => Some(source),
            L4::Icmp { .. } | L4::Addresses => None,
        }
    }

    /// Destination port, where the protocol has one.
    #[must_use]
    pub const fn destination_port(&self) -> Option<u16> {
        match self.l4 {
            L4::Ports { destination, .. } => Some(destination),
            L4::Icmp { .. } | L4::Addresses => None,
        }
    }

    /// A direction of a TCP connection.
    #[must_use]
    pub const fn tcp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            source: source.ip(),
            destination: destination.ip(),
            protocol: 6,
            l4: L4::Ports { source: source.port(), destination: destination.port() },
        }
    }
}

/// The zone of an entry: a separate table inside the table. Zone 0 is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Zone {
    /// Of both directions (`CTA_ZONE`).
    pub both: u16,
    /// Of the original direction alone (`CTA_TUPLE_ZONE` in the original tuple).
    pub original: u16,
    /// Of the reply direction alone.
    pub reply: u16,
}

/// One entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// As the first packet came, before any translation.
    pub original: Tuple,
    /// As replies come: where it is not the mirror of `original`, the connection is translated.
    pub reply: Tuple,
    /// Status bits.
    pub status: Status,
    /// For TCP.
    pub tcp_state: Option<TcpState>,
    /// Seconds until it expires if no packet comes. 0 where the kernel tells none (offloaded flows).
    pub timeout: u32,
    /// Connection mark; 0 means none.
    pub mark: u32,
    /// Tells this entry from a later one of the same tuple, unless that one lies in the same memory: it is a
    /// hash of place and tuple (`nf_ct_get_id`), and the kernel likes to reuse a place at once. It is not
    /// unique in the table.
    pub id: u32,
    /// Zone.
    pub zone: Zone,
    /// Whether a helper (FTP, SIP, ...) watches it.
    pub has_helper: bool,
    /// Whether a connection label is set.
    pub has_label: bool,
}

/// Why an entry must not be deleted although its traffic is to be bypassed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeepReason {
    /// Its source is translated: without the entry the translation ends.
    SourceNat,
    /// Its destination is translated.
    DestinationNat,
    /// A helper watches it.
    Helper,
    /// A helper foresaw it.
    Expected,
    /// Its sequence numbers are translated (SYNPROXY, a helper).
    SequenceAdjusted,
    /// It carries a mark that routing or QoS may use.
    Mark,
    /// It carries a label.
    Label,
    /// It is no connection.
    Template,
}

impl KeepReason {
    /// The reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SourceNat => "its source address is translated",
            Self::DestinationNat => "its destination address is translated",
            Self::Helper => "a connection helper watches it",
            Self::Expected => "a connection helper foresaw it",
            Self::SequenceAdjusted => "its TCP sequence numbers are translated",
            Self::Mark => "it carries a connection mark",
            Self::Label => "it carries a connection label",
            Self::Template => "it is a template, no connection",
        }
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Entry {
    /// Why this entry must stay, or nothing: then its connection goes on the same without tracking, as far
    /// as the entry itself can tell.
    #[must_use]
    pub const fn keep_reason(&self) -> Option<KeepReason> {
        let status = self.status;
        if status.intersects(Status::TEMPLATE) {
            Some(KeepReason::Template)
        } else if status.intersects(Status::SRC_NAT) {
            Some(KeepReason::SourceNat)
        } else if status.intersects(Status::DST_NAT) {
            Some(KeepReason::DestinationNat)
        } else if self.has_helper || status.intersects(Status::HELPER) {
            Some(KeepReason::Helper)
        } else if status.intersects(Status::EXPECTED) {
            Some(KeepReason::Expected)
        } else if status.intersects(Status::SEQ_ADJUST) {
            Some(KeepReason::SequenceAdjusted)
        } else if self.mark != 0 {
            Some(KeepReason::Mark)
        } else if self.has_label {
            Some(KeepReason::Label)
        } else {
            None
        }
    }

    /// Whether deleting this entry cuts nothing that depends on it; see [`Entry::keep_reason`].
    #[must_use]
    pub const fn is_evictable(&self) -> bool {
        self.keep_reason().is_none()
    }

    /// Whether an address or port of it is translated (a live proof that NAT is at work on its tuple).
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.status.intersects(Status::SRC_NAT | Status::DST_NAT)
    }
}
