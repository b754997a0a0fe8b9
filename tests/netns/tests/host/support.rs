use notrack_core::host::{HostRule, HostRules, HostTable};
use notrack_lab::{Namespace, run_ok};

/// A namespace with a ruleset.
pub fn loaded(script: &str) -> Namespace {
    let namespace = Namespace::new("host").unwrap();
    namespace.ip("link set lo up").unwrap();
    namespace.nft(script).unwrap();
    namespace
}

pub fn read(namespace: &Namespace) -> HostRules {
    let rules = namespace.enter(notrack_netlink::host::read).unwrap().unwrap();
    assert_eq!(rules.incomplete, Vec::<String>::new());
    rules
}

pub fn table<'a>(rules: &'a HostRules, shown: &str) -> &'a HostTable {
    let table = rules.tables.iter().find(|table| table.id.to_string() == shown);
    table.unwrap_or_else(|| panic!("no table {shown} in {:#?}", rules.tables))
}

/// The only table of a ruleset.
pub fn only(namespace: &Namespace) -> HostTable {
    let mut rules = read(namespace);
    assert_eq!(rules.tables.len(), 1, "{:#?}", rules.tables);
    rules.tables.remove(0)
}

/// The rules of a chain with their handles, as nft lists them.
pub fn listed(namespace: &Namespace, chain: &str) -> Vec<(u64, String)> {
    let arguments = format!("--stateless --handle --numeric-priority list chain {chain}");
    let listing = run_ok(namespace.command("nft").args(arguments.split_whitespace())).unwrap();
    let rules = listing.lines().filter_map(|line| {
        let (rule, handle) = line.trim().rsplit_once(" # handle ")?;
        (!rule.ends_with('{')).then(|| (handle.parse().unwrap(), rule.to_owned()))
    });
    rules.collect()
}

/// The rules of a chain with their handles, as read.
pub fn texts(rules: &[HostRule]) -> Vec<(u64, String)> {
    rules
        .iter()
        .map(|rule| {
            let comment = rule.comment.as_ref().map(|comment| format!(" comment \"{comment}\""));
            (rule.handle, format!("{}{}", rule.text, comment.unwrap_or_default()))
        })
        .collect()
}
