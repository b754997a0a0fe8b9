use super::*;
use crate::xtables::sample::{self, head_of, jump};
use crate::xtables::{Iptables, Layout};

/// A filter table: INPUT with a jump and a rule without a target, a chain `user` with a drop.
fn filter(layout: Layout) -> Image {
    let tcp = [sample::extension("tcp", &[0; 12])];
    let rule = |target: &[u8]| sample::rule(layout, &[], target);
    let with_tcp = |verdict| sample::rule(layout, &tcp, &jump(verdict));
    let len = |bytes: &[u8]| bytes.len() as i32;
    let (first, head) = (with_tcp(0), rule(&head_of("user")));
    let plain = rule(&jump(0));
    let user_at = len(&first) + 2 * len(&plain) + len(&head);
    let policy_at = len(&first) + len(&plain);
    let bytes = [
        with_tcp(user_at),
        rule(&jump(policy_at)),
        rule(&jump(DROP)),
        head,
        rule(&jump(DROP)),
        rule(&jump(RETURN)),
        rule(&head_of("ERROR")),
    ];
    let mut hooks = [None; 5];
    hooks[1] = Some((0, policy_at as u32));
    Image { layout, hooks, bytes: bytes.concat() }
}

fn read_table(iptables: &Iptables, rules: &Image) -> Option<HostTable> {
    table(iptables.id("filter"), rules, &mut IpSets::default())
}

#[test]
fn chains_policies_and_jumps_are_found_by_their_offsets() {
    for iptables in &BOTH {
        let rules = filter(iptables.layout);
        let table = read_table(iptables, &rules).unwrap();
        assert_eq!(table.chains.keys().collect::<Vec<_>>(), ["INPUT", "user"]);
        let input = &table.chains["INPUT"];
        let base = input.base.unwrap();
        assert_eq!((base.hook, base.priority, base.drops), (HostHook::Input, 0, true));
        assert_eq!(input.rules.iter().map(|rule| rule.handle).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(input.rules[0].steps.last(), Some(&Step::Verdict(HostVerdict::Jump("user".to_owned()))));
        assert_eq!(input.rules[1].steps, [], "a rule without a target goes on");
        let user = &table.chains["user"];
        assert_eq!((user.base, user.rules.len()), (None, 1));
        assert_eq!(user.rules[0].text, "-j DROP");
    }
}

#[test]
fn counters_do_not_change_the_digest_and_everything_else_does() {
    let digest = |rules: &Image| {
        let mut digest = DefaultHasher::new();
        digest_rules(rules, &mut digest);
        digest.finish()
    };
    for layout in [Layout::V4, Layout::V6] {
        let rules = filter(layout);
        let counters = layout.counters();
        for byte in 0..counters.end {
            let mut other = rules.clone();
            // Where the next rule lies: what then follows is no rule.
            other.bytes[byte] ^= 1;
            let same = digest(&rules) == digest(&other);
            assert_eq!(same, counters.contains(&byte), "byte {byte}");
        }
    }
}

#[test]
fn no_truncation_and_no_flipped_bit_panics_or_hangs() {
    let iptables = &BOTH[0];
    let rules = filter(iptables.layout);
    for end in 0..rules.bytes.len() {
        let cut = Image { bytes: rules.bytes[..end].to_vec(), ..rules.clone() };
        assert_eq!(read_table(iptables, &cut), None, "{end} bytes");
    }
    for bit in 0..rules.bytes.len() * 8 {
        let mut flipped = rules.clone();
        flipped.bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = read_table(iptables, &flipped);
    }
}
