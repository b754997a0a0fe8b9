//! The state of an entry.

use std::fmt;

/// Status bits of an entry (`enum ip_conntrack_status`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// Belongs to another connection that a helper foresaw (FTP data).
    pub const EXPECTED: Self = Self(1);
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: Self = Self(1 << 1);
    /// Not evicted early when the table is full.
    pub const ASSURED: Self = Self(1 << 2);
    /// In the table.
    pub const CONFIRMED: Self = Self(1 << 3);
    /// The source is translated.
    pub const SRC_NAT: Self = Self(1 << 4);
    /// The destination is translated.
    pub const DST_NAT: Self = Self(1 << 5);
    /// TCP sequence numbers are translated: a helper or SYNPROXY is in between.
    pub const SEQ_ADJUST: Self = Self(1 << 6);
    /// The source was looked up in the NAT rules; it says nothing about a translation.
    pub const SRC_NAT_DONE: Self = Self(1 << 7);
    /// The destination was looked up in the NAT rules.
    pub const DST_NAT_DONE: Self = Self(1 << 8);
    /// On its way out.
    pub const DYING: Self = Self(1 << 9);
    /// Its timeout is not renewed by packets.
    pub const FIXED_TIMEOUT: Self = Self(1 << 10);
    /// A template of a rule (zone, helper, timeout), never a connection.
    pub const TEMPLATE: Self = Self(1 << 11);
    /// A helper was assigned by a rule.
    pub const HELPER: Self = Self(1 << 13);
    /// Handled by a flowtable.
    pub const OFFLOAD: Self = Self(1 << 14);
    /// Handled by the network card.
    pub const HW_OFFLOAD: Self = Self(1 << 15);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether one of the bits of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for Status {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What tracking believes of a TCP connection (`enum tcp_conntrack`), in the kernel's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TcpState {
    /// No packet understood yet.
    None,
    /// The client's SYN.
    SynSent,
    /// The server's SYN+ACK.
    SynRecv,
    /// Open.
    Established,
    /// One side has closed.
    FinWait,
    /// The side that has not closed acknowledged.
    CloseWait,
    /// Both have closed.
    LastAck,
    /// Waiting for stragglers.
    TimeWait,
    /// Reset.
    Close,
    /// Both sides sent a SYN.
    SynSent2,
}

impl TcpState {
    const ALL: [Self; 10] = [
        Self::None,
        Self::SynSent,
        Self::SynRecv,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::SynSent2,
    ];

    /// From the number in `CTA_PROTOINFO_TCP_STATE`.
    #[must_use]
    pub fn from_kernel(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The name that `conntrack -L` prints.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
        }
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
