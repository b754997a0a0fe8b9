use notrack_core::host::{Act, Field, HostElement, HostVerdict, Match, Members, Step};
use notrack_core::net::Family;

use super::*;
use crate::attr::{Buffer, Messages};

fn expression(writer: &mut Writer<'_>, name: &str, data: impl FnOnce(&mut Writer<'_>)) {
    writer.nested(uapi::NFTA_LIST_ELEM, |writer| {
        writer.text(uapi::NFTA_EXPR_NAME, name);
        writer.nested(uapi::NFTA_EXPR_DATA, data);
    });
}

fn payload(writer: &mut Writer<'_>, base: u32, offset: u32, len: u32, register: u32) {
    expression(writer, "payload", |writer| {
        writer.be32(uapi::NFTA_PAYLOAD_BASE, base);
        writer.be32(uapi::NFTA_PAYLOAD_OFFSET, offset);
        writer.be32(uapi::NFTA_PAYLOAD_LEN, len);
        writer.be32(uapi::NFTA_PAYLOAD_DREG, register);
    });
}

fn compare(writer: &mut Writer<'_>, op: u32, bytes: &[u8]) {
    expression(writer, "cmp", |writer| {
        writer.be32(uapi::NFTA_CMP_SREG, 1);
        writer.be32(uapi::NFTA_CMP_OP, op);
        writer.nested(uapi::NFTA_CMP_DATA, |writer| writer.bytes(uapi::NFTA_DATA_VALUE, bytes));
    });
}

fn mask(writer: &mut Writer<'_>, mask: &[u8]) {
    expression(writer, "bitwise", |writer| {
        writer.be32(uapi::NFTA_BITWISE_SREG, 1);
        writer.be32(uapi::NFTA_BITWISE_DREG, 1);
        writer.be32(uapi::NFTA_BITWISE_LEN, mask.len() as u32);
        writer.nested(uapi::NFTA_BITWISE_MASK, |writer| writer.bytes(uapi::NFTA_DATA_VALUE, mask));
        let flip = vec![0; mask.len()];
        writer.nested(uapi::NFTA_BITWISE_XOR, |writer| writer.bytes(uapi::NFTA_DATA_VALUE, &flip));
    });
}

fn look_up(writer: &mut Writer<'_>, set: &str) {
    expression(writer, "lookup", |writer| {
        writer.be32(uapi::NFTA_LOOKUP_SREG, 1);
        writer.text(uapi::NFTA_LOOKUP_SET, set);
    });
}

fn verdict(writer: &mut Writer<'_>, code: i32) {
    expression(writer, "immediate", |writer| {
        writer.be32(uapi::NFTA_IMMEDIATE_DREG, 0);
        writer.nested(uapi::NFTA_IMMEDIATE_DATA, |writer| {
            writer.nested(uapi::NFTA_DATA_VERDICT, |writer| {
                writer.be32(uapi::NFTA_VERDICT_CODE, code.cast_unsigned());
            });
        });
    });
}

/// A message about a rule of chain `c` in the table `t`.
fn message(family: u8, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = Buffer::new();
    buffer.nfnl(0, 0, 0, family, 0, |writer| {
        writer.text(uapi::NFTA_RULE_TABLE, "t");
        writer.text(uapi::NFTA_RULE_CHAIN, "c");
        writer.bytes(uapi::NFTA_RULE_HANDLE, &7_u64.to_be_bytes());
        writer.nested(uapi::NFTA_RULE_EXPRESSIONS, fill);
        writer.bytes(uapi::NFTA_RULE_USERDATA, b"\x00\x03hi\x00");
    });
    buffer.finish().unwrap()
}

/// A reader of a table `ip t` with a set `s` of addresses and ports.
fn reader() -> Reader {
    let mut buffer = Buffer::new();
    buffer.nfnl(0, 0, 0, uapi::NFPROTO_IPV4, 0, |writer| writer.text(uapi::NFTA_TABLE_NAME, "t"));
    buffer.nfnl(0, 0, 0, uapi::NFPROTO_IPV4, 0, |writer| {
        writer.text(uapi::NFTA_SET_TABLE, "t");
        writer.text(uapi::NFTA_SET_NAME, "s");
        writer.be32(uapi::NFTA_SET_KEY_LEN, 8);
    });
    let bytes = buffer.finish().unwrap();
    let mut messages = Messages::new(&bytes);
    let mut reader = Reader::default();
    reader.table(messages.next().unwrap().unwrap()).unwrap();
    reader.set(messages.next().unwrap().unwrap()).unwrap();
    reader
}

fn read(family: u8, fill: impl FnOnce(&mut Writer<'_>)) -> (Vec<Step>, String) {
    let bytes = message(family, fill);
    let mut reader = reader();
    reader.rule(Messages::new(&bytes).next().unwrap().unwrap()).unwrap();
    let Draft { chain, rule, pieces, .. } = reader.tables[0].rules.pop().unwrap();
    assert_eq!((chain.as_str(), rule.handle, rule.comment.as_deref()), ("c", 7, Some("hi")));
    (rule.steps, text::rule(&pieces, &BTreeMap::new()))
}

fn broad(writer: &mut Writer<'_>) {
    let network = uapi::NFT_PAYLOAD_NETWORK_HEADER;
    payload(writer, network, 12, 4, 1);
    mask(writer, &[255, 255, 254, 0]);
    compare(writer, uapi::NFT_CMP_EQ, &[10, 1, 2, 0]);
    payload(writer, network, 16, 4, 1);
    payload(writer, uapi::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 9);
    look_up(writer, "s");
    payload(writer, network, 12, 8, 1);
    compare(writer, uapi::NFT_CMP_NEQ, &[10, 0, 0, 1, 10, 0, 0, 2]);
    expression(writer, "ct", |writer| {
        writer.be32(uapi::NFTA_CT_KEY, uapi::NFT_CT_STATE);
        writer.be32(uapi::NFTA_CT_DREG, 1);
    });
    mask(writer, &6_u32.to_ne_bytes());
    compare(writer, uapi::NFT_CMP_NEQ, &[0; 4]);
    expression(writer, "brand_new", |_| {});
    compare(writer, uapi::NFT_CMP_EQ, &[1]);
    expression(writer, "notrack", |_| {});
    verdict(writer, 1);
}

#[test]
fn expressions_become_steps() {
    let (steps, text) = read(uapi::NFPROTO_IPV4, broad);
    let (source, destination) = (Field::SourceAddress(Family::Ipv4), Field::DestinationAddress(Family::Ipv4));
    let matched = |fields: &[Field], of| Step::Match(Match { fields: fields.to_vec(), inverted: false, of });
    let expected = [
        matched(std::slice::from_ref(&source), Members::Boxes(vec![vec![(0x0a01_0200, 0x0a01_03ff)]])),
        matched(&[destination.clone(), Field::DestinationPort], Members::Set("s".into())),
        matched(&[source, destination], Members::Unknown),
        matched(&[Field::CtState], Members::Boxes(vec![vec![(2, 2)], vec![(4, 4)]])),
        Step::Opaque("brand_new".into()),
        // What it may have written is not known either.
        Step::Opaque("cmp".into()),
        Step::Act(Act::Notrack),
        Step::Verdict(HostVerdict::Accept),
    ];
    assert_eq!(steps, expected);
    assert!(text.starts_with("ip saddr 10.1.2.0/23 ip daddr . th dport @s "), "{text}");
    assert!(text.ends_with("ct state established,related (brand_new) (cmp) notrack accept"), "{text}");
}

#[test]
fn broken_rules_are_not_understood_and_harm_nothing() {
    let whole = message(uapi::NFPROTO_IPV4, broad);
    let feed = |bytes: &[u8]| {
        let mut reader = reader();
        if let Some(Ok(message)) = Messages::new(bytes).next() {
            // An error is as good as a rule that is not understood.
            let _ = reader.rule(message);
        }
        for Draft { pieces, .. } in &reader.tables[0].rules {
            text::rule(pieces, &BTreeMap::new());
        }
    };
    for len in 0..whole.len() {
        feed(&whole[..len]);
    }
    for place in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            feed(&bytes);
        }
    }
}

fn interval_set() -> SetHeader {
    let mut buffer = Buffer::new();
    buffer.nfnl(0, 0, 0, 0, 0, |writer| {
        writer.be32(uapi::NFTA_SET_FLAGS, uapi::NFT_SET_INTERVAL);
        writer.be32(uapi::NFTA_SET_KEY_LEN, 2);
    });
    let bytes = buffer.finish().unwrap();
    SetHeader::read(&Messages::new(&bytes).next().unwrap().unwrap().attrs().unwrap()).unwrap()
}

/// Elements of one field of two bytes, in a set of intervals: key, flags, verdict's code.
fn elements(of: &[(u16, u32, Option<i32>)]) -> Vec<Element> {
    let mut buffer = Buffer::new();
    buffer.nfnl(0, 0, 0, 0, 0, |writer| {
        for (key, flags, code) in of {
            writer.nested(uapi::NFTA_LIST_ELEM, |writer| {
                writer.nested(uapi::NFTA_SET_ELEM_KEY, |writer| {
                    writer.bytes(uapi::NFTA_DATA_VALUE, &key.to_be_bytes());
                });
                writer.be32(uapi::NFTA_SET_ELEM_FLAGS, *flags);
                if let Some(code) = code {
                    writer.nested(uapi::NFTA_SET_ELEM_DATA, |writer| {
                        writer.nested(uapi::NFTA_DATA_VERDICT, |writer| {
                            writer.be32(uapi::NFTA_VERDICT_CODE, code.cast_unsigned());
                        });
                    });
                }
            });
        }
    });
    let bytes = buffer.finish().unwrap();
    let attrs = Messages::new(&bytes).next().unwrap().unwrap().attrs().unwrap();
    attrs.map(|item| Element::read(&item.unwrap().nested()).unwrap()).collect()
}

#[test]
fn both_ends_of_an_interval_are_elements() {
    let mut header = interval_set();
    let port = crate::host::load::payload(
        uapi::NFT_PAYLOAD_TRANSPORT_HEADER,
        2,
        2,
        crate::host::load::Known { family: None, proto: Some(6) },
    );
    header.looked_up(std::slice::from_ref(&port));
    let end = uapi::NFT_SET_ELEM_INTERVAL_END;
    // As the kernel lists them: from the highest to the lowest, the lowest an end without a beginning.
    let kernel = elements(&[
        (65000, 0, Some(0)),
        (91, end, None),
        (90, 0, Some(1)),
        (90, end, None),
        (80, 0, Some(0)),
        (0, end, None),
    ]);
    let set = header.finish(Some(kernel), &mut Interfaces::default());
    let element = |low, high, verdict| HostElement { values: vec![(low, high)], verdict: Some(verdict) };
    let expected = [
        element(80, 89, HostVerdict::Drop),
        element(90, 90, HostVerdict::Accept),
        element(65000, 65535, HostVerdict::Drop),
    ];
    assert_eq!((set.elements.as_slice(), set.unknown), (expected.as_slice(), false));

    header.looked_up(&[port.clone(), port]);
    let set = header.finish(Some(elements(&[(80, 0, None)])), &mut Interfaces::default());
    assert!(set.unknown && set.elements.is_empty(), "two rules that see different things in the same bytes");
}
