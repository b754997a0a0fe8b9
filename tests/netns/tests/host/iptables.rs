//! Tables of iptables-nft.

use notrack_core::host::{Backend, Field, HostVerdict, Match, Members, Step};
use notrack_lab::{Namespace, run_ok};

use super::support::{read, table};

fn run(namespace: &Namespace, line: &str) {
    let mut words = line.split_whitespace();
    run_ok(namespace.command(words.next().unwrap()).args(words)).unwrap();
}

#[test]
fn are_told_from_those_of_nft() {
    let namespace = Namespace::new("iptables").unwrap();
    for line in [
        "iptables-nft -A INPUT -i eth0 -s 10.0.0.0/8 -p tcp --dport 22 -m conntrack --ctstate NEW -j ACCEPT",
        "iptables-nft -N OWN",
        "iptables-nft -A OWN -i ve+ -p udp --sport 10:20 -j DROP",
        "iptables-nft -A FORWARD -j OWN",
        "iptables-nft -P FORWARD DROP",
        "iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
        "ip6tables-nft -t raw -A PREROUTING -p udp --dport 53 -j CT --notrack",
    ] {
        run(&namespace, line);
    }
    let rules = read(&namespace);
    let filter = table(&rules, "iptables filter");
    assert_eq!(filter.id.backend, Backend::IptablesNft);
    table(&rules, "iptables nat");
    table(&rules, "ip6tables raw");
    assert!(filter.chains["FORWARD"].base.is_some_and(|base| base.drops));
    let own = &filter.chains["OWN"].rules[0];
    let last = own.steps.last();
    assert_eq!(last, Some(&Step::Verdict(HostVerdict::Drop)));
    let ports = Members::Boxes(vec![vec![(10, 20)]]);
    assert!(own.steps.contains(&Step::Match(Match {
        fields: vec![Field::SourcePort],
        inverted: false,
        of: ports
    })));
    assert_eq!(own.text, "iifname \"ve*\" udp sport 10-20 counter drop");
    let input = &filter.chains["INPUT"].rules[0].text;
    assert!(input.contains("ip saddr 10.0.0.0/8 tcp dport 22 -m conntrack"), "{input}");

    // What nft adds there, iptables could no longer list.
    run(&namespace, "nft add rule ip filter OWN tcp dport 25 accept");
    let rules = read(&namespace);
    assert_eq!(table(&rules, "ip filter").id.backend, Backend::Nft);
}

#[test]
fn a_table_of_the_same_name_alone_is_none() {
    let namespace = Namespace::new("iptables").unwrap();
    namespace
        .nft("table ip filter { chain input { type filter hook input priority 0; counter accept\n }\n }")
        .unwrap();
    assert_eq!(table(&read(&namespace), "ip filter").id.backend, Backend::Nft);
}
