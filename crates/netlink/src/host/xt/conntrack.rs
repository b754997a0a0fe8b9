//! Matches that look at a packet's entry, and what they say of a packet that has none.

use notrack_core::host::{
    CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED, CT_STATES, CT_UNTRACKED, Field, Step, TRANSLATED,
};
use notrack_core::net::Family;

use super::address::{Inet, prefix_len};
use super::bytes::{array, byte, ne16, ne32};
use super::text::{Options, names, not, span};
use super::{Part, among, within};

/// The states of packets that have an entry.
const TRACKED: u128 = CT_ESTABLISHED | CT_RELATED | CT_NEW;
/// The states of packets that have none.
const WITHOUT_ENTRY: u128 = CT_INVALID | CT_UNTRACKED;

/// A condition that surely holds in some states, in others if what `ct` names of the entry is `wanted`, never in the rest.
fn by_state(sure: u128, perhaps: u128, (ct, wanted): (&str, u128)) -> Vec<Step> {
    let chosen = |states: u128| CT_STATES.into_iter().filter(move |state| states & state != 0);
    if perhaps == 0 {
        return vec![within(Field::CtState, false, chosen(sure).map(|state| (state, state)))];
    }
    if sure == 0 && perhaps == TRACKED {
        return vec![within(Field::CtOther(ct.to_owned()), false, [(wanted, wanted)])];
    }
    // Where nobody knows the second field, a box that holds some of its values only may hold, while one that holds them
    // all does.
    let sure = chosen(sure).map(|state| vec![(state, state), (0, u128::MAX)]);
    let perhaps = chosen(perhaps).map(|state| vec![(state, state), (wanted, wanted)]);
    let fields = vec![Field::CtState, Field::Other(format!("ct {ct}"))];
    vec![among(fields, false, sure.chain(perhaps).collect())]
}

/// The states that are the same bits here and there: `XT_CONNTRACK_STATE_INVALID`, and those of `enum ip_conntrack_info`.
const SAME: u128 = CT_INVALID | TRACKED;
const STATE_NAMES: [(u32, &str); 7] = [
    (1, "INVALID"),
    (8, "NEW"),
    (4, "RELATED"),
    (2, "ESTABLISHED"),
    (XT_UNTRACKED, "UNTRACKED"),
    (XT_SNAT, "SNAT"),
    (XT_DNAT, "DNAT"),
];
const XT_SNAT: u32 = 1 << 6;
const XT_DNAT: u32 = 1 << 7;
const XT_UNTRACKED: u32 = 1 << 8;

/// `--ctstate` as what holds surely and what perhaps. SNAT and DNAT are of the entry's status, beside its state.
fn states(mask: u32, inverted: bool) -> (u128, u128) {
    let mut named = u128::from(mask) & SAME;
    if mask & XT_UNTRACKED != 0 {
        named |= CT_UNTRACKED;
    }
    let translated = mask & (XT_SNAT | XT_DNAT) != 0;
    match (inverted, translated) {
        (false, false) => (named, 0),
        (false, true) => (named, TRACKED & !named),
        (true, false) => ((TRACKED | WITHOUT_ENTRY) & !named, 0),
        (true, true) => (WITHOUT_ENTRY & !named, TRACKED & !named),
    }
}

/// `struct xt_state_info`. Its bit of untracked packets is where `conntrack` has that of SNAT.
pub(super) fn state(info: &[u8]) -> Option<Part> {
    const UNTRACKED: u32 = 1 << 6;
    let mut mask = ne32(info, 0)?;
    if mask & UNTRACKED != 0 {
        mask = mask & !UNTRACKED | XT_UNTRACKED;
    }
    let (sure, perhaps) = states(mask, false);
    let steps = by_state(sure, perhaps, (TRANSLATED, 1));
    Some(Part::new(steps, format!("--state {}", names(mask, STATE_NAMES))))
}

/// `XT_CONNTRACK_*` of what is compared, and `nft`'s name of it.
const STATE: u16 = 1;
const PROTO: u16 = 1 << 1;
const STATUS: u16 = 1 << 6;
const EXPIRES: u16 = 1 << 7;
const DIRECTION: u16 = 1 << 12;
const ALIAS: u16 = 1 << 13;
const ENTRY: [(u32, &str); 12] = [
    (PROTO as u32, "protocol"),
    (1 << 2, "original saddr"),
    (1 << 3, "original daddr"),
    (1 << 4, "reply saddr"),
    (1 << 5, "reply daddr"),
    (1 << 8, "original proto-src"),
    (1 << 9, "original proto-dst"),
    (1 << 10, "reply proto-src"),
    (1 << 11, "reply proto-dst"),
    (STATUS as u32, "status"),
    (EXPIRES as u32, "expiration"),
    (DIRECTION as u32, "direction"),
];

/// `struct xt_conntrack_mtinfo1` to 3.
///
/// Of a packet without an entry the kernel looks at the state alone: if that is asked for and right the whole match
/// holds, whatever else it compares; if it is not asked for, the match does not hold (`conntrack_mt`).
pub(super) fn conntrack(family: Option<Family>, revision: u8, info: &[u8]) -> Option<Part> {
    let (flags, inverted) = (ne16(info, 146)?, ne16(info, 148)?);
    let (mask, status) = match revision {
        1 => (byte(info, 150)?.into(), byte(info, 151)?.into()),
        2 | 3 => (ne16(info, 150)?.into(), ne16(info, 152)?.into()),
        _ => return None,
    };
    let entry: Vec<&str> =
        ENTRY.iter().filter(|(flag, _)| u32::from(flags) & flag != 0).map(|(_, name)| *name).collect();
    let (mut sure, mut perhaps) =
        if flags & STATE == 0 { (0, TRACKED) } else { states(mask, inverted & STATE != 0) };
    if !entry.is_empty() {
        perhaps |= sure & TRACKED;
        sure &= WITHOUT_ENTRY;
    }
    let text = conntrack_text(family, revision, info, (flags, inverted), (mask, status))?;
    let steps = match (entry.is_empty(), inverted & STATE != 0) {
        (true, false) => by_state(sure, perhaps, (TRANSLATED, 1)),
        (true, true) => by_state(sure, perhaps, (TRANSLATED, 0)),
        (false, _) => by_state(sure, perhaps, (&entry.join(", "), 1)),
    };
    Some(Part::new(steps, text))
}

fn conntrack_text(
    family: Option<Family>,
    revision: u8,
    info: &[u8],
    (flags, inverted): (u16, u16),
    (mask, status): (u32, u32),
) -> Option<String> {
    const STATUSES: [(u32, &str); 4] = [(1, "EXPECTED"), (2, "SEEN_REPLY"), (4, "ASSURED"), (8, "CONFIRMED")];
    let mut options = Options::default();
    let asked = |flag: u16| (flags & flag != 0, inverted & flag != 0);
    if let (true, inverted) = asked(STATE) {
        let shown = names(mask, STATE_NAMES);
        if flags & ALIAS != 0 {
            return Some(format!("-m state {}--state {shown}", not(inverted)));
        }
        options.may_not(inverted, format_args!("--ctstate {shown}"));
    }
    if let (true, inverted) = asked(PROTO) {
        options.may_not(inverted, format_args!("--ctproto {}", ne16(info, 136)?));
    }
    for (place, option) in ["origsrc", "origdst", "replsrc", "repldst"].into_iter().enumerate() {
        if let (true, inverted) = asked(1 << (2 + place)) {
            let address = shown_address(family, array(info, 32 * place)?, array(info, 32 * place + 16)?);
            options.may_not(inverted, format_args!("--ct{option} {address}"));
        }
    }
    for (place, option) in ["origsrc", "origdst", "replsrc", "repldst"].into_iter().enumerate() {
        if let (true, inverted) = asked(1 << (8 + place)) {
            let at = 138 + 2 * place;
            let ports = match revision {
                3 => span(ne16(info, at)?, ne16(info, 154 + 2 * place)?, ':'),
                _ => super::bytes::be16(info, at)?.to_string(),
            };
            options.may_not(inverted, format_args!("--ct{option}port {ports}"));
        }
    }
    if let (true, inverted) = asked(STATUS) {
        // iptables lists them in this order.
        let shown = if status == 0 { "NONE".to_owned() } else { names(status, STATUSES) };
        options.may_not(inverted, format_args!("--ctstatus {shown}"));
    }
    if let (true, inverted) = asked(EXPIRES) {
        let shown = span(ne32(info, 128)?, ne32(info, 132)?, ':');
        options.may_not(inverted, format_args!("--ctexpire {shown}"));
    }
    if let (true, inverted) = asked(DIRECTION) {
        options.add(format!("--ctdir {}", if inverted { "REPLY" } else { "ORIGINAL" }));
    }
    Some(options.text())
}

/// An address and its mask, as this match alone writes them: without the length of a host's prefix.
fn shown_address(family: Option<Family>, address: [u8; 16], mask: [u8; 16]) -> String {
    let inet = Inet::of(family, &[address, mask]);
    let shown = inet.shown(&address);
    match prefix_len(inet.bytes(&mask)) {
        Some(len) if len == inet.bits() => shown,
        Some(len) => format!("{shown}/{len}"),
        None => format!("{shown}/{}", inet.shown(&mask)),
    }
}

/// `struct xt_helper_info`. A packet without an entry has no helper: it matches where the match is inverted.
pub(super) fn helper(info: &[u8]) -> Option<Part> {
    let inverted = ne32(info, 0)? != 0;
    let name = super::bytes::text(info, 4, 30)?;
    Some(of_entry(inverted, "helper", format!("{}--helper {}", not(inverted), super::quoted(&name))))
}

/// `struct xt_connlabel_mtinfo`: likewise.
pub(super) fn connlabel(info: &[u8]) -> Option<Part> {
    const INVERT: u16 = 1;
    let inverted = ne16(info, 2)? & INVERT != 0;
    Some(of_entry(inverted, "label", format!("{}--label \"{}\"", not(inverted), ne16(info, 0)?)))
}

fn of_entry(inverted: bool, ct: &str, text: String) -> Part {
    Part::new(by_state(if inverted { WITHOUT_ENTRY } else { 0 }, TRACKED, (ct, 1)), text)
}

/// `struct xt_connmark_mtinfo1`. A packet without an entry does not match, inverted or not.
pub(super) fn connmark(info: &[u8]) -> Option<Part> {
    let inverted = byte(info, 8)? != 0;
    let mark = super::kinds::masked(ne32(info, 0)?, ne32(info, 4)?);
    Some(Part::new(by_state(0, TRACKED, ("mark", 1)), format!("{}--mark {mark}", not(inverted))))
}

/// `struct xt_connbytes_info`: likewise.
pub(super) fn connbytes() -> Option<Part> {
    Some(Part::new(by_state(0, TRACKED, ("bytes", 1)), String::new()))
}
