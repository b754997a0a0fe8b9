use std::ops::ControlFlow;

use super::exchange::read_answer;
use super::*;
use crate::attr::{Buffer, Message, Messages, nfnl_type};

/// As `netlink_ack` writes it with NETLINK_CAP_ACK and NETLINK_EXT_ACK.
fn error_message(errno: i32, capped: bool) -> Vec<u8> {
    let mut buffer = Buffer::new();
    let flags = 0x200 | if capped { 0x100 } else { 0 };
    buffer.message(2, flags, 9, |m| {
        m.raw(&(-errno).to_ne_bytes());
        // The request's header; not capped, 8 bytes of it follow.
        m.raw(&24u32.to_ne_bytes());
        m.raw(&[0; 12]);
        if !capped {
            m.raw(&[0xff; 8]);
        }
        m.text(1, "Chain is in use");
        m.ne32(2, 36);
    });
    buffer.finish().unwrap()
}

fn reply(bytes: &[u8]) -> Reply<'_> {
    Reply::parse(Messages::new(bytes).next().unwrap().unwrap()).unwrap()
}

#[test]
fn a_refusal_carries_the_kernels_words_and_the_place() {
    for capped in [true, false] {
        let bytes = error_message(libc::EBUSY, capped);
        let Reply::Refused(refusal) = reply(&bytes) else { panic!("a refusal") };
        assert_eq!(
            refusal,
            Refusal { seq: 9, errno: libc::EBUSY, ext_ack: Some("Chain is in use".into()), offset: Some(36) }
        );
        let error = refusal.into_error("delete a chain");
        assert_eq!(error.errno(), Some(libc::EBUSY));
        assert_eq!(error.to_string(), "delete a chain: Device or resource busy (Chain is in use)");
    }
}

#[test]
fn error_numbers_become_variants() {
    let error = |errno| {
        let bytes = error_message(errno, true);
        let Reply::Refused(refusal) = reply(&bytes) else { panic!("a refusal") };
        refusal.into_error("x")
    };
    assert_eq!(error(libc::EPERM), NetlinkError::PermissionDenied { what: "x" });
    assert!(error(libc::EPERM).to_string().contains("CAP_NET_ADMIN"));
    assert_eq!(error(85), NetlinkError::Restart { what: "x" });
    assert!(error(85).is_transient());
    assert!(!error(libc::ENOENT).is_transient());
}

#[test]
fn acks_and_ends_of_dumps_are_told_from_objects() {
    let mut buffer = Buffer::new();
    buffer.message(2, 0, 1, |m| m.raw(&[0; 20]));
    buffer.message(3, 2, 2, |m| m.raw(&[0; 4]));
    buffer.message(3, 2, 3, |m| m.raw(&(-libc::EINTR).to_ne_bytes()));
    buffer.nfnl(nfnl_type(1, 0), 2, 4, 2, 0, |_| {});
    let bytes = buffer.finish().unwrap();
    let replies: Vec<_> = Messages::new(&bytes).map(|m| Reply::parse(m.unwrap()).unwrap()).collect();
    assert_eq!(replies[0], Reply::Ack { seq: 1 });
    assert_eq!(replies[1], Reply::Ack { seq: 2 });
    assert!(matches!(&replies[2], Reply::Refused(refusal) if refusal.errno == libc::EINTR));
    assert!(matches!(replies[3], Reply::Data(_)));
}

#[test]
fn an_inconsistent_dump_is_reported_and_read_to_its_end() {
    let mut buffer = Buffer::new();
    buffer.nfnl(nfnl_type(10, 0), flags::MULTI | flags::DUMP_INTR, 5, 2, 0, |_| {});
    buffer.nfnl(nfnl_type(10, 0), flags::MULTI, 5, 2, 0, |_| {});
    let more = buffer.finish().unwrap();
    let mut end = Buffer::new();
    end.message(3, flags::MULTI, 5, |m| m.raw(&[0; 4]));
    let end = end.finish().unwrap();

    let mut outcome = Ok(());
    let mut each =
        |_: Message<'_>| -> Result<_, _> { panic!("nothing is handed over once the dump is inconsistent") };
    assert_eq!(read_answer("read", &more, (5, 0), &mut outcome, &mut each), Ok(ControlFlow::Continue(())));
    assert_eq!(read_answer("read", &end, (5, 0), &mut outcome, &mut each), Ok(ControlFlow::Break(())));
    assert_eq!(outcome, Err(NetlinkError::Interrupted { what: "read" }));
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let mut buffer = Buffer::new();
    buffer.nfnl(nfnl_type(10, 0), 0, 5, 2, 0, |_| {});
    let bytes = buffer.finish().unwrap();
    let mut outcome = Ok(());
    let read = read_answer("read", &bytes, (6, 0), &mut outcome, &mut |_| Ok(ControlFlow::Continue(())));
    assert_eq!(read, Err(NetlinkError::Sequence { what: "read", seq: 5 }));
}

#[test]
fn a_request_without_an_end_is_not_sent() {
    let mut socket = Socket::open().unwrap();
    let mut buffer = Buffer::new();
    buffer.nfnl(nfnl_type(1, 5), flags::REQUEST, 1, 0, 0, |_| {});
    let asked = socket.ask("read", &buffer.finish().unwrap(), |_| Ok(()));
    assert_eq!(asked, Err(NetlinkError::NoAck { what: "read" }));
}

#[test]
fn the_receive_buffer_is_aligned_and_large_enough_for_big_dumps() {
    let socket = Socket::open().unwrap();
    let usable = &socket.buffer[socket.start..];
    assert!(usable.len() >= RECEIVE_LEN);
    assert_eq!(usable.as_ptr().align_offset(RECEIVE_ALIGN), 0);
}
