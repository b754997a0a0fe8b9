//! Targets.

use notrack_core::host::{Act, HostVerdict, Marking, Step};
use notrack_core::net::Family;

use super::bytes::{array, be16, byte, ne16, ne32, text};
use super::nat::NatRange;
use super::text::Options;
use super::{Inet, Part, quoted};

/// Targets that leave what is asked here alone: they write, count, or change other parts of a packet.
const NO_EFFECT: [&str; 20] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNSECMARK",
    "DSCP",
    "ECN",
    "HL",
    "IDLETIMER",
    "LED",
    "LOG",
    "NFLOG",
    "RATEEST",
    "SECMARK",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
];

/// `None` for a target that is not known, or of a structure that is not.
pub(super) fn read(family: Option<Family>, name: &str, revision: u8, info: &[u8]) -> Option<Part> {
    let act = |act: Act| Some(Part::new(vec![Step::Act(act)], String::new()));
    let end = |verdict: HostVerdict| Some(Part::new(vec![Step::Verdict(verdict)], String::new()));
    match name {
        "ACCEPT" => end(HostVerdict::Accept),
        "DROP" => end(HostVerdict::Drop),
        "RETURN" => end(HostVerdict::Return),
        "QUEUE" => end(HostVerdict::Queue),
        "REJECT" => Some(reject(family, info)),
        "NFQUEUE" => Some(queue(revision, info)),
        "MARK" => Some(mark(revision, info)),
        "HMARK" => act(Act::SetMark(None)),
        "CONNMARK" => connmark(revision, info),
        "CT" => ct(info),
        "NOTRACK" => act(Act::Notrack),
        "DNAT" | "SNAT" | "REDIRECT" | "MASQUERADE" | "NETMAP" => nat(family, name, info),
        "SYNPROXY" => synproxy(info),
        "TPROXY" => Some(tproxy(family, revision, info)),
        "SET" => set(revision, info),
        "DNPT" | "SNPT" => act(Act::Rewrite),
        "LOG" => log(info),
        "NFLOG" => nflog(info),
        "TCPMSS" => tcpmss(info),
        _ if NO_EFFECT.contains(&name) => Some(Part::default()),
        _ => None,
    }
}

/// `struct ipt_reject_info` and `ip6t_reject_info`. Refused, whatever the answer.
fn reject(family: Option<Family>, info: &[u8]) -> Part {
    const V4: [&str; 9] = [
        "icmp-net-unreachable",
        "icmp-host-unreachable",
        "icmp-proto-unreachable",
        "icmp-port-unreachable",
        "echo-reply",
        "icmp-net-prohibited",
        "icmp-host-prohibited",
        "tcp-reset",
        "icmp-admin-prohibited",
    ];
    const V6: [&str; 9] = [
        "icmp6-no-route",
        "icmp6-adm-prohibited",
        "icmp6-not-neighbour",
        "icmp6-addr-unreachable",
        "icmp6-port-unreachable",
        "echo-reply",
        "tcp-reset",
        "icmp6-policy-fail",
        "icmp6-reject-route",
    ];
    let with = ne32(info, 0).and_then(|with| {
        let names = if family? == Family::Ipv4 { V4 } else { V6 };
        names.get(with as usize).map(|name| format!("--reject-with {name}"))
    });
    Part::new(vec![Step::Verdict(HostVerdict::Drop)], with.unwrap_or_default())
}

/// `struct xt_NFQ_info`, and `xt_NFQ_info_v1` to 3.
fn queue(revision: u8, info: &[u8]) -> Part {
    const BYPASS: u16 = 1;
    const CPU_FANOUT: u16 = 2;
    let mut options = Options::default();
    let queues = if revision == 0 { Some(1) } else { ne16(info, 2) };
    let flags = if revision < 2 { 0 } else { ne16(info, 4).unwrap_or_default() };
    if let (Some(first), Some(queues)) = (ne16(info, 0), queues) {
        let last = first.saturating_add(queues.saturating_sub(1));
        options.add(if last == first {
            format!("--queue-num {first}")
        } else {
            format!("--queue-balance {first}:{last}")
        });
    }
    options.when(flags & BYPASS != 0, "--queue-bypass");
    options.when(flags & CPU_FANOUT != 0, "--queue-cpu-fanout");
    Part::new(vec![Step::Verdict(HostVerdict::Queue)], options.text())
}

/// `struct xt_mark_tginfo2`; older ones have other structures and do the same.
fn mark(revision: u8, info: &[u8]) -> Part {
    let (marking, text) = match (revision, ne32(info, 0), ne32(info, 4)) {
        (2, Some(mark), Some(mask)) => {
            (Some(Marking { keep: !mask, flip: mark }), format!("--set-xmark {mark:#x}/{mask:#x}"))
        }
        _ => (None, String::new()),
    };
    Part::new(vec![Step::Act(Act::SetMark(marking))], text)
}

/// `struct xt_connmark_tginfo1` and 2.
fn connmark(revision: u8, info: &[u8]) -> Option<Part> {
    let (mark, ctmask, nfmask) = (ne32(info, 0)?, ne32(info, 4)?, ne32(info, 8)?);
    let mode_at = match revision {
        1 => 12,
        2 => 14,
        _ => return None,
    };
    let masks = format!("--nfmask {nfmask:#x} --ctmask {ctmask:#x}");
    let (act, mut text) = match byte(info, mode_at)? {
        0 => (Act::SetCtMark, format!("--set-xmark {mark:#x}/{ctmask:#x}")),
        1 => (Act::SetCtMark, format!("--save-mark {masks}")),
        2 => (Act::RestoreMark, format!("--restore-mark {masks}")),
        _ => return None,
    };
    if revision == 2 && byte(info, 13)? != 0 {
        let way = if byte(info, 12)? == 0 { "left" } else { "right" };
        text += &format!(" --{way}-shift-mark {}", byte(info, 13)?);
    }
    Some(Part::new(vec![Step::Act(act)], text))
}

/// `struct xt_ct_target_info` and `xt_ct_target_info_v1`, which begins alike.
fn ct(info: &[u8]) -> Option<Part> {
    const NOTRACK: u16 = 1;
    const NOTRACK_ALIAS: u16 = 1 << 1;
    const ORIGINAL: u16 = 1 << 2;
    const REPLY: u16 = 1 << 3;
    const ZONE_OF_MARK: u16 = 1 << 4;
    let (flags, zone, helper) = (ne16(info, 0)?, ne16(info, 2)?, text(info, 12, 16)?);
    let mut options = Options::default();
    let mut steps = Vec::new();
    if flags & NOTRACK != 0 {
        steps.push(Step::Act(Act::Notrack));
        if flags & NOTRACK_ALIAS != 0 {
            return Some(Part::new(steps, "-j NOTRACK".to_owned()));
        }
        options.add("--notrack");
    }
    if !helper.is_empty() {
        options.add(format!("--helper {helper}"));
        steps.push(Step::Act(Act::Helper(helper)));
    }
    if zone != 0 || flags & ZONE_OF_MARK != 0 {
        let option = match flags & (ORIGINAL | REPLY) {
            ORIGINAL => "--zone-orig",
            REPLY => "--zone-reply",
            _ => "--zone",
        };
        let shown = if flags & ZONE_OF_MARK != 0 { "mark".to_owned() } else { zone.to_string() };
        options.add(format!("{option} {shown}"));
        steps.push(Step::Act(Act::Zone));
    }
    Some(Part::new(steps, options.text()))
}

/// Translation, which ends the table's chain. `NETMAP` changes the destination or the source by the hook that it is
/// reached from, which a rule does not tell: it may be either.
fn nat(family: Option<Family>, name: &str, info: &[u8]) -> Option<Part> {
    let range = NatRange::read(family, info)?;
    let option = |name: &str, value: String| {
        if value.is_empty() { String::new() } else { format!("{name} {value}") }
    };
    let to = match name {
        "DNAT" => option("--to-destination", range.addresses_and_ports()),
        "SNAT" => option("--to-source", range.addresses_and_ports()),
        "NETMAP" => option("--to", range.network()),
        _ => option("--to-ports", range.ports().unwrap_or_default()),
    };
    let words = to.split_once(' ').map_or("any", |(_, value)| value).to_owned();
    let mut steps = Vec::new();
    match name {
        "DNAT" => steps.push(Step::Act(Act::Dnat(vec![range.destination()]))),
        "REDIRECT" => steps.push(Step::Act(Act::Dnat(vec![range.redirection()]))),
        "NETMAP" => steps.push(Step::Act(Act::Dnat(vec![range.mapping()]))),
        _ => {}
    }
    if matches!(name, "SNAT" | "MASQUERADE" | "NETMAP") {
        steps.push(Step::Act(Act::Snat(words)));
    }
    steps.push(Step::Verdict(HostVerdict::Accept));
    let mut options = Options::default();
    options.when(!to.is_empty(), to.clone());
    for choice in range.choice() {
        options.add(choice);
    }
    Some(Part::new(steps, options.text()))
}

/// `struct nf_synproxy_info`.
fn synproxy(info: &[u8]) -> Option<Part> {
    const MSS: u8 = 1;
    const SCALE: u8 = 1 << 1;
    let [flags, scale] = array(info, 0)?;
    let mut options = Options::default();
    options.when(flags & 1 << 2 != 0, "--sack-perm");
    options.when(flags & 1 << 3 != 0, "--timestamp");
    options.when(flags & SCALE != 0, format!("--wscale {scale}"));
    options.when(flags & MSS != 0, format!("--mss {}", ne16(info, 2)?));
    options.when(flags & 1 << 4 != 0, "--ecn");
    Some(Part::new(vec![Step::Act(Act::Synproxy)], options.text()))
}

/// `struct xt_tproxy_target_info` (IPv4), and `xt_tproxy_target_info_v1`. A packet for which there is no socket is
/// dropped, any other goes on with it.
fn tproxy(family: Option<Family>, revision: u8, info: &[u8]) -> Part {
    let options = || {
        let (mask, mark) = (ne32(info, 0)?, ne32(info, 4)?);
        let (address, port) = if revision == 0 {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&array::<4>(info, 8)?);
            (address, be16(info, 12)?)
        } else {
            (array(info, 8)?, be16(info, 24)?)
        };
        let address = Inet::of(family, &[address]).shown(&address);
        Some(format!("--on-port {port} --on-ip {address} --tproxy-mark {mark:#x}/{mask:#x}"))
    };
    let steps = vec![Step::Act(Act::Tproxy), Step::Verdict(HostVerdict::Accept)];
    Part::new(steps, options().unwrap_or_default())
}

/// `struct xt_set_info_target_v3`; older ones cannot set a mark from a set.
fn set(revision: u8, info: &[u8]) -> Option<Part> {
    /// `IPSET_FLAG_MAP_SKBMARK`.
    const SETS_MARK: u32 = 1 << 8;
    let sets_mark = revision >= 3 && ne32(info, 12)? & SETS_MARK != 0;
    Some(Part::new(if sets_mark { vec![Step::Act(Act::SetMark(None))] } else { Vec::new() }, String::new()))
}

/// `struct xt_log_info`.
fn log(info: &[u8]) -> Option<Part> {
    /// What iptables takes where nothing is said, and does not write.
    const USUAL_LEVEL: u8 = 4;
    const FLAGS: [(u8, &str); 5] = [
        (1, "--log-tcp-sequence"),
        (1 << 1, "--log-tcp-options"),
        (1 << 2, "--log-ip-options"),
        (1 << 3, "--log-uid"),
        (1 << 5, "--log-macdecode"),
    ];
    let ([level, flags], prefix) = (array(info, 0)?, text(info, 2, 30)?);
    let mut options = Options::default();
    options.when(!prefix.is_empty(), format!("--log-prefix {}", quoted(&prefix)));
    options.when(level != USUAL_LEVEL, format!("--log-level {level}"));
    for (flag, option) in FLAGS {
        options.when(flags & flag != 0, option);
    }
    Some(Part::new(Vec::new(), options.text()))
}

/// `struct xt_nflog_info`: a length, a group, a threshold, flags, padding, a prefix.
fn nflog(info: &[u8]) -> Option<Part> {
    let (group, prefix) = (ne16(info, 4)?, text(info, 12, 64)?);
    let mut options = Options::default();
    options.when(!prefix.is_empty(), format!("--nflog-prefix {}", quoted(&prefix)));
    options.when(group != 0, format!("--nflog-group {group}"));
    Some(Part::new(Vec::new(), options.text()))
}

/// `struct xt_tcpmss_info`.
fn tcpmss(info: &[u8]) -> Option<Part> {
    Some(Part::new(
        Vec::new(),
        match ne16(info, 0)? {
            u16::MAX => "--clamp-mss-to-pmtu".to_owned(),
            mss => format!("--set-mss {mss}"),
        },
    ))
}
