use super::super::recorded::{self, bytes};
use super::*;
use crate::conntrack::KeepReason;

fn parsed(recording: &str) -> Entry {
    entry(Attrs::new(&bytes(recording))).unwrap()
}

fn v4(source: u16, destination: u16, protocol: u8) -> Tuple {
    let localhost = Ipv4Addr::LOCALHOST.into();
    let l4 = L4::Ports { source, destination };
    Tuple { source: localhost, destination: localhost, protocol, l4 }
}

#[test]
fn a_marked_tcp_connection() {
    let entry = parsed(recorded::TCP_MARKED);
    assert_eq!(entry.original, v4(37618, 7000, 6));
    assert_eq!(entry.reply, v4(7000, 37618, 6));
    assert_eq!(entry.tcp_state, Some(TcpState::Established));
    assert_eq!((entry.timeout, entry.mark, entry.id), (431_999, 7, 4_018_836_907));
    assert!(entry.status.contains(Status::ASSURED | Status::SEEN_REPLY));
    assert_eq!(entry.keep_reason(), Some(KeepReason::Mark));
}

#[test]
fn a_connection_with_a_helper() {
    let entry = parsed(recorded::TCP_HELPED);
    assert!(entry.has_helper && entry.status.contains(Status::HELPER));
    assert_eq!(entry.keep_reason(), Some(KeepReason::Helper));
}

#[test]
fn a_translated_flow() {
    let entry = parsed(recorded::UDP_TRANSLATED);
    assert_eq!(entry.original.destination_port(), Some(6000));
    assert_eq!(entry.reply.source_port(), Some(6001));
    assert!(entry.is_translated());
    assert_eq!(entry.keep_reason(), Some(KeepReason::DestinationNat));
}

#[test]
fn a_flow_of_ipv6_that_may_go() {
    let entry = parsed(recorded::UDP_V6);
    assert_eq!(entry.original.source, IpAddr::from(Ipv6Addr::LOCALHOST));
    assert_eq!(entry.original.source_port(), Some(36844));
    assert_eq!(entry.tcp_state, None);
    assert!(!entry.status.contains(Status::SEEN_REPLY));
    assert!(entry.is_evictable());
}

#[test]
fn protocols_without_ports() {
    let echo = parsed(recorded::ICMP).original;
    assert_eq!((echo.protocol, echo.destination_port()), (1, None));
    assert_eq!(echo.l4, L4::Icmp { id: 42, kind: 8, code: 0 });
    let ospf = parsed(recorded::OSPF).original;
    assert_eq!((ospf.protocol, ospf.l4), (89, L4::Addresses));
}

#[test]
fn zones_and_labels() {
    let both = parsed(recorded::UDP_ZONE).zone;
    assert_eq!((both.both, both.original, both.reply), (9, 0, 0));
    let original = parsed(recorded::UDP_ZONE_ORIGINAL).zone;
    assert_eq!((original.both, original.original, original.reply), (0, 8, 0));
    let labelled = parsed(recorded::UDP_LABELLED);
    assert_eq!(labelled.keep_reason(), Some(KeepReason::Label));
}

#[test]
fn an_entry_without_a_tuple_is_an_error() {
    // The original tuple is the first attribute, of 0x34 bytes.
    let cut = &bytes(recorded::TCP_MARKED)[0x34..];
    assert_eq!(entry(Attrs::new(cut)), Err(AttrError::Missing { what: "CTA_TUPLE_ORIG" }));
}

#[test]
fn no_truncation_and_no_flipped_bit_panics() {
    for recording in recorded::ALL {
        let whole = bytes(recording);
        for end in 0..whole.len() {
            let _ = entry(Attrs::new(&whole[..end]));
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = entry(Attrs::new(&flipped));
        }
    }
}
