//! One reading as JSON.

use std::net::IpAddr;

use serde::Serialize;

use super::aggregate::{Groups, Key, Tally};
use super::figures::Figures;
use super::output::{protocol_name, share};

/// A reading as a program wants it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reading<'a> {
    entries: u32,
    /// Absent where there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    utilisation: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets: Option<u32>,
    dropped: u64,
    early_dropped: u64,
    insert_failed: u64,
    invalid: u64,
    search_restarts: u64,
    chains_too_long: u64,
    /// Entries that passed the filter, and were grouped.
    matched: u32,
    groups: Vec<Section<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Section<'a> {
    by: &'a str,
    others: usize,
    too_low_by: u32,
    rows: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<IpAddr>,
    entries: u32,
    share: f64,
    nat: u32,
    kept: u32,
    unreplied: u32,
    assured: u32,
}

/// Everything as JSON.
pub fn json(figures: &Figures, matched: u32, groups: &[Groups]) -> serde_json::Result<String> {
    let row = |(key, tally): &(Key, Tally)| Row {
        protocol: key.protocol.map(protocol_name),
        state: key.state.map(|state| state.to_string()),
        port: key.port,
        peer: key.peer,
        destination: key.destination,
        entries: tally.entries,
        share: share(tally, matched),
        nat: tally.translated,
        kept: tally.kept,
        unreplied: tally.unreplied,
        assured: tally.assured,
    };
    let section = |groups: &Groups| Section {
        by: groups.by.as_str(),
        others: groups.others,
        too_low_by: groups.too_low_by,
        rows: groups.rows.iter().map(row).collect(),
    };
    let Figures { stats, counters, buckets } = figures;
    serde_json::to_string_pretty(&Reading {
        entries: stats.entries,
        max: Some(stats.max).filter(|max| *max != 0),
        utilisation: stats.utilisation(),
        buckets: *buckets,
        dropped: counters.drop,
        early_dropped: counters.early_drop,
        insert_failed: counters.insert_failed,
        invalid: counters.invalid,
        search_restarts: counters.search_restart,
        chains_too_long: counters.chain_toolong,
        matched,
        groups: groups.iter().map(section).collect(),
    })
}
