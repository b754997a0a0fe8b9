use notrack_core::host::Carried;
use notrack_core::net::{PortRange, Proto};

use super::*;
use crate::xtables::{Entries, RETURN, Table, sample};

const BOTH: [Layout; 2] = [Layout::V4, Layout::V6];

fn verdict(layout: Layout, comment: &str, verdict: i32) -> Vec<u8> {
    let comment = (!comment.is_empty()).then(|| extension(&xt::comment(comment)));
    sample::rule(layout, comment.as_slice(), &sample::jump(verdict))
}

fn head(layout: Layout, name: &str) -> Vec<u8> {
    sample::rule(layout, &[], &sample::head_of(name))
}

/// Input with three rules (the second without a target, the third a jump), an empty forward chain, a chain of a user's
/// with one rule. Their places: 0 to 2 and 3 the policy, 4, 5 the head, 6 and 7 the return, 8 the end.
fn table(layout: Layout) -> Image {
    let lens: Vec<usize> = build(layout, &[0; 9]).iter().map(Vec::len).collect();
    let at: Vec<usize> = (0..9).map(|place| lens[..place].iter().sum()).collect();
    let bytes = build(layout, &at).concat();
    let points = |first: usize, policy: usize| Some((at[first] as u32, at[policy] as u32));
    Image { layout, hooks: [None, points(0, 3), points(4, 4), None, None], bytes }
}

fn build(layout: Layout, at: &[usize]) -> Vec<Vec<u8>> {
    vec![
        verdict(layout, "first", ACCEPT),
        verdict(layout, "falls", at[2] as i32),
        verdict(layout, "jumps", at[6] as i32),
        verdict(layout, "", -1),
        verdict(layout, "", ACCEPT),
        head(layout, "USER"),
        verdict(layout, "user", ACCEPT),
        verdict(layout, "", RETURN),
        head(layout, "ERROR"),
    ]
}

fn apply(image: &Image, insert: &[(usize, &str)], remove: &[usize]) -> (Image, Vec<Option<usize>>) {
    let mut changes = Changes { remove: remove.iter().copied().collect(), ..Changes::default() };
    for (place, comment) in insert {
        changes.insert.entry(*place).or_default().push(verdict(image.layout, comment, ACCEPT));
    }
    let old = rules(image);
    let new = rewrite(image, &old, &changes).unwrap();
    assert_eq!((new.old_rules, new.origins.len()), (old.len(), rules(&new.image).len()));
    (new.image, new.origins)
}

fn rules(image: &Image) -> Vec<Entry<'_>> {
    Entries::new(&image.bytes, image.layout).collect()
}

/// What a rule that jumps, a hook or a policy leads to, by comment.
fn leads(image: &Image, at: u32) -> String {
    let all = rules(image);
    let index = all.iter().position(|rule| rule.offset == at as usize).unwrap();
    comment(&all[index]).map_or_else(|| format!("#{index}"), str::to_owned)
}

fn jump_of(image: &Image, of: &str) -> String {
    let rule = rules(image).into_iter().find(|rule| comment(rule) == Some(of)).unwrap();
    leads(image, jump(&rule).unwrap().1)
}

fn chains(image: &Image) -> Vec<(String, Vec<String>)> {
    let Table { rules, chains } = image.table().unwrap();
    let comment = |rule| comment(rule).unwrap().to_owned();
    chains.iter().map(|c| (c.name.to_owned(), rules[c.rules.clone()].iter().map(comment).collect())).collect()
}

fn chain(name: &str, rules: &[&str]) -> (String, Vec<String>) {
    (name.to_owned(), rules.iter().map(ToString::to_string).collect())
}

#[test]
fn chains_are_found_with_their_rules() {
    for layout in BOTH {
        let all =
            [chain("INPUT", &["first", "falls", "jumps"]), chain("FORWARD", &[]), chain("USER", &["user"])];
        assert_eq!(chains(&table(layout)), all);
    }
}

#[test]
fn nothing_to_do_is_the_same_table() {
    for layout in BOTH {
        let image = table(layout);
        let (new, origins) = apply(&image, &[], &[]);
        assert_eq!(new, image);
        assert!(origins.iter().enumerate().all(|(place, origin)| *origin == Some(place)));
    }
}

#[test]
fn a_new_first_rule_is_where_hooks_and_jumps_lead() {
    for layout in BOTH {
        let (new, origins) = apply(&table(layout), &[(0, "a"), (0, "b"), (4, "c"), (6, "d")], &[]);
        let all = [
            chain("INPUT", &["a", "b", "first", "falls", "jumps"]),
            chain("FORWARD", &["c"]),
            chain("USER", &["d", "user"]),
        ];
        assert_eq!(chains(&new), all);
        assert_eq!(leads(&new, new.hooks[1].unwrap().0), "a");
        assert_eq!(leads(&new, new.hooks[2].unwrap().0), "c");
        assert_eq!(jump_of(&new, "jumps"), "d");
        assert_eq!(jump_of(&new, "falls"), "jumps");
        assert_eq!(leads(&new, new.hooks[1].unwrap().1), "#5", "the policy of five rules");
        assert_eq!(leads(&new, new.hooks[2].unwrap().1), "#7");
        assert_eq!(new.hooks[0], None);
        assert_eq!(origins[..4], [None, None, Some(0), Some(1)]);
    }
}

#[test]
fn a_rule_without_a_target_falls_through_to_the_new_one() {
    for layout in BOTH {
        let (new, _) = apply(&table(layout), &[(2, "between"), (3, "last"), (7, "end")], &[]);
        let all = [
            chain("INPUT", &["first", "falls", "between", "jumps", "last"]),
            chain("FORWARD", &[]),
            chain("USER", &["user", "end"]),
        ];
        assert_eq!(chains(&new), all);
        assert_eq!(jump_of(&new, "falls"), "between");
        assert_eq!(jump_of(&new, "jumps"), "user");
    }
}

#[test]
fn removal_undoes_insertion_and_leads_on() {
    for layout in BOTH {
        let image = table(layout);
        let (new, _) = apply(&image, &[(0, "a"), (2, "b"), (4, "c"), (6, "d")], &[]);
        let all = rules(&new);
        let is_ours = |index: &usize| comment(&all[*index]).is_some_and(|comment| comment.len() == 1);
        let ours: Vec<usize> = (0..all.len()).filter(is_ours).collect();
        assert_eq!(ours.len(), 4);
        assert_eq!(apply(&new, &[], &ours).0, image);

        // In one step: a rule goes in before one that goes out.
        let (swapped, origins) = apply(&image, &[(2, "new")], &[0, 2]);
        assert_eq!(chains(&swapped)[0], chain("INPUT", &["falls", "new"]));
        assert_eq!(jump_of(&swapped, "falls"), "new");
        assert_eq!(leads(&swapped, swapped.hooks[1].unwrap().0), "falls");
        assert_eq!(origins[..3], [Some(1), None, Some(3)]);
    }
}

#[test]
fn a_rule_of_ours_can_be_read_again() {
    for (layout, family) in [(Layout::V4, Family::Ipv4), (Layout::V6, Family::Ipv6)] {
        for proto in Proto::ALL {
            let packets = Untracked {
                carried: Carried::Transport(proto),
                sources: AddressRange::all(family),
                source_ports: PortRange::ALL,
                destinations: AddressRange::all(family),
                destination_ports: PortRange::one(443),
                in_interface: Some("eth*".to_owned()),
                out_interface: Some("eth0".to_owned()),
                opens: None,
            };
            let bytes = rule(layout, &packets, "notrack-dev:p:0");
            assert_eq!(bytes.len() % 8, 0);
            let comments: Vec<_> = Entries::new(&bytes, layout).map(|rule| comment(&rule)).collect();
            assert_eq!(comments, [Some("notrack-dev:p:0")]);
            let names = &bytes[layout.interfaces..][..4 * IFNAMSIZ];
            assert!(names.starts_with(b"eth\0") && names[IFNAMSIZ..].starts_with(b"eth0\0"));
            let masks: usize = names[2 * IFNAMSIZ..].iter().map(|byte| usize::from(*byte == 0xff)).sum();
            assert_eq!(masks, "eth".len() + "eth0\0".len());
        }
    }
}

#[test]
fn what_leads_nowhere_is_refused() {
    let image = table(Layout::V4);
    let refuses = |image: &Image| rewrite(image, &rules(image), &Changes::default()).is_err();
    assert!(!refuses(&image));
    assert!(refuses(&Image { hooks: [Some((8, 8)); 5], ..image.clone() }));
    let mut odd = image.clone();
    let jumps = rules(&image)[2];
    odd.bytes[jumps.offset + jump(&jumps).unwrap().0] += 1;
    assert!(refuses(&odd));
    assert!(Image { bytes: Vec::new(), ..image }.table().is_err());
}

#[test]
fn no_truncation_and_no_flipped_bit_panics_or_hangs() {
    for layout in BOTH {
        let image = table(layout);
        let changes = Changes { insert: [(1, vec![vec![0; 8]])].into(), remove: [2].into() };
        let exercise = |bytes: Vec<u8>| {
            let odd = Image { bytes, ..image.clone() };
            let _ = odd.table();
            let _ = rewrite(&odd, &rules(&odd), &changes);
            assert!(rules(&odd).iter().filter_map(comment).count() <= 4);
        };
        for end in 0..image.bytes.len() {
            assert!(Image { bytes: image.bytes[..end].to_vec(), ..image.clone() }.table().is_err());
            exercise(image.bytes[..end].to_vec());
        }
        for bit in 0..image.bytes.len() * 8 {
            let mut flipped = image.bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            exercise(flipped);
        }
    }
}
