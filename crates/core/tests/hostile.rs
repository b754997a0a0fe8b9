//! Policy files that are made to hurt: each gives a clear error or a correct plan, which `expected.txt` beside them
//! has, and so does anything that a fixed number of mutations makes of them, in bounded time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod wellformed;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};

use notrack_core::compile::compile;
use notrack_core::facts::{NodeFacts, Tracked};
use notrack_core::index::Index;
use notrack_core::manifest::{Severity, parse};
use notrack_core::net::PortRange;
use notrack_core::policy::validate;
use notrack_core::rules::{Rendered, render};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use wellformed::is_well_formed;

/// How many mutated files a run tries.
const MUTATIONS: u64 = 3000;

/// The first seed; `NOTRACK_FUZZ_SEED` takes another.
const SEED: u64 = 1;

/// No file may take longer, in a debug build on a busy machine. The slowest take some hundred milliseconds.
const LONGEST: Duration = Duration::from_secs(20);

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/manifests").join(name)
}

/// The files of a folder by name, sorted.
fn files(name: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let manifests = entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    manifests
        .map(|path| {
            (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// What became of a file.
enum Outcome {
    Refused(String),
    Planned { policies: usize, rendered: Rendered },
}

/// The whole way from bytes to a table. Whatever the file, the error says something, and the table is one.
fn run(bytes: &[u8], facts: &NodeFacts) -> Outcome {
    let text = String::from_utf8_lossy(bytes);
    let started = Instant::now();
    let parsed = parse("f", &text);
    for diagnostic in &parsed.diagnostics {
        let shown = diagnostic.to_string();
        assert!(shown.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{shown:?}");
        assert!(!diagnostic.message.is_empty() && shown.len() < 2000, "{shown:?}");
    }
    if let Some(first) = parsed.diagnostics.iter().find(|found| found.severity == Severity::Error) {
        return Outcome::Refused(format!("line {}: {}: {}", first.line, first.path, first.message));
    }
    let mut index = Index::default();
    for manifest in &parsed.manifests {
        match validate(&manifest.policy) {
            Ok(policy) => {
                index.apply(policy);
            }
            Err(problems) => return Outcome::Refused(problems[0].to_string()),
        }
    }
    let rule_set = compile(&index, &facts.labels, 0);
    let outcome = match render(&rule_set, facts, None) {
        Ok(rendered) => {
            if let Err(problem) = is_well_formed(&rendered.table) {
                panic!("{problem}\n{}", rendered.table);
            }
            let known: BTreeSet<&str> =
                rule_set.policies().iter().map(|policy| policy.name.as_str()).collect();
            assert!(rendered.programmed.iter().all(|name| known.contains(name.as_str())));
            Outcome::Planned { policies: known.len(), rendered }
        }
        Err(error) => Outcome::Refused(error.to_string()),
    };
    assert!(started.elapsed() < LONGEST, "took {:?}", started.elapsed());
    outcome
}

/// One line for the file of expectations.
fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused(error) => format!("refused: {error}"),
        Outcome::Planned { policies, rendered } => {
            let elements: usize = rendered.table.sets.values().map(|set| set.elements.len()).sum();
            let found: BTreeSet<String> = rendered
                .findings
                .iter()
                .map(|finding| format!("{:?} {}", finding.effect, finding.cause.name()))
                .collect();
            let found: Vec<String> = found.into_iter().collect();
            let mut text = format!(
                "{policies} policies, {} programmed, {} chains, {elements} elements",
                rendered.programmed.len(),
                rendered.table.chains.len()
            );
            if !found.is_empty() {
                text += &format!("; {}", found.join(", "));
            }
            text
        }
    }
}

#[test]
fn hostile_manifests_have_the_expected_outcome() {
    let files = files("hostile");
    assert!(files.len() >= 150, "{}", files.len());
    let mut found = String::new();
    for (name, text) in files {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(text.as_bytes(), &ordinary())));
        let outcome = outcome.unwrap_or_else(|_| panic!("{name}.yaml ends in a panic"));
        writeln!(found, "{name}: {}", told(&outcome)).unwrap();
    }
    let file = folder("hostile").join("expected.txt");
    if env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        fs::write(&file, &found).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    let differs: Vec<&str> =
        found.lines().filter(|line| !expected.lines().any(|known| known == *line)).collect();
    assert!(
        found == expected,
        "{} differs; found, and not expected:\n{}",
        file.display(),
        differs.join("\n")
    );
}

/// A node with both families, and what no node can do without.
fn ordinary() -> NodeFacts {
    let own: [IpAddr; 2] = [[10, 0, 0, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()];
    let assumed = NodeFacts::assumed();
    NodeFacts { addresses: assumed.addresses.iter().copied().chain(own).collect(), ..assumed }
}

/// The nodes on which what a mutation made is tried.
fn nodes() -> Vec<NodeFacts> {
    let ordinary = ordinary();
    let bare = NodeFacts {
        addresses: BTreeSet::new(),
        ephemeral: Vec::new(),
        protected: Vec::new(),
        tracked: Tracked { ipv4: false, ipv6: false },
        ..ordinary.clone()
    };
    let wide = NodeFacts {
        addresses: (0..40).map(|last| IpAddr::from([10, 0, last, 1])).collect(),
        ephemeral: vec![PortRange::ALL],
        ..ordinary.clone()
    };
    vec![ordinary, bare, wide]
}

/// What hurts where a number, a word or a line was.
const PIECES: [&str; 44] = [
    "0",
    "1",
    "65535",
    "65536",
    "-1",
    "4294967296",
    "1e9",
    "0x10",
    "010",
    ".5",
    "~",
    "null",
    "true",
    "yes",
    "[]",
    "{}",
    "\"\"",
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/32",
    "::ffff:10.0.0.1/128",
    "255.255.255.255/32",
    "Server",
    "Client",
    "Peer",
    "Forward",
    "NoTrack",
    "Track",
    "Adapt",
    "Keep",
    "AnyPeer",
    "drop",
    "table inet x {",
    "\u{202e}",
    "\0",
    "&a [*a]",
    "*a",
    "!!binary x",
    "|",
    ">-",
    "- ",
    ": ",
    "---\n",
    "\t",
];

/// Every word with its line and place.
fn words_of(lines: &[String]) -> Vec<(usize, usize, String)> {
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let mut start = 0;
        for word in line.split_inclusive([' ', ',', '[', ']', '{', '}', '"', '\'']) {
            let bare = word.trim_end_matches([' ', ',', '[', ']', '{', '}', '"', '\'', ':']);
            if !bare.is_empty() {
                found.push((number, start, bare.to_owned()));
            }
            start += word.len();
        }
    }
    found
}

/// Words that could stand where a word stands.
fn kin<'a>(word: &str, others: &[&'a str]) -> Vec<&'a str> {
    const KINDS: [&[&str]; 6] = [
        &["Server", "Client", "Peer", "Forward"],
        &["TCP", "UDP", "SCTP"],
        &["Enforce", "Audit"],
        &["NoTrack", "Track"],
        &["Check", "Adapt"],
        &["Keep", "Evict"],
    ];
    if let Some(kind) = KINDS.into_iter().find(|kind| kind.contains(&word)) {
        return kind.to_vec();
    }
    if word.parse::<u64>().is_ok() {
        let numbers = others.iter().copied().filter(|other| other.parse::<u64>().is_ok());
        return numbers.chain(["0", "1", "65535", "65536"]).collect();
    }
    let is_prefix = |word: &str| word.split_once('/').is_some_and(|(_, length)| length.parse::<u8>().is_ok());
    if is_prefix(word) {
        return others.iter().copied().filter(|other| is_prefix(other)).collect();
    }
    Vec::new()
}

/// Damages a file in one to four places.
fn mutate(text: &str, other: &str, random: &mut TestRng) -> Vec<u8> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut below = |most: usize| (random.next_u64() % most.max(1) as u64) as usize;
    let others: Vec<&str> = other.lines().collect();
    let words: Vec<&str> =
        other.split([' ', ',', '[', ']', '{', '}', '\n']).filter(|word| !word.is_empty()).collect();
    for _ in 0..=below(3) {
        let at = below(lines.len());
        let piece = match below(4) {
            0 => PIECES[below(PIECES.len())],
            _ => words[below(words.len())],
        };
        if lines.is_empty() {
            lines.push(piece.to_owned());
            continue;
        }
        match below(16) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let with = below(lines.len());
                lines.swap(at, with);
            }
            3 => {
                lines.insert(at, (*others.get(below(others.len())).unwrap_or(&"")).to_owned());
            }
            4 => lines[at] = format!("  {}", lines[at]),
            // A word becomes another one, most often one of its kind.
            5..=14 => {
                let all = words_of(&lines);
                let related: Vec<_> =
                    all.iter().filter(|(_, _, word)| !kin(word, &words).is_empty()).collect();
                let (chosen, piece) = if related.is_empty() || below(6) == 0 {
                    (all.get(below(all.len())), piece)
                } else {
                    let one = related[below(related.len())];
                    let kin = kin(&one.2, &words);
                    (Some(one), kin[below(kin.len())])
                };
                if let Some((line, start, word)) = chosen {
                    lines[*line].replace_range(*start..start + word.len(), piece);
                }
            }
            _ => {
                // Bytes need not be text.
                let mut bytes = lines.join("\n").into_bytes();
                if !bytes.is_empty() {
                    let place = below(bytes.len());
                    bytes[place] ^= 1 << below(8);
                }
                lines = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
            }
        }
    }
    let mut bytes = lines.join("\n").into_bytes();
    if below(16) == 0 && !bytes.is_empty() {
        let place = below(bytes.len());
        bytes[place] = below(256) as u8;
    }
    bytes
}

#[test]
fn mutated_manifests_give_an_error_or_a_plan() {
    let seed = env::var("NOTRACK_FUZZ_SEED").ok().map_or(SEED, |seed| seed.parse().unwrap());
    let mut corpus: Vec<String> =
        files("hostile").into_values().chain(files("accepted").into_values()).collect();
    // The largest have their outcome above; three thousand of them would take minutes.
    corpus.retain(|text| text.len() < 4000);
    let sound: Vec<String> = corpus
        .iter()
        .filter(|text| matches!(run(text.as_bytes(), &ordinary()), Outcome::Planned { .. }))
        .cloned()
        .collect();
    let nodes = nodes();
    let (mut planned, mut refused) = (0, 0);
    for case in 0..MUTATIONS {
        let mut material = [0; 32];
        material[..8].copy_from_slice(&seed.to_le_bytes());
        material[8..16].copy_from_slice(&case.to_le_bytes());
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &material);
        let mut choose = |from: &[String]| from[(random.next_u64() % from.len() as u64) as usize].clone();
        let (text, other) = (choose(&sound), choose(&corpus));
        let bytes = mutate(&text, &other, &mut random);
        let facts = &nodes[case as usize % nodes.len()];
        match catch_unwind(AssertUnwindSafe(|| run(&bytes, facts))) {
            Ok(Outcome::Refused(_)) => refused += 1,
            Ok(Outcome::Planned { .. }) => planned += 1,
            Err(_) => panic!(
                "NOTRACK_FUZZ_SEED={seed}, case {case}: a panic for\n{}",
                String::from_utf8_lossy(&bytes)
            ),
        }
    }
    assert!(
        planned > 300 && refused > 300,
        "{planned} planned, {refused} refused: one of them is hardly tried"
    );
}
