//! Whatever policies name and whatever a node's NAT rules say: no packet that a rule would translate, or that belongs to a
//! connection which is translated now, skips the table. Rules and connections are drawn around packets that policies name,
//! and judged here packet by packet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[allow(dead_code, reason = "the model's tests use the rest")]
mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use notrack_core::facts::NodeFacts;
use notrack_core::host::{
    Act, Backend, ChainKind, Field, Host, HostBase, HostChain, HostHook, HostRule, HostRules, HostTable,
    Match, Members, NatTarget, NatTo, Step, TableFamily, TableId, Translated,
};
use notrack_core::net::{AddressRange, Family, address_number};
use notrack_core::nf::Hook;
use notrack_core::nf::eval::evaluate;
use notrack_core::packet::{Packet, Tuple};
use notrack_core::policy::{Role, ValidatedPolicy};
use notrack_core::rules::render;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const TCP: u8 = 6;
const SYN: u8 = 0x02;

/// A NAT rule around a packet.
#[derive(Clone, Debug)]
struct Rule {
    /// Which of the packets.
    near: prop::sample::Index,
    /// How many of the low bits of the server's address do not matter.
    bits: u32,
    /// How far from the server's port others are meant too.
    radius: u16,
    /// A new destination, or a new source.
    is_dnat: bool,
}

/// The rule as it is judged here and as the agent reads it.
struct Meaning {
    family: Family,
    proto: u8,
    addresses: (u128, u128),
    ports: (u16, u16),
    is_dnat: bool,
}

impl Meaning {
    fn of(rule: &Rule, tuple: Tuple) -> Meaning {
        let low = (1u128 << rule.bits) - 1;
        let address = address_number(tuple.destination);
        Meaning {
            family: Family::of(tuple.destination),
            proto: tuple.proto,
            addresses: (address & !low, address | low),
            ports: (
                tuple.destination_port.saturating_sub(rule.radius),
                tuple.destination_port.saturating_add(rule.radius),
            ),
            is_dnat: rule.is_dnat,
        }
    }

    fn matches(&self, tuple: Tuple) -> bool {
        let address = address_number(tuple.destination);
        Family::of(tuple.destination) == self.family
            && tuple.proto == self.proto
            && (self.addresses.0..=self.addresses.1).contains(&address)
            && (self.ports.0..=self.ports.1).contains(&tuple.destination_port)
    }

    fn rule(&self, handle: u64) -> HostRule {
        let one = |field, first: u128, last: u128| {
            let of = Members::Boxes(vec![vec![(first, last)]]);
            Step::Match(Match { fields: vec![field], inverted: false, of })
        };
        let act = match self.is_dnat {
            true => Act::Dnat(vec![NatTo {
                target: NatTarget::Addresses(AddressRange::all(self.family)),
                ports: None,
            }]),
            false => Act::Snat("masquerade".to_owned()),
        };
        let steps = vec![
            one(Field::DestinationAddress(self.family), self.addresses.0, self.addresses.1),
            one(Field::L4Proto, self.proto.into(), self.proto.into()),
            one(Field::DestinationPort, self.ports.0.into(), self.ports.1.into()),
            Step::Act(act),
        ];
        HostRule { handle, text: format!("rule {handle}"), comment: None, steps }
    }
}

fn rules(meanings: &[Meaning]) -> HostRules {
    let chain = |hook, priority, is_dnat: bool| {
        let of_kind = meanings.iter().enumerate().filter(|(_, meaning)| meaning.is_dnat == is_dnat);
        HostChain {
            base: Some(HostBase { hook, priority, kind: ChainKind::Nat, drops: false }),
            rules: of_kind.map(|(handle, meaning)| meaning.rule(handle as u64)).collect(),
        }
    };
    let chains = [
        ("pre".to_owned(), chain(HostHook::Prerouting, -100, true)),
        ("out".to_owned(), chain(HostHook::Output, -100, true)),
        ("post".to_owned(), chain(HostHook::Postrouting, 100, false)),
    ];
    let id = TableId { backend: Backend::Nft, family: TableFamily::Inet, name: "nat".to_owned() };
    let table = HostTable { id, owner: None, dormant: false, chains: chains.into(), sets: BTreeMap::new() };
    HostRules { tables: vec![table], incomplete: Vec::new() }
}

/// The first packet of a connection, as its client sends it: NAT looks at no other.
fn opening(packet: &Packet) -> Packet {
    let tuple = packet.embedded.map_or(packet.tuple, Tuple::mirrored);
    let tcp_flags = if tuple.proto == TCP { SYN } else { 0 };
    Packet { tuple, tcp_flags, icmp_type: 0, embedded: None, interface: packet.interface.clone() }
}

/// Whether a packet without a state could be an answer as well, which no NAT rule sees.
fn may_be_an_answer(facts: &NodeFacts, tuple: Tuple) -> bool {
    tuple.proto != TCP && facts.ephemeral.iter().any(|range| range.contains(tuple.destination_port))
}

/// Whether a packet looks like a server's answer by its port: docs/datapath.md names it among the limits.
fn comes_from_a_servers_port(
    policies: &[ValidatedPolicy],
    tuple: Tuple,
    is_meant: impl Fn(Role) -> bool,
) -> bool {
    let flows = policies.iter().flat_map(|policy| &policy.flows).filter(|flow| is_meant(flow.role));
    let mut ports = flows.flat_map(|flow| &flow.ports);
    ports.any(|(of, ports)| of.number() == tuple.proto && ports.contains(tuple.source_port))
}

fn with(facts: &NodeFacts, host: Host) -> NodeFacts {
    NodeFacts { host: Arc::new(host), ..facts.clone() }
}

/// Packets around what policies name, and NAT rules around the packets.
type Drawn = (Vec<ValidatedPolicy>, NodeFacts, Vec<(Packet, Option<support::Aim>)>, Vec<Rule>);

fn drawn() -> impl Strategy<Value = Drawn> {
    let rule = (any::<prop::sample::Index>(), 0u32..16, 0u16..300, any::<bool>())
        .prop_map(|(near, bits, radius, is_dnat)| Rule { near, bits, radius, is_dnat });
    let packets = prop::collection::vec(support::packet_and_aim(), 40);
    (support::policies(), support::any_facts(), packets, prop::collection::vec(rule, 1..20))
}

/// The node with its rules, and the packets that these translate, where they do.
fn translated((policies, facts, packets, drawn): &Drawn) -> (NodeFacts, Vec<(Hook, Packet)>) {
    let aimed = packets.iter().map(|packet| opening(&support::aimed(packet, policies)));
    // To the server, whichever end that is.
    let both = |packet: Packet| [Packet { tuple: packet.tuple.mirrored(), ..packet.clone() }, packet];
    let packets: Vec<Packet> = aimed.flat_map(both).collect();
    let meanings: Vec<Meaning> =
        drawn.iter().map(|rule| Meaning::of(rule, rule.near.get(&packets).tuple)).collect();
    let mut translated = Vec::new();
    for packet in packets {
        let Tuple { source, destination, proto, source_port, .. } = packet.tuple;
        // Loopback addresses are on no wire.
        let is_local = packet.interface == "lo" || source.is_loopback() || destination.is_loopback();
        if is_local {
            continue;
        }
        let by = |is_dnat| {
            meanings.iter().any(|meaning| meaning.is_dnat == is_dnat && meaning.matches(packet.tuple))
        };
        let comes_in = !facts.is_own(source)
            && !may_be_an_answer(facts, packet.tuple)
            && !comes_from_a_servers_port(policies, packet.tuple, |role| role != Role::Server);
        let routed = comes_in && !facts.is_own(destination) && proto == TCP;
        let asks = facts.is_own(source)
            && !facts.is_own(destination)
            && facts.ephemeral.iter().any(|range| range.contains(source_port));
        if comes_in && by(true) || routed && by(false) {
            translated.push((Hook::Prerouting, packet.clone()));
        }
        if asks && (by(true) || by(false)) {
            translated.push((Hook::Output, packet));
        }
    }
    let host = Host { rules: rules(&meanings), ..Host::default() };
    (with(facts, host), translated)
}

/// Else the property below would say nothing.
#[test]
fn rules_meet_what_would_be_bypassed_without_them() {
    let mut runner = TestRunner::deterministic();
    let mut bypassed = [0; 2];
    for _ in 0..300 {
        let drawn = drawn().new_tree(&mut runner).unwrap().current();
        let rendered = render(&support::rule_set(&drawn.0), &drawn.1, None).unwrap();
        for (hook, packet) in translated(&drawn).1 {
            bypassed[usize::from(hook == Hook::Output)] +=
                usize::from(evaluate(&rendered.table, hook, &packet).untracked);
        }
    }
    assert!(bypassed[0] > 30 && bypassed[1] > 10, "{bypassed:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_rule_translates_is_tracked(drawn in drawn()) {
        let (facts, packets) = translated(&drawn);
        let rendered = render(&support::rule_set(&drawn.0), &facts, None).unwrap();
        for (hook, packet) in packets {
            let outcome = evaluate(&rendered.table, hook, &packet);
            prop_assert!(!outcome.untracked, "{hook:?} {packet:?}\n{}", rendered.table);
        }
    }

    #[test]
    fn what_belongs_to_a_translated_connection_is_tracked(
        policies in support::policies(),
        facts in support::any_facts(),
        packets in prop::collection::vec(support::packet_and_aim(), 1..12),
        behind in any::<u16>(),
    ) {
        let packets: Vec<Packet> = packets.iter().map(|packet| opening(&support::aimed(packet, &policies))).collect();
        // Servers behind this node, each asked by what the client took for the server.
        let translated = packets.iter().map(|packet| {
            let server: IpAddr = match packet.tuple.destination {
                IpAddr::V4(_) => [10, 244, (behind >> 8) as u8, behind as u8].into(),
                IpAddr::V6(_) => format!("fd00:244::{behind:x}").parse().unwrap(),
            };
            Translated { original: packet.tuple, reply: Tuple { source: server, ..packet.tuple.mirrored() } }
        });
        let host = Host { translated: translated.collect(), ..Host::default() };
        // What a Service spares for the uplinks is bypassed there, whatever of it is translated (docs/hazards.md, NT002).
        let facts = NodeFacts { kept: Vec::new(), ..with(&facts, host) };
        let rendered = render(&support::rule_set(&policies), &facts, None).unwrap();
        for (packet, entry) in packets.iter().zip(&facts.host.translated) {
            let on_wire = !entry.original.source.is_loopback() && !entry.original.destination.is_loopback();
            if !on_wire || comes_from_a_servers_port(&policies, entry.original, |_| true) {
                continue;
            }
            for tuple in [entry.original, entry.reply] {
                for interface in [packet.interface.as_str(), "eth0"] {
                    for hook in [Hook::Prerouting, Hook::Output] {
                        let packet = Packet::amid(tuple, interface);
                        let outcome = evaluate(&rendered.table, hook, &packet);
                        prop_assert!(!outcome.untracked, "{hook:?} {packet:?}\n{}", rendered.table);
                    }
                }
            }
        }
    }
}
