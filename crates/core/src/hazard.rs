//! Hazards: what a bypass would break, each with a stable code and name, evidence and a remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! hazards {
    ($($number:literal $name:ident $answer:ident $remedy:literal, $doc:literal;)*) => {
        /// A way in which a bypass breaks something. The code is `NT` and the number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum HazardKind {
            $(#[doc = $doc] $name,)*
        }

        impl HazardKind {
            /// Every hazard, by number.
            pub const ALL: &[HazardKind] = &[$(HazardKind::$name,)*];

            /// The number: 18 for `NT018`.
            pub fn number(self) -> u16 {
                match self { $(HazardKind::$name => $number,)* }
            }

            /// The name, as in conditions: `Protected`.
            pub fn name(self) -> &'static str {
                match self { $(HazardKind::$name => stringify!($name),)* }
            }

            /// In one sentence what it is.
            pub fn meaning(self) -> &'static str {
                match self { $(HazardKind::$name => $doc,)* }
            }

            /// What a user can do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(HazardKind::$name => $remedy,)* }
            }

            /// How it is answered.
            pub fn answer(self) -> Answer {
                match self { $(HazardKind::$name => Answer::$answer,)* }
            }
        }
    };
}

/// How a hazard is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// By what the rules are: nobody can ask for anything else.
    Always,
    /// By a refusal or a warning that a flow may acknowledge by name.
    Acknowledgeable,
    /// By how the rules are made; there is nothing to find in a policy.
    ByDesign,
}

// The numbers are those of the design and never change.
hazards! {
    1 ServiceAddress Always "name the port that the server itself listens on, at addresses that no Service has",
        "An address or port of a Service: the kernel translates it, for which it needs an entry.";
    2 ServiceEndpoint Always "make the Service headless, have no Service for a server on the host's network, or (where the Service has a cluster address alone) name the uplink interfaces in the flow",
        "The server backs a Service with a virtual address: replies to its clients would never be translated back.";
    3 Masquerade Always "leave translated traffic tracked: name only peers or servers that are reached without translation",
        "The traffic leaves with another source address, for which the kernel needs an entry.";
    4 HostPort Always "name a port that no NAT rule translates, or remove the rule that does",
        "A NAT rule sends the port elsewhere (hostPort, container engines, REDIRECT), for which the kernel needs an entry.";
    5 IPVS Always "name addresses and ports that IPVS does not balance",
        "IPVS balances the address and port, and needs its own entries for that.";
    6 ForeignDataplane Acknowledgeable "name the interfaces that the kernel's own stack serves, or acknowledge it",
        "Another program (eBPF, Open vSwitch) handles packets beside netfilter: what it takes is not bypassed by these rules.";
    7 HostFirewallDrops Acknowledgeable "set hostFirewall: Adapt, or add the rule that is shown",
        "A chain of the host's own firewall accepts the traffic by its state and would drop it untracked.";
    8 PodPolicy Acknowledgeable "leave the pods' traffic tracked: name the node's own clients in peers, or acknowledge it",
        "A network policy engine drops packets of pods that are untracked or INVALID.";
    9 Helper Acknowledgeable "leave the control connection tracked, or remove the rule that assigns the helper",
        "A helper (FTP, SIP, TFTP, PPTP) expects further connections by what it reads in this one.";
    10 Fragments ByDesign "nothing to do: the rules come after reassembly wherever anything tracks",
        "Only the first fragment of a packet has ports.";
    11 Zones Always "remove the rule that sets the zone, or leave the traffic tracked",
        "A rule sets a conntrack zone ahead of tracking, which makes a bypass void.";
    12 FlowOffload Acknowledgeable "take the traffic out of the flow table, or acknowledge that offloaded connections go on until they end",
        "Connections in a flow table do not pass these rules.";
    13 BridgedFrames Acknowledgeable "name the bridge in interfaces, not its ports",
        "An interface is the port of a bridge: packets that are routed come in by the bridge itself.";
    14 MarksLost Acknowledgeable "leave tracked what needs the mark, or set the mark without an entry",
        "A mark that rules restore from the entry (QoS, routing, affinity) is lost.";
    15 ExistingEntries ByDesign "nothing to do: exactly the entries of bypassed traffic are deleted, or kept where existingEntries is Keep",
        "Entries of before stay in the table for up to five days.";
    16 LiveNAT Always "let the translated connections end, and remove the rule that translates them",
        "A connection that is translated now is in the table.";
    17 DeactivationUnderLoad ByDesign "nothing to do: connections that live are put into the table before their bypass ends",
        "Connections made untracked are unknown to tracking when the bypass ends.";
    18 Protected Always "nothing to do: these ports stay tracked whatever a policy says",
        "A port that the node cannot do without (SSH, kubelet, API server, etcd, DHCP ...) was named.";
    19 NothingMatches Always "check the ports and addresses of the flow, or delete the policy",
        "Nothing of the flow is left to bypass, or no packet has matched.";
    20 AgentLoss ByDesign "nothing to do: the kernel lease ends the rules that nobody renews",
        "Rules may outlive what they served.";
    21 UntrackedAsSignal Acknowledgeable "leave the traffic tracked, or change the rule that is shown",
        "A rule takes the state UNTRACKED or INVALID for a signal (SYNPROXY needs it).";
    22 EphemeralPorts Always "name a port outside net.ipv4.ip_local_port_range, or move that range",
        "A Server port lies where the node's own clients get their source ports.";
    23 StatefulLimits Acknowledgeable "use compensation.newConnectionsPerSecond or a limit that does not ask for the state, then acknowledge it",
        "A limit on connections (connlimit, ct count, limits on NEW), or a refusal by the state alone, no longer holds.";
    24 KeptEntries ByDesign "nothing to do: what is kept stays tracked as a whole",
        "An entry whose packets are bypassed goes stale and spoils the connection later.";
    25 NotTracked Always "nothing to do: this node does not track connections, so it has no table to fill",
        "Nothing in this network namespace uses connection tracking.";
    26 ForgedPathMTU Acknowledgeable "set compensation.icmpErrors: Ignore, or acknowledge it",
        "A forged ICMP error about untracked UDP can lower a path MTU, which tracking would have refused.";
    27 AddressNotOurs Always "name an address of this node, or leave serverAddresses empty",
        "A server address is not (or not yet) an address of this node.";
    28 OneWayTunnel Acknowledgeable "use role Peer for tunnels",
        "A tunnel's port as Server: packets that this node sends first stay tracked.";
    29 SavedRuleset ByDesign "save the host's rules without table inet notrack-dev",
        "A saved ruleset that holds our table does not load while the agent lives.";
    30 TupleClash ByDesign "have clients use one way to the server",
        "One client address and port is used directly and through a node port at once.";
    31 FutureService Always "name addresses and ports outside the cluster's Service addresses and node ports",
        "The range from which Services get their addresses or node ports: one may come at any time.";
    32 VRF Acknowledgeable "name the interfaces outside the VRF, or acknowledge it",
        "Packets of a VRF pass the hooks twice, and the second pass may track them.";
    33 AddressRewrite Acknowledgeable "leave tracked what the rule rewrites",
        "A rule without state rewrites addresses or ports between these rules and tracking, so that the halves differ.";
    34 AnyPeer Acknowledgeable "name the servers in peers as narrowly as you can",
        "A Client flow trusts the source port of every remote address.";
    35 LocalPorts Acknowledgeable "name the client's own source ports in localPorts",
        "The node's own client of that protocol uses a fixed source port, so only half of the flow matches.";
    36 Multicast Acknowledgeable "name unicast addresses: group and broadcast addresses belong to no node",
        "A flow names multicast or broadcast addresses, which are never this node's own.";
    37 ReplicatedTable Acknowledgeable "leave tracked what must survive a failover, or acknowledge it",
        "A program replicates the table to other machines (conntrackd): these connections will be missing there.";
    38 MasqueradedPorts Acknowledgeable "name clients in peers that nobody is translated towards, ports below 1024, or few ports, then acknowledge it",
        "A NAT rule gives others this node's address and any port from 1024 on, one that is served too: answers to them would not be translated back.";
    39 TooLarge Always "name ranges of ports and prefixes rather than many single ones, or fewer of them",
        "The policies of a node need more map elements than its table takes: the youngest that does not fit is left out.";
}

impl HazardKind {
    /// The stable code: `NT018`.
    pub fn code(self) -> String {
        format!("NT{:03}", self.number())
    }

    /// The hazard with a name, where there is one.
    pub fn from_name(name: &str) -> Option<HazardKind> {
        HazardKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether a flow may acknowledge it.
    pub fn is_acknowledgeable(self) -> bool {
        self.answer() == Answer::Acknowledgeable
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
    /// The whole policy stays out of effect on this node.
    Blocked,
}

impl Effect {
    /// The name, as a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Warning => "Warning",
            Effect::Subtracted => "Subtracted",
            Effect::Refused => "Refused",
            Effect::Blocked => "Blocked",
        }
    }
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
            Effect::Blocked => "blocked",
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
