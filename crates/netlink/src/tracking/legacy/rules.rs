//! The kernel's rules as bytes: a run of `struct ipt_entry` or `ip6t_entry`, each followed by its matches
//! and one target (`include/uapi/linux/netfilter/x_tables.h`). All integers are native.

use crate::tracking::users;

/// Where the parts of a rule lie, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Of `target_offset`; `next_offset` follows.
    offsets: usize,
    /// Of the first match.
    matches: usize,
}

impl Layout {
    /// `struct ipt_entry`.
    pub(super) const V4: Self = Self { offsets: 88, matches: 112 };
    /// `struct ip6t_entry`.
    pub(super) const V6: Self = Self { offsets: 140, matches: 168 };
}

/// `struct xt_entry_match` and `xt_entry_target`: a length, a name and a revision before the data.
const HEAD_LEN: usize = 32;
const NAME: std::ops::Range<usize> = 2..31;

/// The first user of tracking. What is malformed ends the search: the kernel made it, and checked it.
pub(super) fn user(mut rules: &[u8], layout: Layout) -> Option<String> {
    while let Some((target_at, next)) = offsets(rules, layout) {
        let rule = rules.get(..next)?;
        let mut matches = rule.get(layout.matches..target_at)?;
        while let Some(extension) = Extension::read(matches) {
            if users::xt_match(extension.name) {
                return Some(format!("match {}", extension.name));
            }
            matches = extension.rest;
        }
        let target = Extension::read(rule.get(target_at..)?)?;
        if users::xt_target(target.name, target.info) {
            return Some(format!("target {}", target.name));
        }
        rules = rules.get(next..)?;
    }
    None
}

/// Offsets of a rule's target and of the next rule.
fn offsets(rule: &[u8], layout: Layout) -> Option<(usize, usize)> {
    let [t0, t1, n0, n1] = *rule.get(layout.offsets..)?.first_chunk()?;
    let target = u16::from_ne_bytes([t0, t1]) as usize;
    let next = u16::from_ne_bytes([n0, n1]) as usize;
    (target >= layout.matches && next > target).then_some((target, next))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(name: &str, info: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_LEN];
        bytes[..2].copy_from_slice(&((HEAD_LEN + info.len()) as u16).to_ne_bytes());
        bytes[2..2 + name.len()].copy_from_slice(name.as_bytes());
        bytes.extend(info);
        bytes
    }

    fn rule(layout: Layout, matches: &[Vec<u8>], target: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; layout.matches];
        let matches = matches.concat();
        let target_at = layout.matches + matches.len();
        let next = target_at + target.len();
        bytes[layout.offsets..][..2].copy_from_slice(&(target_at as u16).to_ne_bytes());
        bytes[layout.offsets + 2..][..2].copy_from_slice(&(next as u16).to_ne_bytes());
        bytes.extend(matches);
        bytes.extend(target);
        bytes
    }

    #[test]
    fn users_are_found_in_every_rule_and_behind_every_match() {
        let accept = extension("", &[0; 8]);
        for layout in [Layout::V4, Layout::V6] {
            let plain = rule(layout, &[extension("tcp", &[0; 16])], &accept);
            assert_eq!(user(&plain, layout), None);
            let behind = [extension("tcp", &[0; 16]), extension("conntrack", &[0; 168])];
            let second = [plain.clone(), rule(layout, &behind, &accept)].concat();
            assert_eq!(user(&second, layout).as_deref(), Some("match conntrack"));
            let nat = [plain, rule(layout, &[], &extension("MASQUERADE", &[0; 24]))].concat();
            assert_eq!(user(&nat, layout).as_deref(), Some("target MASQUERADE"));
        }
    }

    #[test]
    fn skipping_tracking_is_no_use_of_it() {
        let notrack = rule(Layout::V4, &[], &extension("CT", &[1, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(user(&notrack, Layout::V4), None);
        let zone = rule(Layout::V4, &[], &extension("CT", &[0, 0, 3, 0, 0, 0, 0, 0]));
        assert_eq!(user(&zone, Layout::V4).as_deref(), Some("target CT"));
    }

    #[test]
    fn no_truncation_and_no_flipped_bit_panics_or_hangs() {
        let matches = [extension("tcp", &[0; 16]), extension("comment", &[0; 256])];
        let target = extension("LOG", &[0; 40]);
        let bytes = [rule(Layout::V4, &matches, &target), rule(Layout::V4, &[], &target)].concat();
        for end in 0..bytes.len() {
            let _ = user(&bytes[..end], Layout::V4);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = user(&flipped, Layout::V4);
        }
    }
}
