//! The rules of both old iptables as they are read, held against what the programs list and what the kernel does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use notrack_core::host::{
    Act, Backend, CT_UNTRACKED, ChainKind, Field, HostHook, HostRule, HostRules, HostTable, HostVerdict,
    Match, Members, NatTarget, NatTo, Step, TableFamily,
};
use notrack_core::net::{AddressRange, Family, PortRange};
use notrack_lab::{Namespace, run_ok, run_ok_with_input};
use notrack_netlink::host::{self, legacy_fingerprint};

const V4: &str = "iptables-legacy";
const V6: &str = "ip6tables-legacy";
const TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

fn run(namespace: &Namespace, line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = namespace.command(words.next().unwrap());
    run_ok(command.args(words)).unwrap()
}

/// Loads rules of a table, as `iptables-restore` reads them.
fn load(namespace: &Namespace, program: &str, table: &str, rules: &[&str]) {
    let script = format!("*{table}\n{}\nCOMMIT\n", rules.join("\n"));
    let mut command = namespace.command(&format!("{program}-restore"));
    run_ok_with_input(command.arg("--noflush"), &script).unwrap();
}

fn read(namespace: &Namespace) -> HostRules {
    let rules = namespace.enter(host::read).unwrap().unwrap();
    assert_eq!(rules.incomplete, Vec::<String>::new());
    rules
}

fn table<'a>(rules: &'a HostRules, program: &str, name: &str) -> &'a HostTable {
    let family = if program == V4 { TableFamily::Ip } else { TableFamily::Ip6 };
    let mut tables = rules.tables.iter().filter(|table| table.id.backend == Backend::IptablesLegacy);
    tables.find(|table| table.id.family == family && table.id.name == name).unwrap()
}

/// A table as `-S` would list it: policies, chains, rules by chain.
fn written(table: &HostTable) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, chain) in &table.chains {
        let own = lines.entry(name.clone()).or_default();
        own.push(match chain.base {
            Some(base) => format!("-P {name} {}", if base.drops { "DROP" } else { "ACCEPT" }),
            None => format!("-N {name}"),
        });
        for rule in &chain.rules {
            assert_eq!(rule.handle as usize, own.len(), "rules are numbered from 1");
            own.push(format!("-A {name} {}", rule.text).trim_end().to_owned());
        }
    }
    lines
}

/// The same of what the program lists.
fn listed(namespace: &Namespace, program: &str, table: &str) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in run(namespace, &format!("{program} -t {table} -S")).lines() {
        let chain = line.split(' ').nth(1).unwrap();
        lines.entry(chain.to_owned()).or_default().push(line.to_owned());
    }
    lines
}

/// Rules for both families.
const FILTER: &[&str] = &[
    ":INPUT DROP [0:0]",
    ":FORWARD ACCEPT [0:0]",
    ":OUTPUT ACCEPT [0:0]",
    ":user - [0:0]",
    ":empty - [0:0]",
    "-A INPUT -i lo -j ACCEPT",
    "-A INPUT ! -i eth+ -p tcp -m multiport --dports 22,80:90 -j REJECT",
    "-A INPUT -p udp -m multiport ! --ports 53,1000:2000 -j DROP",
    "-A INPUT -p tcp ! --syn -m state --state NEW -j REJECT --reject-with tcp-reset",
    "-A INPUT -p tcp --tcp-flags ALL NONE --sport 1024: ! --dport 1:5 --tcp-option 3 -j DROP",
    "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A INPUT ! -p tcp -m conntrack ! --ctstate INVALID,UNTRACKED,DNAT -j ACCEPT",
    "-A INPUT -m conntrack --ctstate ESTABLISHED --ctstatus CONFIRMED,ASSURED --ctdir REPLY --ctorigdstport 80:90 --ctproto 6 --ctexpire 5:9 -j ACCEPT",
    "-A INPUT -m mark ! --mark 0x4000/0x4000 -j RETURN",
    "-A INPUT -m mark --mark 5 -j user",
    "-A INPUT -m connmark ! --mark 0x3/0xff -g empty",
    "-A INPUT -m addrtype --dst-type LOCAL --limit-iface-in",
    "-A INPUT -m addrtype ! --dst-type LOCAL,UNICAST",
    "-A INPUT -m limit --limit 5/min --limit-burst 7 -m comment --comment \"it's a \\\"x\\\"\"",
    "-A INPUT -m limit --limit 100/hour -m comment --comment ok-1",
    "-A INPUT -m helper ! --helper ftp",
    "-A INPUT -p sctp --dport 3 ! --sport 5:6",
    "-A INPUT -p dccp --dport 3 --sport 5:6 -j DROP",
    "-A INPUT -p gre",
    "-A INPUT -p 253 -j NFQUEUE --queue-num 3 --queue-bypass",
    "-A INPUT -j NFQUEUE --queue-balance 3:5",
    "-A INPUT -j LOG --log-prefix \"drop it: \" --log-level info --log-uid",
    "-A INPUT -j NFLOG --nflog-group 3 --nflog-prefix x",
    "-A INPUT -p tcp -j SYNPROXY --mss 1460 --wscale 7 --sack-perm --timestamp",
    "-A FORWARD -i eth0 ! -o eth1.100 -j ACCEPT",
    "-A user -p udp --dport 53 -j RETURN",
    "-A user -p udp -m udp",
];

const RAW: &[&str] = &[
    "-A PREROUTING -p udp -j NOTRACK",
    "-A PREROUTING -p udp -j CT --notrack",
    "-A PREROUTING -p udp -j CT --zone-orig 3",
    "-A PREROUTING -p tcp -j CT --helper ftp --zone 3",
    "-A OUTPUT -j TRACE",
];

const MANGLE: &[&str] = &[
    "-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
    "-A PREROUTING -j CONNMARK --set-xmark 0xff/0xff",
    "-A PREROUTING -j CONNMARK --save-mark",
    "-A PREROUTING -j MARK --or-mark 0x4000",
    "-A PREROUTING -p tcp -j TPROXY --on-port 80 --tproxy-mark 1/1",
    "-A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
    "-A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400",
];

const NAT: &[&str] = &[
    "-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080",
    "-A OUTPUT -p tcp -j REDIRECT",
    "-A POSTROUTING -p tcp -j MASQUERADE --to-ports 1000-2000 --random",
    "-A POSTROUTING -j MASQUERADE --random-fully",
];

const FILTER_V4: &[&str] = &[
    "-A INPUT ! -s 10.0.0.0/8 -d 192.0.2.4 -f",
    "-A INPUT -s 10.0.0.1/255.0.0.255",
    "-A INPUT -m iprange --src-range 10.0.0.1-10.0.0.3 ! --dst-range 192.0.2.1-192.0.2.9",
    "-A INPUT -m conntrack --ctorigsrc 10.0.0.0/8 ! --ctorigdst 192.0.2.4",
    "-A INPUT -p icmp --icmp-type 8",
    "-A INPUT -p icmp ! --icmp-type 3/4 -j REJECT --reject-with icmp-host-prohibited",
    "-A INPUT -p icmp --icmp-type any",
    "-A INPUT -m addrtype ! --src-type MULTICAST,BROADCAST --dst-type LOCAL",
];

const NAT_V4: &[&str] = &[
    "-A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1:80",
    "-A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1-10.0.0.4:80-90 --random",
    "-A PREROUTING -p tcp -j DNAT --to-destination :80",
    "-A POSTROUTING -j SNAT --to-source 10.0.0.1-10.0.0.4 --persistent",
    "-A PREROUTING -d 10.1.0.0/16 -j NETMAP --to 10.2.0.0/16",
];

const FILTER_V6: &[&str] = &[
    "-A INPUT ! -s 2001:db8::/32 -d fe80::1",
    "-A INPUT -m iprange --src-range 2001:db8::-2001:db9::",
    "-A INPUT -p icmpv6 --icmpv6-type 135",
    "-A INPUT -p icmpv6 --icmpv6-type 1/3 -j REJECT --reject-with icmp6-adm-prohibited",
];

const NAT_V6: &[&str] = &[
    "-A PREROUTING -p tcp -j DNAT --to-destination [fd00::1]:80",
    "-A PREROUTING -p tcp -j DNAT --to-destination fd00::1",
    "-A PREROUTING -d fd00:1::/64 -j NETMAP --to fd00:2::/64",
    "-A POSTROUTING -j SNAT --to-source fd00::1",
];

/// A namespace with all of these rules.
fn broad() -> Namespace {
    let namespace = Namespace::new("broad").unwrap();
    for (program, filter, nat) in [(V4, FILTER_V4, NAT_V4), (V6, FILTER_V6, NAT_V6)] {
        load(&namespace, program, "filter", FILTER);
        load(&namespace, program, "filter", filter);
        load(&namespace, program, "raw", RAW);
        load(&namespace, program, "mangle", MANGLE);
        load(&namespace, program, "nat", NAT);
        load(&namespace, program, "nat", nat);
        run(&namespace, &format!("{program} -t security -L"));
    }
    namespace
}

#[test]
fn rules_are_written_as_their_program_lists_them() {
    let namespace = broad();
    let rules = read(&namespace);
    for program in [V4, V6] {
        for name in TABLES {
            assert_eq!(
                written(table(&rules, program, name)),
                listed(&namespace, program, name),
                "{program} {name}"
            );
        }
    }
}

fn find<'a>(table: &'a HostTable, chain: &str, words: &str) -> &'a HostRule {
    let mut found = table.chains[chain].rules.iter().filter(|rule| rule.text.contains(words));
    let rule = found.next().unwrap_or_else(|| panic!("no {words} in {chain}"));
    assert_eq!(found.next(), None, "{words} is not unique");
    rule
}

#[test]
fn chains_verdicts_and_acts() {
    let rules = read(&broad());
    for program in [V4, V6] {
        let filter = table(&rules, program, "filter");
        let end = |words| find(filter, "INPUT", words).steps.last().cloned();
        let verdict = |verdict| Some(Step::Verdict(verdict));
        assert_eq!(end("-j user"), verdict(HostVerdict::Jump("user".to_owned())));
        assert_eq!(end("-g empty"), verdict(HostVerdict::Goto("empty".to_owned())));
        assert_eq!(end("--dports 22"), verdict(HostVerdict::Drop));
        assert_eq!(end("--queue-num"), verdict(HostVerdict::Queue));
        assert_eq!(end("! --mark 0x4000"), verdict(HostVerdict::Return));
        assert_eq!(find(filter, "INPUT", "-j LOG").steps, []);
        assert_eq!(find(filter, "INPUT", "100/hour").comment.as_deref(), Some("ok-1"));
        assert_eq!(find(filter, "INPUT", "5/min").comment.as_deref(), Some("it's a \"x\""));
        assert_eq!(find(filter, "INPUT", "5/min").steps, [Step::Limit]);
        assert!(filter.chains["empty"].rules.is_empty());

        let base = |name: &str, chain: &str| table(&rules, program, name).chains[chain].base.unwrap();
        assert_eq!((base("filter", "INPUT").drops, base("filter", "OUTPUT").drops), (true, false));
        assert_eq!((base("raw", "OUTPUT").priority, base("mangle", "FORWARD").priority), (-300, -150));
        assert_eq!((base("nat", "PREROUTING").priority, base("nat", "POSTROUTING").priority), (-100, 100));
        assert_eq!((base("nat", "INPUT").hook, base("nat", "INPUT").kind), (HostHook::Input, ChainKind::Nat));

        let acts = |name: &str, chain: &str, words: &str| -> Vec<Act> {
            let acts = find(table(&rules, program, name), chain, words).steps.iter();
            acts.filter_map(|step| if let Step::Act(act) = step { Some(act.clone()) } else { None }).collect()
        };
        assert_eq!(acts("raw", "PREROUTING", "-j NOTRACK"), [Act::Notrack]);
        assert_eq!(acts("raw", "PREROUTING", "--zone-orig"), [Act::Zone]);
        assert_eq!(acts("raw", "PREROUTING", "--helper"), [Act::Helper("ftp".to_owned()), Act::Zone]);
        assert_eq!(acts("mangle", "PREROUTING", "--restore-mark"), [Act::RestoreMark]);
        assert_eq!(acts("mangle", "PREROUTING", "--save-mark"), [Act::SetCtMark]);
        assert_eq!(acts("mangle", "PREROUTING", "-j MARK"), [Act::SetMark]);
        assert_eq!(acts("mangle", "PREROUTING", "-j TPROXY"), [Act::Tproxy]);
        assert_eq!(acts("nat", "PREROUTING", "8080"), [redirect(8080)]);
        assert_eq!(acts("nat", "POSTROUTING", "1000-2000"), [Act::Snat("1000-2000".to_owned())]);
        let to = if program == V4 { "10.0.0.1:80" } else { "[fd00::1]:80" };
        let address: SocketAddr = to.parse().unwrap();
        let target = NatTarget::Addresses(AddressRange::one(address.ip()));
        let ports = Some(PortRange::one(80));
        assert_eq!(acts("nat", "PREROUTING", to), [Act::Dnat(NatTo { target, ports })]);
    }
}

fn redirect(port: u16) -> Act {
    Act::Dnat(NatTo { target: NatTarget::Own, ports: Some(PortRange::one(port)) })
}

/// Sends one datagram over `lo` from and to fixed ports.
fn send(namespace: &Namespace, local: IpAddr) {
    let sent = namespace.enter(|| {
        let receiver = UdpSocket::bind(SocketAddr::new(local, 5301)).unwrap();
        let sender = UdpSocket::bind(SocketAddr::new(local, 5300)).unwrap();
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
    });
    sent.unwrap();
}

#[test]
fn the_fingerprint_changes_with_the_rules_and_not_with_packets() {
    let namespace = Namespace::new("print").unwrap();
    let print = || namespace.enter(legacy_fingerprint).unwrap();
    let empty = print();
    for program in [V4, V6] {
        load(
            &namespace,
            program,
            "filter",
            &["-A OUTPUT -m limit --limit 5/min", "-A OUTPUT -m quota --quota 300"],
        );
    }
    let before = print();
    assert_ne!(before, empty);
    send(&namespace, Ipv4Addr::LOCALHOST.into());
    send(&namespace, Ipv6Addr::LOCALHOST.into());
    assert!(hits(&namespace, V4, "OUTPUT")[0], "the packet has not met the rule");
    assert_eq!(print(), before);
    let mut seen = vec![empty, before];
    for change in [
        "iptables-legacy -A OUTPUT -j LOG",
        "ip6tables-legacy -A OUTPUT -j LOG",
        "ip6tables-legacy -P FORWARD DROP",
        "iptables-legacy -N user",
        "iptables-legacy -E user other",
        "iptables-legacy -t raw -L",
    ] {
        run(&namespace, change);
        let now = print();
        assert!(!seen.contains(&now), "{change}");
        seen.push(now);
    }
    run(&namespace, "iptables-legacy -D OUTPUT -j LOG");
    run(&namespace, "iptables-legacy -A OUTPUT -j LOG");
    assert_eq!(Some(&print()), seen.last(), "the same rules again");
}

/// Whether packets have met each rule of a chain of the filter table.
fn hits(namespace: &Namespace, program: &str, chain: &str) -> Vec<bool> {
    let listed = run(namespace, &format!("{program} -nvxL {chain}"));
    let packets = listed.lines().skip(2).map(|line| line.split_whitespace().next().unwrap().to_owned());
    packets.map(|packets| packets != "0").collect()
}

/// What is known of the datagram of [`send`] in the input hook, untracked. `None`: not known here.
fn value(field: &Field, local: IpAddr) -> Option<u128> {
    Some(match (field, local) {
        (Field::CtState, _) => CT_UNTRACKED,
        (Field::L4Proto, _) => 17,
        (Field::SourcePort, _) => 5300,
        (Field::DestinationPort, _) => 5301,
        (Field::InInterface, _) => notrack_core::host::interface_number("lo"),
        (Field::Mark, _) => 0,
        (Field::SourceType | Field::DestinationType, _) => 2,
        (
            Field::SourceAddress(Family::Ipv4) | Field::DestinationAddress(Family::Ipv4),
            IpAddr::V4(address),
        ) => u32::from(address).into(),
        (
            Field::SourceAddress(Family::Ipv6) | Field::DestinationAddress(Family::Ipv6),
            IpAddr::V6(address),
        ) => address.into(),
        _ => return None,
    })
}

/// Whether the datagram passes a step, as far as that is known.
fn passes(step: &Step, local: IpAddr) -> Option<bool> {
    let Step::Match(Match { fields, inverted, of }) = step else { return None };
    if fields.iter().any(|field| matches!(field, Field::CtOther(_))) {
        return Some(false);
    }
    let boxes = match of {
        Members::Boxes(boxes) => boxes,
        Members::Masked { mask, values } => {
            let value = value(fields.first()?, local)?;
            return Some(values.contains(&(value & mask)) != *inverted);
        }
        Members::Set(_) | Members::Unknown => return None,
    };
    let inside = |ranges: &Vec<(u128, u128)>| {
        let each = fields.iter().zip(ranges).map(|(field, (low, high))| match value(field, local) {
            Some(value) => Some((low..=high).contains(&&value)),
            None if (*low, *high) == (0, u128::MAX) => Some(true),
            None => None,
        });
        each.fold(Some(true), |all, one| match (all, one) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        })
    };
    let any = boxes.iter().map(inside).fold(Some(false), |any, one| match (any, one) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    });
    any.map(|inside| inside != *inverted)
}

/// Loads rules that judge the datagram without a target, sends it untracked, and holds what the steps say of each
/// rule against the kernel's counters.
fn judge(namespace: &Namespace, program: &str, rules: &[&str]) {
    let local: IpAddr = if program == V4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let rules: Vec<String> = rules.iter().map(|rule| format!("-A INPUT {rule}")).collect();
    load(namespace, program, "filter", &rules.iter().map(String::as_str).collect::<Vec<_>>());
    load(namespace, program, "raw", &["-A OUTPUT -p udp -j NOTRACK"]);
    let read = read(namespace);
    send(namespace, local);
    let hits = hits(namespace, program, "INPUT");
    let read = &table(&read, program, "filter").chains["INPUT"].rules;
    assert_eq!((read.len(), hits.len()), (rules.len(), rules.len()));
    for (rule, hit) in read.iter().zip(hits) {
        let known: Vec<_> = rule.steps.iter().map(|step| passes(step, local)).collect();
        let expected = known.iter().all(|passes| *passes == Some(true));
        assert!(known.contains(&Some(false)) || expected, "{}: not known: {:?}", rule.text, rule.steps);
        assert_eq!(expected, hit, "{program} {}: {:?}", rule.text, rule.steps);
    }
}

#[test]
fn an_untracked_packet_meets_what_is_read() {
    for (program, here, elsewhere) in [(V4, "127.0.0.1", "192.0.2.1"), (V6, "::1", "2001:db8::1")] {
        let namespace = Namespace::new("judge").unwrap();
        let with = |rule: &str| rule.replace("ELSEWHERE", elsewhere).replace("HERE", here);
        let rules = [
            "-m conntrack --ctstate UNTRACKED",
            "-m conntrack ! --ctstate UNTRACKED",
            "-m conntrack --ctstate INVALID",
            "-m conntrack --ctstate NEW,RELATED,ESTABLISHED",
            "-m conntrack ! --ctstate INVALID",
            "-m conntrack ! --ctstate NEW,RELATED,ESTABLISHED",
            "-m conntrack --ctstate DNAT",
            "-m conntrack ! --ctstate DNAT",
            "-m conntrack --ctstate SNAT,NEW",
            "-m conntrack ! --ctstate SNAT,UNTRACKED",
            "-m conntrack --ctstate UNTRACKED,NEW --ctorigdst ELSEWHERE",
            "-m conntrack ! --ctstate NEW --ctstatus ASSURED --ctproto 6",
            "-m conntrack --ctstate NEW --ctorigdst HERE",
            "-m conntrack --ctorigdst HERE",
            "-m conntrack ! --ctorigdst ELSEWHERE",
            "-m conntrack --ctdir ORIGINAL",
            "-m conntrack ! --ctstatus ASSURED",
            "-m state --state UNTRACKED",
            "-m state ! --state NEW",
            "-m state --state NEW,ESTABLISHED",
            "-m helper --helper ftp",
            "-m helper ! --helper ftp",
            "-m connmark --mark 0",
            "-m connmark ! --mark 3",
            "-m connbytes --connbytes 0: --connbytes-dir both --connbytes-mode packets",
            "-m mark --mark 0",
            "-m mark ! --mark 0x10000000/0x10000000",
            "-p udp --dport 5301",
            "-p udp ! --dport 5300:5301",
            "-p udp --sport 5301",
            "-p udp -m multiport --ports 1,5299:5300",
            "-p udp -m multiport ! --dports 1,5299:5300",
            "-p udp -m multiport ! --sports 1,5299:5300",
            "! -p tcp -i l+",
            "! -i eth0",
            "! -i lo",
            "-s HERE -d HERE",
            "! -s ELSEWHERE -d ELSEWHERE",
            "! -s HERE",
            "-m iprange --src-range HERE-HERE ! --dst-range ELSEWHERE-ELSEWHERE",
            "-m addrtype --dst-type LOCAL ! --src-type UNICAST",
            "-m addrtype --src-type UNICAST",
            "-m addrtype --src-type UNICAST,LOCAL",
            "-m addrtype ! --dst-type MULTICAST",
            "-m addrtype ! --dst-type LOCAL,MULTICAST",
        ]
        .map(with);
        judge(&namespace, program, &rules.each_ref().map(String::as_str));
    }
}

#[test]
fn ip_sets_are_read_as_the_kernel_looks_things_up_in_them() {
    for (program, family, here, elsewhere, net) in
        [(V4, "inet", "127.0.0.1", "192.0.2.1", "127.0.0.0/8"), (V6, "inet6", "::1", "2001:db8::1", "::/64")]
    {
        let namespace = Namespace::new("sets").unwrap();
        let run = |line: &str| run(&namespace, &format!("ipset {line}"));
        for (name, create, elements) in [
            ("ip", "hash:ip timeout 600", vec![here, elsewhere]),
            ("other", "hash:ip counters comment", vec![elsewhere]),
            ("none", "hash:ip", vec![]),
            ("net", "hash:net", vec![net]),
            ("ipport", "hash:ip,port", vec!["HERE,udp:5301", "HERE,tcp:5300"]),
            ("netport", "hash:net,port", vec!["NET,udp:5300-5301"]),
            ("three", "hash:ip,port,net", vec!["HERE,udp:5301,NET"]),
            ("iface", "hash:net,iface", vec!["NET,lo"]),
        ] {
            let (kind, options) = create.split_once(' ').unwrap_or((create, ""));
            run(&format!("create {name} {kind} family {family} {options}"));
            for element in elements {
                run(&format!("add {name} {}", element.replace("HERE", here).replace("NET", net)));
            }
        }
        run("create port bitmap:port range 5000-6000");
        run("add port 5301");
        run("create list list:set");
        run("add list none");
        run("add list ip");
        run("create mixed list:set");
        run("add mixed ip");
        run("add mixed port");
        run("create masked hash:ip netmask 8 family inet");
        run("add masked 127.9.9.9");
        let mut rules = vec![
            "-m set --match-set ip src",
            "-m set ! --match-set ip dst",
            "-m set --match-set other src",
            "-m set ! --match-set other src",
            "-m set --match-set none dst",
            "-m set ! --match-set none dst",
            "-m set --match-set net dst",
            "-m set --match-set ipport dst,dst",
            "-m set --match-set ipport src,src",
            "-m set ! --match-set ipport src,dst",
            "-m set --match-set netport src,src",
            "-m set --match-set netport dst,dst",
            "-m set --match-set three src,dst,dst",
            "-m set --match-set three src,src,dst",
            "-m set --match-set iface src,src",
            "-m set --match-set port dst",
            "-m set --match-set port src",
            "-m set --match-set list src",
            "-m set ! --match-set list src",
            "-m set --match-set ip src,src",
            "-m set --match-set none src,src",
        ];
        if program == V4 {
            rules.push("-m set --match-set masked src");
        }
        judge(&namespace, program, &rules);
        let listed = listed(&namespace, program, "filter");
        assert_eq!(written(table(&read(&namespace), program, "filter")), listed);

        // What cannot be told by one comparison is not told wrongly.
        load(&namespace, program, "filter", &["-A FORWARD -m set --match-set mixed src"]);
        let rules = read(&namespace);
        let mixed = &table(&rules, program, "filter").chains["FORWARD"].rules[0];
        let [Step::Match(Match { of: Members::Unknown, .. })] = &mixed.steps[..] else { panic!("{mixed:?}") };
    }
}

#[test]
fn a_set_of_too_many_elements_is_not_looked_through() {
    let namespace = Namespace::new("large").unwrap();
    let mut script = String::from("create large hash:ip maxelem 100000\n");
    for number in 0..=65_536u32 {
        script += &format!("add large {}\n", Ipv4Addr::from(0x0a00_0000 + number));
    }
    let mut command = namespace.command("ipset");
    run_ok_with_input(command.arg("restore"), &script).unwrap();
    load(&namespace, V4, "filter", &["-A INPUT -m set --match-set large src"]);
    let of = || {
        let rules = read(&namespace);
        let [Step::Match(Match { of, .. })] = &table(&rules, V4, "filter").chains["INPUT"].rules[0].steps[..]
        else {
            panic!("{rules:?}")
        };
        of.clone()
    };
    assert_eq!(of(), Members::Unknown);
    run(&namespace, "ipset del large 10.0.0.0");
    let Members::Boxes(boxes) = of() else { panic!("65536 are not too many") };
    assert_eq!(boxes.len(), 65_536);
}
