//! The demo, as `make demo` plays it. What it says of throughput is noise beside other work and is judged by benches.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use serde_json::Value;

const LINES: [&str; 7] = ["http", "full", "dns", "everyPort", "gateway", "firewall", "service"];
/// Rows of requests and queries a second.
const RATES: [&str; 2] = ["requests", "queries"];

#[test]
fn every_line_holds() {
    let output = Command::new(env!("CARGO_BIN_EXE_notrack-demo")).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let lines = report["lines"].as_array().unwrap();
    let names: Vec<&str> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names, LINES);
    for line in lines {
        let rows = line["rows"].as_array().unwrap();
        let promised: Vec<&Value> = rows.iter().filter(|row| !row["holds"].is_null()).collect();
        assert!(!promised.is_empty(), "{line:#}");
        let broken = |row: &&&Value| row["holds"] != true && !RATES.contains(&row["name"].as_str().unwrap());
        let broken: Vec<&&Value> = promised.iter().filter(broken).collect();
        assert!(broken.is_empty(), "{broken:#?}\n{said}");
    }
}
