//! What the entries of the connection table themselves show.
//!
//! Entries outlive the hooks that made them, by up to five days. But only a packet that is tracked renews
//! an entry's timeout: one that has nearly all of it left was seen a moment ago.

use crate::conntrack::{Conntrack, Entry, Family, Filter, Status, TcpState, sysctl};
use crate::socket::NetlinkError;

/// Seconds since the last packet within which an entry is a proof.
const FRESH: u32 = 10;

/// What the entries of one family show.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There are none.
    None,
    /// There are some, none of which a packet has renewed lately.
    Old,
    /// This one, in words, was renewed a moment ago.
    Fresh(String),
}

/// Reads the family's entries and judges them.
pub(super) fn judge(table: &mut Conntrack, family: Family) -> Result<Verdict, NetlinkError> {
    if table.stats()?.entries == 0 {
        return Ok(Verdict::None);
    }
    let timeouts = Timeouts::read();
    let filter = Filter { family: Some(family), ..Filter::default() };
    let mut verdict = Verdict::None;
    table.dump(&filter, |entry| match verdict {
        Verdict::Fresh(_) => {}
        _ if timeouts.is_fresh(entry) => verdict = Verdict::Fresh(describe(entry)),
        _ => verdict = Verdict::Old,
    })?;
    Ok(verdict)
}

fn describe(entry: &Entry) -> String {
    let tuple = entry.original;
    format!(
        "a packet of an entry in the connection table was seen a moment ago (protocol {}, {} to {})",
        tuple.protocol, tuple.source, tuple.destination
    )
}

/// The timeouts that entries start with, in seconds, as this namespace has them set.
struct Timeouts {
    udp: Option<u32>,
    udp_stream: Option<u32>,
    icmp: Option<u32>,
    icmpv6: Option<u32>,
    tcp: [Option<u32>; TCP_STATES.len()],
}

const TCP_STATES: [(TcpState, &str); 8] = [
    (TcpState::SynSent, "nf_conntrack_tcp_timeout_syn_sent"),
    (TcpState::SynRecv, "nf_conntrack_tcp_timeout_syn_recv"),
    (TcpState::Established, "nf_conntrack_tcp_timeout_established"),
    (TcpState::FinWait, "nf_conntrack_tcp_timeout_fin_wait"),
    (TcpState::CloseWait, "nf_conntrack_tcp_timeout_close_wait"),
    (TcpState::LastAck, "nf_conntrack_tcp_timeout_last_ack"),
    (TcpState::TimeWait, "nf_conntrack_tcp_timeout_time_wait"),
    (TcpState::Close, "nf_conntrack_tcp_timeout_close"),
];

impl Timeouts {
    fn read() -> Self {
        let read = |name| sysctl::read(name).ok();
        Self {
            udp: read("nf_conntrack_udp_timeout"),
            udp_stream: read("nf_conntrack_udp_timeout_stream"),
            icmp: read("nf_conntrack_icmp_timeout"),
            icmpv6: read("nf_conntrack_icmpv6_timeout"),
            tcp: TCP_STATES.map(|(_, name)| read(name)),
        }
    }

    /// Entries with a timeout of a rule's own are never fresh here: that proves nothing, and harms nothing.
    fn is_fresh(&self, entry: &Entry) -> bool {
        let start = match (entry.original.protocol, entry.tcp_state) {
            (1, _) => self.icmp,
            (58, _) => self.icmpv6,
            (17, _) if entry.status.contains(Status::ASSURED) => self.udp_stream,
            (17, _) => self.udp,
            (_, Some(state)) => {
                TCP_STATES.iter().position(|(known, _)| *known == state).and_then(|index| self.tcp[index])
            }
            _ => None,
        };
        start.and_then(|start| start.checked_sub(entry.timeout)).is_some_and(|age| age <= FRESH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::{L4, Tuple, Zone};

    fn entry(protocol: u8, status: Status, tcp_state: Option<TcpState>, timeout: u32) -> Entry {
        let tuple = Tuple {
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            protocol,
            l4: L4::Addresses,
        };
        Entry {
            original: tuple,
            reply: tuple,
            status,
            tcp_state,
            timeout,
            mark: 0,
            id: 0,
            zone: Zone::default(),
            has_helper: false,
            has_label: false,
        }
    }

    #[test]
    fn only_a_timeout_that_was_just_renewed_is_fresh() {
        let mut tcp = [None; TCP_STATES.len()];
        tcp[2] = Some(432_000);
        let timeouts = Timeouts { udp: Some(30), udp_stream: Some(120), icmp: None, icmpv6: None, tcp };
        let none = Status::default();
        let established = Some(TcpState::Established);
        for (fresh, entry) in [
            (true, entry(17, none, None, 25)),
            (false, entry(17, none, None, 5)),
            (false, entry(17, Status::ASSURED, None, 25)),
            (true, entry(17, Status::ASSURED, None, 115)),
            (true, entry(6, none, established, 431_995)),
            (false, entry(6, none, established, 400_000)),
            (false, entry(6, none, Some(TcpState::Close), 5)),
            // Longer than the setting: a timeout policy, or an entry made by hand.
            (false, entry(17, none, None, 600)),
            (false, entry(1, none, None, 30)),
        ] {
            assert_eq!(timeouts.is_fresh(&entry), fresh, "{entry:?}");
        }
    }
}
