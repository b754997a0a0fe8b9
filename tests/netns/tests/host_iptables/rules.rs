//! A broad set of rules, as text and as steps.

use std::net::SocketAddr;

use notrack_core::host::{
    Act, ChainKind, HostHook, HostRule, HostTable, HostVerdict, Marking, NatTarget, NatTo, Step,
};
use notrack_core::net::{AddressRange, PortRange};
use notrack_lab::Namespace;

use super::support::{V4, V6, listed, load, read, run, table, written};

const TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

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
        assert_eq!(
            acts("mangle", "PREROUTING", "-j MARK"),
            [Act::SetMark(Some(Marking { keep: !0x4000, flip: 0x4000 }))]
        );
        assert_eq!(acts("mangle", "PREROUTING", "-j TPROXY"), [Act::Tproxy]);
        assert_eq!(acts("nat", "PREROUTING", "8080"), [redirect(8080)]);
        assert_eq!(acts("nat", "POSTROUTING", "1000-2000"), [Act::Snat("1000-2000".to_owned())]);
        let to = if program == V4 { "10.0.0.1:80" } else { "[fd00::1]:80" };
        let address: SocketAddr = to.parse().unwrap();
        let target = NatTarget::Addresses(AddressRange::one(address.ip()));
        let ports = Some(PortRange::one(80));
        assert_eq!(acts("nat", "PREROUTING", to), [Act::Dnat(vec![NatTo { target, ports }])]);
    }
}

fn redirect(port: u16) -> Act {
    Act::Dnat(vec![NatTo { target: NatTarget::Own, ports: Some(PortRange::one(port)) }])
}
