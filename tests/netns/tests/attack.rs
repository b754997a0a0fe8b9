//! What comes past the firewall of a node that tracks, of one with NOTRACK rules by hand, and of one with ours, packet
//! by packet. `attack.txt` is the table; docs/compensation.md explains it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "attack/attacks.rs"]
mod attacks;
#[path = "attack/craft.rs"]
mod craft;
#[path = "attack/routed.rs"]
mod routed;
#[path = "attack/site.rs"]
mod site;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;
use std::{env, fs};

use attacks::Attack;
use craft::payload;
use notrack_lab::{Flow, Pair, tcp};
use notrack_netns::agent::PATIENCE;
use site::{Kind, Site};

/// How many of the packets passed, in the order of the columns.
struct Row {
    family: u8,
    name: &'static str,
    sent: usize,
    passed: [usize; 3],
    /// Passed with ours, and not where everything is tracked.
    wider: usize,
    /// The other way round.
    narrower: usize,
    reason: Option<&'static str>,
}

fn rows(family: u8, attacks: &[Attack], seen: &[BTreeSet<u16>; 3]) -> Vec<Row> {
    let row = |attack: &Attack| {
        let numbers = attack.numbers();
        let count = |passes: &dyn Fn(&u16) -> bool| numbers.iter().filter(|number| passes(number)).count();
        let [tracked, naive, ours] = seen;
        Row {
            family,
            name: attack.name,
            sent: numbers.len(),
            passed: [tracked, naive, ours].map(|seen| count(&|number| seen.contains(number))),
            wider: count(&|number| ours.contains(number) && !tracked.contains(number)),
            narrower: count(&|number| !ours.contains(number) && tracked.contains(number)),
            reason: attack.wider,
        }
    };
    attacks.iter().map(row).collect()
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<78} {:>5} {:>8} {:>6} {:>5} {:>10}\n",
        "packets that pass", "sent", "tracked", "naive", "ours", "ours alone"
    );
    let mut reasons: Vec<&str> = Vec::new();
    for row in rows {
        let [tracked, naive, ours] = row.passed;
        let note = row.reason.map_or_else(String::new, |reason| {
            let place = reasons.iter().position(|known| *known == reason).unwrap_or_else(|| {
                reasons.push(reason);
                reasons.len() - 1
            });
            format!(" [{}]", place + 1)
        });
        writeln!(
            text,
            "IPv{} {:<73} {:>5} {tracked:>8} {naive:>6} {ours:>5} {:>10}{note}",
            row.family, row.name, row.sent, row.wider
        )
        .unwrap();
    }
    for (number, reason) in (1..).zip(reasons) {
        let words = format!("[{number}] {reason}");
        let mut line = String::from("\n");
        for word in words.split(' ') {
            if line.len() + word.len() > 110 {
                writeln!(text, "{}", line.trim_end_matches(' ')).unwrap();
                line.clear();
            }
            line += word;
            line += " ";
        }
        writeln!(text, "{}", line.trim_end_matches(' ')).unwrap();
    }
    text
}

/// The table may change only on purpose; `INSTA_UPDATE=always` accepts it.
fn compare_with_committed(found: &str) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attack.txt");
    if env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        fs::write(file, found).unwrap();
    }
    let committed = fs::read_to_string(file).unwrap_or_default();
    assert!(committed == found, "{file} differs from what was found:\n{found}");
}

#[test]
fn nothing_comes_in_that_tracking_keeps_out_but_for_what_is_listed() {
    let kinds = [Kind::Tracked, Kind::Naive, Kind::Ours];
    let mut found = Vec::new();
    for (make, attacks) in [
        (Site::new as fn(Kind) -> Site, attacks::attacks as fn(bool) -> Vec<Attack>),
        (Site::routed, routed::attacks),
    ] {
        let sites = kinds.map(|kind| make(kind).silenced());
        for (family, v4) in [(4, true), (6, false)] {
            let attacks = attacks(v4);
            for step in attacks.iter().flat_map(|attack| &attack.steps) {
                sites.iter().for_each(|site| site.take(step));
            }
            let seen = sites.each_ref().map(|site| site.seen(v4));
            found.extend(rows(family, &attacks, &seen));
        }
    }
    let text = table(&found);
    for row in &found {
        let Row { family, name, wider, narrower, reason, .. } = row;
        match reason {
            None => assert_eq!(*wider, 0, "IPv{family} {name}: more than tracking lets in\n{text}"),
            Some(_) => assert_ne!(*wider, 0, "IPv{family} {name}: a reason for nothing\n{text}"),
        }
        assert_eq!(*narrower, 0, "IPv{family} {name}: something that tracking lets in is lost\n{text}");
    }
    compare_with_committed(&text);
}

/// The first packet that leaves a node, after one that may be answered and a SYN to a port that is open everywhere.
fn first_answer(site: &Site, v4: bool, attack: &[u8], source: SocketAddr) -> Flow {
    let own = if v4 { Pair::NODE } else { Pair::NODE6 };
    let syn = Flow::new(source, SocketAddr::new(own, 80)).unwrap().tcp(tcp::SYN);
    while site.wire().receive(Duration::ZERO).unwrap().is_some() {}
    site.wire().send(attack).unwrap();
    site.wire().send(&syn).unwrap();
    let is_tcp = |packet: &[u8]| packet[if packet[0] >> 4 == 4 { 9 } else { 6 }] == 6;
    let answer = site.wire().receive_where(PATIENCE, is_tcp).unwrap().expect("an answer to the SYN");
    let ports: Vec<u16> =
        payload(&answer)[..4].chunks(2).map(|port| u16::from_be_bytes([port[0], port[1]])).collect();
    Flow::new(SocketAddr::new(own, ports[0]), SocketAddr::new(source.ip(), ports[1])).unwrap()
}

/// What "reaches the socket" means: a scanner learns by a reset that nothing dropped its packet.
#[test]
fn a_segment_of_no_connection_is_answered_with_a_reset_where_it_passes() {
    for v4 in [true, false] {
        let (node, peer, stranger) = if v4 {
            (Pair::NODE, Pair::CLIENT, Pair::STRANGER)
        } else {
            (Pair::NODE6, Pair::CLIENT6, Pair::STRANGER6)
        };
        for kind in [Kind::Tracked, Kind::Ours] {
            let site = Site::new(kind);
            for (from, to, passes) in [
                (SocketAddr::new(stranger, 20_000), 80, true),
                (SocketAddr::new(stranger, 20_001), 9999, false),
                (SocketAddr::new(stranger, 20_002), 22, false),
                (SocketAddr::new(peer, 8080), 40_000, true),
                (SocketAddr::new(stranger, 8080), 40_001, false),
            ] {
                let attack = Flow::new(from, SocketAddr::new(node, to)).unwrap();
                let later = SocketAddr::new(from.ip(), to + 1);
                let answered = first_answer(&site, v4, &attack.tcp(tcp::ACK), later) == attack.reversed();
                assert_eq!(answered, passes && kind == Kind::Ours, "{kind:?}: ACK from {from} to {to}");
            }
        }
    }
}
