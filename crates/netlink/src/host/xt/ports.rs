//! Matches of transport protocols: ports, TCP's flags, ICMP's types.

use notrack_core::host::{Field, Step};

use super::bytes::{array, byte, ne16, ne32};
use super::text::{Options, not, span};
use super::{Part, among, within};

/// Ports from the first to the last, and whether they are the others.
#[derive(Clone, Copy)]
struct Ports {
    low: u16,
    high: u16,
    inverted: bool,
}

impl Ports {
    /// Two native `__u16`.
    fn read(info: &[u8], at: usize, inverted: bool) -> Option<Self> {
        Some(Self { low: ne16(info, at)?, high: ne16(info, at + 2)?, inverted })
    }

    fn is_all(self) -> bool {
        (self.low, self.high, self.inverted) == (0, u16::MAX, false)
    }

    fn step(self, field: Field) -> Step {
        within(field, self.inverted, [(self.low.into(), self.high.into())])
    }
}

/// Source and destination ports, with options for those that are not all.
fn both(source: Ports, destination: Ports, options: &mut Options) -> Vec<Step> {
    let mut steps = Vec::new();
    let each = [("sport", Field::SourcePort, source), ("dport", Field::DestinationPort, destination)];
    for (option, field, ports) in each {
        if !ports.is_all() {
            options.may_not(ports.inverted, format_args!("--{option} {}", span(ports.low, ports.high, ':')));
            steps.push(ports.step(field));
        }
    }
    steps
}

/// `struct xt_tcp`.
pub(super) fn tcp(info: &[u8]) -> Option<Part> {
    /// Inverted: source ports, destination ports, flags, option.
    const INV_SOURCE: u8 = 1;
    const INV_DESTINATION: u8 = 2;
    const INV_FLAGS: u8 = 4;
    const INV_OPTION: u8 = 8;
    let [option, mask, compared, inverted] = array(info, 8)?;
    let mut options = Options::default();
    let source = Ports::read(info, 0, inverted & INV_SOURCE != 0)?;
    let destination = Ports::read(info, 4, inverted & INV_DESTINATION != 0)?;
    let mut steps = both(source, destination, &mut options);
    if option != 0 || inverted & INV_OPTION != 0 {
        options.may_not(inverted & INV_OPTION != 0, format_args!("--tcp-option {option}"));
        steps.push(Step::Opaque("tcp-option".to_owned()));
    }
    let inverted = inverted & INV_FLAGS != 0;
    if mask != 0 || inverted {
        options.may_not(inverted, format_args!("--tcp-flags {} {}", flags(mask), flags(compared)));
        let matching = (0..=u8::MAX).filter(|flags| flags & mask == compared);
        steps.push(within(Field::TcpFlags, inverted, runs(matching.map(u128::from))));
    }
    Some(Part::new(steps, options.text()))
}

fn flags(flags: u8) -> String {
    let all = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
    let names = super::text::names(flags.into(), (0..).map(|bit| 1 << bit).zip(all));
    if names.is_empty() { "NONE".to_owned() } else { names }
}

/// Ascending numbers as ranges.
fn runs(numbers: impl Iterator<Item = u128>) -> Vec<(u128, u128)> {
    let mut runs: Vec<(u128, u128)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, high)) if *high + 1 == number => *high = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

/// `struct xt_udp`, of UDP and UDP-Lite.
pub(super) fn udp(info: &[u8]) -> Option<Part> {
    let inverted = byte(info, 8)?;
    let mut options = Options::default();
    let source = Ports::read(info, 0, inverted & 1 != 0)?;
    let steps = both(source, Ports::read(info, 4, inverted & 2 != 0)?, &mut options);
    Some(Part::new(steps, options.text()))
}

/// `struct xt_sctp_info`: destination ports first, each part only where its flag is set. The bitmap of chunks between
/// has 64 words, of which 8 are used.
pub(super) fn sctp(info: &[u8]) -> Option<Part> {
    const CHUNKS: u32 = 4;
    let (flags, inverted) = (ne32(info, 284)?, ne32(info, 288)?);
    let mut part = flagged(info, flags, inverted)?;
    if flags & CHUNKS != 0 {
        part.steps.push(Step::Opaque("sctp chunk".to_owned()));
        part.text = super::joined(&part.text, &format!("{}--chunk-types", not(inverted & CHUNKS != 0)));
    }
    Some(part)
}

/// `struct xt_dccp_info`, likewise.
pub(super) fn dccp(info: &[u8]) -> Option<Part> {
    const TYPE_OR_OPTION: u16 = 4 | 8;
    let (flags, inverted) = (ne16(info, 8)?, ne16(info, 10)?);
    let mut part = flagged(info, flags.into(), inverted.into())?;
    if flags & TYPE_OR_OPTION != 0 {
        part.steps.push(Step::Opaque("dccp type".to_owned()));
        part.text = super::joined(&part.text, "--dccp-types");
    }
    Some(part)
}

fn flagged(info: &[u8], flags: u32, inverted: u32) -> Option<Part> {
    const SOURCE: u32 = 1;
    const DESTINATION: u32 = 2;
    let ports = |at, flag| {
        let all = Ports { low: 0, high: u16::MAX, inverted: false };
        if flags & flag == 0 { Some(all) } else { Ports::read(info, at, inverted & flag != 0) }
    };
    let mut options = Options::default();
    let steps = both(ports(4, SOURCE)?, ports(0, DESTINATION)?, &mut options);
    Some(Part::new(steps, options.text()))
}

/// `struct xt_multiport`, and `xt_multiport_v1` with ranges and inversion.
pub(super) fn multiport(revision: u8, info: &[u8]) -> Option<Part> {
    /// `XT_MULTI_PORTS`.
    const MOST: u8 = 15;
    const PORTS_AT: usize = 2;
    /// Whether the port of the same place begins a range that the next one ends.
    const BEGINS_AT: usize = 32;
    let (fields, option) = match byte(info, 0)? {
        0 => (vec![Field::SourcePort], "--sports"),
        1 => (vec![Field::DestinationPort], "--dports"),
        2 => (vec![Field::SourcePort, Field::DestinationPort], "--ports"),
        _ => return None,
    };
    let mut inverted = false;
    let mut ranges = Vec::new();
    let mut places = 0..usize::from(byte(info, 1)?.min(MOST));
    while let Some(place) = places.next() {
        let low = ne16(info, PORTS_AT + 2 * place)?;
        let begins = revision > 0 && byte(info, BEGINS_AT + place)? != 0;
        let last = if begins { places.next()? } else { place };
        ranges.push((low, ne16(info, PORTS_AT + 2 * last)?));
    }
    if revision > 0 {
        inverted = byte(info, 47)? != 0;
    }
    let text: Vec<_> = ranges.iter().map(|(low, high)| span(low, high, ':')).collect();
    let text = format!("{}{option} {}", not(inverted), text.join(","));
    let ranges = ranges.into_iter().map(|(low, high)| (u128::from(low), u128::from(high)));
    let boxes = if fields.len() == 1 {
        ranges.map(|range| vec![range]).collect()
    } else {
        // Either of both ports.
        const ALL: (u128, u128) = (0, u16::MAX as u128);
        ranges.flat_map(|range| [vec![range, ALL], vec![ALL, range]]).collect()
    };
    Some(Part::new(vec![among(fields, inverted, boxes)], text))
}

/// `struct ipt_icmp` and `ip6t_icmp`: a type, the first and the last code, and whether they are the others.
pub(super) fn icmp(name: &str, info: &[u8]) -> Option<Part> {
    let [kind, low, high, inverted] = array(info, 0)?;
    let inverted = inverted & 1 != 0;
    let option = if name == "icmp" { "--icmp-type" } else { "--icmpv6-type" };
    let v4 = name == "icmp";
    let all_codes = (low, high) == (0, u8::MAX);
    // 255 stands for every type, in IPv4 alone.
    let any = v4 && kind == u8::MAX;
    let shown = match (any, all_codes) {
        (true, _) => "any".to_owned(),
        (false, true) => kind.to_string(),
        (false, false) => format!("{kind}/{low}"),
    };
    let text = format!("{}{option} {shown}", not(inverted));
    let kinds = if any { (0, u8::MAX.into()) } else { (kind.into(), kind.into()) };
    let step = if any || all_codes {
        within(Field::IcmpType, inverted, [kinds])
    } else {
        let code = Field::Other(if v4 { "icmp code" } else { "icmpv6 code" }.to_owned());
        let codes = (low.into(), high.into());
        among(vec![Field::IcmpType, code], inverted, vec![vec![kinds, codes]])
    };
    Some(Part::new(vec![step], text))
}
