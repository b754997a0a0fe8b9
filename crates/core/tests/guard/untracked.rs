//! What a firewall makes of packets beside a flow's own: ICMP errors about it, marks, addresses that no host has.

use super::*;

/// They are related to a connection, or about nothing that anybody knows.
#[test]
fn errors_that_come_in_by_their_state_alone_are_missed_and_given_back() {
    let firewall = || vec![without_icmp(vec![established(), open(80)])];
    let rendered = judged(&server(HTTP), firewall());
    let found = of_kind(&rendered, HazardKind::HostFirewallDrops);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].effect, Effect::Warning);
    assert!(rendered.programmed.contains("p"), "the connections themselves work");
    let evidence = &found[0].evidence;
    assert!(evidence.contains("chain input: policy drop") && evidence.contains("ICMP errors"), "{evidence}");
    let types = ["destination-unreachable", "time-exceeded", "parameter-problem"];
    let rule = format!(
        "nft 'insert rule inet site input position {} meta nfproto ipv4 icmp type {{ {} }} ct state untracked accept'",
        established().handle,
        types.join(", ")
    );
    assert!(evidence.ends_with(&format!("; missing: {rule}")), "{evidence}");
    let adapted = judged(&format!("hostFirewall: Adapt\n  {}", server(HTTP)), firewall());
    assert!(is_clean(&adapted), "{:#?}", adapted.findings);
    assert_eq!(adapted.adapters.len(), types.len(), "{:#?}", adapted.adapters);
    let ignored = judged(&format!("compensation: {{icmpErrors: Ignore}}\n  {}", server(HTTP)), firewall());
    assert!(is_clean(&ignored), "they stay tracked: {:#?}", ignored.findings);
}

/// By type, as most firewalls have it; and connections that nobody can begin have no errors.
#[test]
fn errors_that_come_in_by_their_type_are_no_harm() {
    let by_type = |types: &[u128]| {
        rule("icmp type accept", vec![is(Field::L4Proto, &[1]), is(Field::IcmpType, types), accept()])
    };
    for rules in [vec![by_type(&[3, 11, 12]), established(), open(80)], vec![established(), open(22)]] {
        let rendered = judged(&server(HTTP), vec![without_icmp(rules)]);
        assert!(is_clean(&rendered), "{:#?}", rendered.findings);
    }
    let rendered =
        judged(&server(HTTP), vec![without_icmp(vec![by_type(&[3, 11]), established(), open(80)])]);
    let evidence = &of_kind(&rendered, HazardKind::HostFirewallDrops)[0].evidence;
    assert!(evidence.contains("parameter-problem") && !evidence.contains("time-exceeded"), "{evidence}");
}

/// Their marks are constants, so that what drops the unmarked is no doubt (chains of kube-router and Calico).
#[test]
fn a_mark_that_rules_set_is_known_to_later_ones() {
    let marked =
        |keep, flip, text: &str| rule(text, vec![Step::Act(Act::SetMark(Some(Marking { keep, flip })))]);
    let of = Members::Masked { mask: 0x10000, values: vec![0x10000] };
    let unless = Match { fields: vec![Field::Mark], inverted: true, of };
    let rules = |flip| {
        vec![
            established(),
            marked(!0x20000, 0, "--set-xmark 0x0/0x20000"),
            marked(!0x10000, flip, "--set-xmark"),
            rule("unless marked drop", vec![Step::Match(unless.clone()), Step::Verdict(HostVerdict::Drop)]),
            rule("accept", vec![accept()]),
        ]
    };
    let rendered = judged(&server(HTTP), vec![without_icmp(rules(0x10000))]);
    assert!(is_clean(&rendered), "{:#?}", rendered.findings);
    // Unmarked it is dropped, and so is every connection.
    let rendered = judged(&server(HTTP), vec![without_icmp(rules(0))]);
    assert!(is_clean(&rendered), "{:#?}", rendered.findings);
}

/// iptables restores nothing where there is no entry.
#[test]
fn a_mark_of_an_entry_is_none_of_an_untracked_packet() {
    let restores = rule("-j CONNMARK --restore-mark", vec![Step::Act(Act::RestoreMark)]);
    let raw = base(HostHook::Prerouting, -150, ChainKind::Filter, false, vec![restores]);
    let rules = vec![
        rule("iifname lo accept", vec![is(Field::InInterface, &[interface_number("lo")]), accept()]),
        rule("-m mark --mark 1 -j ACCEPT", vec![is(Field::Mark, &[1]), accept()]),
    ];
    let filter = base(HostHook::Input, 0, ChainKind::Filter, true, rules);
    let rendered = judged(&server(HTTP), vec![table(&[("raw", raw), ("input", filter)])]);
    let found = of_kind(&rendered, HazardKind::HostFirewallDrops);
    assert!(found.iter().any(|found| found.effect == Effect::Blocked), "{:#?}", rendered.findings);
}

/// firewalld on every host with IPv6: nothing goes to such addresses but what belongs to a connection.
#[test]
fn addresses_that_no_host_has_are_nobodys_harm() {
    let refuses = |first: u128, last: u128| {
        let of = Members::Boxes(vec![vec![(first, last)]]);
        let to = Match { fields: vec![Field::DestinationAddress(Family::Ipv6)], inverted: false, of };
        rule(&format!("ip6 daddr {first:x} reject"), vec![Step::Match(to), Step::Verdict(HostVerdict::Drop)])
    };
    let judged = |first, last| {
        let output = vec![established(), refuses(first, last)];
        let output = table(&[("output", base(HostHook::Output, 0, ChainKind::Filter, false, output))]);
        let rules = HostRules { tables: vec![output], incomplete: Vec::new() };
        let host = Arc::new(Host { rules, ..Host::default() });
        let mut facts = NodeFacts { host, ..NodeFacts::assumed() };
        facts.addresses.insert("2001:db8::1".parse().unwrap());
        render(&rule_set(&server(HTTP)), &facts, None).unwrap()
    };
    let rendered = judged(0x2002_0a00 << 96, (0x2002_0b00 << 96) - 1);
    assert!(is_clean(&rendered), "{:#?}", rendered.findings);
    let rendered = judged(0x2001_0db9 << 96, (0x2001_0dba << 96) - 1);
    assert_eq!(of_kind(&rendered, HazardKind::HostFirewallDrops).len(), 1);
}

/// What a NAT rule translates stays tracked: of the rest nothing is translated.
#[test]
fn an_accept_of_what_is_translated_accepts_nothing_else() {
    let (name, bits) = STATUS;
    let of = Members::Masked { mask: bits & 0x20, values: vec![0] };
    let status = Match { fields: vec![Field::CtOther(name.to_owned())], inverted: true, of };
    let by_nft = rule("ct status dnat accept", vec![Step::Match(status), accept()]);
    let translated = is(Field::CtOther(TRANSLATED.to_owned()), &[1]);
    let by_iptables = rule("-m conntrack --ctstate DNAT -j ACCEPT", vec![translated, accept()]);
    for accepts in [by_nft, by_iptables] {
        let rendered = judged(&server(HTTP), vec![input(vec![established(), accepts, open(22)])]);
        assert!(is_clean(&rendered), "the port is closed to everybody: {:#?}", rendered.findings);
    }
}

/// A port that a NAT rule may give to others, at random: a chance is told, half of all ports are not left to it.
#[test]
fn ports_that_masqueraded_connections_may_get_are_not_bypassed_by_the_thousand() {
    let masquerade = rule("masquerade fully-random", vec![Step::Act(Act::Snat("masquerade".into()))]);
    let post = || {
        let post = base(HostHook::Postrouting, 100, ChainKind::Nat, false, vec![masquerade.clone()]);
        vec![table(&[("post", post)])]
    };
    let spec = |port: &str, rest: &str| {
        format!(
            "flows: [{{name: f, action: NoTrack, role: Server, ports: [{{protocol: TCP, {port}}}]{rest}}}]"
        )
    };
    let effects = |spec: &str| -> Vec<Effect> {
        let rendered = judged(spec, post());
        of_kind(&rendered, HazardKind::MasqueradedPorts).iter().map(|found| found.effect).collect()
    };
    assert_eq!(effects(&spec("port: 443", "")), [], "a port below 1024 is given to nobody else");
    assert_eq!(effects(&spec("port: 8080", "")), [Effect::Warning]);
    assert_eq!(effects(&spec("port: 1, endPort: 1023", "")), []);
    assert_eq!(effects(&spec("port: 1, endPort: 65535", "")), [Effect::Refused]);
    let acknowledged =
        ", acknowledge: [{hazard: MasqueradedPorts, reason: nobody behind this node asks anybody}]";
    assert_eq!(effects(&spec("port: 1, endPort: 65535", acknowledged)), [Effect::Warning]);
    let elsewhere = Match {
        fields: vec![Field::DestinationAddress(Family::Ipv4)],
        inverted: false,
        of: Members::Boxes(vec![vec![(0xc000_0200, 0xc000_02ff)]]),
    };
    let named =
        rule("ip daddr 192.0.2.0/24 masquerade", vec![Step::Match(elsewhere), masquerade.steps[0].clone()]);
    let post = base(HostHook::Postrouting, 100, ChainKind::Nat, false, vec![named]);
    let peers = spec("port: 1, endPort: 65535", ", peers: [{cidr: 10.0.0.0/8}]");
    let rendered = judged(&peers, vec![table(&[("post", post)])]);
    assert!(is_clean_of(&rendered, HazardKind::MasqueradedPorts), "no answer comes from these clients");
}

fn is_clean_of(rendered: &Rendered, kind: HazardKind) -> bool {
    of_kind(rendered, kind).is_empty()
}

/// Twenty rules, each of which would cut each part of the packets in sixty-four: nobody waits for that, and nobody is told
/// that all is well.
#[test]
fn a_firewall_too_odd_to_follow_is_given_up_on_and_named() {
    let boxes = |seed: u128| {
        let one = |number: u128| {
            let (address, port) = ((number * 977 + seed * 131) % 60_000, (number * 331 + seed * 17) % 60_000);
            vec![(0x0a00_0000 + address * 3, 0x0a00_0000 + address * 3 + 1), (port, port + 2)]
        };
        Members::Boxes((0..64).map(one).collect())
    };
    let of = |fields: [Field; 2], seed| {
        Step::Match(Match { fields: fields.into(), inverted: false, of: boxes(seed) })
    };
    let source = || [Field::SourceAddress(Family::Ipv4), Field::SourcePort];
    let odd = |seed: u128| {
        let steps = vec![of(source(), seed), of(source(), seed + 100), Step::Verdict(HostVerdict::Drop)];
        rule(&format!("odd {seed} drop"), steps)
    };
    let mut rules: Vec<HostRule> = (0..20).map(odd).collect();
    rules.push(established());
    rules.push(new_to(80));
    let rendered = judged(&server(HTTP), vec![input(rules)]);
    let found = of_kind(&rendered, HazardKind::HostFirewallDrops);
    assert!(found.iter().any(|found| found.effect == Effect::Blocked), "{:#?}", rendered.findings);
}
