//! Hazards: what a bypass would break, each with a stable code and name, evidence and a remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! hazards {
    ($($number:literal $name:ident $remedy:literal, $doc:literal;)*) => {
        /// A way in which a bypass breaks something. The code is `NT` and the number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum HazardKind {
            $(#[doc = $doc] $name,)*
        }

        impl HazardKind {
            /// Every hazard that this version knows, by number.
            pub const ALL: &[HazardKind] = &[$(HazardKind::$name,)*];

            /// The number: 18 for `NT018`.
            pub fn number(self) -> u16 {
                match self { $(HazardKind::$name => $number,)* }
            }

            /// The name, as in conditions: `Protected`.
            pub fn name(self) -> &'static str {
                match self { $(HazardKind::$name => stringify!($name),)* }
            }

            /// What a user can do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(HazardKind::$name => $remedy,)* }
            }
        }
    };
}

// A hazard enters this list when its check works; the numbers are those of the design and never change.
hazards! {
    1 ServiceAddress "name the port that the server itself listens on, at addresses that no Service has",
        "An address or port of a Service: the kernel translates it, for which it needs an entry.";
    2 ServiceEndpoint "make the Service headless, have no Service for a server on the host's network, or (where the Service has a cluster address alone) name the uplink interfaces in the flow",
        "The server backs a Service with a virtual address: replies to its clients would never be translated back.";
    18 Protected "nothing to do: these ports stay tracked whatever a policy says",
        "A port that the node cannot do without (SSH, kubelet, API server, etcd, DHCP ...) was named.";
    19 NothingMatches "check the ports and addresses of the flow, or delete the policy",
        "Nothing of the flow is left to bypass, or no packet has matched.";
    22 EphemeralPorts "name a port outside net.ipv4.ip_local_port_range, or move that range",
        "A Server port lies where the node's own clients get their source ports.";
    25 NotTracked "nothing to do: this node does not track connections, so it has no table to fill",
        "Nothing in this network namespace uses connection tracking.";
    27 AddressNotOurs "name an address of this node, or leave serverAddresses empty",
        "A server address is not (or not yet) an address of this node.";
    31 FutureService "name addresses and ports outside the cluster's Service addresses and node ports",
        "The range from which Services get their addresses or node ports: one may come at any time.";
    34 AnyPeer "name the servers in peers as narrowly as you can",
        "A Client flow trusts the source port of every remote address.";
    36 Multicast "name unicast addresses: group and broadcast addresses belong to no node",
        "A flow names multicast or broadcast addresses, which are never this node's own.";
}

impl HazardKind {
    /// The stable code: `NT018`.
    pub fn code(self) -> String {
        format!("NT{:03}", self.number())
    }

    /// The hazard with a code, where this version knows it.
    pub fn from_code(code: &str) -> Option<HazardKind> {
        HazardKind::ALL.iter().copied().find(|kind| kind.code() == code)
    }
}

impl fmt::Display for HazardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.name())
    }
}

/// What a hazard does to the flow that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Effect {
    /// Something to know; nothing is changed.
    Warning,
    /// A part of the flow stays tracked.
    Subtracted,
    /// The whole flow stays tracked.
    Refused,
}

/// Why something of a flow stays tracked, or is worth a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// A hazard.
    Hazard(HazardKind),
    /// A flow with action `Track`: the user's own exception, which always wins.
    Exception,
}

impl Cause {
    /// The name, as a condition's reason.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Hazard(kind) => kind.name(),
            Cause::Exception => "Exception",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Hazard(kind) => write!(f, "{kind}"),
            Cause::Exception => f.write_str("Exception"),
        }
    }
}

/// What was found in one flow: the same value is the condition's reason, the CLI's diagnostic and the
/// metric's label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// The policy's name.
    pub policy: String,
    /// The flow's name in that policy.
    pub flow: String,
    /// What it does to the flow.
    pub effect: Effect,
    /// Why.
    pub cause: Cause,
    /// What was found: the tuple, and what it collides with.
    pub evidence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { policy, flow, effect, cause, evidence } = self;
        let effect = match effect {
            Effect::Warning => "warning",
            Effect::Subtracted => "stays tracked",
            Effect::Refused => "refused",
        };
        write!(f, "{policy}/{flow}: {effect}: {cause}: {evidence}")?;
        match cause {
            Cause::Hazard(kind) => write!(f, "; {}", kind.remedy()),
            Cause::Exception => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable_and_unique() {
        let mut codes: Vec<String> = HazardKind::ALL.iter().map(|kind| kind.code()).collect();
        assert!(codes.is_sorted(), "{codes:?}");
        codes.dedup();
        assert_eq!(codes.len(), HazardKind::ALL.len());
        assert_eq!(HazardKind::Protected.to_string(), "NT018 Protected");
    }
}
