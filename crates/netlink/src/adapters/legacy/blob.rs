//! A table of the old iptables with rules of ours put in and taken out.
//!
//! Rules refer to each other by their distance from the run's beginning: a jump to the first rule of its chain, a rule
//! without a target to the next one, each hook to its chain's first rule and to its last, which holds the policy. The
//! first two kinds mean "what comes here", the last one that very rule: rules put in before a rule are met by the
//! former and stay ahead of the latter.

use std::collections::{BTreeMap, BTreeSet};

use libc::IFNAMSIZ;
use notrack_core::host::Untracked;
use notrack_core::net::{AddressRange, Family};

use crate::adapters::xt::{self, Match};
use crate::xtables::{ACCEPT, Entry, Extension, HEAD_LEN, Image, Layout};

#[cfg(test)]
mod tests;

/// `IP6T_F_PROTO`: without it the protocol's number is not looked at.
const CHECK_PROTOCOL_V6: u8 = 1;

/// A rule that accepts the packets.
pub(super) fn rule(layout: Layout, packets: &Untracked, comment: &str) -> Vec<u8> {
    let Untracked { carried, sources, destinations, in_interface, out_interface, .. } = packets;
    let mut header = addresses(layout.family, *sources, *destinations);
    let names = [interface(in_interface.as_deref()), interface(out_interface.as_deref())];
    header.extend(names.iter().flat_map(|(name, _)| name));
    header.extend(names.iter().flat_map(|(_, mask)| mask));
    header.resize(layout.matches, 0);
    header[layout.proto..][..2].copy_from_slice(&u16::from(carried.number(layout.family)).to_ne_bytes());
    if layout.family == Family::Ipv6 {
        header[layout.flags] = CHECK_PROTOCOL_V6;
    }
    let matches = xt::protocol(packets).into_iter().chain([xt::untracked(), xt::comment(comment)]);
    let matches: Vec<Vec<u8>> = matches.map(|part| extension(&part)).collect();
    // The standard target has no name; its data is a verdict, and the rest of 8 bytes.
    let info = [ACCEPT.to_ne_bytes(), [0; 4]].concat();
    layout.rule(&header, &matches, &extension(&Match { name: "", revision: 0, info }))
}

/// Source, destination and the masks of both, which begin the structure.
fn addresses(family: Family, sources: AddressRange, destinations: AddressRange) -> Vec<u8> {
    let mask = |range: AddressRange| !(range.first ^ range.last);
    let numbers = [sources.first, destinations.first, mask(sources), mask(destinations)];
    // An IPv4 address is in the low 32 bits.
    let skip = 16 - family.address_len();
    numbers.iter().flat_map(|number| number.to_be_bytes().into_iter().skip(skip)).collect()
}

/// An interface's name and the mask of its bytes that count.
fn interface(name: Option<&str>) -> ([u8; IFNAMSIZ], [u8; IFNAMSIZ]) {
    let (mut bytes, mut mask) = ([0; IFNAMSIZ], [0; IFNAMSIZ]);
    let Some(name) = name else {
        return (bytes, mask);
    };
    let beginning = name.strip_suffix('*');
    // A whole name counts with its NUL.
    let counts = beginning.map_or(name.len() + 1, str::len);
    for (place, byte) in bytes.iter_mut().zip(beginning.unwrap_or(name).bytes()) {
        *place = byte;
    }
    mask.iter_mut().take(counts).for_each(|byte| *byte = 0xff);
    (bytes, mask)
}

fn extension(Match { name, revision, info }: &Match) -> Vec<u8> {
    Extension { name, revision: *revision, info }.bytes()
}

/// The text of a rule's match `comment`.
pub(super) fn comment<'a>(rule: &Entry<'a>) -> Option<&'a str> {
    rule.matches().find(|found| found.name == "comment").and_then(|found| xt::comment_text(found.info))
}

/// By place in the run of rules: what goes in before it, and whether it goes itself.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub insert: BTreeMap<usize, Vec<Vec<u8>>>,
    pub remove: BTreeSet<usize>,
}

/// A table that is to replace another.
#[derive(Debug)]
pub(super) struct Replacement {
    pub image: Image,
    /// Which of the old rules each of its rules is.
    pub origins: Vec<Option<usize>>,
    /// How many rules the old one has.
    pub old_rules: usize,
}

/// The table with its changes.
pub(super) fn rewrite(
    old: &Image,
    rules: &[Entry<'_>],
    Changes { insert, remove }: &Changes,
) -> Result<Replacement, &'static str> {
    // Of each rule's old distance: what comes there now, and where the rule itself is.
    let mut moved: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    let mut len = 0;
    for (index, rule) in rules.iter().enumerate() {
        let comes = len;
        len += insert.get(&index).into_iter().flatten().map(Vec::len).sum::<usize>();
        let number = |at: usize| u32::try_from(at).map_err(|_| "it would exceed 4 GiB");
        moved.insert(number(rule.offset)?, (number(comes)?, number(len)?));
        len += if remove.contains(&index) { 0 } else { rule.bytes.len() };
    }
    let mut bytes = Vec::with_capacity(len);
    let mut origins = Vec::with_capacity(rules.len() + insert.len());
    for (index, rule) in rules.iter().enumerate() {
        for new in insert.get(&index).into_iter().flatten() {
            bytes.extend(new);
            origins.push(None);
        }
        if remove.contains(&index) {
            continue;
        }
        let start = bytes.len();
        bytes.extend(rule.bytes);
        origins.push(Some(index));
        if let Some((at, to)) = jump(rule) {
            let (to, _) = moved.get(&to).ok_or("a jump leads to no rule")?;
            bytes[start + at..][..4].copy_from_slice(&to.to_ne_bytes());
        }
    }
    let mut hooks = old.hooks;
    for (first, policy) in hooks.iter_mut().flatten() {
        *first = moved.get(first).ok_or("a hook leads to no rule")?.0;
        *policy = moved.get(policy).ok_or("a policy leads to no rule")?.1;
    }
    Ok(Replacement { image: Image { layout: old.layout, hooks, bytes }, origins, old_rules: rules.len() })
}

/// Where a rule keeps the distance to which it jumps, and that distance.
fn jump(rule: &Entry<'_>) -> Option<(usize, u32)> {
    let to = u32::try_from(rule.target()?.verdict()?).ok()?;
    Some((rule.target_at + HEAD_LEN, to))
}
