//! Files that are too large, made to hurt, or damaged.

// clippy exempts tests, but not the functions that they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;

use notrack_core::manifest::{MAX_BYTES, parse};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

const POLICY: &str = include_str!("../../../tests/manifests/accepted/minimal.yaml");

/// The accepted files that are small enough for damage to hit something.
fn small_files() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/manifests/accepted");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    // The order of a folder is that of the file system; the test's choices must not be.
    files.sort();
    files.retain(|text| text.len() < 5000);
    files
}

#[test]
fn size_is_bounded() {
    let filled = |bytes: usize| format!("{POLICY}#{}", "x".repeat(bytes - POLICY.len() - 1));
    assert_eq!(parse("f", &filled(MAX_BYTES)).diagnostics, []);
    let parsed = parse("f", &filled(MAX_BYTES + 1));
    assert_eq!(parsed.diagnostics.len(), 1);
    assert_eq!(parsed.diagnostics[0].message, "larger than 1048576 bytes");
    assert!(parsed.manifests.is_empty());
}

/// Nobody reads ten thousand problems.
#[test]
fn the_list_of_problems_ends() {
    let fields: String = (0..10_000).map(|n| format!("  field{n}: 1\n")).collect();
    let parsed = parse("f", &format!("{POLICY}{fields}"));
    assert_eq!(parsed.diagnostics.len(), 201);
    assert_eq!(parsed.diagnostics[200].message, "and 9800 more problems, not listed");
    assert!(parsed.has_errors());
    assert!(parsed.manifests.is_empty());
}

/// As large as a file may be, and made to take the most time or memory. It is the test's own end that proves it.
#[test]
fn hostile_files_end() {
    for unit in [
        "[",
        "{",
        "- ",
        "? ",
        "&a ",
        "*a ",
        "!a ",
        "a: ",
        "\"",
        "'",
        "|\n",
        "---\n",
        "---\n}\n",
        "---\n\"\n",
        "...\n",
        "%A\n",
        "\t",
        "\r",
        "#\n",
        "a: b\n",
        "- - a\n",
        "[],",
        "a: [\n",
        "{a: ",
        "&a [",
        "- &a b\n- *a\n",
        "<<: a\n",
        "\u{feff}",
        "é: \n",
        "\0",
        "`",
        "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\n---\n",
    ] {
        let parsed = parse("f", &unit.repeat(MAX_BYTES / unit.len()));
        assert!(parsed.manifests.is_empty(), "{unit:?}");
        assert!(parsed.diagnostics.len() <= 201, "{unit:?}");
    }
}

/// Accepted files, damaged: never a panic, every place within the text, and what still passes is a policy as good as
/// any other.
#[test]
fn damaged_files_are_read_or_refused() {
    let damage = prop::sample::select(vec![
        "",
        " ",
        "  ",
        "\n",
        "\t",
        "-",
        "- ",
        ":",
        ": ",
        ",",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "#",
        "&a ",
        "*a",
        "!",
        "|",
        ">",
        "%",
        "?",
        "~",
        "0",
        "-1",
        "99999",
        "1e9",
        "yes",
        "null",
        "é",
        "\u{202e}",
        "\0",
        "\u{1b}[2J",
        "---\n",
        "...",
        "/33",
        "::",
        "x: y\n",
    ]);
    let strategy = (
        prop::sample::select(small_files()),
        prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, damage), 1..4),
    );
    let mut accepted = 0;
    let mut runner = TestRunner::deterministic();
    for _ in 0..2000 {
        let (mut text, damages) = strategy.new_tree(&mut runner).unwrap().current();
        for (at, remove, insert) in damages {
            let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let start = at.index(boundaries.len());
            let end = boundaries[(start + remove).min(boundaries.len() - 1)];
            text.replace_range(boundaries[start]..end, insert);
        }
        let parsed = parse("f", &text);
        for d in &parsed.diagnostics {
            assert!(text.get(d.span.offset..d.span.offset + d.span.len).is_some(), "{d:?} in\n{text}");
            assert!(d.line >= 1 && d.column >= 1 && d.line <= text.split('\n').count(), "{d:?} in\n{text}");
            assert!(d.to_string().chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{d:?}");
        }
        for manifest in &parsed.manifests {
            accepted += 1;
            let json = serde_json::to_string(&manifest.policy).unwrap();
            assert_eq!(parse("f", &json).diagnostics, [], "{json}");
        }
    }
    assert!(accepted > 100, "{accepted}: so much damage that nothing is tried");
}
