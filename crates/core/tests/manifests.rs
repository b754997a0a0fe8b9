//! The corpus in tests/manifests: what is accepted means the same to the types, and what is refused is refused for its
//! reason, at its place.

// clippy exempts tests, but not the functions that they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::PathBuf};

use kube::CustomResourceExt;
use notrack_api::NoTrackPolicy;
use notrack_core::manifest::{Diagnostic, MAX_BYTES, Parsed, Severity, parse};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

/// The files of one half of the corpus, by name.
fn corpus(half: &str) -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/manifests")
        .join(half);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

fn errors(parsed: &Parsed) -> Vec<&Diagnostic> {
    parsed
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity == Severity::Error)
        .collect()
}

#[test]
fn accepted_manifests_mean_what_they_say() {
    let files = corpus("accepted");
    assert!(files.len() >= 15, "{}", files.len());
    for (name, text) in files {
        let parsed = parse(&name, &text);
        assert_eq!(parsed.diagnostics, [], "{name}");
        assert!(!parsed.manifests.is_empty(), "{name}");
        for manifest in &parsed.manifests {
            // Written out and read again it is the same, in both of its forms.
            let json = serde_json::to_string_pretty(&manifest.policy).unwrap();
            let typed: NoTrackPolicy = serde_json::from_str(&json).unwrap();
            assert_eq!(typed, manifest.policy, "{name}");
            let again = parse("again.json", &json);
            assert_eq!(again.diagnostics, [], "{name}: {json}");
            assert_eq!(again.manifests[0].policy, manifest.policy, "{name}");
        }
    }
}

#[test]
fn refused_manifests_say_why_and_where() {
    let files = corpus("refused");
    assert!(files.len() >= 45, "{}", files.len());
    let surprises: Vec<String> = files
        .iter()
        .filter_map(|(name, text)| surprise(name, text))
        .collect();
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

/// Compares a file's errors with its first lines (`# expect: <path>: <part of the message>`, `-` for no path) and with
/// the lines that are marked `# here`.
fn surprise(name: &str, text: &str) -> Option<String> {
    let parsed = parse(name, text);
    let found = errors(&parsed);
    let mut expected: Vec<(&str, &str)> = text
        .lines()
        .map_while(|line| line.strip_prefix("# expect: "))
        .map(|expectation| expectation.split_once(": ").unwrap())
        .map(|(path, message)| (if path == "-" { "" } else { path }, message))
        .collect();
    let count = expected.len();
    expected.retain(|(path, message)| {
        !found
            .iter()
            .any(|d| d.path == *path && d.message.contains(message))
    });

    let marked: Vec<usize> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.contains("# here"))
        .map(|(n, _)| n)
        .collect();
    let mut lines: Vec<usize> = found.iter().map(|d| d.line).collect();
    lines.dedup();
    let in_text = found.iter().all(|d| {
        text.get(d.span.offset..d.span.offset + d.span.len)
            .is_some()
    });

    let as_expected =
        count > 0 && count == found.len() && expected.is_empty() && lines == marked && in_text;
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    (!as_expected).then(|| {
        format!(
            "{name}: missing {expected:?}, marked {marked:?}\n  {}",
            shown.join("\n  ")
        )
    })
}

/// A rule that no file breaks may as well not be there.
#[test]
fn every_rule_of_the_definition_is_broken_by_some_file() {
    fn messages(schema: &serde_json::Value, into: &mut Vec<String>) {
        for rule in schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            // An expression's literal text: what stands between its single quotes, the longest of it.
            let message = match rule["messageExpression"].as_str() {
                Some(expression) => expression
                    .split('\'')
                    .max_by_key(|part| part.len())
                    .unwrap(),
                None => rule["message"].as_str().unwrap(),
            };
            into.push(message.to_owned());
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                messages(&schema[inner], into);
            }
        }
        schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .for_each(|(_, schema)| messages(schema, into));
    }
    let crd = serde_json::to_value(NoTrackPolicy::crd()).unwrap();
    let mut rules = Vec::new();
    messages(
        &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        &mut rules,
    );
    assert!(rules.len() >= 15, "{}", rules.len());

    let found: Vec<String> = corpus("refused")
        .iter()
        .flat_map(|(name, text)| parse(name, text).diagnostics)
        .map(|diagnostic| diagnostic.message)
        .collect();
    let unbroken: Vec<&String> = rules
        .iter()
        .filter(|rule| !found.iter().any(|m| m.contains(rule.as_str())))
        .collect();
    assert!(unbroken.is_empty(), "{unbroken:?}");
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
    let files: Vec<String> = corpus("accepted")
        .into_iter()
        .map(|(_, text)| text)
        .filter(|text| text.len() < 5000)
        .collect();
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
        prop::sample::select(files),
        prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, damage), 1..4),
    );
    let mut accepted = 0;
    let mut runner = TestRunner::deterministic();
    for _ in 0..2000 {
        let (mut text, damages) = strategy.new_tree(&mut runner).unwrap().current();
        for (at, remove, insert) in damages {
            let boundaries: Vec<usize> = text
                .char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .collect();
            let start = at.index(boundaries.len());
            let end = boundaries[(start + remove).min(boundaries.len() - 1)];
            text.replace_range(boundaries[start]..end, insert);
        }
        let parsed = parse("f", &text);
        for d in &parsed.diagnostics {
            assert!(
                text.get(d.span.offset..d.span.offset + d.span.len)
                    .is_some(),
                "{d:?} in\n{text}"
            );
            assert!(
                d.line >= 1 && d.column >= 1 && d.line <= text.split('\n').count(),
                "{d:?} in\n{text}"
            );
            assert!(
                d.to_string()
                    .chars()
                    .all(|c| c == ' ' || c.is_ascii_graphic()),
                "{d:?}"
            );
        }
        for manifest in &parsed.manifests {
            accepted += 1;
            let json = serde_json::to_string(&manifest.policy).unwrap();
            assert_eq!(parse("f", &json).diagnostics, [], "{json}");
        }
    }
    assert!(
        accepted > 100,
        "{accepted}: so much damage that nothing is tried"
    );
}
