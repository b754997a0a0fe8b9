//! The first user of tracking among rules.

use crate::tracking::users;
use crate::xtables::{Entries, Layout};

/// The first user of tracking. What is malformed ends the search: the kernel made it, and checked it.
pub(super) fn user(rules: &[u8], layout: Layout) -> Option<String> {
    for rule in Entries::new(rules, layout) {
        for extension in rule.matches() {
            if users::xt_match(extension.name) {
                return Some(format!("match {}", extension.name));
            }
        }
        let target = rule.target()?;
        if users::xt_target(target.name, target.info) {
            return Some(format!("target {}", target.name));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xtables::Layout;
    use crate::xtables::sample::{extension, rule};

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
