use notrack_core::net::{PortRange, Proto};

use super::*;

const BOTH: [Layout; 2] = [Layout::V4, Layout::V6];
/// `XT_RETURN`
const RETURN: i32 = -5;

fn rule(layout: Layout, matches: &[Match], name: &'static str, info: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![0; layout.matches];
    matches.iter().for_each(|part| bytes.extend(extension(part)));
    let target_at = bytes.len() as u16;
    bytes.extend(extension(&Match { name, revision: 0, info }));
    let next = bytes.len() as u16;
    bytes[layout.offsets..][..2].copy_from_slice(&target_at.to_ne_bytes());
    bytes[layout.offsets + 2..][..2].copy_from_slice(&next.to_ne_bytes());
    bytes
}

fn verdict(layout: Layout, comment: &str, verdict: i32) -> Vec<u8> {
    let matches: Vec<Match> = (!comment.is_empty()).then(|| xt::comment(comment)).into_iter().collect();
    rule(layout, &matches, "", [verdict.to_ne_bytes(), [0; 4]].concat())
}

fn head(layout: Layout, name: &str) -> Vec<u8> {
    let mut info = name.as_bytes().to_vec();
    info.resize(32, 0);
    rule(layout, &[], ERROR, info)
}

/// Input with three rules (the second without a target, the third a jump), an empty forward chain, a chain of a user's
/// with one rule. Their places: 0 to 2 and 3 the policy, 4, 5 the head, 6 and 7 the return, 8 the end.
fn table(layout: Layout) -> Image {
    let lens: Vec<usize> = build(layout, &[0; 9]).iter().map(Vec::len).collect();
    let at: Vec<usize> = (0..9).map(|place| lens[..place].iter().sum()).collect();
    let bytes = build(layout, &at).concat();
    let point = |input: usize, forward: usize| [u32::MAX, at[input] as u32, at[forward] as u32, 7, 7];
    Image::new(layout, 0b110, point(0, 4), point(3, 4), bytes)
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
        head(layout, ERROR),
    ]
}

fn apply(image: &Image, insert: &[(usize, &str)], remove: &[usize]) -> (Image, Vec<Option<usize>>) {
    let mut by_place: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for (place, comment) in insert {
        by_place.entry(*place).or_default().push(verdict(image.layout, comment, ACCEPT));
    }
    let new = image.rewrite(&by_place, &remove.iter().copied().collect()).unwrap();
    let Replacement { hook_entry, underflow, bytes, origins } = new;
    let new = Image::new(image.layout, image.valid_hooks, hook_entry, underflow, bytes);
    assert_eq!(new.len(), origins.len());
    (new, origins)
}

/// What a rule that jumps, a hook or a policy leads to, by comment.
fn leads(image: &Image, at: u32) -> String {
    let index = image.rules.iter().position(|rule| rule.start == at as usize).unwrap();
    image.comment(index).map_or_else(|| format!("#{index}"), str::to_owned)
}

fn jump_of(image: &Image, comment: &str) -> String {
    let index = (0..image.len()).find(|index| image.comment(*index) == Some(comment)).unwrap();
    leads(image, image.jump(index).unwrap().1)
}

fn chains(image: &Image) -> Vec<(String, Vec<String>)> {
    let rules = |range: Range<usize>| range.map(|index| image.comment(index).unwrap().to_owned()).collect();
    image.chains().unwrap().into_iter().map(|(name, range)| (name, rules(range))).collect()
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
        assert_eq!(leads(&new, new.hook_entry[1]), "a");
        assert_eq!(leads(&new, new.hook_entry[2]), "c");
        assert_eq!(jump_of(&new, "jumps"), "d");
        assert_eq!(jump_of(&new, "falls"), "jumps");
        assert_eq!(leads(&new, new.underflow[1]), "#5", "the policy of five rules");
        assert_eq!(leads(&new, new.underflow[2]), "#7");
        assert_eq!(new.hook_entry[0], u32::MAX, "no hook, no change");
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
        let ours: Vec<usize> = (0..new.len())
            .filter(|index| new.comment(*index).is_some_and(|comment| comment.len() == 1))
            .collect();
        assert_eq!(ours.len(), 4);
        assert_eq!(apply(&new, &[], &ours).0, image);

        // In one step: a rule goes in before one that goes out.
        let (swapped, origins) = apply(&image, &[(2, "new")], &[0, 2]);
        assert_eq!(chains(&swapped)[0], chain("INPUT", &["falls", "new"]));
        assert_eq!(jump_of(&swapped, "falls"), "new");
        assert_eq!(leads(&swapped, swapped.hook_entry[1]), "falls");
        assert_eq!(origins[..3], [Some(1), None, Some(3)]);
    }
}

#[test]
fn a_rule_of_ours_can_be_read_again() {
    for (layout, family) in [(Layout::V4, Family::Ipv4), (Layout::V6, Family::Ipv6)] {
        for proto in Proto::ALL {
            let packets = Untracked {
                proto,
                sources: AddressRange::all(family),
                source_ports: PortRange::ALL,
                destinations: AddressRange::all(family),
                destination_ports: PortRange::one(443),
                in_interface: Some("eth*".to_owned()),
                out_interface: Some("eth0".to_owned()),
                opens: None,
            };
            let bytes = layout.rule(&packets, "notrack-dev:p:0");
            assert_eq!(bytes.len() % 8, 0);
            let image = Image::new(layout, 0, [0; HOOKS], [0; HOOKS], bytes.clone());
            assert_eq!((image.len(), image.comment(0)), (1, Some("notrack-dev:p:0")));
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
    let odd = Image { hook_entry: [8; HOOKS], ..image.clone() };
    assert!(odd.rewrite(&BTreeMap::new(), &BTreeSet::new()).is_err());
    let mut bytes = image.bytes.clone();
    let (at, _) = image.jump(2).unwrap();
    bytes[image.rules[2].start + at] += 1;
    let odd = Image::new(Layout::V4, 0b110, image.hook_entry, image.underflow, bytes);
    assert!(odd.rewrite(&BTreeMap::new(), &BTreeSet::new()).is_err());
    assert!(Image::new(Layout::V4, 0, [0; HOOKS], [0; HOOKS], Vec::new()).chains().is_err());
}

#[test]
fn no_truncation_and_no_flipped_bit_panics_or_hangs() {
    for layout in BOTH {
        let image = table(layout);
        let exercise = |bytes: Vec<u8>| {
            let odd = Image::new(layout, 0b110, image.hook_entry, image.underflow, bytes);
            let _ = odd.chains();
            let _ = odd.rewrite(&BTreeMap::from([(1, vec![vec![0; 8]])]), &BTreeSet::from([2]));
            assert!((0..odd.len()).filter_map(|index| odd.comment(index)).count() <= 4);
        };
        for end in 0..image.bytes.len() {
            assert!(Image::new(layout, 0, [0; 5], [0; 5], image.bytes[..end].to_vec()).chains().is_err());
            exercise(image.bytes[..end].to_vec());
        }
        for bit in 0..image.bytes.len() * 8 {
            let mut flipped = image.bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            exercise(flipped);
        }
    }
}
