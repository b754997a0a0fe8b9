//! The matches of an adapter as both back ends of iptables have them: `include/uapi/linux/netfilter/xt_*.h`. Integers
//! are native, sizes are multiples of 8 (`XT_ALIGN`).

use notrack_core::host::{Carried, Untracked};
use notrack_core::net::{Family, PortRange, Proto};

/// Of FIN, SYN, RST and ACK exactly SYN: iptables' `--syn`.
pub(super) const SYN_MASK: u8 = 0x17;
/// The SYN flag.
pub(super) const SYN: u8 = 0x02;

/// One match.
pub(super) struct Match {
    pub name: &'static str,
    pub revision: u8,
    pub info: Vec<u8>,
}

/// Ports and flags, where the rule asks for any, or the type of an ICMP message.
pub(super) fn protocol(packets: &Untracked) -> Option<Match> {
    let Untracked { carried, sources, source_ports, destination_ports, opens, .. } = packets;
    let proto = match carried {
        Carried::Transport(proto) => proto,
        Carried::IcmpError(kind) => {
            let name = if sources.family == Family::Ipv4 { "icmp" } else { "icmp6" };
            return Some(Match { name, revision: 0, info: icmp(*kind) });
        }
    };
    if *source_ports == PortRange::ALL && *destination_ports == PortRange::ALL && opens.is_none() {
        return None;
    }
    let info = match proto {
        Proto::Tcp => tcp(*source_ports, *destination_ports, *opens),
        Proto::Udp => [ports(*source_ports), ports(*destination_ports), vec![0; 8]].concat(),
        Proto::Sctp => sctp(*source_ports, *destination_ports),
    };
    Some(Match { name: proto.nft_name(), revision: 0, info })
}

fn ports(range: PortRange) -> Vec<u8> {
    [range.first().to_ne_bytes(), range.last().to_ne_bytes()].concat()
}

/// `struct ipt_icmp` and `ip6t_icmp`: the type, the first and the last code, inversions.
fn icmp(kind: u8) -> Vec<u8> {
    vec![kind, 0, u8::MAX, 0, 0, 0, 0, 0]
}

/// `struct xt_tcp`: ports, option, mask of flags, their values, inversions.
fn tcp(sources: PortRange, destinations: PortRange, opens: Option<bool>) -> Vec<u8> {
    const INVERT_FLAGS: u8 = 0x04;
    let (mask, flags) = if opens.is_some() { (SYN_MASK, SYN) } else { (0, 0) };
    let invert = if opens == Some(false) { INVERT_FLAGS } else { 0 };
    [ports(sources), ports(destinations), vec![0, mask, flags, invert, 0, 0, 0, 0]].concat()
}

/// `struct xt_sctp_info`: destination ports first, then chunks (none asked for), and which of the ports count.
fn sctp(sources: PortRange, destinations: PortRange) -> Vec<u8> {
    const CHUNK_MAP: usize = 256;
    const FLAG_INFOS: usize = 4;
    const SOURCE_PORTS: u32 = 1;
    const DESTINATION_PORTS: u32 = 2;
    let mut info = [ports(destinations), ports(sources), vec![0; CHUNK_MAP + 4]].concat();
    // Of no chunk, as iptables initializes them.
    info.extend([0xff, 0, 0].repeat(FLAG_INFOS));
    info.extend([0; 4]);
    let mut flags = 0;
    for (range, flag) in [(sources, SOURCE_PORTS), (destinations, DESTINATION_PORTS)] {
        flags |= if range == PortRange::ALL { 0 } else { flag };
    }
    info.extend(flags.to_ne_bytes());
    // No inversions.
    info.extend([0; 4]);
    info.resize(info.len().next_multiple_of(8), 0);
    info
}

/// `-m conntrack --ctstate UNTRACKED`: revision 3, which iptables has used since 1.4.
pub(super) fn untracked() -> Match {
    const LEN: usize = 168;
    const MATCH_FLAGS: usize = 146;
    const STATE_MASK: usize = 150;
    const BY_STATE: u16 = 1;
    /// `XT_CONNTRACK_STATE_UNTRACKED`
    const UNTRACKED: u16 = 1 << 8;
    let mut info = vec![0; LEN];
    info[MATCH_FLAGS..][..2].copy_from_slice(&BY_STATE.to_ne_bytes());
    info[STATE_MASK..][..2].copy_from_slice(&UNTRACKED.to_ne_bytes());
    Match { name: "conntrack", revision: 3, info }
}

/// `-m comment`; the text must be shorter than 256 bytes, and is cut there.
pub(super) fn comment(text: &str) -> Match {
    const LEN: usize = 256;
    let mut info = text.as_bytes().to_vec();
    info.truncate(LEN - 1);
    info.resize(LEN, 0);
    Match { name: "comment", revision: 0, info }
}

/// Reads what [`comment`] writes.
pub(super) fn comment_text(info: &[u8]) -> Option<&str> {
    str::from_utf8(info.split(|byte| *byte == 0).next()?).ok()
}
