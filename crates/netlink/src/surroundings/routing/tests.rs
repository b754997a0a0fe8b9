use super::*;
use crate::attr::{Messages, Writer};

fn sent(kind: u16, header: [u8; HEADER_LEN], fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut reply = Buffer::new();
    reply.message(kind, 2, 1, |message| {
        message.raw(&header);
        fill(message);
    });
    reply.finish().unwrap()
}

fn rule(family: i32, flags: u8, fill: impl FnOnce(&mut Writer<'_>)) -> Option<String> {
    let bytes = sent(RTM_NEWRULE, [family as u8, 0, 0, 0, 100, 0, 0, TO_TABLE, flags, 0, 0, 0], fill);
    mark_rule(&Messages::new(&bytes).next().unwrap().unwrap()).unwrap()
}

#[test]
#[cfg(target_endian = "little")]
fn only_rules_with_a_mark_count() {
    let marked = |mark, mask| {
        move |rule: &mut Writer<'_>| {
            rule.ne32(FRA_PRIORITY, 32764);
            rule.ne32(FRA_FWMARK, mark);
            rule.ne32(FRA_FWMASK, mask);
            rule.ne32(FRA_TABLE, 51820);
        }
    };
    assert_eq!(
        rule(libc::AF_INET, 0, marked(7, u32::MAX)).as_deref(),
        Some("ip rule 32764: fwmark 0x7 lookup 51820")
    );
    assert_eq!(
        rule(libc::AF_INET6, 2, marked(1, 0xff)).as_deref(),
        Some("ip -6 rule 32764: not fwmark 0x1/0xff lookup 51820")
    );
    assert_eq!(rule(libc::AF_INET, 0, |rule| rule.ne32(FRA_PRIORITY, 0)), None);
    assert_eq!(rule(128, 0, marked(7, u32::MAX)), None, "multicast routing");
}

#[test]
fn routes_of_the_main_table_to_an_interface() {
    let of = |header: [u8; HEADER_LEN], to: &[u8]| {
        let bytes = sent(RTM_NEWROUTE, header, |route| {
            if !to.is_empty() {
                route.bytes(RTA_DST, to);
            }
            route.ne32(RTA_OIF, 9);
        });
        let read = route(&Messages::new(&bytes).next().unwrap().unwrap()).unwrap();
        read.map(|(index, network)| format!("{index} {network}"))
    };
    let header = |family: i32, len: u8, table: u8| [family as u8, len, 0, 0, table, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(of(header(2, 24, 254), &[10, 244, 1, 0]).as_deref(), Some("9 10.244.1.0/24"));
    assert_eq!(of(header(2, 24, 255), &[10, 244, 1, 0]), None, "the table of local addresses");
    assert_eq!(of(header(2, 0, 254), &[]), None, "the default route");
    let mut v6 = [0; 16];
    v6[..2].copy_from_slice(&[0xfd, 0x44]);
    assert_eq!(of(header(10, 64, 254), &v6).as_deref(), Some("9 fd44::/64"));
    v6[..2].copy_from_slice(&[0xfe, 0x80]);
    assert_eq!(of(header(10, 64, 254), &v6), None);
}
