//! The rules of the old iptables.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use notrack_core::host::{
    ChainKind, HostBase, HostChain, HostHook, HostRule, HostTable, HostVerdict, Step, TableId,
};

use super::xt::{self, IpSets};
use crate::xtables::{self, ACCEPT, BOTH, DROP, Entries, Entry, Extension, Image, QUEUE, RETURN, Table};

mod header;
#[cfg(test)]
mod tests;

use header::Header;

/// Reads the tables of both. What cannot be read is named.
pub(super) fn read(tables: &mut Vec<HostTable>, incomplete: &mut Vec<String>) {
    let mut sets = IpSets::default();
    for iptables in &BOTH {
        let program = iptables.program;
        let names = iptables.tables().unwrap_or_else(|error| {
            incomplete.push(format!("the list of {program}-legacy's tables: {error}"));
            Vec::new()
        });
        for name in names {
            match iptables.read(&name) {
                Ok(image) => match table(iptables.id(&name), &image, &mut sets) {
                    Some(table) => tables.push(table),
                    None => incomplete.push(format!("{program}-legacy {name}: not as expected")),
                },
                Err(error) => incomplete.push(format!("{program}-legacy {name}: {error}")),
            }
        }
    }
}

/// What changes when the old iptables' rules change, and does not when packets only pass: a digest of all tables of
/// the calling thread's namespace without their counters, to be compared within one run of a program. The old iptables
/// has no generation, and tells no one of changes. A table that cannot be read counts as its error.
#[must_use]
pub fn fingerprint() -> u64 {
    let mut digest = DefaultHasher::new();
    for iptables in &BOTH {
        iptables.program.hash(&mut digest);
        match iptables.tables() {
            Ok(names) => {
                for name in names {
                    name.hash(&mut digest);
                    match iptables.read(&name) {
                        Ok(image) => digest_rules(&image, &mut digest),
                        Err(error) => error.raw_os_error().hash(&mut digest),
                    }
                }
            }
            Err(error) => error.raw_os_error().hash(&mut digest),
        }
    }
    digest.finish()
}

fn digest_rules(image: &Image, digest: &mut DefaultHasher) {
    image.hooks.hash(digest);
    for entry in Entries::new(&image.bytes, image.layout) {
        let counters = image.layout.counters();
        entry.bytes.get(..counters.start).hash(digest);
        entry.bytes.get(counters.end..).hash(digest);
    }
}

/// A table. `None` where its bytes are not as `ip_tables.c` keeps them.
fn table(id: TableId, image: &Image, sets: &mut IpSets) -> Option<HostTable> {
    let Table { rules, chains } = image.table().ok()?;
    let starts = chains.iter().map(|chain| Some((rules.get(chain.rules.start)?.offset, chain.name)));
    let starts: BTreeMap<usize, &str> = starts.collect::<Option<_>>()?;
    let mut host_chains = BTreeMap::new();
    for chain in &chains {
        let base = match chain.hook {
            Some(hook) => Some(base(&id.name, hook, rules.get(chain.rules.end)?)?),
            None => None,
        };
        let rules = (1..).zip(rules.get(chain.rules.clone())?);
        let rules = rules.map(|(number, entry)| rule(number, entry, &starts, sets)).collect::<Option<_>>()?;
        host_chains.insert(chain.name.to_owned(), HostChain { base, rules });
    }
    Some(HostTable { id, owner: None, dormant: false, chains: host_chains, sets: BTreeMap::new() })
}

/// By `NF_INET_*`.
const HOOKS: [HostHook; xtables::HOOKS] =
    [HostHook::Prerouting, HostHook::Input, HostHook::Forward, HostHook::Output, HostHook::Postrouting];

/// The place of a builtin chain, and its policy; the priorities are `enum nf_ip_hook_priorities`.
fn base(table: &str, hook: usize, policy: &Entry<'_>) -> Option<HostBase> {
    let hook = *HOOKS.get(hook)?;
    let (priority, kind) = match (table, hook) {
        ("raw", _) => (-300, ChainKind::Filter),
        ("mangle", HostHook::Output) => (-150, ChainKind::Route),
        ("mangle", _) => (-150, ChainKind::Filter),
        ("nat", HostHook::Prerouting | HostHook::Output) => (-100, ChainKind::Nat),
        ("nat", _) => (100, ChainKind::Nat),
        ("filter", _) => (0, ChainKind::Filter),
        ("security", _) => (50, ChainKind::Filter),
        _ => return None,
    };
    Some(HostBase { hook, priority, kind, drops: policy.target()?.verdict()? == DROP })
}

fn rule(
    number: u64,
    entry: &Entry<'_>,
    starts: &BTreeMap<usize, &str>,
    sets: &mut IpSets,
) -> Option<HostRule> {
    let Header { mut steps, text, goes } = Header::read(entry)?;
    let family = Some(entry.layout.family);
    let mut words = vec![text];
    let mut comment = None;
    let mut matches = entry.matches();
    for Extension { name, revision, info } in matches.by_ref() {
        let part = xt::matching(family, name, revision, info, sets);
        steps.extend(part.steps);
        words.push(part.text);
        comment = comment.or(part.comment);
    }
    if !matches.is_done() {
        return None;
    }
    let target = entry.target()?;
    if target.name.is_empty() {
        if let Some((step, text)) = standard(entry, target.verdict()?, goes, starts) {
            steps.push(step);
            words.push(text);
        }
    } else {
        let part = xt::target(family, target.name, target.revision, target.info);
        steps.extend(part.steps);
        words.push(part.text);
    }
    words.retain(|word| !word.is_empty());
    Some(HostRule { handle: number, text: words.join(" "), comment, steps })
}

/// How a rule with the standard target ends. `None` where it does not: a rule without a target.
fn standard(
    entry: &Entry<'_>,
    verdict: i32,
    goes: bool,
    starts: &BTreeMap<usize, &str>,
) -> Option<(Step, String)> {
    let (verdict, text) = match verdict {
        DROP => (HostVerdict::Drop, "-j DROP".to_owned()),
        ACCEPT => (HostVerdict::Accept, "-j ACCEPT".to_owned()),
        QUEUE => (HostVerdict::Queue, "-j QUEUE".to_owned()),
        RETURN => (HostVerdict::Return, "-j RETURN".to_owned()),
        offset => {
            let offset = usize::try_from(offset).ok();
            if offset == Some(entry.offset + entry.bytes.len()) {
                return None;
            }
            let Some(chain) = offset.and_then(|offset| starts.get(&offset)) else {
                return Some((Step::Opaque("jump".to_owned()), String::new()));
            };
            let name = (*chain).to_owned();
            if goes {
                (HostVerdict::Goto(name), format!("-g {chain}"))
            } else {
                (HostVerdict::Jump(name), format!("-j {chain}"))
            }
        }
    };
    Some((Step::Verdict(verdict), text))
}
