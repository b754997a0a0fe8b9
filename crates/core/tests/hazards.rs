//! docs/hazards.md has every hazard: its table is that of the code, and each has a section.

// clippy exempts tests, but not the functions that they call.
#![allow(clippy::unwrap_used)]

use std::{fs, process::Command};

use notrack_core::hazard::HazardKind;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/hazards.md");

/// What `notrack-hazards --check` says of a file, if anything.
fn check(file: &str) -> Option<String> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_notrack-hazards")).args(["--check", file]).output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_committed_table_does_not_drift() {
    assert_eq!(check(FILE), None);
}

#[test]
fn drift_is_noticed() {
    let folder = std::env::temp_dir().join(format!("notrack-hazards-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let file = folder.join("hazards.md");
    let file = file.to_str().unwrap();
    let committed = fs::read_to_string(FILE).unwrap();
    fs::write(file, committed.replace("| Protected |", "| Guarded |")).unwrap();
    let drifted = check(file);
    fs::write(file, committed.replace("<!-- end -->", "")).unwrap();
    let unmarked = check(file);
    fs::remove_dir_all(folder).unwrap();
    assert!(drifted.unwrap().contains("make generate"));
    assert!(unmarked.unwrap().contains("has no line <!-- hazards: generated -->"));
}

/// In the order of the numbers, with a remedy each.
#[test]
fn every_hazard_has_a_section() {
    let text = fs::read_to_string(FILE).unwrap();
    let sections: Vec<(&str, &str)> =
        text.split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap()).collect();
    let headings: Vec<&str> = sections.iter().map(|(heading, _)| *heading).collect();
    let expected: Vec<String> = HazardKind::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(headings, expected);
    let silent: Vec<&str> = sections
        .iter()
        .filter(|(_, body)| !body.contains("*Remedy:*"))
        .map(|(heading, _)| *heading)
        .collect();
    assert_eq!(silent, Vec::<&str>::new());
}
