//! What rules mean.

use notrack_core::host::{
    Act, CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED, ChainKind, Field, HostBase, HostHook, HostSet,
    HostVerdict, Marking, Match, Members, NatTarget, NatTo, Step, ValueBox, interface_number,
    interface_prefix,
};
use notrack_core::net::{AddressRange, Family, PortRange};

use super::support::{loaded, only, read};

const TABLE: &str = "
set admins { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.5-192.168.1.9, 255.255.255.0/24 } }
set served { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/24 . 80-90, 10.0.1.1 . 443 } }
set seen { type ipv4_addr; size 99; flags dynamic,timeout; timeout 60s; }
set marks { type mark; elements = { 0x102, 2 } }
set lans { type ifname; flags interval; elements = { \"eth*\", \"lo\" } }
set indices { type iface_index; elements = { \"lo\" } }
set unused { type ipv4_addr; elements = { 10.0.0.1 } }
map zones { type ifname . ipv4_addr : verdict; flags interval; elements = { \"eth0\" . 10.0.0.0/8 : jump web } }
map servers { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.5 } }
map rest { type inet_service : verdict; elements = { 22 : accept, * : drop } }
ct helper transfer { type \"ftp\" protocol tcp; }
limit slow { rate 5/second }
counter seen_packets { }
";

/// The steps of rules in a chain of their own, by a ruleset of the table `inet t`.
fn steps(rules: &[&str]) -> (Vec<Vec<Step>>, std::collections::BTreeMap<String, HostSet>) {
    let rules = rules.join("\n");
    let namespace =
        loaded(&format!("table inet t {{ {TABLE} chain web {{ }}\n  chain c {{\n{rules}\n}}\n}}"));
    let mut table = only(&namespace);
    let chain = table.chains.remove("c").unwrap();
    (chain.rules.into_iter().map(|rule| rule.steps).collect(), table.sets)
}

fn one(rule: &str) -> Vec<Step> {
    steps(&[rule]).0.remove(0)
}

fn boxes(field: Field, ranges: &[(u128, u128)]) -> Step {
    let boxes = ranges.iter().map(|range| vec![*range]).collect();
    Step::Match(Match { fields: vec![field], inverted: false, of: Members::Boxes(boxes) })
}

fn is(field: Field, value: u128) -> Step {
    boxes(field, &[(value, value)])
}

fn not(step: Step) -> Step {
    match step {
        Step::Match(matched) => Step::Match(Match { inverted: !matched.inverted, ..matched }),
        other => other,
    }
}

fn among(fields: &[Field], set: &str) -> Step {
    Step::Match(Match { fields: fields.to_vec(), inverted: false, of: Members::Set(set.to_owned()) })
}

fn address(text: &str) -> u128 {
    notrack_core::net::address_number(text.parse().unwrap())
}

const ACCEPT: Step = Step::Verdict(HostVerdict::Accept);
const SOURCE: Field = Field::SourceAddress(Family::Ipv4);
const DESTINATION: Field = Field::DestinationAddress(Family::Ipv4);

fn v4() -> Step {
    is(Field::Family, 2)
}

fn tcp() -> Step {
    is(Field::L4Proto, 6)
}

fn masked(field: Field, inverted: bool, mask: u128, value: u128) -> Step {
    let of = Members::Masked { mask, values: vec![value] };
    Step::Match(Match { fields: vec![field], inverted, of })
}

#[test]
fn addresses_and_ports() {
    assert_eq!(
        one("ip saddr 10.0.0.0/8 ip daddr 10.1.2.0/23 tcp dport 22 accept"),
        [
            v4(),
            boxes(SOURCE, &[(address("10.0.0.0"), address("10.255.255.255"))]),
            boxes(DESTINATION, &[(address("10.1.2.0"), address("10.1.3.255"))]),
            tcp(),
            is(Field::DestinationPort, 22),
            ACCEPT
        ]
    );
    assert_eq!(
        one("ip saddr 10.0.0.1-10.0.0.9 udp sport != 1000-2000 drop"),
        [
            v4(),
            boxes(SOURCE, &[(address("10.0.0.1"), address("10.0.0.9"))]),
            is(Field::L4Proto, 17),
            not(boxes(Field::SourcePort, &[(1000, 2000)])),
            Step::Verdict(HostVerdict::Drop)
        ]
    );
    let six = Field::SourceAddress(Family::Ipv6);
    assert_eq!(
        one("ip6 saddr fe80::/10 ip6 nexthdr tcp return"),
        [
            is(Field::Family, 10),
            boxes(six, &[(address("fe80::"), address("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))]),
            tcp(),
            Step::Verdict(HostVerdict::Return)
        ]
    );
    // nft joins adjacent fields into one load.
    assert_eq!(
        one("ip saddr 10.0.0.1 ip daddr 10.0.0.2 tcp sport 1 tcp dport 2 jump web"),
        [
            v4(),
            is(SOURCE, address("10.0.0.1")),
            is(DESTINATION, address("10.0.0.2")),
            tcp(),
            is(Field::SourcePort, 1),
            is(Field::DestinationPort, 2),
            Step::Verdict(HostVerdict::Jump("web".into()))
        ]
    );
    assert_eq!(
        one("ip saddr & 255.0.0.255 == 10.0.0.1 accept"),
        [v4(), masked(SOURCE, false, 0xff00_00ff, 0x0a00_0001), ACCEPT]
    );
    assert_eq!(
        one("ip saddr > 255.255.255.0 accept"),
        [v4(), boxes(SOURCE, &[(address("255.255.255.1"), address("255.255.255.255"))]), ACCEPT]
    );
}

#[test]
fn states() {
    let state =
        |of: &[u128]| boxes(Field::CtState, &of.iter().map(|state| (*state, *state)).collect::<Vec<_>>());
    assert_eq!(one("ct state established,related accept"), [state(&[CT_ESTABLISHED, CT_RELATED]), ACCEPT]);
    assert_eq!(one("ct state invalid drop")[0], state(&[CT_INVALID]));
    assert_eq!(one("ct state != new accept"), [not(state(&[CT_NEW])), ACCEPT]);
    assert_eq!(one("ct state ! new accept"), [not(state(&[CT_NEW])), ACCEPT]);
    let (rules, sets) = steps(&["ct state { established, related } accept"]);
    let Step::Match(Match { of: Members::Set(set), .. }) = &rules[0][0] else { panic!("{rules:?}") };
    let values: Vec<_> = sets[set].elements.iter().map(|element| element.values.clone()).collect();
    assert_eq!(values, [[(2, 2)], [(4, 4)]]);
}

#[test]
fn what_only_an_entry_has() {
    let mark = || Field::CtOther("mark".into());
    assert_eq!(one("ct mark 5 accept"), [is(mark(), 5), ACCEPT]);
    assert_eq!(one("ct direction original accept"), [is(Field::CtOther("direction".into()), 0), ACCEPT]);
    let any = |field, bits: u32| boxes(field, &[(0, (1 << bits) - 1)]);
    assert_eq!(one("ct mark != 5 accept"), [any(mark(), 32), not(is(mark(), 5)), ACCEPT]);
    let status = || Field::CtOther("status".into());
    assert_eq!(one("ct status dnat accept"), [any(status(), 32), masked(status(), true, 32, 0), ACCEPT]);
    assert_eq!(one("meta mark set ct mark"), [any(mark(), 32), Step::Act(Act::RestoreMark)]);
    assert_eq!(one("ct original ip saddr 10.0.0.1 accept").len(), 2);
}

#[test]
fn interfaces_marks_and_flags() {
    assert_eq!(one("iif lo accept"), [is(Field::InInterface, interface_number("lo")), ACCEPT]);
    assert_eq!(
        one("iifname \"eth*\" oifname != \"eth0\" accept"),
        [
            boxes(Field::InInterface, &[interface_prefix("eth")]),
            not(is(Field::OutInterface, interface_number("eth0"))),
            ACCEPT
        ]
    );
    assert_eq!(one("meta mark 0x10203 accept"), [is(Field::Mark, 0x10203), ACCEPT]);
    assert_eq!(one("meta mark > 0x102 accept"), [boxes(Field::Mark, &[(0x103, 0xffff_ffff)]), ACCEPT]);
    assert_eq!(one("meta mark & 0xff == 0x10 accept"), [masked(Field::Mark, false, 0xff, 0x10), ACCEPT]);
    let flags = one("tcp flags & (fin | syn | rst | ack) == syn accept");
    let Step::Match(Match { of: Members::Boxes(boxes_of), inverted: false, .. }) = &flags[1] else {
        panic!("{flags:?}")
    };
    let holds =
        |flags: u128| boxes_of.iter().any(|values: &ValueBox| values[0].0 <= flags && flags <= values[0].1);
    for flags in 0..=255 {
        assert_eq!(holds(flags), flags & 0x17 == 2, "{flags}");
    }
    let echo = [v4(), is(Field::L4Proto, 1), is(Field::IcmpType, 8), Step::Limit, ACCEPT];
    assert_eq!(one("icmp type echo-request limit rate 5/second accept"), echo);
    assert_eq!(one("fib daddr type local accept"), [is(Field::DestinationType, 2), ACCEPT]);
    assert_eq!(one("meta pkttype broadcast accept"), [is(Field::Other("meta pkttype".into()), 1), ACCEPT]);
}

#[test]
fn sets_and_maps() {
    let (rules, sets) = steps(&[
        "ip saddr @admins accept",
        "ip daddr . tcp dport @served accept",
        "meta mark @marks accept",
        "iifname @lans accept",
        "iifname . ip saddr vmap @zones",
        "tcp dport vmap @rest",
        "meta mark { 1, 3-5 } accept",
        "ip saddr != { 10.0.0.0/8, 11.1.1.1 } accept",
        "iif @indices accept",
    ]);
    assert_eq!(rules[0], [v4(), among(&[SOURCE], "admins"), ACCEPT]);
    assert_eq!(rules[1][2..], [among(&[DESTINATION, Field::DestinationPort], "served"), ACCEPT]);
    let fields = vec![Field::InInterface, SOURCE];
    assert_eq!(rules[4], [v4(), Step::VerdictMap { fields, map: "zones".into() }]);
    let Step::Match(Match { inverted: true, of: Members::Set(not_in), .. }) = &rules[7][1] else {
        panic!("{:?}", rules[7])
    };

    let values = |set: &str| -> Vec<ValueBox> {
        let HostSet { elements, dynamic: false, unknown: false } = &sets[set] else {
            panic!("{set}: {sets:?}")
        };
        elements.iter().map(|element| element.values.clone()).collect()
    };
    let range = |low: &str, high: &str| (address(low), address(high));
    assert_eq!(
        values("admins"),
        [
            [range("10.0.0.0", "10.255.255.255")],
            [range("192.168.1.5", "192.168.1.9")],
            [range("255.255.255.0", "255.255.255.255")]
        ]
    );
    assert_eq!(
        values("served"),
        [[range("10.0.0.0", "10.0.0.255"), (80, 90)], [range("10.0.1.1", "10.0.1.1"), (443, 443)]]
    );
    assert_eq!(values("marks"), [[(2, 2)], [(0x102, 0x102)]]);
    let lo = interface_number("lo");
    assert_eq!(values("lans"), [[interface_prefix("eth")], [(lo, lo)]]);
    assert_eq!(values(not_in), [[range("10.0.0.0", "10.255.255.255")], [range("11.1.1.1", "11.1.1.1")]]);
    let verdict = |set: &str, place: usize| sets[set].elements[place].verdict.clone();
    assert_eq!(verdict("zones", 0), Some(HostVerdict::Jump("web".into())));
    assert_eq!(values("rest"), [[(22, 22)], [(0, 0xffff)]]);
    assert_eq!(
        (verdict("rest", 0), verdict("rest", 1)),
        (Some(HostVerdict::Accept), Some(HostVerdict::Drop))
    );
    let Step::Match(Match { of: Members::Set(marks), .. }) = &rules[6][0] else { panic!("{:?}", rules[6]) };
    assert_eq!(values(marks), [[(1, 1)], [(3, 5)]]);
    assert_eq!(values("indices"), [[(lo, lo)]]);
    assert!(sets["unused"].unknown, "nothing says what its bytes mean, and nothing asks");
}

#[test]
fn what_rules_do() {
    let (rules, sets) = steps(&[
        "tcp dport 21 ct helper set \"transfer\"",
        "limit name \"slow\" accept",
        "counter name \"seen_packets\" log prefix \"x\" drop",
        "meta mark set 0x1",
        "ct mark set meta mark",
        "ct zone set 5",
        "ip daddr set 10.0.0.1",
        "ip ttl set 5",
        "add @seen { ip saddr limit rate 3/second } accept",
        "update @seen { ip saddr } accept",
        "ct count over 20 drop",
        "tcp dport 113 reject with tcp reset",
        "numgen inc mod 2 0 accept",
        "notrack",
        "meta mark set meta mark or 0x4000",
        "meta mark set meta mark and 0xff xor 0x3",
        "meta mark set ip saddr map { 10.0.0.1 : 1 }",
    ]);
    let act = |act| Step::Act(act);
    let drop = || Step::Verdict(HostVerdict::Drop);
    assert_eq!(rules[0].last(), Some(&act(Act::Helper("ftp".into()))));
    assert_eq!(rules[1], [Step::Limit, ACCEPT]);
    assert_eq!(rules[2], [drop()]);
    let marks = |keep, flip| act(Act::SetMark(Some(Marking { keep, flip })));
    assert_eq!(rules[3], [marks(0, 1)]);
    assert_eq!(rules[4], [act(Act::SetCtMark)]);
    assert_eq!(rules[5], [act(Act::Zone)]);
    assert_eq!(rules[6], [v4(), act(Act::Rewrite)]);
    assert_eq!(rules[7], [v4()]);
    assert_eq!(rules[8], [v4(), Step::Limit, ACCEPT]);
    assert_eq!(rules[9], [v4(), ACCEPT]);
    assert_eq!(rules[10], [Step::CountConnections, drop()]);
    assert_eq!(rules[11], [tcp(), is(Field::DestinationPort, 113), drop()]);
    assert_eq!(rules[12], [is(Field::Other("numgen".into()), 0), ACCEPT]);
    assert_eq!(rules[13], [act(Act::Notrack)]);
    assert_eq!(rules[14], [marks(!0x4000, 0x4000)]);
    assert_eq!(rules[15], [marks(0xff, 0x3)]);
    assert_eq!(rules[16].last(), Some(&act(Act::SetMark(None))));
    assert!(sets["seen"].dynamic);
}

fn host_number(last: u8) -> u128 {
    u32::from_be_bytes([10, 0, 0, last]).into()
}

#[test]
fn translation() {
    let namespace = loaded(
        "table ip nat {
            map servers { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.5 } }
            map published { type inet_service : ipv4_addr . inet_service; elements = { 82 : 10.0.0.6 . 8082, 83 : 10.0.0.7 . 83 } }
            map pools { type inet_service : interval ipv4_addr; flags interval; elements = { 84 : 10.0.0.8-10.0.0.9 } }
            map ports { type inet_service : inet_service; elements = { 85 : 8085 } }
            chain in { type nat hook prerouting priority -100;
                dnat to tcp dport map @servers
                tcp dport 8080 redirect to :80
                tcp dport 81 dnat to 10.0.0.2:8080
            }
            chain maps { type nat hook prerouting priority -90;
                dnat ip to tcp dport map @published
                dnat to tcp dport map @pools
                meta l4proto tcp redirect to :tcp dport map @ports
                meta l4proto tcp dnat to 10.0.0.1:tcp dport map @ports
                dnat to jhash ip saddr mod 2 map { 0 : 10.0.0.11, 1 : 10.0.0.12 }
                dnat to symhash mod 2 map { 0 : 10.0.0.13, 1 : 10.0.0.13 }
                dnat to numgen random mod 2 map { 0 : 10.0.0.14, 1 : 10.0.0.15 }
                meta l4proto tcp dnat to tcp dport map @servers : tcp dport map @ports
            }
            chain out { type nat hook postrouting priority 100;
                masquerade
                snat to 192.0.2.1-192.0.2.9
            }
        }",
    );
    let table = only(&namespace);
    assert_eq!(table.id.to_string(), "ip nat");
    let acts = |chain: &str| -> Vec<Act> {
        let steps = table.chains[chain].rules.iter().flat_map(|rule| &rule.steps);
        steps.filter_map(|step| if let Step::Act(act) = step { Some(act.clone()) } else { None }).collect()
    };
    let to = |target, port: Option<u16>| NatTo { target, ports: port.map(PortRange::one) };
    let dnat = |target, port| Act::Dnat(vec![to(target, port)]);
    let host = |last| NatTarget::Addresses(AddressRange::one([10, 0, 0, last].into()));
    let by_map = dnat(host(5), None);
    assert_eq!(acts("in"), [by_map.clone(), dnat(NatTarget::Own, Some(80)), dnat(host(2), Some(8080))]);
    // What a map has is all that it may be, in the kernel's order.
    let mut published = acts("maps");
    if let Some(Act::Dnat(to)) = published.first_mut() {
        to.sort_by_key(|to| to.ports.map(|ports| ports.first()));
    }
    let pool = AddressRange { last: host_number(9), ..AddressRange::one([10, 0, 0, 8].into()) };
    assert_eq!(
        published,
        [
            Act::Dnat(vec![to(host(7), Some(83)), to(host(6), Some(8082))]),
            dnat(NatTarget::Addresses(pool), None),
            dnat(NatTarget::Own, Some(8085)),
            dnat(host(1), Some(8085)),
            Act::Dnat(vec![to(host(11), None), to(host(12), None)]),
            dnat(host(13), None),
            Act::Dnat(vec![to(host(14), None), to(host(15), None)]),
            Act::Dnat(vec![NatTo { target: host(5), ports: Some(PortRange::ALL) }]),
        ]
    );
    let snat = |to: &str| Act::Snat(to.to_owned());
    assert_eq!(acts("out"), [snat("the address of the interface"), snat("192.0.2.1-192.0.2.9")]);
    let first = &table.chains["in"].rules[0].steps;
    let key = among(&[Field::DestinationPort], "servers");
    assert_eq!(first[1..], [key, Step::Act(by_map), ACCEPT]);
    assert_eq!(table.sets["servers"].elements[0].values, [(80, 80)]);
}

#[test]
fn tables_and_chains() {
    let namespace = loaded(
        "table ip6 z { chain o { type route hook output priority -5; policy accept; accept
 drop
 }
 }
         table inet a { flags dormant; chain f { type filter hook forward priority 7; policy drop; }
 chain r { }
 }
         table inet notrack-dev { chain x { }
 }
         table bridge b { chain x { }
 }",
    );
    let rules = read(&namespace);
    let shown: Vec<_> = rules.tables.iter().map(|table| (table.id.to_string(), table.dormant)).collect();
    assert_eq!(shown, [("ip6 z".to_owned(), false), ("inet a".to_owned(), true)], "in the kernel's order");
    let base = |hook, priority, kind, drops| Some(HostBase { hook, priority, kind, drops });
    let chain = &rules.tables[0].chains["o"];
    assert_eq!(chain.base, base(HostHook::Output, -5, ChainKind::Route, false));
    let texts: Vec<_> = chain.rules.iter().map(|rule| rule.text.as_str()).collect();
    assert_eq!(texts, ["accept", "drop"]);
    let chains = &rules.tables[1].chains;
    assert_eq!(chains["f"].base, base(HostHook::Forward, 7, ChainKind::Filter, true));
    assert_eq!(chains["r"].base, None);
}
