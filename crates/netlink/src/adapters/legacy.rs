//! Adapters in the tables of the old iptables (`net/ipv4/netfilter/ip_tables.c`, `ip6_tables.c`).
//!
//! Only tables that exist are read: asking for another one makes the kernel create it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};

use notrack_core::host::{Adapter, TableId};

use super::{AdapterError, Present, check, is_ours};
use crate::xtables::{BOTH, Image, Iptables, Layout, TRIES, Table};

mod blob;
mod lock;
mod sockopt;

use blob::Changes;
use lock::Lock;

pub(super) fn present(present: &mut BTreeSet<Present>) -> Result<(), AdapterError> {
    for iptables in &BOTH {
        for name in tables(iptables)? {
            let id = iptables.id(&name);
            let image = read(iptables, &id)?;
            let table = image.table().map_err(layout(&id))?;
            present.extend(ours(&id, &table).into_iter().map(|(_, rule)| rule));
        }
    }
    Ok(())
}

/// Changes one table. After each replacement it is read again: the lock keeps away the host's iptables, and only where
/// this process sees the host's `/run`. In a container that does not, another program may read the table before our
/// replacement and replace it afterwards; ours is then found lost, and done again. (The kernel itself refuses a
/// replacement only where the number of rules has changed since they were read.)
pub(super) fn apply(table: &TableId, add: &[&Adapter], remove: &[&Present]) -> Result<(), AdapterError> {
    for adapter in add {
        check(adapter)?;
    }
    let Some(iptables) = BOTH.iter().find(|iptables| iptables.id(&table.name) == *table) else {
        return Ok(());
    };
    if !tables(iptables)?.contains(&table.name) {
        return match add.first() {
            None => Ok(()),
            Some(adapter) => {
                let (chain, before) = (adapter.chain.clone(), adapter.before);
                Err(AdapterError::Gone { table: table.clone(), chain, before })
            }
        };
    }
    let _lock = Lock::take(table)?;
    let mut chains: Vec<String> = add.iter().map(|adapter| adapter.chain.clone()).collect();
    chains.extend(remove.iter().map(|rule| rule.chain.clone()));
    chains.sort();
    chains.dedup();
    let mut keep = None;
    for _ in 0..TRIES {
        let image = read(iptables, table)?;
        let there = image.table().map_err(layout(table))?;
        let ours = ours(table, &there);
        let keep = keep.get_or_insert_with(|| Keep::new(&ours, remove));
        let Some(changes) = changes((table, iptables.layout), &there, ours, add, (remove, keep))? else {
            return Ok(());
        };
        let replacement = blob::rewrite(&image, &there.rules, &changes).map_err(layout(table))?;
        match sockopt::replace(iptables, &table.name, &replacement) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            other => other.map_err(failed("change", table, &chains))?,
        }
    }
    Err(unsteady(table))
}

/// The tables that exist.
fn tables(iptables: &Iptables) -> Result<Vec<String>, AdapterError> {
    let all = || iptables.id(&format!("(all of {})", iptables.names));
    iptables.tables().map_err(|error| failed("list", &all(), &[])(error))
}

fn failed(
    action: &'static str,
    table: &TableId,
    chains: &[String],
) -> impl FnOnce(io::Error) -> AdapterError {
    let (table, chains) = (table.clone(), chains.to_vec());
    move |source| AdapterError::Legacy { action, table, chains, source }
}

fn read(iptables: &Iptables, table: &TableId) -> Result<Image, AdapterError> {
    iptables.read(&table.name).map_err(|error| match error.kind() {
        ErrorKind::Interrupted => unsteady(table),
        _ => failed("read", table, &[])(error),
    })
}

fn unsteady(table: &TableId) -> AdapterError {
    AdapterError::Unsteady { what: format!("table {table}"), tries: TRIES }
}

fn layout(table: &TableId) -> impl Fn(&'static str) -> AdapterError {
    |what| AdapterError::Layout { table: table.clone(), what }
}

/// Our rules and where they are in the table's run of rules.
fn ours(id: &TableId, table: &Table<'_>) -> Vec<(usize, Present)> {
    let mut found = Vec::new();
    for chain in &table.chains {
        let rules = table.rules.iter().enumerate().take(chain.rules.end).skip(chain.rules.start);
        for (number, (index, rule)) in (1..).zip(rules) {
            if let Some(comment) = blob::comment(rule).filter(|comment| is_ours(comment)) {
                let (table, chain) = (id.clone(), chain.name.to_owned());
                found.push((index, Present { table, chain, handle: number, comment: comment.to_owned() }));
            }
        }
    }
    found
}

/// How many rules of one chain and comment are to stay. Numbers change with every rule above, while rules of one comment
/// are equal: any of them will do, but no more than were asked for, however often the table is read.
struct Keep(BTreeMap<(String, String), usize>);

impl Keep {
    fn new(ours: &[(usize, Present)], remove: &[&Present]) -> Keep {
        let mut keep = BTreeMap::new();
        for rule in remove {
            let stay = keep
                .entry((rule.chain.clone(), rule.comment.clone()))
                .or_insert_with(|| ours.iter().filter(|(_, found)| same(found, rule)).count());
            *stay = stay.saturating_sub(1);
        }
        Keep(keep)
    }
}

fn same(one: &Present, other: &Present) -> bool {
    one.chain == other.chain && one.comment == other.comment
}

fn changes(
    (id, layout): (&TableId, Layout),
    table: &Table<'_>,
    mut there: Vec<(usize, Present)>,
    add: &[&Adapter],
    (remove, Keep(keep)): (&[&Present], &Keep),
) -> Result<Option<Changes>, AdapterError> {
    let mut changes = Changes::default();
    for rule in remove {
        let stay = keep.get(&(rule.chain.clone(), rule.comment.clone())).copied().unwrap_or_default();
        let mut equal = there.iter().enumerate().filter(|(_, (_, found))| same(found, rule));
        let exact = equal.clone().find(|(_, (_, found))| found.handle == rule.handle);
        if equal.clone().count() > stay
            && let Some((place, _)) = exact.or_else(|| equal.next())
        {
            changes.remove.insert(there.remove(place).0);
        }
    }
    let mut known: BTreeSet<(String, String)> =
        there.into_iter().map(|(_, rule)| (rule.chain, rule.comment)).collect();
    for adapter in add {
        let comment = adapter.comment();
        if !known.insert((adapter.chain.clone(), comment.clone())) {
            continue;
        }
        let place = table.chains.iter().find(|chain| chain.name == adapter.chain).and_then(|chain| {
            match adapter.before {
                // The chain's own end is behind its last rule.
                None => Some(chain.rules.end),
                Some(number) => chain.rules.clone().nth(usize::try_from(number).ok()?.checked_sub(1)?),
            }
        });
        let Some(place) = place else {
            let (chain, before) = (adapter.chain.clone(), adapter.before);
            return Err(AdapterError::Gone { table: id.clone(), chain, before });
        };
        let rule = blob::rule(layout, &adapter.packets, &comment);
        changes.insert.entry(place).or_default().push(rule);
    }
    let none = changes.insert.is_empty() && changes.remove.is_empty();
    Ok((!none).then_some(changes))
}
