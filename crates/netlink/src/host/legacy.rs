//! The rules of the old iptables.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use notrack_core::host::{
    Backend, ChainKind, HostBase, HostChain, HostHook, HostRule, HostTable, HostVerdict, Step, TableFamily,
    TableId,
};
use notrack_core::net::Family;

use super::xt::{self, IpSets};
use crate::conntrack;
use crate::xtables::{BOTH, Entries, Entry, Extension, Iptables, Layout, Rules};

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
                Ok(rules) => match table(iptables, &name, &rules, &mut sets) {
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
                        Ok(rules) => digest_rules(&rules, iptables.layout, &mut digest),
                        Err(error) => error.raw_os_error().hash(&mut digest),
                    }
                }
            }
            Err(error) => error.raw_os_error().hash(&mut digest),
        }
    }
    digest.finish()
}

fn digest_rules(rules: &Rules, layout: Layout, digest: &mut DefaultHasher) {
    rules.hooks.hash(digest);
    for entry in Entries::new(&rules.bytes, layout) {
        let counters = layout.counters();
        entry.bytes.get(..counters.start).hash(digest);
        entry.bytes.get(counters.end..).hash(digest);
    }
}

/// By `NF_INET_*`.
const HOOKS: [(&str, HostHook); 5] = [
    ("PREROUTING", HostHook::Prerouting),
    ("INPUT", HostHook::Input),
    ("FORWARD", HostHook::Forward),
    ("OUTPUT", HostHook::Output),
    ("POSTROUTING", HostHook::Postrouting),
];

/// A chain and where its first rule is.
struct Chain<'a> {
    name: &'a str,
    base: Option<HostBase>,
    first: usize,
    /// The policy is not among them, nor is the return at the end of a chain of the user's.
    rules: Vec<Entry<'a>>,
}

/// A table. `None` where its bytes are not as `ip_tables.c` keeps them.
fn table(iptables: &Iptables, name: &str, rules: &Rules, sets: &mut IpSets) -> Option<HostTable> {
    let (family, table_family) = match iptables.family {
        conntrack::Family::V4 => (Family::Ipv4, TableFamily::Ip),
        conntrack::Family::V6 => (Family::Ipv6, TableFamily::Ip6),
    };
    let id = TableId { backend: Backend::IptablesLegacy, family: table_family, name: name.to_owned() };
    let chains = chains(name, rules, iptables.layout)?;
    let starts: BTreeMap<usize, &str> = chains.iter().map(|chain| (chain.first, chain.name)).collect();
    let mut host_chains = BTreeMap::new();
    for chain in &chains {
        let rules = (1..).zip(&chain.rules).map(|(number, entry)| rule(number, entry, family, &starts, sets));
        let chain_rules = rules.collect::<Option<_>>()?;
        host_chains.insert(chain.name.to_owned(), HostChain { base: chain.base, rules: chain_rules });
    }
    Some(HostTable { id, owner: None, dormant: false, chains: host_chains, sets: BTreeMap::new() })
}

fn chains<'a>(table: &str, rules: &'a Rules, layout: Layout) -> Option<Vec<Chain<'a>>> {
    let mut entries = Entries::new(&rules.bytes, layout);
    let all: Vec<Entry<'a>> = entries.by_ref().collect();
    // The last one ends the table: the head of a chain of this name, without the chain.
    let (end, all) = all.split_last()?;
    let end = end.target()?;
    if !entries.is_done() || end.name != ERROR || head(&end)? != ERROR {
        return None;
    }
    let mut chains: Vec<Chain<'a>> = Vec::new();
    for entry in all {
        if let Some(hook) =
            rules.hooks.iter().position(|hook| hook.is_some_and(|at| at.0 as usize == entry.offset))
        {
            let (name, base) = base(table, hook)?;
            chains.push(Chain { name, base: Some(base), first: entry.offset, rules: vec![*entry] });
        } else if let Some(target) = entry.target().filter(|target| target.name == ERROR) {
            let first = entry.offset + entry.bytes.len();
            chains.push(Chain { name: head(&target)?, base: None, first, rules: Vec::new() });
        } else {
            chains.last_mut()?.rules.push(*entry);
        }
    }
    for chain in &mut chains {
        let last = chain.rules.pop()?;
        if let Some(base) = &mut chain.base {
            base.drops = verdict(&last.target()?)? == DROP;
        }
    }
    Some(chains)
}

/// `XT_ERROR_TARGET`, the head of a chain of the user's; its data is the chain's name.
const ERROR: &str = "ERROR";

fn head<'a>(target: &Extension<'a>) -> Option<&'a str> {
    let end = target.info.iter().position(|byte| *byte == 0)?;
    str::from_utf8(target.info.get(..end)?).ok()
}

/// The name and place of a builtin chain; the priorities are `enum nf_ip_hook_priorities`. The policy comes later.
fn base(table: &str, hook: usize) -> Option<(&'static str, HostBase)> {
    let (name, hook) = *HOOKS.get(hook)?;
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
    Some((name, HostBase { hook, priority, kind, drops: false }))
}

fn rule(
    number: u64,
    entry: &Entry<'_>,
    family: Family,
    starts: &BTreeMap<usize, &str>,
    sets: &mut IpSets,
) -> Option<HostRule> {
    let Header { mut steps, text, goes } = Header::read(family, entry.bytes)?;
    let mut words = vec![text];
    let mut comment = None;
    let mut matches = entry.matches();
    for Extension { name, revision, info } in matches.by_ref() {
        let part = xt::matching(Some(family), name, revision, info, sets);
        steps.extend(part.steps);
        words.push(part.text);
        comment = comment.or(part.comment);
    }
    if !matches.is_done() {
        return None;
    }
    let target = entry.target()?;
    if target.name.is_empty() {
        if let Some((step, text)) = standard(entry, verdict(&target)?, goes, starts) {
            steps.push(step);
            words.push(text);
        }
    } else {
        let part = xt::target(Some(family), target.name, target.revision, target.info);
        steps.extend(part.steps);
        words.push(part.text);
    }
    words.retain(|word| !word.is_empty());
    Some(HostRule { handle: number, text: words.join(" "), comment, steps })
}

/// `-NF_DROP - 1`, and likewise the others; `XT_RETURN` is `-NF_REPEAT - 1`.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const QUEUE: i32 = -4;
const RETURN: i32 = -5;

/// The data of the standard target: a verdict, or the offset of the next rule.
fn verdict(target: &Extension<'_>) -> Option<i32> {
    target.info.first_chunk().map(|verdict| i32::from_ne_bytes(*verdict))
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
