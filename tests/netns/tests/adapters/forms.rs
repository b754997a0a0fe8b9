//! Every form of a rule, as its table's own tool lists, saves and restores it, and the command that a user would run.

use notrack_core::packet::icmp_errors;

use super::*;

fn forms(kind: Kind) -> Vec<Adapter> {
    let all = AddressRange::all(kind.family);
    let one_port = |port| PortRange::one(port);
    let plain = Untracked {
        carried: Carried::Transport(Proto::Tcp),
        sources: all,
        source_ports: PortRange::ALL,
        destinations: all,
        destination_ports: PortRange::ALL,
        in_interface: None,
        out_interface: None,
        opens: None,
    };
    let range = |texts| addresses(kind.family, texts);
    let uplink = || Some("eth*".to_owned());
    let mut forms = vec![
        ("input", plain.clone()),
        ("input", Untracked { carried: Carried::Transport(Proto::Udp), ..plain.clone() }),
        ("input", Untracked { opens: Some(true), ..plain.clone() }),
        ("input", Untracked { opens: Some(false), destination_ports: one_port(80), ..plain.clone() }),
        (
            "input",
            Untracked { sources: range(["10.0.0.0/9", "fd00::/9"]), in_interface: uplink(), ..plain.clone() },
        ),
        ("input", kind.server(443)),
        (
            "input",
            Untracked {
                carried: Carried::Transport(Proto::Udp),
                sources: range(["10.0.0.0/8", "fd00::/8"]),
                destinations: range(["192.0.2.7/32", "2001:db8::7/128"]),
                source_ports: PortRange::new(0, 1023).unwrap(),
                in_interface: Some("a-15-byte-name0".to_owned()),
                ..plain.clone()
            },
        ),
        ("input", Untracked { carried: Carried::Transport(Proto::Sctp), ..plain.clone() }),
        (
            "input",
            Untracked {
                carried: Carried::IcmpError(1),
                destinations: range(["192.0.2.7/32", "2001:db8::7/128"]),
                in_interface: uplink(),
                ..plain.clone()
            },
        ),
        (
            "input",
            Untracked {
                carried: Carried::Transport(Proto::Sctp),
                source_ports: PortRange::new(1, 9).unwrap(),
                destination_ports: one_port(3868),
                ..plain.clone()
            },
        ),
        (
            "input",
            Untracked {
                carried: Carried::Transport(Proto::Sctp),
                destination_ports: one_port(3868),
                ..plain.clone()
            },
        ),
        (
            "forward",
            Untracked {
                in_interface: uplink(),
                out_interface: Some("eth1".to_owned()),
                opens: Some(true),
                ..kind.server(80)
            },
        ),
    ];
    for kind in icmp_errors(kind.family) {
        forms.push(("input", Untracked { carried: Carried::IcmpError(*kind), ..plain.clone() }));
    }
    if kind.backend == Backend::Nft {
        let odd = range(["10.0.0.3-10.0.1.9", "fd00::3-fd00::1:9"]);
        forms.push(("input", Untracked { sources: odd, ..plain.clone() }));
        forms.push(("input", Untracked { destinations: odd, source_ports: one_port(53), ..plain }));
    }
    forms.into_iter().map(|(chain, packets)| kind.adapter(chain, None, packets)).collect()
}

/// A listed rule without what the user's command does not write: comment and counter.
fn bare(listing: &str) -> Vec<String> {
    let lines = listing.lines().map(|line| match line.split_once(" comment \"notrack-dev:") {
        None => line.replace(" counter accept", " accept"),
        // nft's comment ends the line, iptables' is in it.
        Some((before, rest)) => {
            let rest = rest.split_once('"').map_or("", |(_, rest)| rest);
            (before.to_owned() + rest).replace(" counter accept", " accept")
        }
    });
    let lines = lines.map(|line| {
        line.split(" -m comment --comment \"notrack-dev:")
            .enumerate()
            .map(
                |(part, text)| {
                    if part == 0 { text } else { text.split_once('"').map_or("", |(_, rest)| rest) }
                },
            )
            .collect::<String>()
    });
    lines.collect()
}

fn restore(kind: Kind, node: &Namespace, into: &Namespace) {
    if kind.backend == Backend::Nft {
        let listed = run_ok(node.command("nft").args(["list", "ruleset"])).unwrap();
        into.nft_check(&listed).unwrap();
        into.nft(&listed).unwrap();
    } else {
        let saved = run_ok(node.command(&kind.tool("-save")).args(["-t", "filter"])).unwrap();
        run_ok_with_input(&mut into.command(&kind.tool("-restore")), &saved).unwrap();
    }
}

#[test]
fn every_form_is_what_the_command_makes_and_survives_saving() {
    for kind in Kind::all() {
        let [ours, pasted, restored] =
            ["ours", "pasted", "restored"].map(|name| Namespace::new(name).unwrap());
        kind.load(&ours);
        kind.load(&pasted);
        let all = forms(kind);
        apply(&ours, &all, &BTreeSet::new()).unwrap();
        for adapter in &all {
            run_ok(pasted.command("sh").args(["-c", &adapter.command()])).unwrap();
        }
        assert_eq!(present(&ours).len(), all.len());
        assert_eq!(present(&pasted), BTreeSet::new(), "a user's rule is the user's");
        assert_eq!(bare(&kind.rules(&ours)), bare(&kind.rules(&pasted)), "{kind:?}");

        restore(kind, &ours, &restored);
        assert_eq!(kind.rules(&restored), kind.rules(&ours), "{kind:?}");
        let comments = |node| present(node).into_iter().map(|rule| (rule.table, rule.chain, rule.comment));
        assert!(comments(&restored).collect::<BTreeSet<_>>() == comments(&ours).collect(), "{kind:?}");
        apply(&restored, &all, &BTreeSet::new()).unwrap();
        assert_eq!(kind.rules(&restored), kind.rules(&ours), "{kind:?}: restored rules are known as ours");
        apply(&restored, &[], &present(&restored)).unwrap();
        let untouched = Namespace::new("untouched").unwrap();
        kind.load(&untouched);
        assert_eq!(kind.rules(&restored), kind.rules(&untouched), "{kind:?}");
    }
}

#[test]
fn the_commands_place_is_ours_where_the_tool_can_say_it() {
    for kind in Kind::all() {
        let [ours, pasted] = ["ours", "pasted"].map(|name| Namespace::new(name).unwrap());
        kind.load(&ours);
        kind.load(&pasted);
        let place = kind.handle(&ours, &kind.chain("input"), kind.texts().new);
        let adapter = kind.adapter("input", Some(place), kind.server(80));
        apply(&ours, std::slice::from_ref(&adapter), &BTreeSet::new()).unwrap();
        run_ok(pasted.command("sh").args(["-c", &adapter.command()])).unwrap();
        let (ours, pasted) = (bare(&kind.rules(&ours)), bare(&kind.rules(&pasted)));
        if kind.backend == Backend::IptablesNft {
            let sorted = |mut lines: Vec<String>| {
                lines.sort();
                lines
            };
            assert_eq!(sorted(ours), sorted(pasted), "{kind:?}");
        } else {
            assert_eq!(ours, pasted, "{kind:?}");
        }
    }
}

/// Tables of nft for one family need no `meta nfproto`, but may have it.
#[test]
fn nft_tables_of_one_family_hold_them_too() {
    for (family, table_family, name) in
        [(Family::Ipv4, TableFamily::Ip, "ip"), (Family::Ipv6, TableFamily::Ip6, "ip6")]
    {
        let kind = Kind { backend: Backend::Nft, family };
        let [ours, pasted] = ["ours", "pasted"].map(|name| Namespace::new(name).unwrap());
        let table = TableId { family: table_family, ..kind.table() };
        for node in [&ours, &pasted] {
            node.nft(&format!("table {name} site {{\n chain input {{ }}\n chain forward {{ }}\n}}\n"))
                .unwrap();
        }
        let all: Vec<Adapter> =
            forms(kind).into_iter().map(|form| Adapter { table: table.clone(), ..form }).collect();
        apply(&ours, &all, &BTreeSet::new()).unwrap();
        for adapter in &all {
            run_ok(pasted.command("sh").args(["-c", &adapter.command()])).unwrap();
        }
        let list = |node: &Namespace| bare(&node.ruleset().unwrap());
        assert_eq!(list(&ours).len(), list(&pasted).len());
        let scratch = Namespace::new("scratch").unwrap();
        scratch.nft(&ours.ruleset().unwrap()).unwrap();
        assert_eq!(scratch.ruleset().unwrap(), ours.ruleset().unwrap());
    }
}
