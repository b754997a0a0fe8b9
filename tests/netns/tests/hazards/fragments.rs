//! Hazard 10: of a packet in fragments only the first has ports.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::UdpSocket;

use anyhow::{Result, ensure};
use notrack_core::net::Family;
use notrack_lab::{Namespace, Pair};
use notrack_netns::agent::{PATIENCE, server};
use notrack_netns::traffic::{bind, entries};
use notrack_netns::{track, traffic};

use super::support::{NOTHING, flush, judge, like, without_naive};

/// Three fragments of a link's 1,500 bytes.
const LARGE: usize = 4000;

/// A large question, and its large answer.
fn ask(client: &Namespace, node: &Namespace, family: Family) -> Result<()> {
    let at = like(family, "10.77.0.1:53");
    let answers = bind(node, || UdpSocket::bind(&at))?;
    let asks = bind(client, || UdpSocket::bind(like(family, "10.77.0.2:0")))?;
    for socket in [&answers, &asks] {
        socket.set_read_timeout(Some(PATIENCE / 8))?;
    }
    let mut received = [0; 2 * LARGE];
    asks.send_to(&[b'?'; LARGE], &at)?;
    let (length, asker) = answers.recv_from(&mut received)?;
    ensure!(length == LARGE, "a question of {length} bytes");
    answers.send_to(&[b'!'; LARGE], asker)?;
    let length = asks.recv(&mut received)?;
    ensure!(length == LARGE, "an answer of {length} bytes");
    Ok(())
}

#[test]
fn rules_ahead_of_reassembly_lose_large_datagrams_and_ours_see_them_whole() {
    for family in Family::ALL {
        let Pair { client, node } = &Pair::new().unwrap();
        track(node).unwrap();
        ask(client, node, family).unwrap();
        // The kernel reassembles at -400. An untracked fragment passes that by, and the others wait for it in vain.
        node.nft(
            "table inet naive {
                chain prerouting {
                    type filter hook prerouting priority -450
                    udp dport 53 notrack
                }
                chain output {
                    type filter hook output priority -450
                    udp sport 53 notrack
                }
            }",
        )
        .unwrap();
        traffic::udp(client, node, &like(family, "10.77.0.2:0"), &like(family, "10.77.0.1:53")).unwrap();
        let lost = ask(client, node, family).unwrap_err();
        assert!(lost.to_string().contains("temporarily unavailable"), "{family}: {lost:#}");
        without_naive(node);

        judge(node, &(server("p", "UDP", "53") + "  compensation: {icmpErrors: Ignore}\n")).is_clean();
        flush(node);
        let before = node.counter("inet notrack-dev", "p-p").unwrap();
        ask(client, node, family).unwrap();
        assert_eq!(entries(node, 53).unwrap(), NOTHING, "{family}");
        let after = node.counter("inet notrack-dev", "p-p").unwrap();
        // Each way one packet with all of its bytes.
        assert_eq!(after.packets - before.packets, 2, "{family}");
        assert!(after.bytes - before.bytes > 2 * LARGE as u64, "{family}: {before:?} {after:?}");
    }
}
