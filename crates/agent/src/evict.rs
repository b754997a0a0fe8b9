//! Entries that a new policy leaves behind: they would stay in the table for up to five days, and their packets no
//! longer refresh them.

use std::collections::{BTreeMap, BTreeSet};

use notrack_core::nf::eval::evaluate;
use notrack_core::nf::{Hook, Table};
use notrack_core::packet::{Packet, Tuple};
use notrack_core::rules::counter_name;
use notrack_netlink::conntrack::{Conntrack, Entry, Filter, Pace};
use notrack_netlink::facts;
use notrack_netlink::socket::NetlinkError;

/// Entries held at once; a fuller table is swept in several dumps.
const MOST_AT_ONCE: usize = 65_536;

/// Deletes exactly the entries whose packets the table now bypasses, at a pace. Those with NAT, a helper, a mark or a
/// label stay. Returns how many were deleted.
pub fn sweep(table: &Table) -> Result<u64, NetlinkError> {
    let mut conntrack = Conntrack::open()?;
    let mut deleted = 0;
    loop {
        let mut stale: Vec<Entry> = Vec::new();
        conntrack.dump(&Filter::default(), |entry| {
            if stale.len() < MOST_AT_ONCE && entry.is_evictable() && is_bypassed(table, entry) {
                stale.push(*entry);
            }
        })?;
        let whole = stale.len() < MOST_AT_ONCE;
        let done = conntrack.delete_all(stale, Pace::default())?;
        deleted += done.deleted;
        if whole || done.deleted == 0 {
            return Ok(deleted);
        }
    }
}

/// How many entries each policy in mode Audit would evict in mode Enforce. Nothing is deleted.
pub fn evictable(table: &Table, audited: &BTreeSet<String>) -> Result<BTreeMap<String, u64>, NetlinkError> {
    let mut evictable: BTreeMap<String, u64> = audited.iter().map(|name| (name.clone(), 0)).collect();
    let names: BTreeMap<String, &String> = audited.iter().map(|name| (counter_name(name), name)).collect();
    Conntrack::open()?.dump(&Filter::default(), |entry| {
        let Some(tuple) = tuple(entry).filter(|_| entry.is_evictable()) else { return };
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
    Ok(evictable)
}

/// Whether a packet of the entry would be bypassed where it enters the node. An entry does not tell its interfaces:
/// flows that name some are left to expire.
fn is_bypassed(table: &Table, entry: &Entry) -> bool {
    let Some(tuple) = tuple(entry) else { return false };
    let packet = Packet::amid(tuple, "");
    [Hook::Prerouting, Hook::Output].into_iter().any(|hook| evaluate(table, hook, &packet).untracked)
}

/// The tuple of an entry's original direction, where its protocol has ports.
pub fn tuple(entry: &Entry) -> Option<Tuple> {
    facts::tuple(&entry.original)
}
