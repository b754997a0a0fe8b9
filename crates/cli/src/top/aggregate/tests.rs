use super::*;
use crate::top::sample::{self, entry};

#[test]
fn entries_are_grouped_by_what_they_have_in_common() {
    let mut aggregate = Aggregate::new(&By::ALL);
    for entry in sample::entries() {
        aggregate.add(&entry);
    }
    let named = |by| -> Vec<(String, u32)> {
        let groups = aggregate.largest(by, 10, Sort::Entries).unwrap();
        assert_eq!((groups.others, groups.too_low_by), (0, 0));
        let rows = groups.rows.into_iter();
        rows.map(|(key, tally)| (format!("{key:?}"), tally.entries)).collect()
    };
    let has = |by, words: &[&str], entries| {
        let rows = named(by);
        let found = rows.iter().find(|(key, _)| words.iter().all(|word| key.contains(word)));
        assert_eq!(found.map(|(_, count)| *count), Some(entries), "{words:?} in {rows:?}");
    };
    has(By::Protocol, &["protocol: Some(6)"], 4);
    has(By::Protocol, &["protocol: Some(17)"], 2);
    has(By::State, &["Tcp(Established)"], 3);
    has(By::State, &["Some(17)", "Unreplied"], 1);
    has(By::Port, &["port: Some(443)"], 4);
    has(By::Port, &["Some(1)", "port: None"], 1);
    has(By::Peer, &["10.0.0.1"], 5);
    has(By::Pair, &["10.0.0.1", "Some(192.0.2.1)", "Some(443)"], 3);
    assert_eq!(aggregate.total().entries, 7);
}

#[test]
fn what_must_stay_tracked_is_counted_apart() {
    let mut aggregate = Aggregate::new(&[By::Port]);
    let mut translated = entry("10.0.0.1", 443);
    translated.status = Status::DST_NAT | Status::SEEN_REPLY;
    let mut marked = entry("10.0.0.1", 443);
    marked.mark = 1;
    // Counted once, as translated.
    let mut both = translated;
    both.mark = 1;
    for entry in [translated, marked, both] {
        aggregate.add(&entry);
    }
    let total = aggregate.total();
    assert_eq!((total.entries, total.translated, total.kept, total.unreplied), (3, 2, 1, 1));
}

#[test]
fn groups_are_sorted_and_cut() {
    let mut aggregate = Aggregate::new(&[By::Port]);
    for (port, count) in [(80, 3), (443, 5), (53, 1)] {
        for _ in 0..count {
            let mut entry = entry("10.0.0.1", port);
            if port == 53 {
                entry.status = Status::SRC_NAT;
            }
            aggregate.add(&entry);
        }
    }
    let ports = |sort| {
        let groups = aggregate.largest(By::Port, 2, sort).unwrap();
        assert_eq!(groups.others, 1);
        groups.rows.into_iter().map(|(key, _)| key.port).collect::<Vec<_>>()
    };
    assert_eq!(ports(Sort::Entries), [Some(443), Some(80)]);
    assert_eq!(ports(Sort::Nat), [Some(53), Some(80)]);
    assert_eq!(aggregate.largest(By::Peer, 2, Sort::Entries), None, "it was not asked for");
}

#[test]
fn a_table_of_many_peers_stays_within_its_room() {
    let mut aggregate = Aggregate::new(&[By::Peer, By::Pair]);
    for number in 0..100_000u32 {
        let mut entry = entry("10.0.0.1", 443);
        if number % 10 != 0 {
            entry.original.source = std::net::Ipv4Addr::from(0x0b00_0000 + number).into();
        }
        aggregate.add(&entry);
    }
    let groups = aggregate.largest(By::Peer, 1, Sort::Entries).unwrap();
    assert!(groups.others <= ROOM);
    let (key, tally) = groups.rows[0];
    assert_eq!(key.peer, Some(std::net::Ipv4Addr::new(10, 0, 0, 1).into()));
    assert_eq!((tally.entries, groups.too_low_by), (10_000, 0), "the largest never went");
}
