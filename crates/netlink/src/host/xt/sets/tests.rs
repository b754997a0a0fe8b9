use super::*;
use crate::attr::{Buffer, Messages, Writer};

/// A message of a list: the type, and elements of which each is filled in.
fn list(type_name: &str, elements: &[&dyn Fn(&mut Writer<'_>)]) -> Vec<u8> {
    let mut buffer = Buffer::new();
    buffer.nfnl(nfnl_type(SUBSYSTEM, LIST), 0, 1, 2, 0, |message| {
        message.text(attr::SETNAME, "s");
        message.text(3, type_name);
        message.u8(5, libc::AF_INET as u8);
        message.nested(7, |data| data.be32(24, elements.len() as u32));
        message.nested(8, |all| {
            for element in elements {
                all.nested(7, |data| element(data));
            }
        });
    });
    buffer.finish().unwrap()
}

fn address(data: &mut Writer<'_>, kind: u16, address: u32) {
    data.nested(kind, |ip| ip.be32(1, address));
}

fn read(bytes: &[u8]) -> Option<IpSet> {
    let mut reader = Reader::default();
    for message in Messages::new(bytes).flatten() {
        reader.message(message.attrs().ok()?).ok()?;
    }
    reader.finish()
}

fn network_and_port(data: &mut Writer<'_>) {
    address(data, 1, 0x0a00_0005);
    data.u8(3, 24);
    data.be16(4, 53);
    data.u8(7, 17);
}

#[test]
fn an_element_is_a_box_with_a_range_for_each_field() {
    let Some(IpSet::Elements { kinds, family, boxes }) = read(&list("hash:net,port", &[&network_and_port]))
    else {
        panic!("not read")
    };
    assert_eq!(boxes, [[(0x0a00_0000, 0x0a00_00ff), (17, 17), (53, 53)]]);
    let fields: Vec<_> = kinds.iter().flat_map(|kind| kind.fields(family, Direction::Source)).collect();
    assert_eq!(fields, [Field::SourceAddress(Family::Ipv4), Field::L4Proto, Field::SourcePort]);
}

#[test]
fn what_is_not_understood_makes_the_whole_set_unknown() {
    assert!(read(&list("hash:net", &[&|data| address(data, 1, 1)])).is_some());
    assert_eq!(read(&list("hash:mac", &[])), None);
    let exception = |data: &mut Writer<'_>| {
        address(data, 1, 1);
        data.be32(8, 1 << 2);
    };
    assert_eq!(read(&list("hash:net", &[&exception])), None);
    let ping = |data: &mut Writer<'_>| {
        address(data, 1, 1);
        data.be16(4, 8 << 8);
        data.u8(7, 1);
    };
    assert_eq!(read(&list("hash:ip,port", &[&ping])), None);
    assert_eq!(read(&list("hash:ip,port", &[&|data| address(data, 1, 1)])), None, "without its port");
}

#[test]
fn no_truncation_and_no_flipped_bit_panics() {
    let bytes = list("hash:net,port", &[&network_and_port, &network_and_port]);
    for end in 0..bytes.len() {
        let _ = read(&bytes[..end]);
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = read(&flipped);
    }
}
