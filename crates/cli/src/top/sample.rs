//! Entries for tests.

use std::net::IpAddr;

use notrack_netlink::conntrack::{CpuStats, Entry, L4, Stats, Status, TcpState, Tuple, Zone};

use super::figures::Figures;

/// An established TCP connection of a peer to a port of 192.0.2.1.
pub fn entry(peer: &str, port: u16) -> Entry {
    let peer: IpAddr = peer.parse().unwrap();
    let server: IpAddr = if peer.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap();
    let tuple = |source, destination, ports: (u16, u16)| Tuple {
        source,
        destination,
        protocol: 6,
        l4: L4::Ports { source: ports.0, destination: ports.1 },
    };
    Entry {
        original: tuple(peer, server, (40_000, port)),
        reply: tuple(server, peer, (port, 40_000)),
        status: Status::default(),
        tcp_state: Some(TcpState::Established),
        timeout: 60,
        mark: 0,
        id: 1,
        zone: Zone::default(),
        has_helper: false,
        has_label: false,
    }
}

fn with_protocol(mut entry: Entry, protocol: u8, l4: L4, status: Status) -> Entry {
    (entry.original.protocol, entry.original.l4) = (protocol, l4);
    (entry.tcp_state, entry.status) = (None, status);
    entry
}

/// Four of TCP, two of UDP, one of ICMP; five of 10.0.0.1.
pub fn entries() -> Vec<Entry> {
    let assured = Status::SEEN_REPLY | Status::ASSURED;
    let mut entries = vec![entry("10.0.0.1", 443); 3];
    entries.iter_mut().for_each(|entry| entry.status = assured);
    entries[2].status = assured | Status::DST_NAT;
    let mut closing = entry("2001:db8::9", 443);
    closing.tcp_state = Some(TcpState::TimeWait);
    entries.push(closing);
    let dns = L4::Ports { source: 40_000, destination: 53 };
    entries.push(with_protocol(entry("10.0.0.1", 0), 17, dns, Status::default()));
    entries.push(with_protocol(entry("10.0.0.2", 0), 17, dns, Status::SEEN_REPLY));
    let echo = L4::Icmp { id: 7, kind: 8, code: 0 };
    entries.push(with_protocol(entry("10.0.0.1", 0), 1, echo, Status::SEEN_REPLY));
    entries
}

/// Figures of a table that is two thirds full.
pub fn figures() -> Figures {
    Figures {
        stats: Stats { entries: 174_763, max: 262_144 },
        counters: CpuStats { drop: 12, early_drop: 3, insert_failed: 1, ..CpuStats::default() },
        buckets: Some(262_144),
    }
}
