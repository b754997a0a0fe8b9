//! Whether a namespace tracks: the verdict is held against what packets show.

use notrack_lab::{Namespace, run_ok};
use notrack_netlink::conntrack::{Conntrack, Family, Filter};
use notrack_netlink::tracking::{Tracked, Tracking, tracking};

use super::support::{V4, V6, count, entries, tracked, udp, wait_for};

fn verdict(namespace: &Namespace) -> Tracking {
    let tracking = namespace.enter(|| tracking("notrack-dev"));
    tracking.unwrap().unwrap()
}

/// Whether packets of each family make entries.
fn truth(namespace: &Namespace) -> (bool, bool) {
    let _sockets = (udp(namespace, V4, &[5301]), udp(namespace, V6, &[5301]));
    let mut table = namespace.enter(Conntrack::open).unwrap().unwrap();
    let tracks = |table: &mut Conntrack, family| {
        let family = Filter { family: Some(family), ..Filter::default() };
        !entries(table, &family).is_empty()
    };
    (tracks(&mut table, Family::V4), tracks(&mut table, Family::V6))
}

/// Loads something, asks for the verdict, and then sends packets.
fn check(load: &[&str], words: &str) {
    let namespace = Namespace::new("tracks").unwrap();
    for line in load {
        let mut line = line.split_whitespace();
        let mut command = namespace.command(line.next().unwrap());
        run_ok(command.args(line)).unwrap();
    }
    judge(&namespace, &load.join("; "), words);
}

fn judge(namespace: &Namespace, load: &str, words: &str) {
    let verdict = verdict(namespace);
    let truth = truth(namespace);
    for (tracked, truth) in [(&verdict.v4, truth.0), (&verdict.v6, truth.1)] {
        match tracked {
            Tracked::Yes(evidence) => {
                assert!(truth, "{load} does not track, verdict {verdict:?}");
                assert!(evidence.contains(words), "{load}: {evidence}");
            }
            Tracked::No => assert!(!truth, "{load} tracks, verdict {verdict:?}"),
            Tracked::Unknown => panic!("{load}: {verdict:?}"),
        }
    }
}

/// A rule in a table of a family.
fn check_nft(family: &str, rule: &str, words: &str) {
    let table = format!("nft add table {family} t");
    let chain = format!("nft add chain {family} t c");
    check(&[&table, &chain, &format!("nft add rule {family} t c {rule}")], words);
}

#[test]
fn nothing_tracks_in_an_empty_namespace() {
    check(&[], "");
    let empty = verdict(&Namespace::new("empty").unwrap());
    assert_eq!((empty.v4, empty.v6), (Tracked::No, Tracked::No));
}

#[test]
fn expressions_of_nftables() {
    for family in ["ip", "ip6", "inet"] {
        check_nft(family, "ct state new", "ct in chain c");
        check_nft(family, "meta mark set ct mark", "ct");
        check_nft(family, "ct count over 900", "connlimit");
        check_nft(family, "tcp dport 1 notrack", "nothing");
        check_nft(family, "tcp dport 1 accept", "nothing");
    }
    check_nft("ip", "tcp dport 1 synproxy mss 1460 wscale 7", "synproxy");
}

#[test]
fn nat_of_nftables() {
    let chain = ["nft add table ip t", "nft add chain ip t c { type nat hook postrouting priority 0 ; }"];
    check(&chain, "nothing: a chain alone registers no tracking");
    for (rule, words) in [("tcp dport 1 masquerade", "masq"), ("tcp dport 1 snat to 127.0.0.1", "nat")] {
        check(&[chain[0], chain[1], &format!("nft add rule ip t c {rule}")], words);
    }
}

#[test]
fn objects_sets_and_dormant_tables_of_nftables() {
    let load = |script: &str, words: &str| {
        let namespace = Namespace::new("tracks").unwrap();
        namespace.nft(script).unwrap();
        judge(&namespace, script, words);
    };
    load("table ip t {\n ct helper h {\n type \"ftp\" protocol tcp\n }\n}\n", "ct helper h");
    load(
        "table inet t {\n ct timeout h {\n protocol tcp\n l3proto ip\n policy = { established: 120 }\n }\n}\n",
        "ct timeout h",
    );
    load("table ip t {\n synproxy h {\n mss 1460\n wscale 7\n }\n}\n", "synproxy h");
    load(
        "table ip6 t {\n set s {\n type ipv6_addr\n size 100\n flags dynamic\n ct count over 900\n }\n}\n",
        "connlimit in set s",
    );
    let meter = "table ip t {\n set s {\n type ipv4_addr\n size 100\n flags dynamic\n }\n chain c {\n add @s { ip saddr ct count over 900 }\n }\n}\n";
    load(meter, "connlimit in chain c");
    load("table ip t {\n flags dormant\n chain c {\n ct state new\n }\n}\n", "ct in chain c");
}

/// The same rules in the legacy and in the nft variant of iptables.
fn check_iptables(rule: &str, words: &str) {
    for program in ["iptables", "ip6tables"] {
        for variant in ["legacy", "nft"] {
            check(&[&format!("{program}-{variant} {rule}")], words);
        }
    }
}

#[test]
fn matches_of_iptables() {
    check_iptables("-A INPUT -p tcp --dport 1 -j ACCEPT", "nothing");
    check_iptables("-A INPUT -p tcp --dport 1 -m conntrack --ctstate NEW", "conntrack");
    check_iptables("-A INPUT -m connmark --mark 1", "connmark");
    check_iptables("-A INPUT -p tcp --syn -m connlimit --connlimit-above 9", "connlimit");
    check_iptables("-A INPUT -m helper --helper ftp", "helper");
}

#[test]
fn targets_of_iptables() {
    check_iptables("-t nat -L", "nothing");
    check_iptables("-t raw -A OUTPUT -p tcp --dport 1 -j CT --notrack", "nothing");
    check_iptables("-t raw -A OUTPUT -p tcp --dport 1 -j NOTRACK", "nothing");
    check_iptables("-t raw -A OUTPUT -p tcp --dport 1 -j CT --zone 3", "target CT");
    check_iptables("-t nat -A POSTROUTING -p tcp --dport 1 -j MASQUERADE", "MASQUERADE");
    check_iptables("-t mangle -A OUTPUT -p tcp --dport 1 -j CONNMARK --set-mark 1", "CONNMARK");
}

#[test]
fn our_own_table_is_no_reason_to_track() {
    let namespace = Namespace::new("own").unwrap();
    let own = "table inet notrack-dev {\n chain c {\n type filter hook prerouting priority 0\n ct state untracked counter\n }\n}\n";
    namespace.nft(own).unwrap();
    assert_eq!(verdict(&namespace), Tracking { v4: Tracked::No, v6: Tracked::No });
    assert_eq!(truth(&namespace), (true, true));
    // The entries that our own table caused are no evidence either.
    assert_eq!(verdict(&namespace), Tracking { v4: Tracked::No, v6: Tracked::No });
    namespace.nft("table ip6 t {\n chain c {\n ct state new\n }\n}\n").unwrap();
    let both = verdict(&namespace);
    assert_eq!(both.v4, Tracked::No);
    assert!(matches!(both.v6, Tracked::Yes(_)), "{both:?}");
}

#[test]
fn entries_alone_prove_something_only_while_packets_renew_them() {
    let (namespace, _table) = tracked("stale", "");
    let _socket = udp(&namespace, V4, &[5301]);
    wait_for(&namespace, 1);
    namespace.nft("flush ruleset").unwrap();
    let fresh = verdict(&namespace);
    assert!(matches!(fresh.v4, Tracked::Yes(ref evidence) if evidence.contains("127.0.0.1")), "{fresh:?}");
    assert_eq!(fresh.v6, Tracked::No);
    // The entry has some 30 s left; of 600 that would be long ago.
    namespace.set_sysctl("net.netfilter.nf_conntrack_udp_timeout", "600").unwrap();
    assert_eq!(verdict(&namespace).v4, Tracked::Unknown);
    assert_eq!(count(&namespace), 1);
}
