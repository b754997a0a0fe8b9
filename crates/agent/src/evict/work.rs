//! What the thread does: the connection table entry by entry.

use std::collections::{BTreeMap, BTreeSet};

use notrack_core::nf::eval::evaluate;
use notrack_core::nf::{Hook, Table};
use notrack_core::packet::Packet;
use notrack_core::rules::counter_name;
use notrack_netlink::conntrack::{Conntrack, Entry, Filter, Pace};
use notrack_netlink::facts;
use notrack_netlink::socket::NetlinkError;

use super::Valid;

/// Entries held at once; a fuller table is swept in several dumps.
const MOST_AT_ONCE: usize = 65_536;

/// Deletes exactly the entries whose packets the table now bypasses, at a pace, as long as that is valid. Those with
/// NAT, a helper, a mark or a label stay. Returns how many were deleted.
pub(super) fn sweep(table: &Table, valid: Valid<'_>) -> (u64, Result<(), NetlinkError>) {
    let mut deleted = 0;
    let outcome = try_sweep(table, valid, &mut deleted);
    (deleted, outcome)
}

fn try_sweep(table: &Table, valid: Valid<'_>, deleted: &mut u64) -> Result<(), NetlinkError> {
    let mut conntrack = Conntrack::open()?;
    let pace = Pace::default();
    while valid.is_valid() {
        let mut stale: Vec<Entry> = Vec::new();
        conntrack.dump(&Filter::default(), |entry| {
            let takes = stale.len() < MOST_AT_ONCE && valid.is_valid();
            if takes && entry.is_evictable() && is_bypassed(table, entry) {
                stale.push(*entry);
            }
        })?;
        let before = *deleted;
        for batch in stale.chunks(pace.batch) {
            match valid.delete(|| conntrack.delete_all(batch.iter().copied(), pace)) {
                Some(done) => *deleted += done?.deleted,
                None => return Ok(()),
            }
        }
        if stale.len() < MOST_AT_ONCE || *deleted == before {
            break;
        }
    }
    Ok(())
}

/// How many entries each policy in mode Audit would evict in mode Enforce. Nothing is deleted.
pub(super) fn evictable(
    table: &Table,
    audited: &BTreeSet<String>,
    valid: Valid<'_>,
) -> Result<Option<BTreeMap<String, u64>>, NetlinkError> {
    if !valid.is_valid() {
        return Ok(None);
    }
    let mut evictable: BTreeMap<String, u64> = audited.iter().map(|name| (name.clone(), 0)).collect();
    let names: BTreeMap<String, &String> = audited.iter().map(|name| (counter_name(name), name)).collect();
    Conntrack::open()?.dump(&Filter::default(), |entry| {
        if !(valid.is_valid() && entry.is_evictable()) {
            return;
        }
        let Some(tuple) = facts::tuple(&entry.original) else { return };
        let packet = Packet::amid(tuple, "");
        let counted: BTreeSet<String> = [Hook::Prerouting, Hook::Output]
            .into_iter()
            .map(|hook| evaluate(table, hook, &packet))
            .filter(|outcome| !outcome.untracked)
            .flat_map(|outcome| outcome.counted)
            .collect();
        for policy in counted.iter().filter_map(|counter| names.get(counter)) {
            *evictable.entry((*policy).clone()).or_default() += 1;
        }
    })?;
    Ok(valid.is_valid().then_some(evictable))
}

/// Whether a packet of the entry would be bypassed where it enters the node. An entry does not tell its interfaces:
/// flows that name some are left to expire.
fn is_bypassed(table: &Table, entry: &Entry) -> bool {
    let Some(tuple) = facts::tuple(&entry.original) else { return false };
    let packet = Packet::amid(tuple, "");
    [Hook::Prerouting, Hook::Output].into_iter().any(|hook| evaluate(table, hook, &packet).untracked)
}
