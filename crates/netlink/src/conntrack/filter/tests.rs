use super::super::{parse, recorded};
use super::*;
use crate::attr::{AttrError, Attrs, Buffer, Messages};

const ALL: Support = Support { original: true, reply: true };
const NONE: Support = Support { original: false, reply: false };

fn entry(recording: &str) -> Entry {
    parse::entry(Attrs::new(&recorded::bytes(recording))).unwrap()
}

/// The types of the attributes that the kernel is given, and its two flag words.
fn asked(filter: &Filter, support: Support) -> (Vec<u16>, Option<(u32, u32)>) {
    let mut buffer = Buffer::new();
    buffer.nfnl(0, 0, 0, 0, 0, |writer| filter.write(support, writer));
    let bytes = buffer.finish().unwrap();
    let attrs = Messages::new(&bytes).next().unwrap().unwrap().attrs().unwrap();
    let kinds = attrs.clone().map(|attr| attr.unwrap().kind).collect();
    let flags = attrs.find(cta::FILTER).unwrap().map(|found| {
        let word = |kind| found.nested().find(kind)?.map_or(Ok(0), |attr| attr.ne32());
        let words: Result<_, AttrError> =
            word(cta::FILTER_ORIG_FLAGS).and_then(|o| Ok((o, word(cta::FILTER_REPLY_FLAGS)?)));
        words.unwrap()
    });
    (kinds, flags)
}

fn to_port(protocol: Option<u8>, port: u16) -> Filter {
    Filter {
        protocol,
        original: TupleFilter { destination_port: Some(port), ..TupleFilter::default() },
        ..Filter::default()
    }
}

#[test]
fn every_field_decides() {
    let entry = entry(recorded::UDP_TRANSLATED);
    let localhost = Some(IpAddr::from([127, 0, 0, 1]));
    let elsewhere = Some(IpAddr::from([127, 0, 0, 2]));
    let all = Filter {
        family: Some(Family::V4),
        protocol: Some(17),
        original: TupleFilter {
            source: localhost,
            destination: localhost,
            source_port: Some(52338),
            destination_port: Some(6000),
        },
        reply: TupleFilter { source_port: Some(6001), ..TupleFilter::default() },
        status: Some(Masked { mask: 0x20, value: 0x20 }),
        mark: Some(Masked { mask: u32::MAX, value: 0 }),
    };
    assert!(all.matches(&entry));
    assert!(Filter::default().matches(&entry));
    let spoil: [fn(&mut Filter); 10] = [
        |f| f.family = Some(Family::V6),
        |f| f.protocol = Some(6),
        |f| f.original.source_port = Some(1),
        |f| f.original.destination_port = Some(1),
        |f| f.reply.source_port = Some(1),
        |f| f.reply.destination_port = Some(1),
        |f| f.status = Some(Masked { mask: 0x20, value: 0 }),
        |f| f.mark = Some(Masked { mask: 1, value: 1 }),
        |f| f.original.source = None.or(Some(IpAddr::from([127, 0, 0, 3]))),
        |f| f.reply.destination = Some(IpAddr::from([127, 0, 0, 3])),
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        let mut filter = all;
        spoil(&mut filter);
        assert!(!filter.matches(&entry), "spoilt field {number}");
    }
    let mut filter = all;
    filter.original.destination = elsewhere;
    assert!(!filter.matches(&entry));
}

#[test]
fn the_kernel_is_asked_for_what_it_can_compare() {
    let filter = to_port(Some(6), 443);
    assert_eq!(asked(&filter, ALL), (vec![cta::TUPLE_ORIG, cta::FILTER], Some((0x28, 0))));
    assert_eq!(asked(&filter, NONE), (vec![], None));
    assert_eq!(filter.families(ALL), [2, 10], "tuples are compared within one family");
    assert_eq!(filter.families(NONE), [0]);
}

#[test]
fn ports_are_left_to_us_where_the_kernel_does_not_compare_them() {
    const SCTP: u8 = 132;
    assert_eq!(asked(&to_port(Some(SCTP), 443), ALL).1, Some((0x8, 0)));
    assert_eq!(asked(&to_port(None, 443), ALL).1, None, "it wants the protocol too");
}

#[test]
fn ipv6_addresses_are_left_to_us_because_the_kernel_inverts_them() {
    let filter = Filter {
        original: TupleFilter {
            destination: Some(IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 1])),
            ..TupleFilter::default()
        },
        ..Filter::default()
    };
    assert_eq!(asked(&filter, ALL), (vec![], None));
    assert_eq!(filter.families(ALL), [10], "the family is known nevertheless");
}

#[test]
fn the_reply_is_asked_for_only_where_the_kernel_reads_it_right() {
    let filter = Filter {
        reply: TupleFilter { source: Some(IpAddr::from([10, 0, 0, 1])), ..TupleFilter::default() },
        ..Filter::default()
    };
    assert_eq!(asked(&filter, ALL), (vec![cta::TUPLE_REPLY, cta::FILTER], Some((0, 1))));
    let old = Support { original: true, reply: false };
    assert_eq!(asked(&filter, old), (vec![], None));
}

#[test]
fn marks_and_status_carry_their_masks() {
    let masked = Masked { mask: 3, value: 1 };
    let filter = Filter { mark: Some(masked), status: Some(masked), ..Filter::default() };
    let (kinds, _) = asked(&filter, ALL);
    assert_eq!(kinds, [cta::MARK, cta::MARK_MASK, cta::STATUS, cta::STATUS_MASK]);
}

#[test]
fn addresses_of_two_families_match_nothing() {
    let mut filter = Filter { family: Some(Family::V6), ..Filter::default() };
    assert!(!filter.is_contradictory());
    filter.original.source = Some(IpAddr::from([10, 0, 0, 1]));
    assert!(filter.is_contradictory());
    filter.family = None;
    assert!(!filter.is_contradictory());
}
