//! The rules of other programs on a node, in words that a packet can be judged by: what an untracked packet would meet.
//!
//! The agent reads nf_tables of the families ip, ip6 and inet and both back ends of iptables into [`HostRules`]. It is
//! not a copy of the kernel's bytes but of their meaning, as far as it matters here; what is not understood is there
//! too, as something that may or may not match ([`Step::Opaque`], [`Members::Unknown`]).

mod act;
mod adapter;
mod compare;
pub(crate) mod journey;
pub(crate) mod region;
mod surroundings;
pub(crate) mod walk;

use std::collections::BTreeMap;
use std::fmt;

pub use act::{Act, Marking, NatTarget, NatTo};
pub(crate) use adapter::commands_in;
pub use adapter::{Adapter, Carried, Untracked};
use serde::{Deserialize, Serialize};
pub use surroundings::{
    Balanced, ConntrackListener, FixedSource, FlowTable, Interface, IpvsService, Program, ReversePath,
    Surroundings,
};

use crate::net::Family;
use crate::packet::Tuple;

/// How the rules that this project adds to other programs' chains begin their comment.
pub const OWN_COMMENT: &str = "notrack-dev:";

/// What else lives on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Host {
    /// Other programs' rules.
    pub rules: HostRules,
    /// What changes how packets go, apart from rules.
    pub surroundings: Surroundings,
    /// Connections that are translated now, one a server where there are many.
    pub translated: Vec<Translated>,
    /// Whether there are more than are listed.
    pub more_translated: bool,
    /// Why nothing could be added to other programs' firewalls, where that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unadaptable: Option<String>,
}

/// A translated connection, by the tuple that its first packet came with and the one that its replies have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Translated {
    /// The tuple as the client sent it.
    pub original: Tuple,
    /// The tuple of the replies as they reach this node.
    pub reply: Tuple,
}

/// Every table of other programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostRules {
    /// The tables, our own one left out.
    pub tables: Vec<HostTable>,
    /// What could not be read, in words.
    #[serde(default)]
    pub incomplete: Vec<String>,
}

impl HostRules {
    /// The same without the rules that this project has added.
    pub fn without_own(&self) -> HostRules {
        let mut rules = self.clone();
        let chains = rules.tables.iter_mut().flat_map(|table| table.chains.values_mut());
        chains.for_each(|chain| chain.rules.retain(|rule| !rule.is_own()));
        rules
    }

    /// The same with rules added, as far as their places are there.
    pub fn with(&self, adapters: &[Adapter]) -> HostRules {
        let mut rules = self.clone();
        for adapter in adapters {
            let table = rules.tables.iter_mut().find(|table| table.id == adapter.table);
            let Some(chain) = table.and_then(|table| table.chains.get_mut(&adapter.chain)) else { continue };
            let place = chain.rules.iter().position(|rule| Some(rule.handle) == adapter.before);
            chain.rules.insert(place.unwrap_or(chain.rules.len()), adapter.rule());
        }
        rules
    }
}

/// Who keeps a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Backend {
    /// nf_tables, by nft or a program of its own such as firewalld.
    Nft,
    /// nf_tables, by iptables-nft: its rules must stay such that iptables can list them.
    IptablesNft,
    /// The old iptables.
    IptablesLegacy,
}

/// The family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TableFamily {
    /// IPv4 packets.
    Ip,
    /// IPv6 packets.
    Ip6,
    /// Both.
    Inet,
}

impl TableFamily {
    /// Whether its chains see packets of a family.
    pub fn sees(self, family: Family) -> bool {
        match self {
            TableFamily::Ip => family == Family::Ipv4,
            TableFamily::Ip6 => family == Family::Ipv6,
            TableFamily::Inet => true,
        }
    }

    /// The name that nft uses.
    pub fn nft_name(self) -> &'static str {
        match self {
            TableFamily::Ip => "ip",
            TableFamily::Ip6 => "ip6",
            TableFamily::Inet => "inet",
        }
    }
}

/// Which table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableId {
    /// Who keeps it.
    pub backend: Backend,
    /// Its family.
    pub family: TableFamily,
    /// Its name: `filter`, `firewalld`.
    pub name: String,
}

impl fmt::Display for TableId {
    /// As its own tool names it: `inet firewalld`, `iptables filter`, `ip6tables-legacy nat`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tool = match (self.backend, self.family) {
            (Backend::Nft, family) => family.nft_name(),
            (Backend::IptablesNft, TableFamily::Ip6) => "ip6tables",
            (Backend::IptablesNft, _) => "iptables",
            (Backend::IptablesLegacy, TableFamily::Ip6) => "ip6tables-legacy",
            (Backend::IptablesLegacy, _) => "iptables-legacy",
        };
        write!(f, "{tool} {}", self.name)
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostTable {
    /// Which one.
    pub id: TableId,
    /// The netlink port of the program that alone may change it (table flag `owner`), where one does.
    #[serde(default)]
    pub owner: Option<u32>,
    /// Whether the table is switched off (table flag `dormant`): its base chains see no packets.
    #[serde(default)]
    pub dormant: bool,
    /// Its chains, by name.
    pub chains: BTreeMap<String, HostChain>,
    /// Its sets and maps, by name, anonymous ones too (`__set0`).
    #[serde(default)]
    pub sets: BTreeMap<String, HostSet>,
}

impl HostTable {
    /// A rule of one of its chains, as evidence.
    pub fn place(&self, chain: &str, rule: &HostRule) -> Place {
        Place {
            table: self.id.clone(),
            chain: chain.to_owned(),
            handle: Some(rule.handle),
            text: rule.text.clone(),
        }
    }

    /// The policy of a base chain that drops, as evidence.
    pub fn policy(&self, chain: &str) -> Place {
        Place {
            table: self.id.clone(),
            chain: chain.to_owned(),
            handle: None,
            text: "policy drop".to_owned(),
        }
    }
}

/// Where packets meet a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HostHook {
    /// Packets that arrive, before routing.
    Prerouting,
    /// Packets for this node.
    Input,
    /// Packets that this node routes.
    Forward,
    /// Packets that this node sends.
    Output,
    /// Packets that leave.
    Postrouting,
}

/// What a base chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChainKind {
    /// It accepts and drops.
    Filter,
    /// It translates. Only the first packet of a tracked connection meets it, an untracked one never does.
    Nat,
    /// It changes what routing goes by.
    Route,
}

/// Where a chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostBase {
    /// The hook.
    pub hook: HostHook,
    /// The priority: lower runs earlier.
    pub priority: i32,
    /// What it is for.
    pub kind: ChainKind,
    /// Whether a packet that no rule has decided is dropped.
    pub drops: bool,
}

impl HostBase {
    /// `NF_IP_PRI_CONNTRACK`
    const CONNTRACK: i32 = -200;

    /// Whether packets have no entry yet when they meet it.
    pub fn is_before_conntrack(self) -> bool {
        matches!(self.hook, HostHook::Prerouting | HostHook::Output) && self.priority < Self::CONNTRACK
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostChain {
    /// `None` for one that is only jumped to.
    #[serde(default)]
    pub base: Option<HostBase>,
    /// Its rules, in order.
    pub rules: Vec<HostRule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostRule {
    /// nf_tables' handle; of the old iptables the number in its chain, from 1.
    pub handle: u64,
    /// The rule as its own tool would write it, as far as it is understood: `tcp dport 22 accept`,
    /// `-p tcp --dport 22 -j ACCEPT`.
    pub text: String,
    /// Its comment.
    #[serde(default)]
    pub comment: Option<String>,
    /// What it does, from left to right, until something does not match.
    pub steps: Vec<Step>,
}

impl HostRule {
    /// Whether this project has added it.
    pub fn is_own(&self) -> bool {
        self.comment.as_ref().is_some_and(|comment| comment.starts_with(OWN_COMMENT))
    }
}

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Go on if the packet's fields are (not) among values.
    Match(Match),
    /// Go on while a rate or a quota lasts. The header is all it looks at.
    Limit,
    /// Go on by the number of connections (`ct count`, `connlimit`): an untracked packet is no connection.
    CountConnections,
    /// Go on or not: nobody here knows. The name of the expression or extension.
    Opaque(String),
    /// Do something, and go on.
    Act(Act),
    /// Go where a map leads; if it does not have the key, the rule ends.
    VerdictMap {
        /// The fields of the key.
        fields: Vec<Field>,
        /// The map's name in this table.
        map: String,
    },
    /// End with a verdict.
    Verdict(HostVerdict),
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// The fields, looked at together.
    pub fields: Vec<Field>,
    /// Whether they must *not* be among the values.
    #[serde(default)]
    pub inverted: bool,
    /// The values.
    pub of: Members,
}

/// The values of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Members {
    /// These.
    Boxes(Vec<ValueBox>),
    /// The elements of a set of this table.
    Set(String),
    /// Of one field, which is masked first: one of these.
    Masked {
        /// The bits that count.
        mask: u128,
        /// What they are, each a whole value.
        values: Vec<u128>,
    },
    /// Some that are not understood or can change at any packet.
    Unknown,
}

/// A range of values for each field, both ends included.
///
/// Values are numbers as the packet has them: addresses and ports as their bits, the name of an interface as its 16
/// bytes (padded with NUL; the first byte is the highest), so that a name that begins with `eth` is a range;
/// `CtState` as nf_tables' bit ([`CT_NEW`] and its like); marks and numbers as the number.
pub type ValueBox = Vec<(u128, u128)>;

/// `ct state invalid`
pub const CT_INVALID: u128 = 1;
/// `ct state established`
pub const CT_ESTABLISHED: u128 = 2;
/// `ct state related`
pub const CT_RELATED: u128 = 4;
/// `ct state new`
pub const CT_NEW: u128 = 8;
/// `ct state untracked`
pub const CT_UNTRACKED: u128 = 64;
/// Every state.
pub const CT_STATES: [u128; 5] = [CT_INVALID, CT_ESTABLISHED, CT_RELATED, CT_NEW, CT_UNTRACKED];

/// [`Field::CtOther`]: whether the connection is translated, 1 or 0 (iptables' states `SNAT` and `DNAT`).
pub const TRANSLATED: &str = "translated";
/// `IPS_SRC_NAT` and `IPS_DST_NAT` of an entry's status, which is [`Field::CtOther`] of this name.
pub const STATUS: (&str, u128) = ("status", 0x30);

/// Something of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Field {
    /// `meta nfproto`: 2 or 10.
    Family,
    /// The source address; a packet of the other family does not match.
    SourceAddress(Family),
    /// The destination address; a packet of the other family does not match.
    DestinationAddress(Family),
    /// The transport protocol's number: `meta l4proto`, `ip protocol`, `ip6 nexthdr`.
    L4Proto,
    /// The source port of whichever transport protocol.
    SourcePort,
    /// The destination port.
    DestinationPort,
    /// The name of the interface that it came in by; none in the output and postrouting hooks.
    InInterface,
    /// The name of the interface that it leaves by; none in the prerouting and input hooks.
    OutInterface,
    /// TCP's flags byte.
    TcpFlags,
    /// The type of an ICMP or ICMPv6 message.
    IcmpType,
    /// `ct state`: one bit.
    CtState,
    /// Anything else of the packet's entry (mark, status, direction, original address, label ...), which an untracked
    /// packet does not have: nft's comparison ends the rule then, and iptables' does not match. The name is nft's.
    CtOther(String),
    /// The packet's mark.
    Mark,
    /// `fib daddr type`, iptables' `addrtype --dst-type`: `RTN_LOCAL` is 2, `RTN_BROADCAST` 3, `RTN_MULTICAST` 5,
    /// `RTN_UNICAST` 1.
    DestinationType,
    /// The same of the source address.
    SourceType,
    /// Anything that does not depend on tracking, by nft's name.
    Other(String),
}

/// How a rule ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostVerdict {
    /// Leave this base chain.
    Accept,
    /// Discard, or refuse with an answer.
    Drop,
    /// Hand to a program, which decides.
    Queue,
    /// Back to the chain that jumped here.
    Return,
    /// Evaluate a chain, then come back.
    Jump(String),
    /// Evaluate a chain and do not come back.
    Goto(String),
}

/// A set or a map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostSet {
    /// The elements that have not expired. A map to anything but a verdict counts as a set of its keys.
    pub elements: Vec<HostElement>,
    /// Whether packets add elements (flag `dynamic`), so that what it holds may change at any moment.
    #[serde(default)]
    pub dynamic: bool,
    /// Whether its elements are not understood: it may hold anything.
    #[serde(default)]
    pub unknown: bool,
}

/// An element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostElement {
    /// Its values.
    pub values: ValueBox,
    /// Where it leads, in a verdict map.
    #[serde(default)]
    pub verdict: Option<HostVerdict>,
}

/// A rule, or the policy of a base chain, as evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The table.
    pub table: TableId,
    /// The chain.
    pub chain: String,
    /// The rule's handle; `None` for the chain's policy.
    pub handle: Option<u64>,
    /// The rule's text, or `policy drop`.
    pub text: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { table, chain, handle, text } = self;
        match handle {
            Some(handle) if table.backend == Backend::IptablesLegacy => {
                write!(f, "{table}, chain {chain}, rule {handle}: {text}")
            }
            Some(handle) => write!(f, "{table}, chain {chain}, handle {handle}: {text}"),
            None => write!(f, "{table}, chain {chain}: {text}"),
        }
    }
}

/// The number that stands for an interface's name in a [`ValueBox`].
pub fn interface_number(name: &str) -> u128 {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *place = byte;
    }
    u128::from_be_bytes(bytes)
}

/// The range of the names that begin with a prefix.
pub fn interface_prefix(prefix: &str) -> (u128, u128) {
    let low = interface_number(prefix);
    let rest = 128 - 8 * prefix.len().min(15) as u32;
    (low, low | if rest == 128 { u128::MAX } else { (1 << rest) - 1 })
}
