//! Rules that this project adds to the chains of a host's own firewall, so that it accepts untracked what it accepted
//! by state.

use std::fmt::Write;
use std::slice;

use sha2::{Digest, Sha256};

use super::region::{flags, interfaces as interfaces_of, is_opening};
use super::{
    Backend, CT_UNTRACKED, Field, HostChain, HostRule, HostVerdict, Match, Members, OWN_COMMENT, Step,
    TableFamily, TableId,
};
use crate::compile::hex;
use crate::net::{AddressRange, Family, PortRange, Proto};
use crate::nf::expr::nfproto;
use crate::packet::icmp_number;

/// One rule to add: untracked packets of these tuples are accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Adapter {
    /// The policy that needs it.
    pub policy: String,
    /// The table.
    pub table: TableId,
    /// The chain.
    pub chain: String,
    /// The rule before which it goes, as [`super::HostRule::handle`]; `None`: behind all others.
    pub before: Option<u64>,
    /// The packets.
    pub packets: Untracked,
}

/// Untracked packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Untracked {
    /// What they carry.
    pub carried: Carried,
    /// The source addresses. For iptables always a prefix ([`AddressRange::prefix_len`]).
    pub sources: AddressRange,
    /// The source ports; of ICMP errors all.
    pub source_ports: PortRange,
    /// The destination addresses, of the same family.
    pub destinations: AddressRange,
    /// The destination ports; of ICMP errors all.
    pub destination_ports: PortRange,
    /// The incoming interface. `None`: any. A `*` at the end stands for any ending.
    pub in_interface: Option<String>,
    /// The outgoing interface. `None`: any.
    pub out_interface: Option<String>,
    /// TCP alone: only packets that open a connection (`--syn`: of FIN, SYN, RST, ACK exactly SYN), or only others.
    /// `None`: all.
    pub opens: Option<bool>,
}

/// What untracked packets carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carried {
    /// Segments or datagrams of this protocol.
    Transport(Proto),
    /// ICMP or ICMPv6 errors of this type, whichever belongs to the family of the addresses.
    IcmpError(u8),
}

impl Carried {
    /// The number in the IP header.
    pub fn number(self, family: Family) -> u8 {
        match self {
            Carried::Transport(proto) => proto.number(),
            Carried::IcmpError(_) => icmp_number(family),
        }
    }
}

/// The name that both nft and iptables have for a type of error ([`crate::packet::icmp_errors`]).
fn error_name(family: Family, kind: u8) -> String {
    let name = match (family, kind) {
        (Family::Ipv4, 3) | (Family::Ipv6, 1) => "destination-unreachable",
        (Family::Ipv6, 2) => "packet-too-big",
        (Family::Ipv4, 11) | (Family::Ipv6, 3) => "time-exceeded",
        (Family::Ipv4, 12) | (Family::Ipv6, 4) => "parameter-problem",
        _ => return kind.to_string(),
    };
    name.to_owned()
}

impl Adapter {
    /// What tells it from all others in a chain: its comment.
    pub fn comment(&self) -> String {
        let Adapter { policy, table, chain, before: _, packets } = self;
        let digest = hex(&Sha256::digest(format!("{table} {chain} {packets:?}").as_bytes()));
        format!("{OWN_COMMENT}{policy}:{}", digest.get(..12).unwrap_or(&digest))
    }

    /// The rule as it is read back.
    pub fn rule(&self) -> HostRule {
        let Untracked { carried, sources, source_ports, destinations, destination_ports, .. } = &self.packets;
        let family = sources.family;
        let one = |field, range: (u128, u128)| {
            let of = Members::Boxes(vec![vec![range]]);
            Step::Match(Match { fields: vec![field], inverted: false, of })
        };
        let number = |value: u8| (u128::from(value), u128::from(value));
        let ports = |range: &PortRange| (u128::from(range.first()), u128::from(range.last()));
        let mut steps = vec![
            one(Field::Family, number(nfproto(family))),
            one(Field::L4Proto, number(carried.number(family))),
            one(Field::SourceAddress(family), (sources.first, sources.last)),
            one(Field::DestinationAddress(family), (destinations.first, destinations.last)),
            one(Field::CtState, (CT_UNTRACKED, CT_UNTRACKED)),
        ];
        match carried {
            Carried::Transport(_) => steps.extend([
                one(Field::SourcePort, ports(source_ports)),
                one(Field::DestinationPort, ports(destination_ports)),
            ]),
            Carried::IcmpError(kind) => steps.push(one(Field::IcmpType, number(*kind))),
        }
        let interfaces = [
            (Field::InInterface, &self.packets.in_interface),
            (Field::OutInterface, &self.packets.out_interface),
        ];
        for (field, name) in interfaces {
            if let Some(name) = name {
                steps.extend(interfaces_of([name.as_str()]).iter().map(|range| one(field.clone(), range)));
            }
        }
        if let Some(opens) = self.packets.opens {
            let flags = flags(|flags| is_opening(flags) == opens);
            let boxes = flags.iter().map(|range| vec![range]).collect();
            let of = Members::Boxes(boxes);
            steps.push(Step::Match(Match { fields: vec![Field::TcpFlags], inverted: false, of }));
        }
        steps.push(Step::Verdict(HostVerdict::Accept));
        HostRule { handle: 0, text: self.command(), comment: Some(self.comment()), steps }
    }

    /// The place in a chain of the rule before which it goes, from 0; `None`: behind all.
    pub fn place(&self, chain: &HostChain) -> Option<usize> {
        chain.rules.iter().position(|rule| Some(rule.handle) == self.before)
    }

    /// The command that a user would run to have the rule, in a chain that is not known further: for iptables-nft at
    /// the beginning of the chain.
    pub fn command(&self) -> String {
        self.written(None)
    }

    fn written(&self, place: Option<usize>) -> String {
        match self.table.backend {
            Backend::Nft => self.nft_command(&[]),
            Backend::IptablesNft | Backend::IptablesLegacy => self.iptables_command(place),
        }
    }

    /// `kinds`: further types of ICMP errors, in the same rule.
    fn nft_command(&self, kinds: &[u8]) -> String {
        let TableId { family, name, .. } = &self.table;
        let place = match self.before {
            Some(handle) => {
                format!("insert rule {} {name} {} position {handle}", family.nft_name(), self.chain)
            }
            None => format!("add rule {} {name} {}", family.nft_name(), self.chain),
        };
        format!("nft '{place} {}'", self.packets.nft(*family, kinds))
    }

    fn iptables_command(&self, place: Option<usize>) -> String {
        let TableId { backend, family, name } = &self.table;
        let tool = if *family == TableFamily::Ip6 { "ip6tables" } else { "iptables" };
        // By its full name: which of the two plain iptables is, differs from host to host.
        let back_end = if *backend == Backend::IptablesNft { "nft" } else { "legacy" };
        let chain = &self.chain;
        // iptables knows no handles, but numbers, from 1.
        let place = match (backend, self.before, place) {
            (_, None, _) => format!("-A {chain}"),
            (Backend::IptablesLegacy, Some(number), _) => format!("-I {chain} {number}"),
            (_, Some(_), Some(place)) => format!("-I {chain} {}", place + 1),
            (_, Some(_), None) => format!("-I {chain}"),
        };
        format!("{tool}-{back_end} -t {name} {place} {}", self.packets.iptables())
    }
}

/// The commands for rules in a chain that is known: for iptables-nft too in their places. nft takes all types of errors at
/// once.
pub(crate) fn commands_in(chain: &HostChain, adapters: &[&Adapter]) -> Vec<String> {
    let mut commands = Vec::new();
    let mut told: Vec<&Adapter> = Vec::new();
    for adapter in adapters {
        let kind = |other: &Adapter| {
            let Carried::IcmpError(kind) = other.packets.carried else { return None };
            let packets = Untracked { carried: adapter.packets.carried, ..other.packets.clone() };
            (Adapter { packets, ..other.clone() } == **adapter).then_some(kind)
        };
        let together = adapter.table.backend == Backend::Nft && kind(adapter).is_some();
        if together && told.iter().any(|told| kind(told).is_some()) {
            continue;
        }
        told.push(adapter);
        commands.push(if together {
            let kinds: Vec<u8> = adapters.iter().filter_map(|other| kind(other)).collect();
            adapter.nft_command(&kinds)
        } else {
            adapter.written(adapter.place(chain))
        });
    }
    commands
}

impl Untracked {
    fn nft(&self, table: TableFamily, kinds: &[u8]) -> String {
        let Untracked { carried, sources, source_ports, destinations, destination_ports, .. } = self;
        let mut text = String::new();
        let (family, icmp) = match sources.family {
            Family::Ipv4 => ("ip", "icmp"),
            Family::Ipv6 => ("ip6", "icmpv6"),
        };
        // Writing to a String cannot fail.
        for (word, interface) in [("iifname", &self.in_interface), ("oifname", &self.out_interface)] {
            if let Some(interface) = interface {
                let _ = write!(text, "{word} \"{interface}\" ");
            }
        }
        for (word, range) in [("saddr", sources), ("daddr", destinations)] {
            if !range.is_all() {
                let _ = write!(text, "{family} {word} {range} ");
            }
        }
        // nft refuses it where the table has one family alone.
        if table == TableFamily::Inet && sources.is_all() && destinations.is_all() {
            let _ = write!(text, "meta nfproto ipv{} ", sources.family.digit());
        }
        let proto = match carried {
            Carried::Transport(proto) => *proto,
            Carried::IcmpError(kind) => {
                let kinds = if kinds.is_empty() { slice::from_ref(kind) } else { kinds };
                let names: Vec<String> = kinds.iter().map(|kind| error_name(sources.family, *kind)).collect();
                let names = match names.as_slice() {
                    [one] => one.clone(),
                    names => format!("{{ {} }}", names.join(", ")),
                };
                return format!("{text}{icmp} type {names} ct state untracked accept");
            }
        };
        let name = proto.nft_name();
        match self.opens {
            Some(true) => text.push_str("tcp flags & (fin | syn | rst | ack) == syn "),
            Some(false) => text.push_str("tcp flags & (fin | syn | rst | ack) != syn "),
            None => {}
        }
        let mut ports = false;
        for (word, range) in [("sport", source_ports), ("dport", destination_ports)] {
            if *range != PortRange::ALL {
                ports = true;
                let _ = write!(text, "{name} {word} {range} ");
            }
        }
        if !ports && self.opens.is_none() {
            let _ = write!(text, "meta l4proto {name} ");
        }
        text + "ct state untracked accept"
    }

    fn iptables(&self) -> String {
        let Untracked { carried, sources, source_ports, destinations, destination_ports, .. } = self;
        let mut text = String::new();
        for (word, interface) in [("-i", &self.in_interface), ("-o", &self.out_interface)] {
            if let Some(interface) = interface {
                let _ = write!(text, "{word} {} ", interface.replace('*', "+"));
            }
        }
        for (word, range) in [("-s", sources), ("-d", destinations)] {
            if !range.is_all() {
                let _ = write!(text, "{word} {range} ");
            }
        }
        let _ = match (carried, sources.family) {
            (Carried::Transport(proto), _) => write!(text, "-p {} ", proto.nft_name()),
            (Carried::IcmpError(kind), Family::Ipv4) => {
                write!(text, "-p icmp --icmp-type {} ", error_name(Family::Ipv4, *kind))
            }
            (Carried::IcmpError(kind), Family::Ipv6) => {
                write!(text, "-p ipv6-icmp --icmpv6-type {} ", error_name(Family::Ipv6, *kind))
            }
        };
        for (word, range) in [("--sport", source_ports), ("--dport", destination_ports)] {
            if *range != PortRange::ALL {
                let _ = write!(text, "{word} {} ", range.to_string().replace('-', ":"));
            }
        }
        match self.opens {
            Some(true) => text.push_str("--syn "),
            Some(false) => text.push_str("! --syn "),
            None => {}
        }
        text + "-m conntrack --ctstate UNTRACKED -j ACCEPT"
    }
}
