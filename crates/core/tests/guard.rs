//! What a host's own rules say against a policy: harm is found, named and completed; what does no harm is not found.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use notrack_core::compile::RuleSet;
use notrack_core::facts::NodeFacts;
use notrack_core::hazard::{Cause, Effect, Finding, HazardKind};
use notrack_core::host::*;
use notrack_core::kept::Kept;
use notrack_core::manifest::parse;
use notrack_core::net::{AddressRange, Family, PortRange, Proto};
use notrack_core::packet::Tuple;
use notrack_core::policy::validate;
use notrack_core::rules::{Rendered, render};

#[path = "guard/untracked.rs"]
mod untracked;

fn rule_set(spec: &str) -> RuleSet {
    let text = format!(
        "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata: {{name: p}}\nspec:\n  nodeSelector: {{}}\n  \
         mode: Enforce\n  {spec}\n"
    );
    let parsed = parse("p.yaml", &text);
    assert!(parsed.manifests.len() == 1, "{parsed:?}");
    let policy = validate(&parsed.manifests[0].policy).unwrap();
    RuleSet::new(vec![policy.into()], Vec::new())
}

fn server(ports: &str) -> String {
    format!("flows: [{{name: f, action: NoTrack, role: Server, ports: [{ports}]}}]")
}

const HTTP: &str = "{protocol: TCP, port: 80}";
const CLIENT: &str = "flows: [{name: f, action: NoTrack, role: Client, ports: [{protocol: TCP, port: 8080}], peers: [{cidr: 192.0.2.0/24}]}]";

fn judged(spec: &str, tables: Vec<HostTable>) -> Rendered {
    let rules = HostRules { tables, incomplete: Vec::new() };
    with_host(spec, Host { rules, ..Host::default() })
}

fn with_host(spec: &str, host: Host) -> Rendered {
    let mut facts = NodeFacts { host: Arc::new(host), ..NodeFacts::assumed() };
    facts.addresses.insert([10, 0, 0, 1].into());
    render(&rule_set(spec), &facts, None).unwrap()
}

fn of_kind(rendered: &Rendered, kind: HazardKind) -> Vec<&Finding> {
    rendered.findings.iter().filter(|found| found.cause == Cause::Hazard(kind)).collect()
}

/// No hazard but that of a policy file on a host without a cluster.
fn is_clean(rendered: &Rendered) -> bool {
    rendered.findings.is_empty() && rendered.programmed.contains("p")
}

fn base(hook: HostHook, priority: i32, kind: ChainKind, drops: bool, rules: Vec<HostRule>) -> HostChain {
    HostChain { base: Some(HostBase { hook, priority, kind, drops }), rules }
}

fn table(chains: &[(&str, HostChain)]) -> HostTable {
    HostTable {
        id: TableId { backend: Backend::Nft, family: TableFamily::Inet, name: "site".into() },
        owner: None,
        dormant: false,
        chains: chains.iter().map(|(name, chain)| ((*name).to_owned(), chain.clone())).collect(),
        sets: BTreeMap::new(),
    }
}

fn input(mut rules: Vec<HostRule>) -> HostTable {
    let icmp = vec![is(Field::L4Proto, &[1, 58]), accept()];
    rules.insert(0, rule("meta l4proto { icmp, ipv6-icmp } accept", icmp));
    without_icmp(rules)
}

/// A firewall that lets in errors by their state alone.
fn without_icmp(mut rules: Vec<HostRule>) -> HostTable {
    rules.insert(
        0,
        rule("iifname lo accept", vec![is(Field::InInterface, &[interface_number("lo")]), accept()]),
    );
    table(&[("input", base(HostHook::Input, 0, ChainKind::Filter, true, rules))])
}

fn rule(text: &str, steps: Vec<Step>) -> HostRule {
    // A handle for each text: places are told apart by it.
    let handle = text.bytes().map(u64::from).sum();
    HostRule { handle, text: text.into(), comment: None, steps }
}

fn is(field: Field, values: &[u128]) -> Step {
    let of = Members::Boxes(values.iter().map(|value| vec![(*value, *value)]).collect());
    Step::Match(Match { fields: vec![field], inverted: false, of })
}

fn tcp(port: u128) -> Vec<Step> {
    vec![is(Field::L4Proto, &[6]), is(Field::DestinationPort, &[port])]
}

fn accept() -> Step {
    Step::Verdict(HostVerdict::Accept)
}

fn established() -> HostRule {
    rule(
        "ct state established,related accept",
        vec![is(Field::CtState, &[CT_ESTABLISHED, CT_RELATED]), accept()],
    )
}

fn new_to(port: u128) -> HostRule {
    let steps = [tcp(port), vec![is(Field::CtState, &[CT_NEW]), accept()]].concat();
    rule(&format!("tcp dport {port} ct state new accept"), steps)
}

fn open(port: u128) -> HostRule {
    rule(&format!("tcp dport {port} accept"), [tcp(port), vec![accept()]].concat())
}

#[test]
fn a_stateless_accept_and_an_open_firewall_are_no_harm() {
    assert!(is_clean(&judged(&server(HTTP), vec![input(vec![established(), open(80)])])));
    let lets_all = base(HostHook::Input, 0, ChainKind::Filter, false, vec![established()]);
    assert!(is_clean(&judged(&server(HTTP), vec![table(&[("input", lets_all)])])));
    // A firewall that keeps everybody out keeps them out tracked too.
    assert!(is_clean(&judged(&server(HTTP), vec![input(vec![established(), open(22)])])));
    let mut asleep = input(vec![established(), new_to(80)]);
    asleep.dormant = true;
    assert!(is_clean(&judged(&server(HTTP), vec![asleep])));
}

#[test]
fn what_is_accepted_by_state_alone_blocks_and_names_chain_rule_and_remedy() {
    let rendered = judged(&server(HTTP), vec![input(vec![established(), new_to(80)])]);
    let found = of_kind(&rendered, HazardKind::HostFirewallDrops);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].effect, Effect::Blocked);
    let evidence = &found[0].evidence;
    assert!(evidence.starts_with("inet site, chain input: policy drop: would drop untracked"), "{evidence}");
    assert!(evidence.contains("missing: nft 'insert rule inet site input position"), "{evidence}");
    assert!(rendered.table.chains.is_empty() && rendered.adapters.is_empty());
}

/// A Service leaves its endpoint to flows that name interfaces: that is no way past what blocks them.
#[test]
fn what_a_service_leaves_to_an_interface_is_judged_as_well() {
    let endpoint = Kept {
        hazard: HazardKind::ServiceEndpoint,
        protocol: Proto::Tcp,
        addresses: None,
        ports: PortRange::one(80),
        clients: None,
        spares_interfaces: true,
        evidence: "an endpoint of Service default/web".to_owned(),
    };
    let spec = "flows: [{name: f, action: NoTrack, role: Server, interfaces: [eth0], ports: [{protocol: TCP, port: 80}]}]";
    let firewall = input(vec![established(), new_to(80)]);
    for (tables, is_blocked) in [(vec![], false), (vec![firewall], true)] {
        let rules = HostRules { tables, incomplete: Vec::new() };
        let host = Arc::new(Host { rules, ..Host::default() });
        let mut facts = NodeFacts { host, kept: vec![endpoint.clone()], ..NodeFacts::assumed() };
        facts.addresses.insert([10, 0, 0, 1].into());
        let rendered = render(&rule_set(spec), &facts, None).unwrap();
        assert_eq!(
            !of_kind(&rendered, HazardKind::HostFirewallDrops).is_empty(),
            is_blocked,
            "{rendered:#?}"
        );
        assert_eq!(rendered.table.chains.is_empty(), is_blocked, "{}", rendered.table);
    }
}

#[test]
fn the_replies_to_a_client_need_their_rule_too() {
    let rendered = judged(CLIENT, vec![input(vec![established(), open(22)])]);
    let found = of_kind(&rendered, HazardKind::HostFirewallDrops);
    assert_eq!(found.len(), 1, "{:#?}", rendered.findings);
    assert!(found[0].evidence.contains("192.0.2.0 port 8080 to 10.0.0.1"), "{}", found[0].evidence);
}

/// KUBE-FIREWALL: what would answer a loopback address from another one is dropped unless its state lets it through.
#[test]
fn the_kubelets_rule_for_loopback_addresses_is_no_harm() {
    let loopback = vec![vec![(0x7f00_0000, 0x7fff_ffff)]];
    let address = |field, inverted| {
        let of = Members::Boxes(loopback.clone());
        Step::Match(Match { fields: vec![field], inverted, of })
    };
    let states = Members::Boxes(vec![vec![(CT_ESTABLISHED, CT_ESTABLISHED)], vec![(CT_RELATED, CT_RELATED)]]);
    let steps = vec![
        address(Field::SourceAddress(Family::Ipv4), true),
        address(Field::DestinationAddress(Family::Ipv4), false),
        Step::Match(Match { fields: vec![Field::CtState], inverted: true, of: states }),
        Step::Verdict(HostVerdict::Drop),
    ];
    for hook in [HostHook::Input, HostHook::Output] {
        let rules = vec![rule("kubelet", steps.clone())];
        let tables = vec![table(&[("c", base(hook, 0, ChainKind::Filter, false, rules))])];
        assert!(is_clean(&judged(&server(HTTP), tables.clone())), "{hook:?}");
        assert!(is_clean(&judged(CLIENT, tables)), "{hook:?}");
    }
}

#[test]
fn adapting_accepts_exactly_what_the_state_would_have() {
    let from = |steps: Vec<Step>| {
        let source = Match {
            fields: vec![Field::SourceAddress(Family::Ipv4)],
            inverted: false,
            of: Members::Boxes(vec![vec![(0x0a00_0000, 0x0aff_ffff)]]),
        };
        [vec![Step::Match(source)], steps].concat()
    };
    let mut narrow = new_to(80);
    narrow.steps = from(narrow.steps);
    let tables = vec![input(vec![established(), narrow.clone()])];
    let rendered = judged(&format!("hostFirewall: Adapt\n  {}", server(HTTP)), tables);
    assert!(is_clean(&rendered), "{:#?}", rendered.findings);
    let commands: Vec<String> = rendered.adapters.iter().map(Adapter::command).collect();
    let rules = [
        format!(
            "nft 'insert rule inet site input position {} ip saddr 10.0.0.0/8 tcp flags & (fin | syn | rst | ack) != syn \
             tcp dport 80 ct state untracked accept'",
            established().handle
        ),
        format!(
            "nft 'insert rule inet site input position {} ip saddr 10.0.0.0/8 tcp flags & (fin | syn | rst | ack) == syn \
             tcp dport 80 ct state untracked accept'",
            narrow.handle
        ),
    ];
    assert_eq!(commands.len(), 2, "{commands:#?}");
    for rule in rules {
        assert!(commands.contains(&rule), "{rule}\n{commands:#?}");
    }
}

#[test]
fn an_acknowledged_firewall_is_a_warning() {
    let acknowledged = "flows: [{name: f, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 80}], acknowledge: [{hazard: HostFirewallDrops, reason: known and answered}]}]";
    let rendered = judged(acknowledged, vec![input(vec![established(), new_to(80)])]);
    let found = of_kind(&rendered, HazardKind::HostFirewallDrops);
    assert_eq!(found.iter().map(|found| found.effect).collect::<Vec<_>>(), [Effect::Warning]);
    assert!(rendered.programmed.contains("p"));
}

#[test]
fn what_cannot_be_told_says_so_and_names_the_rule() {
    let odd = Match { fields: vec![Field::CtState], inverted: false, of: Members::Unknown };
    let strange = rule("ct state @strange accept", vec![Step::Match(odd), accept()]);
    // The same doubt for tracked and untracked packets is no difference between them; that of the state is.
    let shared =
        rule("recent seen drop", vec![Step::Opaque("recent".into()), Step::Verdict(HostVerdict::Drop)]);
    assert!(is_clean(&judged(&server(HTTP), vec![input(vec![shared, open(80)])])));
    let rendered = judged(&server(HTTP), vec![input(vec![strange])]);
    let found = of_kind(&rendered, HazardKind::HostFirewallDrops);
    assert!(found[0].evidence.contains("may drop untracked"), "{found:#?}");
}

fn nat(hook: HostHook, act: Act, mut steps: Vec<Step>) -> HostTable {
    steps.push(Step::Act(act));
    let priority = if hook == HostHook::Postrouting { 100 } else { -100 };
    table(&[("nat", base(hook, priority, ChainKind::Nat, false, vec![rule("a nat rule", steps)]))])
}

fn to(address: [u8; 4], port: u16) -> Act {
    let target = NatTarget::Addresses(AddressRange::one(address.into()));
    Act::Dnat(vec![NatTo { target, ports: Some(PortRange::one(port)) }])
}

#[test]
fn a_translated_port_stays_tracked_and_the_others_do_not() {
    let rules = vec![nat(HostHook::Prerouting, to([172, 17, 0, 2], 80), tcp(8080))];
    let rendered = judged(&server("{protocol: TCP, port: 8080}"), rules.clone());
    let found = of_kind(&rendered, HazardKind::HostPort);
    assert!(found.iter().any(|found| found.effect == Effect::Refused), "{:#?}", rendered.findings);
    assert!(found[0].evidence.contains("inet site, chain nat"), "{}", found[0].evidence);
    assert!(rendered.programmed.is_empty());
    assert!(is_clean(&judged(&server(HTTP), rules.clone())));
    // Of both ports one is left.
    let rendered = judged(&server("{protocol: TCP, port: 8080}, {protocol: TCP, port: 80}"), rules);
    assert!(rendered.programmed.contains("p"));
    let effects: Vec<Effect> =
        of_kind(&rendered, HazardKind::HostPort).iter().map(|found| found.effect).collect();
    assert_eq!(effects, [Effect::Subtracted]);
}

/// As kube-proxy chooses an endpoint.
#[test]
fn a_translation_behind_a_random_map_is_found() {
    let chain = |rules| HostChain { base: None, rules };
    let elements = ["one", "two"].into_iter().zip(0..).map(|(name, number)| HostElement {
        values: vec![(number, number)],
        verdict: Some(HostVerdict::Goto(name.to_owned())),
    });
    let map = HostSet { elements: elements.collect(), ..HostSet::default() };
    let choice = vec![
        is(Field::DestinationPort, &[8080]),
        Step::VerdictMap { fields: vec![Field::Other("numgen".into())], map: "m".into() },
    ];
    let output = base(HostHook::Output, -100, ChainKind::Nat, false, vec![rule("choice", choice)]);
    let endpoint = |text: &str| chain(vec![rule(text, vec![Step::Act(to([10, 244, 0, 9], 80))])]);
    let mut table = table(&[("out", output), ("one", endpoint("first")), ("two", endpoint("second"))]);
    table.sets.insert("m".into(), map);
    let rendered = judged(CLIENT, vec![table.clone()]);
    for chain in ["chain one", "chain two"] {
        let found = of_kind(&rendered, HazardKind::HostPort);
        assert!(found.iter().any(|found| found.evidence.contains(chain)), "{chain}: {found:#?}");
    }
    assert!(rendered.programmed.is_empty());
    assert!(is_clean(&judged(&CLIENT.replace("8080", "8081"), vec![table])));
}

#[test]
fn what_answers_behind_a_translation_stays_tracked() {
    let redirect = Act::Dnat(vec![NatTo { target: NatTarget::Own, ports: Some(PortRange::one(80)) }]);
    let rendered = judged(&server(HTTP), vec![nat(HostHook::Prerouting, redirect, tcp(8080))]);
    assert!(rendered.programmed.is_empty(), "{:#?}", rendered.findings);
    // Elsewhere it is none of this node's business.
    let rendered = judged(&server(HTTP), vec![nat(HostHook::Prerouting, to([10, 0, 0, 9], 80), tcp(8080))]);
    assert!(is_clean(&rendered), "{:#?}", rendered.findings);
}

#[test]
fn a_gateway_is_refused_with_the_chain_and_a_live_connection() {
    let forward = "flows: [{name: f, action: NoTrack, role: Forward, ports: [{protocol: TCP, port: 80}], serverAddresses: [203.0.113.0/24]}]";
    assert!(is_clean(&judged(forward, Vec::new())), "a plain router");
    let masquerade = nat(HostHook::Postrouting, Act::Snat("masquerade".into()), Vec::new());
    let translated = Translated {
        original: tuple("192.168.0.2:40000", "203.0.113.5:80"),
        reply: tuple("203.0.113.5:80", "198.51.100.1:40000"),
    };
    let rules = HostRules { tables: vec![masquerade], incomplete: Vec::new() };
    let host = Host { rules, translated: vec![translated.clone()], ..Host::default() };
    let rendered = with_host(forward, host);
    assert!(rendered.programmed.is_empty());
    assert!(!of_kind(&rendered, HazardKind::Masquerade).is_empty(), "{:#?}", rendered.findings);
    let live = of_kind(&rendered, HazardKind::LiveNAT);
    assert!(live[0].evidence.contains("192.168.0.2:40000 to 203.0.113.5:80"), "{}", live[0].evidence);
    // Of what the node sends to itself no end needs it.
    let itself = nat(
        HostHook::Postrouting,
        Act::Snat("masquerade".into()),
        vec![is(Field::OutInterface, &[interface_number("lo")])],
    );
    assert!(is_clean(&judged(&server(HTTP), vec![itself])));
    // The rule is gone, the connection lives: its server alone is kept.
    let rendered = with_host(forward, Host { translated: vec![translated], ..Host::default() });
    assert!(rendered.programmed.contains("p"));
    assert_eq!(of_kind(&rendered, HazardKind::LiveNAT)[0].effect, Effect::Subtracted);
}

fn tuple(source: &str, destination: &str) -> Tuple {
    let end = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
    let (source, destination) = (end(source), end(destination));
    Tuple {
        source: source.ip(),
        destination: destination.ip(),
        proto: 6,
        source_port: source.port(),
        destination_port: destination.port(),
    }
}

#[test]
fn kube_proxys_masquerade_of_marked_packets_spares_the_rest() {
    let unmarked = Match {
        fields: vec![Field::Mark],
        inverted: true,
        of: Members::Masked { mask: 0x4000, values: vec![0x4000] },
    };
    let rules = vec![
        rule(
            "mark and 0x4000 != 0x4000 return",
            vec![Step::Match(unmarked), Step::Verdict(HostVerdict::Return)],
        ),
        rule("masquerade", vec![Step::Act(Act::Snat("masquerade".into()))]),
    ];
    let post = base(HostHook::Postrouting, 100, ChainKind::Nat, false, rules);
    assert!(is_clean(&judged(CLIENT, vec![table(&[("post", post.clone())])])));
    // Where the mark is set on the way it is found.
    let marks = rule("ip daddr 192.0.2.0/24 mark set", vec![Step::Act(Act::SetMark(None))]);
    let out = base(HostHook::Output, -150, ChainKind::Route, false, vec![marks]);
    let rendered = judged(CLIENT, vec![table(&[("post", post), ("out", out)])]);
    assert!(rendered.programmed.is_empty(), "{:#?}", rendered.findings);
}

#[test]
fn limits_on_the_state_block_and_limits_on_the_header_do_not() {
    let drop = || Step::Verdict(HostVerdict::Drop);
    let by_header =
        rule("tcp dport 80 limit rate over 9/second drop", [tcp(80), vec![Step::Limit, drop()]].concat());
    assert!(is_clean(&judged(&server(HTTP), vec![input(vec![by_header.clone(), established(), open(80)])])));
    let kind = |rules| {
        let rendered = judged(&server(HTTP), vec![input(rules)]);
        of_kind(&rendered, HazardKind::StatefulLimits).iter().map(|found| found.effect).collect::<Vec<_>>()
    };
    let count =
        rule("tcp dport 80 ct count over 9 drop", [tcp(80), vec![Step::CountConnections, drop()]].concat());
    assert_eq!(kind(vec![count, open(80)]), [Effect::Blocked]);
    let of_new = rule(
        "tcp dport 80 ct state new limit rate over 9/second drop",
        [tcp(80), vec![is(Field::CtState, &[CT_NEW]), Step::Limit, drop()]].concat(),
    );
    assert_eq!(kind(vec![of_new, established(), open(80)]), [Effect::Blocked]);
    // Tracked packets of a connection never meet it, untracked ones would.
    assert_eq!(kind(vec![established(), by_header, open(80)]), [Effect::Blocked]);
}

#[test]
fn zones_count_where_they_void_a_bypass() {
    let zone = |backend, priority| {
        let rules = vec![rule("a zone", vec![Step::Act(Act::Zone)])];
        let mut table =
            table(&[("raw", base(HostHook::Prerouting, priority, ChainKind::Filter, false, rules))]);
        table.id.backend = backend;
        table.id.family = TableFamily::Ip;
        let rendered = judged(&server(HTTP), vec![table]);
        !of_kind(&rendered, HazardKind::Zones).is_empty()
    };
    assert!(zone(Backend::Nft, -400), "before");
    assert!(zone(Backend::Nft, -300), "nft's later zone tracks again");
    assert!(!zone(Backend::IptablesLegacy, -300), "that of iptables does not");
    assert!(!zone(Backend::Nft, 0), "behind conntrack it is too late");
}

#[test]
fn other_needs_of_the_entry_refuse_or_warn() {
    let effect = |kind, hook, priority, act| {
        let rules = vec![rule("x", [tcp(80), vec![Step::Act(act)]].concat())];
        let rendered = judged(
            &server(HTTP),
            vec![table(&[("x", base(hook, priority, ChainKind::Filter, false, rules))])],
        );
        of_kind(&rendered, kind).iter().map(|found| found.effect).max()
    };
    use HostHook::{Forward, Input, Prerouting};
    assert_eq!(effect(HazardKind::Helper, Prerouting, 0, Act::Helper("ftp".into())), Some(Effect::Refused));
    assert_eq!(effect(HazardKind::AddressRewrite, Prerouting, -250, Act::Rewrite), Some(Effect::Refused));
    assert_eq!(effect(HazardKind::AddressRewrite, Prerouting, -150, Act::Rewrite), None);
    assert_eq!(effect(HazardKind::AddressRewrite, Prerouting, -350, Act::Rewrite), None);
    assert_eq!(effect(HazardKind::MarksLost, Prerouting, -150, Act::RestoreMark), Some(Effect::Warning));
    assert_eq!(effect(HazardKind::UntrackedAsSignal, Input, 0, Act::Synproxy), Some(Effect::Refused));
    assert_eq!(effect(HazardKind::FlowOffload, Forward, 0, Act::Offload("f".into())), None, "not forwarded");
}

#[test]
fn the_order_of_tables_and_an_endless_jump_make_no_difference() {
    let one = input(vec![established(), new_to(80)]);
    let mut other =
        input(vec![rule("jump self", vec![Step::Verdict(HostVerdict::Jump("self".into()))]), open(80)]);
    other.id.name = "other".into();
    let itself = HostChain {
        base: None,
        rules: vec![rule("jump self again", vec![Step::Verdict(HostVerdict::Jump("self".into()))])],
    };
    other.chains.insert("self".into(), itself);
    let findings = |tables| judged(&server(HTTP), tables).findings;
    assert_eq!(findings(vec![one.clone(), other.clone()]), findings(vec![other, one]));
}

#[test]
fn loopback_addresses_are_nobodys_peers() {
    // As the kubelet has it.
    let localnet = |inverted, field| {
        let of = Members::Boxes(vec![vec![(0x7f00_0000, 0x7fff_ffff)]]);
        Step::Match(Match { fields: vec![field], inverted, of })
    };
    let steps = vec![
        localnet(true, Field::SourceAddress(Family::Ipv4)),
        localnet(false, Field::DestinationAddress(Family::Ipv4)),
        Step::Match(Match {
            fields: vec![Field::CtState],
            inverted: true,
            of: Members::Boxes(vec![vec![(CT_ESTABLISHED, CT_ESTABLISHED)], vec![(CT_RELATED, CT_RELATED)]]),
        }),
        Step::Verdict(HostVerdict::Drop),
    ];
    let chain =
        |hook| base(hook, 0, ChainKind::Filter, false, vec![rule("block incoming localnet", steps.clone())]);
    let tables = || vec![table(&[("in", chain(HostHook::Input)), ("out", chain(HostHook::Output))])];
    for spec in [server(HTTP), CLIENT.to_owned()] {
        let rendered = judged(&spec, tables());
        assert!(is_clean(&rendered), "{:#?}", rendered.findings);
    }
}

#[test]
fn a_translation_that_nobody_can_tell_keeps_the_flow_tracked() {
    let choice =
        [tcp(8080), vec![Step::VerdictMap { fields: vec![Field::DestinationPort], map: "m".into() }]];
    let chain =
        base(HostHook::Prerouting, -100, ChainKind::Nat, false, vec![rule("vmap @m", choice.concat())]);
    let mut table = table(&[("nat", chain)]);
    table.sets.insert("m".into(), HostSet { unknown: true, ..HostSet::default() });
    let rendered = judged(&server("{protocol: TCP, port: 8080}"), vec![table.clone()]);
    assert!(rendered.programmed.is_empty(), "{:#?}", rendered.findings);
    assert!(!of_kind(&rendered, HazardKind::HostPort).is_empty());
    assert!(is_clean(&judged(&server(HTTP), vec![table])));
}

fn drop() -> Step {
    Step::Verdict(HostVerdict::Drop)
}

fn new() -> Step {
    is(Field::CtState, &[CT_NEW])
}

fn lets_all(rules: Vec<HostRule>) -> HostTable {
    table(&[("input", base(HostHook::Input, 0, ChainKind::Filter, false, rules))])
}

#[test]
fn what_is_refused_by_the_state_alone_would_come_in() {
    let friends = rule(
        "ip saddr 192.0.2.1 accept",
        vec![is(Field::SourceAddress(Family::Ipv4), &[0xc000_0201]), accept()],
    );
    let refuses = rule("ct state new drop", vec![new(), drop()]);
    let rules = vec![lets_all(vec![established(), friends, refuses])];
    let rendered = judged(&server(HTTP), rules.clone());
    let found = of_kind(&rendered, HazardKind::StatefulLimits);
    assert_eq!(found.iter().map(|found| found.effect).collect::<Vec<_>>(), [Effect::Blocked], "{found:#?}");
    assert!(found[0].evidence.contains("ct state new drop"), "{}", found[0].evidence);
    assert!(rendered.table.chains.is_empty());
    let acknowledged =
        server(HTTP).replace("}]}]", "}], acknowledge: [{hazard: StatefulLimits, reason: all may come}]}]");
    assert!(judged(&acknowledged, rules).programmed.contains("p"));
    // What is refused on other ports, or whatever the state, is no matter.
    let other = rule("tcp dport 81 ct state new drop", [tcp(81), vec![new(), drop()]].concat());
    let always = rule("tcp dport 80 drop", [tcp(80), vec![drop()]].concat());
    for rules in [vec![established(), other], vec![established(), always]] {
        assert!(is_clean(&judged(&server(HTTP), vec![lets_all(rules)])));
    }
}

#[test]
fn a_condition_that_no_rule_of_ours_can_have_is_not_left_out() {
    let country = Step::Opaque("geoip".into());
    let admits =
        rule("tcp dport 80 ct state new geoip accept", [tcp(80), vec![new(), country, accept()]].concat());
    for adapts in ["", "\n  hostFirewall: Adapt"] {
        let rendered = judged(&(server(HTTP) + adapts), vec![input(vec![established(), admits.clone()])]);
        let found = of_kind(&rendered, HazardKind::HostFirewallDrops);
        assert!(
            found.iter().any(|found| found.evidence.contains("would let in what this drops")),
            "{found:#?}"
        );
        assert!(found.iter().all(|found| !found.evidence.contains("missing:")), "{found:#?}");
        assert!(rendered.adapters.is_empty() && rendered.programmed.is_empty());
    }
}

#[test]
fn a_mark_that_only_tracked_packets_get_is_no_way_in() {
    let marks = rule(
        "ct state established meta mark set 1",
        vec![is(Field::CtState, &[CT_ESTABLISHED]), Step::Act(Act::SetMark(None))],
    );
    let begins = rule(
        "tcp dport 80 tcp flags syn accept",
        [tcp(80), vec![is(Field::TcpFlags, &[2]), accept()]].concat(),
    );
    let marked = rule("meta mark 1 accept", vec![is(Field::Mark, &[1]), accept()]);
    let mangle = base(HostHook::Prerouting, -150, ChainKind::Filter, false, vec![marks]);
    let filter = base(HostHook::Input, 0, ChainKind::Filter, true, vec![begins, marked]);
    let rendered = judged(&server(HTTP), vec![table(&[("mangle", mangle), ("input", filter)])]);
    let found = of_kind(&rendered, HazardKind::HostFirewallDrops);
    assert!(!found.is_empty(), "later packets have no mark: {:#?}", rendered.findings);
}

#[test]
fn what_pods_ask_through_a_masquerade_stays_tracked_for_the_node_too() {
    let range = |first: [u8; 4], last: [u8; 4]| {
        vec![(u32::from_be_bytes(first).into(), u32::from_be_bytes(last).into())]
    };
    let is_not = |field, values| {
        Step::Match(Match { fields: vec![field], inverted: true, of: Members::Boxes(vec![values]) })
    };
    let of_pods = Step::Match(Match {
        fields: vec![Field::SourceAddress(Family::Ipv4)],
        inverted: false,
        of: Members::Boxes(vec![range([10, 244, 0, 0], [10, 244, 255, 255])]),
    });
    let masquerade = |more: Vec<Step>| {
        vec![nat(
            HostHook::Postrouting,
            Act::Snat("masquerade".into()),
            [vec![of_pods.clone()], more].concat(),
        )]
    };
    let rendered = judged(CLIENT, masquerade(Vec::new()));
    assert!(rendered.programmed.is_empty());
    let found = of_kind(&rendered, HazardKind::Masquerade);
    assert!(found.iter().any(|found| found.effect == Effect::Refused), "{:#?}", rendered.findings);
    // What the rule leaves out is reached by both under their own addresses.
    let but_there = is_not(Field::DestinationAddress(Family::Ipv4), range([192, 0, 2, 0], [192, 0, 2, 255]));
    assert!(is_clean(&judged(CLIENT, masquerade(vec![but_there]))));
    // Nobody behind a node asks the other end of its tunnel.
    let tunnel = "flows: [{name: f, action: NoTrack, role: Peer, ports: [{protocol: UDP, port: 4789}], peers: [{cidr: 192.0.2.0/24}]}]";
    let interface = Interface {
        name: "vx0".into(),
        kind: "vxlan".into(),
        tunnel_port: Some(4789),
        ..Interface::default()
    };
    let surroundings = Surroundings { interfaces: vec![interface], ..Surroundings::default() };
    let rules = HostRules { tables: masquerade(Vec::new()), incomplete: Vec::new() };
    let host = |surroundings| Host { rules: rules.clone(), surroundings, ..Host::default() };
    assert!(of_kind(&with_host(tunnel, host(surroundings)), HazardKind::Masquerade).is_empty());
    let other = with_host(tunnel, host(Surroundings::default()));
    let effects: Vec<Effect> =
        of_kind(&other, HazardKind::Masquerade).iter().map(|found| found.effect).collect();
    assert_eq!(effects, [Effect::Subtracted], "what it serves itself is no matter");
}
