//! The corpus in tests/manifests: what is accepted means the same to the types, and what is refused is refused for its
//! reason, at its place. A file is refused by the definition, or where that lets it pass, by [`validate`].

// clippy exempts tests, but not the functions that they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::PathBuf};

use kube::CustomResourceExt;
use notrack_api::NoTrackPolicy;
use notrack_core::manifest::{Diagnostic, Parsed, Severity, parse};
use notrack_core::policy::{Invalid, validate};

/// The files of one half of the corpus, by name.
fn corpus(half: &str) -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/manifests").join(half);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn errors(parsed: &Parsed) -> Vec<Diagnostic> {
    let is_error = |diagnostic: &&Diagnostic| diagnostic.severity == Severity::Error;
    let mut errors: Vec<Diagnostic> = parsed.diagnostics.iter().filter(is_error).cloned().collect();
    for manifest in &parsed.manifests {
        for Invalid { path, message } in validate(&manifest.policy).err().into_iter().flatten() {
            errors.push(manifest.diagnostic(Severity::Error, &path, message, None));
        }
    }
    errors
}

#[test]
fn accepted_manifests_mean_what_they_say() {
    let files = corpus("accepted");
    assert!(files.len() >= 15, "{}", files.len());
    for (name, text) in files {
        let parsed = parse(&name, &text);
        assert_eq!(parsed.diagnostics, [], "{name}");
        assert!(!parsed.manifests.is_empty(), "{name}");
        assert_eq!(errors(&parsed), [], "{name}");
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
    let surprises: Vec<String> = files.iter().filter_map(|(name, text)| surprise(name, text)).collect();
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
    expected.retain(|(path, message)| !found.iter().any(|d| d.path == *path && d.message.contains(message)));

    let marked: Vec<usize> =
        (1..).zip(text.lines()).filter(|(_, line)| line.contains("# here")).map(|(n, _)| n).collect();
    let mut lines: Vec<usize> = found.iter().map(|d| d.line).collect();
    lines.dedup();
    let in_text = found.iter().all(|d| text.get(d.span.offset..d.span.offset + d.span.len).is_some());

    let as_expected = count > 0 && count == found.len() && expected.is_empty() && lines == marked && in_text;
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    (!as_expected)
        .then(|| format!("{name}: missing {expected:?}, marked {marked:?}\n  {}", shown.join("\n  ")))
}

/// A rule that no file breaks may as well not be there.
#[test]
fn every_rule_of_the_definition_is_broken_by_some_file() {
    fn messages(schema: &serde_json::Value, into: &mut Vec<String>) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            // An expression's literal text: what stands between its single quotes, the longest of it.
            let message = match rule["messageExpression"].as_str() {
                Some(expression) => expression.split('\'').max_by_key(|part| part.len()).unwrap(),
                None => rule["message"].as_str().unwrap(),
            };
            into.push(message.to_owned());
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                messages(&schema[inner], into);
            }
        }
        schema["properties"].as_object().into_iter().flatten().for_each(|(_, schema)| messages(schema, into));
    }
    let crd = serde_json::to_value(NoTrackPolicy::crd()).unwrap();
    let mut rules = Vec::new();
    messages(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut rules);
    assert!(rules.len() >= 15, "{}", rules.len());

    let found: Vec<String> = corpus("refused")
        .iter()
        .flat_map(|(name, text)| parse(name, text).diagnostics)
        .map(|diagnostic| diagnostic.message)
        .collect();
    let unbroken: Vec<&String> =
        rules.iter().filter(|rule| !found.iter().any(|m| m.contains(rule.as_str()))).collect();
    assert!(unbroken.is_empty(), "{unbroken:?}");
}
