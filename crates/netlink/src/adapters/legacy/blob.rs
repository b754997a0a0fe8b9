//! A table of the old iptables as the kernel takes it: a run of `struct ipt_entry` or `ip6t_entry`, each followed by
//! its matches and one target (`include/uapi/linux/netfilter/x_tables.h`). All integers are native.
//!
//! Rules refer to each other by their distance from the run's beginning: a jump to the first rule of its chain, a rule
//! without a target to the next one, each hook to its chain's first rule and to its last, which holds the policy. The
//! first two kinds mean "what comes here", the last one that very rule: rules put in before a rule are met by the
//! former and stay ahead of the latter.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use notrack_core::host::Untracked;
use notrack_core::net::{AddressRange, Family};

use crate::adapters::xt::{self, Match};

#[cfg(test)]
mod tests;

/// `NF_INET_NUMHOOKS`
pub(super) const HOOKS: usize = 5;
/// iptables' names of the chains at the hooks.
const BUILT_IN: [&str; HOOKS] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// `struct xt_entry_match` and `xt_entry_target`: a length, a name and a revision before the data.
const HEAD_LEN: usize = 32;
const NAME: Range<usize> = 2..31;
const REVISION: usize = 31;
/// The target that heads a user's chain and ends the table; its data is the name.
const ERROR: &str = "ERROR";
/// `-NF_ACCEPT - 1`
const ACCEPT: i32 = -2;
const IFNAMSIZ: usize = 16;

/// Where the parts of a rule lie, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    family: Family,
    /// Of the names of the interfaces, which follow four addresses; their masks follow.
    interfaces: usize,
    /// Of the protocol's number, 16 bits wide.
    protocol: usize,
    /// Of `target_offset`; `next_offset` follows.
    offsets: usize,
    /// Of the first match: the length of the structure.
    matches: usize,
}

impl Layout {
    /// `struct ipt_entry`.
    pub const V4: Self =
        Self { family: Family::Ipv4, interfaces: 16, protocol: 80, offsets: 88, matches: 112 };
    /// `struct ip6t_entry`.
    pub const V6: Self =
        Self { family: Family::Ipv6, interfaces: 64, protocol: 128, offsets: 140, matches: 168 };
    /// Of `ip6t_ip6.flags`, behind the protocol and `tos`.
    const FLAGS_V6: usize = 131;
    /// `IP6T_F_PROTO`: without it the protocol's number is not looked at.
    const CHECK_PROTOCOL_V6: u8 = 1;

    /// A rule that accepts the packets.
    pub fn rule(self, packets: &Untracked, comment: &str) -> Vec<u8> {
        let Untracked { proto, sources, destinations, in_interface, out_interface, .. } = packets;
        let mut bytes = self.addresses(*sources, *destinations);
        let names = [interface(in_interface.as_deref()), interface(out_interface.as_deref())];
        bytes.extend(names.iter().flat_map(|(name, _)| name));
        bytes.extend(names.iter().flat_map(|(_, mask)| mask));
        bytes.resize(self.matches, 0);
        bytes[self.protocol..][..2].copy_from_slice(&u16::from(proto.number()).to_ne_bytes());
        if self.family == Family::Ipv6 {
            bytes[Self::FLAGS_V6] = Self::CHECK_PROTOCOL_V6;
        }
        for part in xt::protocol(packets).into_iter().chain([xt::untracked(), xt::comment(comment)]) {
            bytes.extend(extension(&part));
        }
        let target_at = bytes.len() as u16;
        // The standard target has no name; its data is a verdict, and the rest of 8 bytes.
        let verdict = [ACCEPT.to_ne_bytes(), [0; 4]].concat();
        bytes.extend(extension(&Match { name: "", revision: 0, info: verdict }));
        let next = bytes.len() as u16;
        bytes[self.offsets..][..2].copy_from_slice(&target_at.to_ne_bytes());
        bytes[self.offsets + 2..][..2].copy_from_slice(&next.to_ne_bytes());
        bytes
    }

    /// Source, destination and the masks of both, which begin the structure.
    fn addresses(self, sources: AddressRange, destinations: AddressRange) -> Vec<u8> {
        let len = self.family.address_len();
        let mask = |range: AddressRange| !(range.first ^ range.last);
        let numbers = [sources.first, destinations.first, mask(sources), mask(destinations)];
        // An IPv4 address is in the low 32 bits.
        numbers.iter().flat_map(|number| number.to_be_bytes().into_iter().skip(16 - len)).collect()
    }
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

fn extension(part: &Match) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_LEN];
    bytes[..2].copy_from_slice(&((HEAD_LEN + part.info.len()) as u16).to_ne_bytes());
    bytes[NAME][..part.name.len()].copy_from_slice(part.name.as_bytes());
    bytes[REVISION] = part.revision;
    bytes.extend(&part.info);
    bytes
}

/// A table as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    layout: Layout,
    /// A bit a hook.
    valid_hooks: u32,
    hook_entry: [u32; HOOKS],
    underflow: [u32; HOOKS],
    bytes: Vec<u8>,
    /// Where its rules lie in the bytes, up to the first that is malformed.
    rules: Vec<Range<usize>>,
}

/// A table that is to replace it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replacement {
    pub hook_entry: [u32; HOOKS],
    pub underflow: [u32; HOOKS],
    pub bytes: Vec<u8>,
    /// Which of the old rules each of its rules is.
    pub origins: Vec<Option<usize>>,
}

impl Image {
    pub fn new(
        layout: Layout,
        valid_hooks: u32,
        hook_entry: [u32; HOOKS],
        underflow: [u32; HOOKS],
        bytes: Vec<u8>,
    ) -> Image {
        let mut rules = Vec::new();
        let mut start = 0;
        while let Some(len) = rule_len(bytes.get(start..).unwrap_or_default(), layout) {
            rules.push(start..start + len);
            start += len;
        }
        Image { layout, valid_hooks, hook_entry, underflow, bytes, rules }
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub fn valid_hooks(&self) -> u32 {
        self.valid_hooks
    }

    /// How many rules it has, the heads and ends of chains among them.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// The chains with their rules, but for the one at the end that every chain has: its policy or its return.
    pub fn chains(&self) -> Result<Vec<(String, Range<usize>)>, &'static str> {
        if self.rules.last().map(|rule| rule.end) != Some(self.bytes.len()) {
            return Err("its rules do not add up to its size");
        }
        let mut heads: Vec<(String, usize, usize)> = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            if let Some(hook) = self.hooks().find(|hook| self.hook_entry[*hook] as usize == rule.start) {
                heads.push((BUILT_IN[hook].to_owned(), index, index));
            }
            if let Some(target) = self.target(index).filter(|target| target.name == ERROR) {
                let name = xt::comment_text(target.info).ok_or("a chain's name is not text")?;
                heads.push((name.to_owned(), index, index + 1));
            }
        }
        // The last of them is the table's own end.
        let end = self.len().checked_sub(1);
        if !heads.last().is_some_and(|(name, head, _)| name == ERROR && Some(*head) == end) {
            return Err("its last rule does not end it");
        }
        let chains = heads.windows(2).map(|pair| {
            let [(name, _, start), (_, next, _)] = pair else {
                return Err("a chain without an end");
            };
            let end = next.checked_sub(1).filter(|end| start <= end).ok_or("a chain without an end")?;
            Ok((name.clone(), *start..end))
        });
        chains.collect()
    }

    /// The text of a rule's match `comment`.
    pub fn comment(&self, index: usize) -> Option<&str> {
        let rule = self.rule(index)?;
        let mut matches = rule.get(self.layout.matches..target_at(rule, self.layout)?)?;
        while let Some(found) = Extension::read(matches) {
            if found.name == "comment" {
                return xt::comment_text(found.info);
            }
            matches = found.rest;
        }
        None
    }

    /// The table with new rules, by the rule before which they go, and without the removed ones.
    pub fn rewrite(
        &self,
        insert: &BTreeMap<usize, Vec<Vec<u8>>>,
        remove: &BTreeSet<usize>,
    ) -> Result<Replacement, &'static str> {
        // Of each rule's old distance: what comes there now, and where the rule itself is.
        let mut moved: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        let mut len = 0;
        for (index, rule) in self.rules.iter().enumerate() {
            let comes = len;
            len += insert.get(&index).into_iter().flatten().map(Vec::len).sum::<usize>();
            let number = |at: usize| u32::try_from(at).map_err(|_| "it would exceed 4 GiB");
            moved.insert(number(rule.start)?, (number(comes)?, number(len)?));
            len += if remove.contains(&index) { 0 } else { rule.len() };
        }
        let mut bytes = Vec::with_capacity(len);
        let mut origins = Vec::with_capacity(self.len() + insert.len());
        for (index, rule) in self.rules.iter().enumerate() {
            for new in insert.get(&index).into_iter().flatten() {
                bytes.extend(new);
                origins.push(None);
            }
            if remove.contains(&index) {
                continue;
            }
            let start = bytes.len();
            bytes.extend(self.bytes.get(rule.clone()).unwrap_or_default());
            origins.push(Some(index));
            if let Some((at, to)) = self.jump(index) {
                let (to, _) = moved.get(&to).ok_or("a jump leads to no rule")?;
                bytes[start + at..][..4].copy_from_slice(&to.to_ne_bytes());
            }
        }
        let (mut hook_entry, mut underflow) = (self.hook_entry, self.underflow);
        for hook in self.hooks() {
            hook_entry[hook] = moved.get(&hook_entry[hook]).ok_or("a hook leads to no rule")?.0;
            underflow[hook] = moved.get(&underflow[hook]).ok_or("a policy leads to no rule")?.1;
        }
        Ok(Replacement { hook_entry, underflow, bytes, origins })
    }

    fn hooks(&self) -> impl Iterator<Item = usize> {
        (0..HOOKS).filter(|hook| self.valid_hooks & 1 << hook != 0)
    }

    fn rule(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(self.rules.get(index)?.clone())
    }

    fn target(&self, index: usize) -> Option<Extension<'_>> {
        let rule = self.rule(index)?;
        Extension::read(rule.get(target_at(rule, self.layout)?..)?)
    }

    /// Where a rule keeps the distance to which it jumps, and that distance.
    fn jump(&self, index: usize) -> Option<(usize, u32)> {
        let target = self.target(index)?;
        let verdict = i32::from_ne_bytes(*target.info.first_chunk()?);
        let to = u32::try_from(verdict).ok()?;
        let at = target_at(self.rule(index)?, self.layout)? + HEAD_LEN;
        target.name.is_empty().then_some((at, to))
    }
}

fn target_at(rule: &[u8], layout: Layout) -> Option<usize> {
    rule.get(layout.offsets..)?.first_chunk().map(|at| u16::from_ne_bytes(*at) as usize)
}

/// The length of the first rule; `None` at the end, and where it is malformed.
fn rule_len(bytes: &[u8], layout: Layout) -> Option<usize> {
    let target = target_at(bytes, layout)?;
    let len = u16::from_ne_bytes(*bytes.get(layout.offsets + 2..)?.first_chunk()?) as usize;
    (layout.matches <= target && target < len && len <= bytes.len()).then_some(len)
}

/// A match or a target.
struct Extension<'a> {
    name: &'a str,
    info: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Extension<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let len = u16::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let info = bytes.get(HEAD_LEN..len)?;
        let name = bytes.get(NAME)?;
        let end = name.iter().position(|byte| *byte == 0)?;
        Some(Self { name: str::from_utf8(&name[..end]).ok()?, info, rest: &bytes[len..] })
    }
}
