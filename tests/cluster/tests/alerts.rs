//! Alerts and dashboard without a cluster: every alert has tests and a runbook, and every metric that is named is documented.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use notrack_cluster::monitoring::{Monitoring, documented, metrics};
use notrack_cluster::repository;
use notrack_lab::run_ok;
use serde_json::Value;

const ALERTS: &str = "charts/notrack/files/alerts.yaml";
const TESTS: &str = "tests/cluster/tests/alerts";

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

fn promtool() -> Command {
    let mut command = Command::new("promtool");
    command.current_dir(repository());
    command
}

fn test_files() -> Vec<PathBuf> {
    fs::read_dir(repository().join(TESTS)).unwrap().map(|file| file.unwrap().path()).collect()
}

/// Names of the alerts, in the order of the file.
fn alerts() -> Vec<String> {
    let rules = Monitoring::render("").unwrap();
    rules.alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn alerts_are_sound() {
    run_ok(promtool().args(["check", "rules", "--lint=all", "--lint-fatal", ALERTS])).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let rendered = folder.path().join("rules.yaml");
    fs::write(&rendered, Monitoring::render("").unwrap().rules.to_string()).unwrap();
    run_ok(promtool().args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(rendered)).unwrap();
    let written: Value = serde_saphyr::from_str(&read(ALERTS)).unwrap();
    assert_eq!(Monitoring::render("").unwrap().rules, written, "the chart changes none");
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    run_ok(promtool().args(["test", "rules"]).args(test_files())).unwrap();
}

#[test]
fn every_alert_is_tested_both_ways() {
    // Whether it fires, whether it does not.
    let mut tested: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    for file in test_files() {
        let tests: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let rules = tests["tests"].as_array().unwrap().iter();
        for rule in rules.flat_map(|test| test["alert_rule_test"].as_array().unwrap()) {
            let (fires, silent) = tested.entry(rule["alertname"].as_str().unwrap().to_owned()).or_default();
            let expected = rule["exp_alerts"].as_array().unwrap();
            *fires |= !expected.is_empty();
            *silent |= expected.is_empty();
        }
    }
    let tested: BTreeSet<_> = tested.into_iter().filter(|(_, both)| *both == (true, true)).collect();
    let tested: BTreeSet<String> = tested.into_iter().map(|(name, _)| name).collect();
    assert_eq!(tested, alerts().into_iter().collect());
}

/// In the order of the file.
#[test]
fn every_alert_has_a_runbook() {
    let text = read("docs/operations.md");
    let runbooks: Vec<(&str, &str)> =
        text.split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap()).collect();
    let headings: Vec<&str> = runbooks.iter().map(|(heading, _)| *heading).collect();
    let of_alerts: Vec<&str> =
        headings.into_iter().filter(|heading| heading.starts_with("Notrack")).collect();
    assert_eq!(of_alerts, alerts());
    for (heading, body) in runbooks.iter().filter(|(heading, _)| heading.starts_with("Notrack")) {
        for part in ["*Means:*", "*Look:*", "*Do:*"] {
            assert!(body.contains(part), "{heading} lacks {part}");
        }
    }
}

#[test]
fn runbooks_are_linked_where_the_site_has_an_address() {
    let address = "https://docs.example.org/operations.md";
    let monitoring = Monitoring::render(&format!(",prometheusRule.runbookUrl={address}")).unwrap();
    for alert in monitoring.alerts() {
        let section = alert["alert"].as_str().unwrap().to_lowercase();
        assert_eq!(alert["annotations"]["runbook_url"], format!("{address}#{section}"));
    }
}

#[test]
fn every_metric_that_is_named_is_documented() {
    let known = documented().unwrap();
    let monitoring = Monitoring::render("").unwrap();
    let alerts: Vec<&str> = monitoring.alerts().iter().map(|alert| alert["expr"].as_str().unwrap()).collect();
    let mut named = metrics(&alerts.join("\n"));
    assert!(named.len() > 5, "{named:?}");
    named.append(&mut metrics(&monitoring.dashboard.to_string()));
    named.append(&mut metrics(&read("docs/operations.md")));
    assert_eq!(named.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_dashboard_has_a_place_and_a_word_for_every_panel() {
    let dashboard = Monitoring::render("").unwrap().dashboard;
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel:#}");
        for cell in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(taken.insert(cell), "{} overlaps", panel["title"]);
        }
        if panel["type"] != "row" {
            assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{panel:#}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{panel:#}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}");
        }
    }
}
