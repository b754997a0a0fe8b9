//! Deleting: this entry and no other.

use std::time::Duration;

use notrack_netlink::conntrack::{Deleted, Entry, Filter, Pace};

use super::support::{V4, V6, count, entries, to_port, tracked, udp, wait_for};

#[test]
fn exactly_one_entry_goes() {
    let (namespace, mut table) = tracked("one", "");
    let _udp = (udp(&namespace, V4, &[5301, 5302]), udp(&namespace, V6, &[5303]));
    wait_for(&namespace, 3);
    let one = to_port(&mut table, 5301).unwrap();
    assert!(table.delete(&one).unwrap());
    assert_eq!(to_port(&mut table, 5301), None);
    assert!(to_port(&mut table, 5302).is_some() && to_port(&mut table, 5303).is_some());
    assert!(!table.delete(&one).unwrap(), "it was gone");
    assert_eq!(count(&namespace), 2);

    let v6 = to_port(&mut table, 5303).unwrap();
    assert!(table.delete(&v6).unwrap());
    assert_eq!(count(&namespace), 1);
}

#[test]
fn an_entry_of_another_id_stays() {
    let (namespace, mut table) = tracked("id", "");
    let _socket = udp(&namespace, V4, &[5301]);
    let entry = to_port(&mut table, 5301).unwrap();
    let other = Entry { id: !entry.id, ..entry };
    assert!(!table.delete(&other).unwrap());
    let left = to_port(&mut table, 5301).map(|left| left.id);
    assert_eq!(left, Some(entry.id));
}

#[test]
fn an_entry_of_a_zone_is_found_there() {
    let zones = |hook| {
        format!(
            "chain {hook} {{
                type filter hook {hook} priority raw
                udp dport 5301 ct zone set 9
                udp dport 5302 ct original zone set 8
                udp dport 5303 ct reply zone set 7
            }}\n"
        )
    };
    let rules = format!("table inet z {{\n{}{}}}\n", zones("output"), zones("prerouting"));
    let (namespace, mut table) = tracked("zone", &rules);
    let _udp = udp(&namespace, V4, &[5301, 5302, 5303, 5304]);
    wait_for(&namespace, 4);
    for (port, zone) in [(5301, (9, 0, 0)), (5302, (0, 8, 0)), (5303, (0, 0, 7)), (5304, (0, 0, 0))] {
        let entry = to_port(&mut table, port).unwrap();
        assert_eq!((entry.zone.both, entry.zone.original, entry.zone.reply), zone);
        assert!(table.delete(&entry).unwrap(), "port {port}");
        assert_eq!(to_port(&mut table, port), None);
    }
}

#[test]
fn many_go_in_batches_and_what_was_gone_is_counted() {
    let (namespace, mut table) = tracked("many", "");
    let ports: Vec<u16> = (20_000..20_300).collect();
    let _udp = (udp(&namespace, V4, &ports), udp(&namespace, V6, &[5301]));
    wait_for(&namespace, 301);
    let mut doomed = entries(&mut table, &Filter::default());
    doomed.retain(|entry| entry.original.source == V4);
    assert_eq!(doomed.len(), 300);
    for early in &doomed[..10] {
        assert!(table.delete(early).unwrap());
    }
    let pace = Pace { batch: 64, pause: Duration::from_micros(10) };
    let deleted = table.delete_all(doomed, pace).unwrap();
    assert_eq!(deleted, Deleted { deleted: 290, gone: 10, busy: 0 });
    assert_eq!(count(&namespace), 1, "the other family's entry stays");
    assert_eq!(table.delete_all([], Pace::default()).unwrap(), Deleted::default());
    assert_eq!(count(&namespace), 1, "nothing to delete deletes nothing");
}
