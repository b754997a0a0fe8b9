use super::*;

fn sample() -> Vec<u8> {
    let mut buffer = Buffer::new();
    buffer.nfnl(nfnl_type(1, 2), 0x305, 42, 10, 513, |m| {
        m.u8(1, 6);
        m.nested(2, |m| {
            m.be16(3, 8080);
            m.text(4, "hello");
        });
        m.be32(5, 0xdead_beef);
        m.be64(6, 1 << 40);
        m.ne32(7, 77);
        m.flag(8);
    });
    buffer.message(3, 2, 43, |_| {});
    buffer.finish().unwrap()
}

#[test]
fn what_was_written_is_read_back() {
    let bytes = sample();
    let messages: Vec<_> = Messages::new(&bytes).collect::<Result<_, _>>().unwrap();
    let [first, second] = messages[..] else { panic!("two messages: {messages:?}") };
    assert_eq!((first.kind, first.flags, first.seq, first.port), (0x102, 0x305, 42, 0));
    assert_eq!((first.family().unwrap(), first.res_id().unwrap()), (10, 513));
    assert_eq!((second.kind, second.seq, second.payload), (3, 43, &[][..]));

    let attrs: Vec<_> = first.attrs().unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(attrs.iter().map(|attr| attr.kind).collect::<Vec<_>>(), [1, 2, 5, 6, 7, 8]);
    assert_eq!(attrs[0].u8(), Ok(6));
    assert_eq!(attrs[1].nested().find(3).unwrap().unwrap().be16(), Ok(8080));
    assert_eq!(attrs[1].nested().find(4).unwrap().unwrap().text(), Ok("hello"));
    assert_eq!(attrs[2].be32(), Ok(0xdead_beef));
    assert_eq!(attrs[3].be64(), Ok(1 << 40));
    assert_eq!(attrs[4].ne32(), Ok(77));
    assert!(attrs[5].payload.is_empty());
}

#[test]
fn everything_is_padded_to_four_bytes() {
    let mut buffer = Buffer::new();
    buffer.nfnl(0, 0, 0, 0, 0, |m| {
        m.u8(1, 1);
        m.bytes(2, &[1, 2, 3, 4, 5]);
    });
    let bytes = buffer.finish().unwrap();
    assert_eq!(bytes.len(), 16 + 4 + 8 + 12);
    // The attribute's own length counts the payload, not the padding.
    assert_eq!(bytes[20..22], 5u16.to_ne_bytes());
}

#[test]
fn a_wrong_size_is_an_error_that_names_the_attribute() {
    let attr = Attr { kind: 9, payload: &[1, 2, 3] };
    assert_eq!(attr.be32(), Err(AttrError::Payload { kind: 9, want: 4, have: 3 }));
    assert_eq!(attr.u8(), Err(AttrError::Payload { kind: 9, want: 1, have: 3 }));
    assert_eq!(Attr { kind: 9, payload: &[0xff, 0] }.text(), Err(AttrError::Text { kind: 9 }));
}

#[test]
fn lengths_that_lie_end_the_iteration_with_an_error() {
    for (len, want) in [
        (0u16, AttrError::Length { what: "attribute", len: 0 }),
        (3, AttrError::Length { what: "attribute", len: 3 }),
        (9, AttrError::Truncated { what: "attribute", need: 9, have: 8 }),
    ] {
        let mut bytes = [0u8; 8];
        bytes[..2].copy_from_slice(&len.to_ne_bytes());
        let mut attrs = Attrs::new(&bytes);
        assert_eq!(attrs.next(), Some(Err(want)));
        assert_eq!(attrs.next(), None, "an error must not be repeated for ever");
    }
}

#[test]
fn an_attribute_too_long_for_its_length_field_is_refused() {
    let mut buffer = Buffer::new();
    buffer.nfnl(0, 0, 0, 0, 0, |m| m.nested(3, |m| m.bytes(4, &[0; 65_536])));
    assert_eq!(buffer.finish(), Err(AttrError::TooLong { kind: 4, len: 65_540 }));
}

/// Reads everything that can be reached in the bytes.
fn walk(bytes: &[u8]) {
    for message in Messages::new(bytes).flatten() {
        let _ = (message.family(), message.res_id());
        if let Ok(attrs) = message.attrs() {
            walk_attrs(attrs, 3);
        }
    }
}

fn walk_attrs(attrs: Attrs<'_>, depth: u8) {
    for attr in attrs.flatten() {
        let _ = (attr.u8(), attr.be16(), attr.be32(), attr.be64(), attr.ne32(), attr.text());
        if depth > 0 {
            walk_attrs(attr.nested(), depth - 1);
        }
    }
}

#[test]
fn no_truncation_and_no_flipped_bit_panics() {
    let bytes = sample();
    for end in 0..bytes.len() {
        walk(&bytes[..end]);
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        walk(&flipped);
    }
}
