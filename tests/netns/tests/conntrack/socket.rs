//! The netlink socket under stress: batches that do not fit, answers that are lost.

use std::ops::RangeInclusive;
use std::time::Duration;

use notrack_netlink::attr::{Buffer, nfnl_type};
use notrack_netlink::conntrack::Filter;
use notrack_netlink::socket::{NetlinkError, Options, Reply, Socket, flags};

use super::support::{V4, entries, tracked, udp};

const SMALL: Options = Options { receive_buffer: 4096, send_buffer: 4096, timeout: Duration::from_secs(10) };

/// Deletions that the kernel refuses: what they have for a tuple is `junk` bytes of nothing.
fn refused(socket: &mut Socket, count: u32, junk: usize) -> (Vec<u8>, RangeInclusive<u32>) {
    let delete = nfnl_type(1, 2);
    let first = socket.reserve_seqs(count as usize);
    let mut batch = Buffer::new();
    for seq in first..first + count {
        batch.nfnl(delete, flags::REQUEST, seq, 2, 0, |writer| {
            writer.nested(1, |writer| writer.bytes(1, &vec![0; junk]));
        });
    }
    (batch.finish().unwrap(), first..=first + count - 1)
}

#[test]
fn every_message_of_a_batch_is_answered_by_its_number() {
    let (namespace, _table) = tracked("batch", "");
    let mut socket = namespace.enter(Socket::open).unwrap().unwrap();
    let (batch, seqs) = refused(&mut socket, 100, 4);
    let mut answered = Vec::new();
    let sent = socket.transact("try", &batch, &seqs, |reply| match reply {
        Reply::Refused(refusal) => answered.push((refusal.seq, refusal.errno)),
        other => panic!("{other:?}"),
    });
    assert_eq!(sent, Ok(()));
    let numbers: Vec<u32> = answered.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, seqs.collect::<Vec<_>>());
    assert!(answered.iter().all(|(_, errno)| *errno == 22 || *errno == 34), "{answered:?}");
}

#[test]
fn a_batch_over_the_send_buffer_makes_it_grow() {
    let (namespace, _table) = tracked("grow", "");
    let mut socket = namespace.enter(|| Socket::with_options(SMALL)).unwrap().unwrap();
    let (batch, seqs) = refused(&mut socket, 8, 30_000);
    assert!(batch.len() > 200_000);
    let mut answers = 0;
    socket.transact("try", &batch, &seqs, |_| answers += 1).unwrap();
    assert_eq!(answers, 8);
}

#[test]
fn lost_answers_are_told_and_do_not_disturb_the_next_exchange() {
    let (namespace, mut table) = tracked("lost", "");
    let _socket = udp(&namespace, V4, &[5301]);
    let mut socket = namespace.enter(|| Socket::with_options(SMALL)).unwrap().unwrap();
    let (batch, seqs) = refused(&mut socket, 300, 4);
    let sent = socket.transact("try", &batch, &seqs, |_| {});
    assert_eq!(sent, Err(NetlinkError::NoBuffer { what: "try" }));
    let mut found = 0;
    let dump = (nfnl_type(1, 1), flags::DUMP, 2);
    socket
        .request(
            "read",
            dump,
            |_| {},
            |_| {
                found += 1;
                Ok(())
            },
        )
        .unwrap();
    assert_eq!(found, 1);
    assert_eq!(entries(&mut table, &Filter::default()).len(), 1, "nothing was deleted");
}

#[test]
fn a_refusal_ends_a_request_with_the_kernels_error() {
    let (namespace, _table) = tracked("refusal", "");
    let mut socket = namespace.enter(Socket::open).unwrap().unwrap();
    // Without a tuple there is nothing to get.
    let asked = socket.request("get", (nfnl_type(1, 1), 0, 2), |_| {}, |_| Ok(()));
    assert_eq!(asked.unwrap_err().errno(), Some(22));
    // A subsystem that does not exist.
    let asked = socket.request("ask", (nfnl_type(200, 1), 0, 0), |_| {}, |_| Ok(()));
    assert!(asked.is_err());
}
