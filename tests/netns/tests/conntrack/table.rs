//! Reading: figures and entries.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use notrack_lab::{Fill, Flow, Pair, fill_conntrack, run_ok, tcp as flag, wait_until};
use notrack_netlink::conntrack::{Conntrack, Entry, Filter, KeepReason, L4, Status, TcpState, Tuple};

use super::support::{PATIENCE, V4, V6, entries, tcp, to_port, tracked, udp, wait_for};

/// An entry as `conntrack -L -o extended` prints the part that all of them have.
fn line(entry: &Entry) -> String {
    let tuple = |tuple: &Tuple| {
        let l4 = match tuple.l4 {
            L4::Ports { source, destination } => format!(" sport={source} dport={destination}"),
            L4::Icmp { id, kind, code } => format!(" type={kind} code={code} id={id}"),
            L4::Addresses => String::new(),
        };
        format!("src={} dst={}{l4}", tuple.source, tuple.destination)
    };
    let protocol = entry.original.protocol;
    format!("{protocol} {} {}", tuple(&entry.original), tuple(&entry.reply))
}

/// The same part of a line of `conntrack -L`, whose third word is the protocol's number.
fn printed(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let wanted = ["src=", "dst=", "sport=", "dport=", "type=", "code=", "id="];
    let tuples = words.iter().filter(|word| wanted.iter().any(|start| word.starts_with(start)));
    let tuples: Vec<&str> = tuples.copied().collect();
    format!("{} {}", words[1], tuples.join(" "))
}

#[test]
fn entries_and_figures_are_those_that_debians_tool_shows() {
    let (namespace, mut table) = tracked("show", "");
    let _udp = (udp(&namespace, V4, &[5301, 5302, 5303]), udp(&namespace, V6, &[5301]));
    let _tcp = (tcp(&namespace, V4, 0), tcp(&namespace, V6, 0));
    wait_for(&namespace, 6);

    let stats = table.stats().unwrap();
    assert_eq!(stats.entries, 6);
    let max = namespace.sysctl("net.netfilter.nf_conntrack_max").unwrap();
    assert_eq!(stats.max.to_string(), max);
    assert!(stats.utilisation().is_some_and(|part| part > 0.0 && part < 0.5));

    let ours: BTreeSet<String> = entries(&mut table, &Filter::default()).iter().map(line).collect();
    // Without a family it shows both, on this and later versions; asked for each it always does.
    let shown = ["ipv4", "ipv6"].map(|family| namespace.conntrack(&format!("-f {family}")).unwrap());
    let theirs: BTreeSet<String> = shown.concat().iter().map(|line| printed(line)).collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 6);
}

#[test]
fn a_connection_shows_its_state() {
    let (namespace, mut table) = tracked("state", "");
    let (client, _server) = tcp(&namespace, V6, 0);
    wait_for(&namespace, 1);
    let mut seen = None;
    wait_until("the handshake's last packet", PATIENCE, || {
        seen = entries(&mut table, &Filter::default()).pop();
        seen.is_some_and(|entry| entry.tcp_state == Some(TcpState::Established))
    })
    .unwrap();
    let entry = seen.unwrap();
    assert_eq!(entry.original.source_port(), Some(client.local_addr().unwrap().port()));
    assert!(entry.status.contains(Status::ASSURED | Status::SEEN_REPLY | Status::CONFIRMED));
    let established = namespace.sysctl("net.netfilter.nf_conntrack_tcp_timeout_established").unwrap();
    let most: u32 = established.parse().unwrap();
    assert!((most - 60..=most).contains(&entry.timeout), "{} s", entry.timeout);
    assert!(entry.is_evictable());
}

#[test]
fn translated_marked_and_helped_entries_are_told_apart() {
    let (namespace, mut table) = tracked(
        "keep",
        "table inet keep {
            ct helper ftp-standard {
                type \"ftp\" protocol tcp
            }
            chain out {
                type filter hook output priority 0
                udp dport 5302 ct mark set 7
                udp dport 5303 ct label set 3
                tcp dport 21 ct helper set \"ftp-standard\"
            }
            chain nat-out {
                type nat hook output priority -100
                ip daddr 127.0.0.1 udp dport 5304 dnat ip to 127.0.0.1:5305
            }
            chain nat-post {
                type nat hook postrouting priority 100
                ip daddr 127.0.0.1 udp dport 5306 snat ip to 127.0.0.1:40000
            }
        }",
    );
    let _udp = udp(&namespace, V4, &[5301, 5302, 5303, 5304, 5306]);
    let _ftp = tcp(&namespace, V4, 21);
    wait_for(&namespace, 6);
    for (port, reason) in [
        (5301, None),
        (5302, Some(KeepReason::Mark)),
        (5303, Some(KeepReason::Label)),
        (5304, Some(KeepReason::DestinationNat)),
        (5306, Some(KeepReason::SourceNat)),
        (21, Some(KeepReason::Helper)),
    ] {
        let entry = to_port(&mut table, port).unwrap();
        assert_eq!(entry.keep_reason(), reason, "port {port}: {entry:?}");
        assert_eq!(entry.is_translated(), matches!(port, 5304 | 5306));
    }
}

#[test]
fn counters_are_the_sums_that_debians_tool_shows() {
    let pair = Pair::new().unwrap();
    let rule =
        "table inet t {\n chain c {\n type filter hook input priority 0\n ct state invalid drop\n }\n}\n";
    pair.node.nft(rule).unwrap();
    let mut table = pair.node.enter(Conntrack::open).unwrap().unwrap();
    assert_eq!(table.cpu_stats().unwrap().invalid, 0);
    let odd = Flow::parse("10.77.0.2:40000", "10.77.0.1:80").unwrap();
    let odd = odd.tcp(flag::SYN | flag::FIN);
    pair.client.raw_socket().unwrap().send(&odd).unwrap();
    let mut counters = table.cpu_stats().unwrap();
    wait_until("a packet that cannot be tracked", PATIENCE, || {
        counters = table.cpu_stats().unwrap();
        counters.invalid > 0
    })
    .unwrap();
    let printed = run_ok(pair.node.command("conntrack").arg("-S")).unwrap();
    let sum = |name: &str| -> u64 {
        let words = printed.split_whitespace();
        words.filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok()).sum()
    };
    assert_eq!(counters.invalid, sum("invalid="));
    assert_eq!(counters.insert_failed, sum("insert_failed="));
    assert_eq!(counters.drop, sum("drop="));
    assert_eq!(counters.search_restart, sum("search_restart="));
}

#[test]
fn a_large_table_is_read_to_its_end() {
    const ENTRIES: usize = 30_000;
    let (namespace, mut table) = tracked("large", "");
    let server = Ipv4Addr::new(10, 96, 0, 1);
    let lifetime = Duration::from_secs(300);
    let fill = Fill { entries: ENTRIES, server: (server, 443), lifetime };
    assert_eq!(fill_conntrack(&namespace, fill).unwrap(), ENTRIES);
    let all = entries(&mut table, &Filter::default());
    // By their tuples: ids are hashes of 32 bits, two of which may well be equal.
    let clients = all.iter().map(|entry| (entry.original.source, entry.original.source_port()));
    let clients: BTreeSet<_> = clients.collect();
    assert_eq!((all.len(), clients.len()), (ENTRIES, ENTRIES));
    assert!(
        all.iter()
            .all(|entry| entry.original.destination == server
                && entry.original.destination_port() == Some(443))
    );
}
