//! The kernel judges random packets by the rendered rules as the packet model does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "core's own tests use the rest")]
#[path = "../../../crates/core/tests/support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;

use notrack_core::compile::RuleSet;
use notrack_core::diff::CounterValue;
use notrack_core::facts::NodeFacts;
use notrack_core::model::judge;
use notrack_core::nf::Hook;
use notrack_core::packet::{Judgement, Packet, Tuple};
use notrack_core::policy::{Action, Mode, Role};
use notrack_core::rules::counter_name;
use notrack_lab::{Namespace, RAW_MARK, ip_packet};
use notrack_netlink::nft::Nft;
use notrack_netns::{program, track};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// The first bytes of a transport header: ports, and TCP's flags.
fn transport(tuple: &Tuple, tcp_flags: u8) -> Vec<u8> {
    let mut header = [tuple.source_port.to_be_bytes(), tuple.destination_port.to_be_bytes()].concat();
    header.resize(20, 0);
    match tuple.proto {
        6 => (header[12], header[13]) = (0x50, tcp_flags),
        17 => header[5] = 20,
        _ => {}
    }
    header
}

fn bytes(packet: &Packet) -> Vec<u8> {
    let Packet { tuple, tcp_flags, icmp_type, embedded, .. } = packet;
    let payload = match embedded {
        None => transport(tuple, *tcp_flags),
        Some(inner) => {
            let inner = ip_packet(inner.source, inner.destination, inner.proto, &transport(inner, 0));
            [vec![*icmp_type, 0, 0, 0, 0, 0, 0, 0], inner].concat()
        }
    };
    ip_packet(tuple.source, tuple.destination, tuple.proto, &payload)
}

/// Whether the packet can be brought to the hook: the kernel itself throws away IPv6 loopback addresses on a wire,
/// and routes what is for itself over the loopback device.
fn possible(hook: Hook, packet: &Packet) -> bool {
    let own = |address: std::net::IpAddr| support::OWN.contains(&address.to_string().as_str());
    let loopback = packet.tuple.source.is_loopback() || packet.tuple.destination.is_loopback();
    // What the node sends goes where its only default route says.
    let device = packet.interface == "nt0" || packet.interface == "eth9" && hook == Hook::Prerouting;
    device && !loopback && (hook == Hook::Prerouting || !own(packet.tuple.destination))
}

/// Keeps the kernel's own packets from our hooks: its answer to one packet (a reset, an ICMP error, which may be for
/// itself) would count as that packet.
fn silence(host: &Namespace) {
    let rule = format!("meta mark != {RAW_MARK} drop");
    host.nft(&format!(
        "table inet silence {{\n chain output {{\n type filter hook output priority -1000;\n {rule}\n }}\n}}\n"
    ))
    .unwrap();
}

fn grown(before: &BTreeMap<String, CounterValue>, after: &BTreeMap<String, CounterValue>) -> Vec<String> {
    let count = |counters: &BTreeMap<String, CounterValue>, name: &String| {
        counters.get(name).map_or(0, |value| value.packets)
    };
    after.keys().filter(|name| count(after, name) > count(before, name)).cloned().collect()
}

/// What a packet is an example of; a policy's roles only where it has just one.
fn kinds(rule_set: &RuleSet, packet: &Packet, owner: Option<&String>) -> Vec<String> {
    let Some(owner) = owner else { return vec!["tracked".to_owned()] };
    let mut kinds = vec!["bypassed".to_owned(), format!("bypassed {}", packet.interface)];
    if packet.embedded.is_some() {
        kinds.push("bypassed ICMP error".to_owned());
    } else if packet.tuple.proto == 6 {
        kinds.push("bypassed TCP".to_owned());
    }
    let policy = rule_set.policies().iter().find(|policy| counter_name(&policy.name) == *owner);
    let bypasses = policy.into_iter().flat_map(|policy| &policy.flows);
    let mut roles: Vec<Role> =
        bypasses.filter(|flow| flow.action == Action::NoTrack).map(|flow| flow.role).collect();
    roles.dedup();
    if let [role] = roles[..] {
        kinds.push(format!("bypassed {role:?}"));
    }
    kinds
}

/// What must have been judged, and how often: a run in which one of them never came would prove nothing.
const LEAST: [(&str, usize); 10] = [
    ("tracked", 50),
    ("bypassed", 50),
    ("bypassed nt0", 20),
    ("bypassed eth9", 3),
    ("bypassed ICMP error", 1),
    ("bypassed TCP", 5),
    ("bypassed Server", 5),
    ("bypassed Client", 1),
    ("bypassed Peer", 1),
    ("bypassed Forward", 1),
];

#[test]
fn the_kernel_judges_as_the_model() {
    let host = Namespace::new("model").unwrap();
    track(&host).unwrap();
    silence(&host);
    let tun = host.tun("nt0", &["10.0.0.1/32", "fd00::1/128"]).unwrap();
    let other = host.tun("eth9", &[]).unwrap();
    host.ip("route add default dev nt0").unwrap();
    host.ip("-6 route add default dev nt0").unwrap();
    let raw = host.raw_socket().unwrap();
    let nft = RefCell::new(host.enter(Nft::open).unwrap().unwrap());
    let seen: RefCell<BTreeMap<String, usize>> = RefCell::default();
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let packets = prop::collection::vec(support::packet_and_aim(), 60);
    let cases = (support::policies(), support::kept(), support::any_facts(), packets, any::<u64>());
    let mut runner = TestRunner::new(config);
    let mut run = || {
        runner
            .run(&cases, |(policies, kept, facts, packets, lasting)| {
                let packets: Vec<_> =
                    packets.iter().map(|packet| support::aimed(packet, &policies)).collect();
                let lasting = support::lasting(&packets, lasting).into();
                let facts = NodeFacts { lasting, ..facts };
                let rule_set = support::rule_set_keeping(&policies, &kept);
                let table = program(&host, &mut nft.borrow_mut(), &rule_set, &facts)
                    .map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
                for packet in &packets {
                    for hook in [Hook::Prerouting, Hook::Output] {
                        if !possible(hook, packet) {
                            continue;
                        }
                        let before = nft.borrow_mut().counters().unwrap();
                        match hook {
                            Hook::Prerouting if packet.interface == "eth9" => other.send(&bytes(packet)),
                            Hook::Prerouting => tun.send(&bytes(packet)),
                            _ => raw.send(&bytes(packet)),
                        }
                        .unwrap();
                        let grown = grown(&before, &nft.borrow_mut().counters().unwrap());
                        let enforced: Vec<&String> = grown
                            .iter()
                            .filter(|name| {
                                let mode =
                                    |policy: &&std::sync::Arc<notrack_core::policy::ValidatedPolicy>| {
                                        counter_name(&policy.name) == **name && policy.mode == Mode::Enforce
                                    };
                                rule_set.policies().iter().any(|policy| mode(&policy))
                            })
                            .collect();
                        let wanted: Vec<String> = match judge(&rule_set, &facts, hook, packet) {
                            Judgement::Tracked => Vec::new(),
                            Judgement::Bypassed(policy) => vec![counter_name(&policy)],
                        };
                        for kind in kinds(&rule_set, packet, wanted.first()) {
                            *seen.borrow_mut().entry(kind).or_default() += 1;
                        }
                        let wanted: Vec<&String> = wanted.iter().collect();
                        prop_assert_eq!(enforced, wanted, "{:?} {:?}\n{}", hook, packet, table);
                    }
                }
                Ok(())
            })
            .unwrap();
    };
    let missing = || {
        let seen = seen.borrow();
        let is_rare = |(kind, least): &&(&str, usize)| seen.get(*kind).is_none_or(|count| count < least);
        LEAST.iter().find(is_rare).map(|(kind, _)| format!("{kind}: {seen:?}"))
    };
    // Chance may leave out a kind: then more is drawn.
    for _ in 0..5 {
        run();
        if missing().is_none() {
            break;
        }
    }
    assert_eq!(missing(), None, "too few of");
}
