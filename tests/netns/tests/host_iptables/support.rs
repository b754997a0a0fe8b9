//! Loading rules, and the two lists of them.

use std::collections::BTreeMap;

use notrack_core::host::{Backend, HostRules, HostTable, TableFamily};
use notrack_lab::{Namespace, run_ok, run_ok_with_input};
use notrack_netlink::host;

pub const V4: &str = "iptables-legacy";
pub const V6: &str = "ip6tables-legacy";

pub fn run(namespace: &Namespace, line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = namespace.command(words.next().unwrap());
    run_ok(command.args(words)).unwrap()
}

/// Loads rules of a table, as `iptables-restore` reads them.
pub fn load(namespace: &Namespace, program: &str, table: &str, rules: &[&str]) {
    let script = format!("*{table}\n{}\nCOMMIT\n", rules.join("\n"));
    let mut command = namespace.command(&format!("{program}-restore"));
    run_ok_with_input(command.arg("--noflush"), &script).unwrap();
}

pub fn read(namespace: &Namespace) -> HostRules {
    let rules = namespace.enter(host::read).unwrap().unwrap();
    assert_eq!(rules.incomplete, Vec::<String>::new());
    rules
}

pub fn table<'a>(rules: &'a HostRules, program: &str, name: &str) -> &'a HostTable {
    let family = if program == V4 { TableFamily::Ip } else { TableFamily::Ip6 };
    let mut tables = rules.tables.iter().filter(|table| table.id.backend == Backend::IptablesLegacy);
    tables.find(|table| table.id.family == family && table.id.name == name).unwrap()
}

/// A table as `-S` would list it: policies, chains, rules by chain.
pub fn written(table: &HostTable) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, chain) in &table.chains {
        let own = lines.entry(name.clone()).or_default();
        own.push(match chain.base {
            Some(base) => format!("-P {name} {}", if base.drops { "DROP" } else { "ACCEPT" }),
            None => format!("-N {name}"),
        });
        for rule in &chain.rules {
            assert_eq!(rule.handle as usize, own.len(), "rules are numbered from 1");
            own.push(format!("-A {name} {}", rule.text).trim_end().to_owned());
        }
    }
    lines
}

/// The same of what the program lists.
pub fn listed(namespace: &Namespace, program: &str, table: &str) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in run(namespace, &format!("{program} -t {table} -S")).lines() {
        let chain = line.split(' ').nth(1).unwrap();
        lines.entry(chain.to_owned()).or_default().push(line.to_owned());
    }
    lines
}
