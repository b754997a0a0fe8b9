//! What rules do beside judging.

use serde::{Deserialize, Serialize};

use crate::net::{AddressRange, PortRange};

/// Something that a rule does beside judging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// A new destination (`dnat`, `DNAT`, `redirect`, `REDIRECT`, `NETMAP` in prerouting or output): one of these, by a
    /// map; none where that is not understood.
    Dnat(Vec<NatTo>),
    /// A new source (`snat`, `masquerade`, `NETMAP` in postrouting); to what, in words.
    Snat(String),
    /// Do not track.
    Notrack,
    /// Another conntrack zone.
    Zone,
    /// Assigns a helper, by its name.
    Helper(String),
    /// Sets the packet's mark from the entry's (`meta mark set ct mark`, `CONNMARK --restore-mark`).
    RestoreMark,
    /// Sets the entry's mark, from whatever.
    SetCtMark,
    /// Sets the packet's mark; `None`: from anything that is not followed.
    SetMark(Option<Marking>),
    /// Answers SYN packets in the server's place.
    Synproxy,
    /// Hands the packet to a local socket (`tproxy`).
    Tproxy,
    /// Writes into the packet's addresses or ports without an entry (`ip daddr set`).
    Rewrite,
    /// Hands the connection to a flow table, by its name.
    Offload(String),
}

/// What becomes of a packet's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Marking {
    /// The bits that stay.
    pub keep: u32,
    /// The bits that are flipped after that.
    pub flip: u32,
}

impl Marking {
    /// The mark afterwards, if it does not depend on one that is not known.
    pub fn of(self, mark: Option<u128>) -> Option<u128> {
        let Marking { keep, flip } = self;
        let kept = match mark {
            _ if keep == 0 => 0,
            mark => mark? & u128::from(keep),
        };
        Some(kept ^ u128::from(flip))
    }
}

/// Where a packet is sent instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NatTo {
    /// To which address.
    pub target: NatTarget,
    /// To which ports. `None`: the packet's own.
    #[serde(default)]
    pub ports: Option<PortRange>,
}

/// The address of a [`NatTo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NatTarget {
    /// This node (`redirect`).
    Own,
    /// One of these.
    Addresses(AddressRange),
    /// The packet's own: only the port is changed.
    Kept,
}
