//! Adapters in the tables of the old iptables (`net/ipv4/netfilter/ip_tables.c`, `ip6_tables.c`).
//!
//! Only tables that exist are read: asking for another one makes the kernel create it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};

use notrack_core::host::{Adapter, Backend, TableFamily, TableId};

use super::{AdapterError, Present, check, is_ours};

mod blob;
mod lock;
mod sockopt;

use blob::{Image, Layout};
use lock::Lock;
use sockopt::Control;

/// One of the two.
struct Iptables {
    family: TableFamily,
    /// Tables of this network namespace, one a line; not there where the kernel has no legacy iptables.
    /// `thread-self`, because `/proc/net` is the namespace of the process's first thread.
    names: &'static str,
    layout: Layout,
}

const BOTH: [Iptables; 2] = [
    Iptables { family: TableFamily::Ip, names: "/proc/thread-self/net/ip_tables_names", layout: Layout::V4 },
    Iptables {
        family: TableFamily::Ip6,
        names: "/proc/thread-self/net/ip6_tables_names",
        layout: Layout::V6,
    },
];

/// How often a table that another program replaced meanwhile is looked at again.
const TRIES: u32 = 16;

pub(super) fn present(present: &mut BTreeSet<Present>) -> Result<(), AdapterError> {
    for iptables in &BOTH {
        for name in iptables.tables()? {
            let id = TableId { backend: Backend::IptablesLegacy, family: iptables.family, name };
            let control = Control::open(id.family).map_err(failed("read", &id, &[]))?;
            let image = read(&control, &id, iptables.layout)?;
            present.extend(ours(&id, &image)?.into_iter().map(|(_, rule)| rule));
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
    let Some(iptables) = BOTH.iter().find(|iptables| iptables.family == table.family) else {
        return Ok(());
    };
    if !iptables.tables()?.contains(&table.name) {
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
    let control = Control::open(table.family).map_err(failed("change", table, &chains))?;
    let mut keep = None;
    for _ in 0..TRIES {
        let image = read(&control, table, iptables.layout)?;
        let ours = ours(table, &image)?;
        let keep = keep.get_or_insert_with(|| Keep::new(&ours, remove));
        let Some(changes) = changes(table, &image, ours, add, (remove, keep))? else {
            return Ok(());
        };
        let layout = |what| AdapterError::Layout { table: table.clone(), what };
        let replacement = image.rewrite(&changes.insert, &changes.remove).map_err(layout)?;
        match control.replace(&table.name, &image, &replacement) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            other => other.map_err(failed("change", table, &chains))?,
        }
    }
    Err(AdapterError::Unsteady { what: format!("table {table}"), tries: TRIES })
}

impl Iptables {
    fn tables(&self) -> Result<Vec<String>, AdapterError> {
        match fs::read_to_string(self.names) {
            Ok(names) => Ok(names.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => {
                let table = TableId {
                    backend: Backend::IptablesLegacy,
                    family: self.family,
                    name: format!("(all of {})", self.names),
                };
                Err(failed("list", &table, &[])(error))
            }
        }
    }
}

fn failed(
    action: &'static str,
    table: &TableId,
    chains: &[String],
) -> impl FnOnce(io::Error) -> AdapterError {
    let (table, chains) = (table.clone(), chains.to_vec());
    move |source| AdapterError::Legacy { action, table, chains, source }
}

fn read(control: &Control, table: &TableId, layout: Layout) -> Result<Image, AdapterError> {
    for _ in 0..TRIES {
        match control.read(&table.name, layout) {
            // The table has another size by now.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            other => return other.map_err(failed("read", table, &[])),
        }
    }
    Err(AdapterError::Unsteady { what: format!("table {table}"), tries: TRIES })
}

/// Our rules and where they are in the table's run of rules.
fn ours(table: &TableId, image: &Image) -> Result<Vec<(usize, Present)>, AdapterError> {
    let chains = image.chains().map_err(|what| AdapterError::Layout { table: table.clone(), what })?;
    let mut found = Vec::new();
    for (name, rules) in &chains {
        for (number, index) in (1..).zip(rules.clone()) {
            if let Some(comment) = image.comment(index).filter(|comment| is_ours(comment)) {
                let (table, chain) = (table.clone(), name.clone());
                found.push((index, Present { table, chain, handle: number, comment: comment.to_owned() }));
            }
        }
    }
    Ok(found)
}

/// By place in the run of rules: what goes in before it, and whether it goes itself.
struct Changes {
    insert: BTreeMap<usize, Vec<Vec<u8>>>,
    remove: BTreeSet<usize>,
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
    table: &TableId,
    image: &Image,
    mut there: Vec<(usize, Present)>,
    add: &[&Adapter],
    (remove, Keep(keep)): (&[&Present], &Keep),
) -> Result<Option<Changes>, AdapterError> {
    let mut changes = Changes { insert: BTreeMap::new(), remove: BTreeSet::new() };
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
    let chains = image.chains().map_err(|what| AdapterError::Layout { table: table.clone(), what })?;
    for adapter in add {
        let comment = adapter.comment();
        if !known.insert((adapter.chain.clone(), comment.clone())) {
            continue;
        }
        let place = chains.iter().find(|(name, _)| *name == adapter.chain).and_then(|(_, rules)| {
            match adapter.before {
                // The chain's own end is behind its last rule.
                None => Some(rules.end),
                Some(number) => {
                    let place = rules.start.checked_add(usize::try_from(number).ok()?.checked_sub(1)?)?;
                    rules.contains(&place).then_some(place)
                }
            }
        });
        let Some(place) = place else {
            let (chain, before) = (adapter.chain.clone(), adapter.before);
            return Err(AdapterError::Gone { table: table.clone(), chain, before });
        };
        let rule = image.layout().rule(&adapter.packets, &comment);
        changes.insert.entry(place).or_default().push(rule);
    }
    let none = changes.insert.is_empty() && changes.remove.is_empty();
    Ok((!none).then_some(changes))
}
