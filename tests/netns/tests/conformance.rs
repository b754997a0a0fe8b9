//! One suite over everything that is a `Netfilter`: what holds for the kernel must hold for the fake, so that tests
//! on the fake mean something.
#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "the packets are for other tests")]
#[path = "../../../crates/core/tests/support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;

use notrack_core::diff::{CounterValue, Observed, Op, Transaction, diff};
use notrack_core::nf::expr::Expr;
use notrack_core::nf::{Element, FieldType, Key, SetSpec, Table, Verdict};
use notrack_core::policy::ValidatedPolicy;
use notrack_core::rules::render;
use notrack_lab::Namespace;
use notrack_netlink::nft::fake::Fake;
use notrack_netlink::nft::{Netfilter, Nft, NftError};
use notrack_netns::track;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn kernel(label: &str) -> (Namespace, Nft) {
    let host = Namespace::new(label).unwrap();
    track(&host).unwrap();
    let nft = host.enter(Nft::open).unwrap().unwrap();
    (host, nft)
}

fn table(policies: &[ValidatedPolicy]) -> Table {
    render(&support::rule_set(policies), &support::facts(), None).unwrap().table
}

/// Brings a table there by one transaction; returns what is then observed.
fn apply(netfilter: &mut impl Netfilter, wanted: &Table) -> Option<Observed> {
    let observed = netfilter.observe().unwrap();
    netfilter.commit(&diff(observed.as_ref(), wanted)).unwrap();
    netfilter.observe().unwrap()
}

#[test]
fn tables_come_and_go_alike() {
    let (_host, nft) = kernel("conform");
    let both = RefCell::new((Fake::default(), nft));
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&(support::policies(), support::policies()), |(a, b)| {
            let (fake, nft) = &mut *both.borrow_mut();
            let (a, b) = (table(&a), table(&b));
            for wanted in [&a, &b, &a, &Table::default()] {
                let [of_fake, of_kernel] = [apply(fake, wanted), apply(nft, wanted)];
                for observed in [&of_fake, &of_kernel] {
                    prop_assert_eq!(observed.is_none(), wanted.chains.is_empty());
                    let rest = diff(observed.as_ref(), wanted);
                    prop_assert!(rest.is_empty(), "{:?}", rest.ops);
                }
                let digests = [of_fake, of_kernel].map(|observed| observed.map(|observed| observed.digest()));
                prop_assert_eq!(&digests[0], &digests[1]);
            }
            Ok(())
        })
        .unwrap();
}

fn element(byte: u8, verdict: Option<Verdict>) -> Element {
    Element { key: Key::EMPTY.byte(byte), end: None, verdict }
}

fn add(set: &str, spec: &SetSpec, elements: Vec<Element>) -> Op {
    Op::AddElements { set: set.into(), spec: spec.clone(), elements, lifetime: None }
}

fn rule(chain: &str, rule: Vec<Expr>) -> Op {
    Op::AddRule { chain: chain.into(), rule }
}

fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.into())
}

fn map_of(verdicts: bool) -> SetSpec {
    SetSpec { key: vec![FieldType::NfProto], interval: false, verdicts, timeout: false }
}

fn lookup(set: &str) -> Vec<Expr> {
    use notrack_core::nf::expr::MetaKey;
    let load = Expr::Meta { key: MetaKey::NfProto, register: 1 };
    vec![load, Expr::Lookup { set: set.into(), inverted: false, verdict_map: true }]
}

/// Chains, a map and a counter that hold on to each other.
fn base() -> Vec<Op> {
    vec![
        Op::AddTable,
        Op::AddCounter("used".into()),
        Op::AddChain { name: "target".into(), base: None },
        Op::AddChain { name: "jumped".into(), base: None },
        Op::AddChain { name: "top".into(), base: None },
        Op::AddSet { name: "map".into(), spec: map_of(true), size: Some(2) },
        add("map", &map_of(true), vec![element(2, Some(goto("target")))]),
        rule("top", lookup("map")),
        rule("top", vec![Expr::Counter("used".into())]),
        rule("top", vec![Expr::Immediate(goto("jumped"))]),
        // Whatever is there already, and alike, may be made again.
        Op::AddTable,
        Op::AddCounter("used".into()),
        Op::AddChain { name: "target".into(), base: None },
        Op::AddSet { name: "map".into(), spec: map_of(true), size: Some(2) },
        add("map", &map_of(true), vec![element(2, Some(goto("target")))]),
    ]
}

/// What must be refused, each alone. Where one message is good and the next is not, neither counts.
fn refused() -> Vec<(&'static str, Vec<Op>)> {
    let map = map_of(true);
    let missing = || "missing".to_owned();
    vec![
        ("a rule looks into a missing map", vec![rule("top", lookup("missing"))]),
        ("a rule counts in a missing counter", vec![rule("top", vec![Expr::Counter(missing())])]),
        ("a rule goes to a missing chain", vec![rule("top", vec![Expr::Immediate(goto("missing"))])]),
        ("a rule in a missing chain", vec![rule("missing", vec![Expr::Notrack])]),
        (
            "an element leads to a missing chain",
            vec![add("map", &map, vec![element(10, Some(goto("missing")))])],
        ),
        ("an element of a missing map", vec![add("missing", &map, vec![element(10, Some(goto("target")))])]),
        ("a known key leads elsewhere", vec![add("map", &map, vec![element(2, Some(goto("jumped")))])]),
        (
            "more elements than the map takes",
            vec![add("map", &map, (10..14).map(|byte| element(byte, Some(goto("target")))).collect())],
        ),
        (
            "a known map made again as another",
            vec![Op::AddSet {
                name: "map".into(),
                spec: SetSpec { timeout: true, ..map.clone() },
                size: Some(2),
            }],
        ),
        ("a chain that an element leads to goes", vec![Op::DeleteChain("target".into())]),
        ("a chain that a rule leads to goes", vec![Op::DeleteChain("jumped".into())]),
        ("a map that a rule looks into goes", vec![Op::DeleteSet("map".into())]),
        ("a counter that a rule counts in goes", vec![Op::DeleteCounter("used".into())]),
        ("a missing chain goes", vec![Op::DeleteChain(missing())]),
        ("a missing map goes", vec![Op::DeleteSet(missing())]),
        ("a missing counter goes", vec![Op::DeleteCounter(missing())]),
        ("a missing chain is flushed", vec![Op::FlushChain(missing())]),
        ("a missing map is flushed", vec![Op::FlushSet(missing())]),
        (
            "a missing element goes",
            vec![Op::DeleteElements {
                set: "map".into(),
                spec: map,
                elements: vec![element(10, Some(goto("target")))],
            }],
        ),
        (
            "good messages before a bad one",
            vec![
                Op::AddCounter("more".into()),
                Op::AddChain { name: "more".into(), base: None },
                Op::FlushChain("top".into()),
                Op::DeleteSet("map".into()),
                rule("more", vec![Expr::Counter("more".into())]),
                Op::DeleteCounter(missing()),
            ],
        ),
        ("a bad message before good ones", vec![Op::DeleteChain(missing()), Op::AddCounter("more".into())]),
    ]
}

/// The kernel's number for a refusal.
fn refusal(netfilter: &mut impl Netfilter, ops: Vec<Op>) -> Option<i32> {
    match netfilter.commit(&Transaction { ops }) {
        Err(NftError::Refused { source, .. }) => source.errno(),
        Err(other) => unreachable!("no refusal but {other}"),
        Ok(()) => None,
    }
}

/// The number of every refusal; each must leave everything as it was.
fn refusals(netfilter: &mut impl Netfilter) -> BTreeMap<&'static str, Option<i32>> {
    let without_table = refusal(netfilter, vec![Op::AddCounter("lonely".into())]);
    assert_eq!(netfilter.observe().unwrap(), None);
    let mut numbers = BTreeMap::from([("without a table", without_table)]);
    netfilter.commit(&Transaction { ops: base() }).unwrap();
    let before = netfilter.observe().unwrap();
    for (what, ops) in refused() {
        numbers.insert(what, refusal(netfilter, ops));
        assert_eq!(netfilter.observe().unwrap(), before, "{what}");
    }
    numbers
}

#[test]
fn what_is_refused_is_refused_alike_and_changes_nothing() {
    // One that will own the table adds it to every transaction: here nothing is to be added.
    let host = Namespace::new("refused").unwrap();
    let mut nft = host.enter(Nft::open_without_owning).unwrap().unwrap();
    let of_kernel = refusals(&mut nft);
    let of_fake = refusals(&mut Fake::default());
    let taken: Vec<_> = of_kernel.iter().filter(|(_, number)| number.is_none()).collect();
    assert!(taken.is_empty(), "the kernel took {taken:?}");
    assert_eq!(of_fake, of_kernel, "left: the fake, right: the kernel");
    let generation = nft.generation().unwrap();
    refusal(&mut nft, vec![Op::DeleteCounter("missing".into())]);
    assert_eq!(nft.generation().unwrap(), generation, "a refused batch is no new generation");
}

/// Counters of `before` that `after` has too keep their values when it replaces it.
fn counters_survive<N: Netfilter>(
    netfilter: &mut N,
    before: &Table,
    after: &Table,
    count: impl FnOnce(&mut N),
) {
    apply(netfilter, before);
    count(netfilter);
    let counted = netfilter.observe().unwrap().unwrap().counters;
    assert!(counted["p-kept"].packets > 0, "nothing was counted: {counted:?}");
    let replaced = apply(netfilter, after).unwrap().counters;
    assert_eq!(replaced.get("p-kept"), counted.get("p-kept"));
    assert_eq!(replaced.get("p-gone"), None);
    assert_eq!(replaced["p-new"], CounterValue::default());
}

#[test]
fn counters_survive_a_replacement() {
    use notrack_core::net::{PortRange, Proto};
    use notrack_core::policy::{Action, Compensation, Mode, Role, ValidatedFlow};
    use notrack_core::selector::Selector;
    let policy = |name: &str, port: u16| ValidatedPolicy {
        name: name.into(),
        uid: None,
        generation: None,
        created: None,
        selector: Selector::default(),
        mode: Mode::Enforce,
        flows: vec![ValidatedFlow {
            name: "f".into(),
            action: Action::NoTrack,
            role: Role::Server,
            ports: vec![(Proto::Udp, PortRange::one(port))],
            peers: None,
            server_addresses: None,
            local_ports: None,
            interfaces: Vec::new(),
            acknowledged: BTreeSet::new(),
        }],
        adapts_firewall: false,
        keeps_entries: false,
        compensation: Compensation {
            strict_tcp_flags: true,
            icmp_errors: true,
            new_connections_per_second: 0,
        },
        expires: None,
    };
    let before = table(&[policy("kept", 53), policy("gone", 54)]);
    let after = table(&[policy("kept", 55), policy("new", 56)]);

    let (host, mut nft) = kernel("counters");
    counters_survive(&mut nft, &before, &after, |_| {
        let socket = host.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        socket.send_to(b"?", "127.0.0.1:53").unwrap();
    });
    counters_survive(&mut Fake::default(), &before, &after, |fake| {
        let table = fake.table.as_mut().unwrap();
        table.counters.insert("p-kept".into(), CounterValue { packets: 7, bytes: 700 });
    });
}
