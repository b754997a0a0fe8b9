//! What is read, against what packets show.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use notrack_core::host::{CT_UNTRACKED, Field, Match, Members, Step, interface_number};
use notrack_core::net::Family;
use notrack_lab::{Namespace, run_ok_with_input};
use notrack_netlink::host::legacy_fingerprint;

use super::support::{V4, V6, listed, load, read, run, table, written};

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
        (Field::InInterface, _) => interface_number("lo"),
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

/// Of several answers: the one that decides, where it is among them; else unknown, where one is.
fn decide(answers: Vec<Option<bool>>, decisive: bool) -> Option<bool> {
    if answers.contains(&Some(decisive)) {
        return Some(decisive);
    }
    (!answers.contains(&None)).then_some(!decisive)
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
        decide(each.collect(), false)
    };
    let any = decide(boxes.iter().map(inside).collect(), true);
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
