//! One reading as text, in the manner of kubectl.

use std::fmt::Write;
use std::net::IpAddr;

use super::aggregate::{By, Groups, Key, Tally};
use super::figures::Figures;

/// Rows of words under headings, in the manner of kubectl: upper case, three spaces between columns.
pub fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(headings.get(column).map_or(0, |heading| heading.len()))
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let headings = headings.iter().map(ToString::to_string).collect();
    let mut text = String::new();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}   ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The table's figures.
pub fn figures(figures: &Figures, wide: bool) -> String {
    let Figures { stats, counters, buckets } = figures;
    let max = if stats.max == 0 { "unlimited".to_owned() } else { stats.max.to_string() };
    let mut headings = vec!["ENTRIES", "MAX", "USED", "DROPPED", "EARLY-DROPPED", "INSERT-FAILED"];
    let mut row = vec![stats.entries.to_string(), max, figures.used()];
    let mut counted = vec![counters.drop, counters.early_drop, counters.insert_failed];
    if wide {
        headings.extend(["INVALID", "SEARCH-RESTARTS", "CHAINS-TOO-LONG", "BUCKETS"]);
        counted.extend([counters.invalid, counters.search_restart, counters.chain_toolong]);
    }
    row.extend(counted.iter().map(ToString::to_string));
    if wide {
        row.push(buckets.map_or_else(|| "-".to_owned(), |buckets| buckets.to_string()));
    }
    columns(&headings, &[row])
}

/// The headings of a kind of groups.
pub fn headings(by: By, wide: bool) -> Vec<&'static str> {
    let mut headings = match by {
        By::Protocol => vec!["PROTOCOL"],
        By::State => vec!["PROTOCOL", "STATE"],
        By::Port => vec!["PORT", "PROTOCOL"],
        By::Peer => vec!["PEER"],
        By::Pair => vec!["PEER", "DESTINATION", "PORT", "PROTOCOL"],
    };
    headings.extend(["ENTRIES", "SHARE", "NAT"]);
    if wide {
        headings.extend(["KEPT", "UNREPLIED", "ASSURED"]);
    }
    headings
}

/// The cells of a group, one for each heading.
pub fn cells(by: By, key: &Key, tally: &Tally, total: u32, wide: bool) -> Vec<String> {
    let protocol = key.protocol.map_or_else(String::new, protocol_name);
    let port = key.port.map_or_else(|| "-".to_owned(), |port| port.to_string());
    let address = |address: Option<IpAddr>| address.map_or_else(String::new, |address| address.to_string());
    let state = key.state.map_or_else(String::new, |state| state.to_string());
    let mut cells = match by {
        By::Protocol => vec![protocol],
        By::State => vec![protocol, state],
        By::Port => vec![port, protocol],
        By::Peer => vec![address(key.peer)],
        By::Pair => vec![address(key.peer), address(key.destination), port, protocol],
    };
    let share = format!("{:.1}%", 100.0 * share(tally, total));
    cells.extend([tally.entries.to_string(), share, tally.translated.to_string()]);
    if wide {
        let more = [tally.kept, tally.unreplied, tally.assured];
        cells.extend(more.iter().map(ToString::to_string));
    }
    cells
}

/// Groups as a table, with a remark where it does not tell all.
pub fn groups(groups: &Groups, total: u32, wide: bool) -> String {
    let rows = groups.rows.iter().map(|(key, tally)| cells(groups.by, key, tally, total, wide));
    let mut text = columns(&headings(groups.by, wide), &rows.collect::<Vec<_>>());
    if let Some(remark) = remark(groups) {
        let _ = writeln!(text, "{remark}");
    }
    text
}

/// What the rows of a table leave out.
pub fn remark(groups: &Groups) -> Option<String> {
    let Groups { others, too_low_by, .. } = groups;
    match (others, too_low_by) {
        (0, 0) => None,
        (_, 0) => Some(format!("({others} more)")),
        (_, _) => Some(format!("(at least {others} more; a figure may be up to {too_low_by} too low)")),
    }
}

/// The protocol's name as the rest of the tools write it, or its number.
pub fn protocol_name(number: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// Names of protocols that tracking knows, and of some that it tracks by addresses.
pub const PROTOCOLS: [(&str, u8); 11] = [
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("sctp", 132),
    ("udplite", 136),
];

/// A group's part of all entries, 0 to 1.
pub fn share(tally: &Tally, total: u32) -> f64 {
    f64::from(tally.entries) / f64::from(total.max(1))
}

#[cfg(test)]
mod tests;
