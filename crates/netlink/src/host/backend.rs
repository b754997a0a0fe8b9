//! Whether a table of nf_tables belongs to iptables-nft.
//!
//! The kernel does not tell. iptables-nft makes base chains with fixed names, hooks, priorities and types, has no sets
//! of its own, and puts a counter into every rule; a table of one of its five names that keeps to all of that can be
//! listed by iptables, and is taken for its own. One rule without a counter, one named set or one more base chain, and it
//! is somebody else's.

use std::collections::BTreeMap;

use notrack_core::host::{Backend, ChainKind, HostBase, HostHook, TableFamily};

use super::expression::Piece;

type BaseChain = (&'static str, HostHook, i32, ChainKind);

const fn filter(name: &'static str, hook: HostHook, priority: i32) -> BaseChain {
    (name, hook, priority, ChainKind::Filter)
}

const fn nat(name: &'static str, hook: HostHook, priority: i32) -> BaseChain {
    (name, hook, priority, ChainKind::Nat)
}

/// The base chains of each table (`iptables/nft.c` of iptables 1.8).
const TABLES: [(&str, &[BaseChain]); 5] = [
    (
        "filter",
        &[
            filter("INPUT", HostHook::Input, 0),
            filter("FORWARD", HostHook::Forward, 0),
            filter("OUTPUT", HostHook::Output, 0),
        ],
    ),
    (
        "nat",
        &[
            nat("PREROUTING", HostHook::Prerouting, -100),
            nat("INPUT", HostHook::Input, 100),
            nat("OUTPUT", HostHook::Output, -100),
            nat("POSTROUTING", HostHook::Postrouting, 100),
        ],
    ),
    (
        "mangle",
        &[
            filter("PREROUTING", HostHook::Prerouting, -150),
            filter("INPUT", HostHook::Input, -150),
            filter("FORWARD", HostHook::Forward, -150),
            ("OUTPUT", HostHook::Output, -150, ChainKind::Route),
            filter("POSTROUTING", HostHook::Postrouting, -150),
        ],
    ),
    ("raw", &[filter("PREROUTING", HostHook::Prerouting, -300), filter("OUTPUT", HostHook::Output, -300)]),
    (
        "security",
        &[
            filter("INPUT", HostHook::Input, 50),
            filter("FORWARD", HostHook::Forward, 50),
            filter("OUTPUT", HostHook::Output, 50),
        ],
    ),
];

/// Who keeps a table, by its chains with the rules of each and the names of its sets.
pub(super) fn backend<'a>(
    (family, name): (TableFamily, &str),
    chains: &BTreeMap<String, Option<HostBase>>,
    mut rules: impl Iterator<Item = &'a [Piece]>,
    mut sets: impl Iterator<Item = &'a String>,
) -> Backend {
    let own = TABLES.iter().find(|(table, _)| *table == name).map(|(_, chains)| *chains);
    let Some(own) = own.filter(|_| family != TableFamily::Inet) else {
        return Backend::Nft;
    };
    let mut bases = chains.iter().filter_map(|(name, base)| base.map(|base| (name, base))).peekable();
    let made = bases.peek().is_some()
        && bases.all(|(name, base)| own.contains(&(name.as_str(), base.hook, base.priority, base.kind)));
    let counted = rules.all(|pieces| pieces.iter().any(|piece| matches!(piece, Piece::Counter)));
    // Those without a name belong to single rules.
    let unnamed = sets.all(|set| set.starts_with("__"));
    if made && counted && unnamed { Backend::IptablesNft } else { Backend::Nft }
}
