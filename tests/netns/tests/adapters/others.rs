//! Beside other programs: what is gone, what is theirs alone, what they change at the same time.

use notrack_core::diff::{Op, Transaction};
use notrack_lab::Background;
use notrack_netlink::nft::{Netfilter, Nft};

use super::*;

#[test]
fn a_place_that_is_gone_is_named_and_nothing_is_done() {
    for kind in Kind::all() {
        let node = Namespace::new("node").unwrap();
        kind.load(&node);
        let before = kind.rules(&node);
        let good = kind.adapter("input", None, kind.server(80));
        let places = [("input", Some(4711)), ("absent", None), ("absent", Some(1))];
        for (chain, place) in places {
            let bad = kind.adapter(chain, place, kind.server(81));
            let error = apply(&node, &[good.clone(), bad.clone()], &BTreeSet::new()).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, AdapterError::Gone { .. }), "{text}");
            assert!(text.contains(&bad.chain) && text.contains(&bad.table.to_string()), "{text}");
            assert_eq!(kind.rules(&node), before);
        }
        let elsewhere = Adapter { table: TableId { name: "absent".to_owned(), ..kind.table() }, ..good };
        let error = apply(&node, &[elsewhere], &BTreeSet::new()).unwrap_err();
        assert!(matches!(error, AdapterError::Gone { .. }), "{error}");
    }
}

#[test]
fn what_a_table_cannot_hold_is_refused_before_anything_is_done() {
    for kind in Kind::all() {
        let node = Namespace::new("node").unwrap();
        kind.load(&node);
        let other = if kind.family == Family::Ipv4 { Family::Ipv6 } else { Family::Ipv4 };
        let fits = kind.server(80);
        let mut bad = vec![
            Untracked { destinations: AddressRange::all(other), ..fits.clone() },
            Untracked { in_interface: Some("sixteen-bytes-xx".to_owned()), ..fits.clone() },
            Untracked { carried: Carried::Transport(Proto::Udp), opens: Some(true), ..fits.clone() },
        ];
        if kind.backend != Backend::Nft {
            let odd = addresses(kind.family, ["10.0.0.3-10.0.1.9", "fd00::3-fd00::1:9"]);
            bad.push(Untracked { sources: odd, ..fits.clone() });
        }
        for packets in bad {
            let all = [kind.adapter("input", None, fits.clone()), kind.adapter("input", None, packets)];
            let error = apply(&node, &all, &BTreeSet::new()).unwrap_err();
            assert!(matches!(error, AdapterError::Unfit { .. }), "{error}");
            assert_eq!(present(&node), BTreeSet::new());
        }
    }
}

#[test]
fn a_table_with_an_owner_names_it() {
    let node = Namespace::new("node").unwrap();
    let mut nft = node.enter(Nft::open).unwrap().unwrap();
    let ops = vec![Op::AddTable, Op::AddChain { name: "c".to_owned(), base: None }];
    nft.commit(&Transaction { ops }).unwrap();
    assert!(nft.is_owner());
    let kind = Kind { backend: Backend::Nft, family: Family::Ipv4 };
    let table = TableId { name: "notrack-dev".to_owned(), ..kind.table() };
    let adapter = Adapter { table, ..kind.adapter("c", None, kind.server(80)) };
    let error = apply(&node, std::slice::from_ref(&adapter), &BTreeSet::new()).unwrap_err();
    assert!(
        matches!(&error, AdapterError::Owned { chain, port, .. } if chain == "c" && *port != 0),
        "{error}"
    );
}

/// A table that is made anew counts its handles from the start: ours may be another's by then.
#[test]
fn a_handle_that_is_another_rules_by_now_is_left_alone() {
    let kind = Kind { backend: Backend::Nft, family: Family::Ipv4 };
    let node = Namespace::new("node").unwrap();
    let load = |rule: &str| {
        let script = "table inet site\ndelete table inet site\ntable inet site {\n chain input {\n";
        node.nft(&format!("{script} {rule}\n }}\n}}\n")).unwrap();
    };
    load("");
    apply(&node, &[kind.adapter("input", None, kind.server(80))], &BTreeSet::new()).unwrap();
    let old = present(&node);
    load("tcp dport 22 accept");
    let handle = old.first().unwrap().handle;
    assert_eq!(kind.handle(&node, "input", "tcp dport 22"), handle, "the handle is used again");
    let before = kind.rules(&node);
    apply(&node, &[], &old).unwrap();
    assert_eq!(kind.rules(&node), before);
}

#[test]
fn rules_of_one_comment_go_one_by_one() {
    let kind = Kind { backend: Backend::IptablesLegacy, family: Family::Ipv4 };
    let node = Namespace::new("node").unwrap();
    kind.load(&node);
    apply(&node, &[kind.adapter("input", Some(2), kind.server(80))], &BTreeSet::new()).unwrap();
    let before = kind.rules(&node);
    let ours = before.lines().find(|line| line.contains("notrack-dev:")).unwrap();
    let twice = before.replace(ours, &format!("{ours}\n{ours}"));
    run_ok_with_input(&mut node.command(&kind.tool("-restore")), &twice).unwrap();
    let both = present(&node);
    assert_eq!(both.iter().map(|rule| rule.handle).collect::<Vec<_>>(), [2, 3]);
    apply(&node, &[], &both.iter().take(1).cloned().collect()).unwrap();
    assert_eq!(kind.rules(&node), before);
    // The number is not what it was: the comment decides.
    apply(&node, &[], &both.into_iter().skip(1).collect()).unwrap();
    assert_eq!(present(&node), BTreeSet::new());
}

/// Another program adds and removes a rule of its own all the time.
#[test]
fn a_busy_neighbour_loses_nothing() {
    for kind in Kind::all() {
        let node = Namespace::new("node").unwrap();
        kind.load(&node);
        let before = kind.rules(&node);
        let tool = kind.tool("");
        let step = match kind.backend {
            Backend::Nft => "nft add rule inet site user tcp dport 1 accept; nft flush chain inet site user; \
                             nft 'add rule inet site user tcp dport 80 accept; add rule inet site user accept'"
                .to_owned(),
            _ => format!("{tool} -w -A USER -p tcp --dport 1 -j ACCEPT || exit 9; {tool} -w -D USER 3 || exit 9"),
        };
        let mut shell = node.command("sh");
        // Ends by itself at a whole round.
        let folder = tempfile::tempdir().unwrap();
        let stop = folder.path().join("stop");
        let script = format!("until [ -e {} ]; do echo round; {step}; done", stop.display());
        shell.args(["-c", &script]);
        let mut neighbour = Background::spawn(shell).unwrap();
        let rounds = |neighbour: &Background| neighbour.output().matches("round").count();
        for _ in 0..20 {
            let seen = rounds(&neighbour);
            let all = [
                kind.adapter("input", None, kind.server(80)),
                kind.adapter("input", Some(place(kind, &node)), kind.server(81)),
            ];
            apply(&node, &all, &BTreeSet::new()).unwrap();
            let found = present(&node);
            assert_eq!(found.len(), 2, "{kind:?}");
            wait_until("another round", PATIENCE, || rounds(&neighbour) > seen).unwrap();
            apply(&node, &[], &found).unwrap();
            assert_eq!(present(&node), BTreeSet::new());
        }
        std::fs::write(&stop, "").unwrap();
        assert!(neighbour.wait(PATIENCE).unwrap().success(), "{}", neighbour.output());
        assert_eq!(kind.rules(&node), before, "{kind:?}");
    }
}

fn place(kind: Kind, node: &Namespace) -> u64 {
    kind.handle(node, &kind.chain("input"), kind.texts().new)
}
