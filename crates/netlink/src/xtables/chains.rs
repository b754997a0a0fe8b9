//! The chains of a table: runs of rules that a hook, or the head of a chain of the user's, begins.

use std::ops::Range;

use super::{Entries, Entry, HOOKS, Image};

/// iptables' names of the chains at the hooks, by `NF_INET_*`.
const BUILT_IN: [&str; HOOKS] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// `XT_ERROR_TARGET`, which heads a chain of the user's and ends the table; its data is the name.
pub(super) const ERROR: &str = "ERROR";

/// A table, read.
#[derive(Debug, Clone)]
pub(crate) struct Table<'a> {
    /// All rules, the heads and ends of chains among them.
    pub rules: Vec<Entry<'a>>,
    /// The chains as they lie there.
    pub chains: Vec<Chain<'a>>,
}

/// A chain.
#[derive(Debug, Clone)]
pub(crate) struct Chain<'a> {
    /// Its name.
    pub name: &'a str,
    /// `NF_INET_*`; of the user's chains none.
    pub hook: Option<usize>,
    /// Its rules among the table's, but for the one behind them that every chain has: its policy or its return.
    pub rules: Range<usize>,
}

impl Image {
    /// Its rules and chains.
    ///
    /// # Errors
    /// Where its bytes are not as `ip_tables.c` keeps them: what is odd about them.
    pub(crate) fn table(&self) -> Result<Table<'_>, &'static str> {
        let mut entries = Entries::new(&self.bytes, self.layout);
        let rules: Vec<Entry<'_>> = entries.by_ref().collect();
        if !entries.is_done() {
            return Err("its rules do not add up to its size");
        }
        let mut chains: Vec<Chain<'_>> = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let begins = |hook: &Option<(u32, u32)>| hook.is_some_and(|(at, _)| at as usize == rule.offset);
            let hook = self.hooks.iter().position(begins);
            let head = rule.target().filter(|target| target.name == ERROR);
            let (name, start) = match (hook, head) {
                (Some(hook), _) => (BUILT_IN[hook], index),
                (None, Some(head)) => (head.text().ok_or("a chain's name is not text")?, index + 1),
                (None, None) if chains.is_empty() => return Err("its first rule is in no chain"),
                (None, None) => continue,
            };
            if let Some(before) = chains.last_mut() {
                let end = index.checked_sub(1).filter(|end| before.rules.start <= *end);
                before.rules.end = end.ok_or("a chain without an end")?;
            }
            chains.push(Chain { name, hook, rules: start..start });
        }
        // The last rule ends the table: the head of a chain of this name, without the chain.
        match chains.pop() {
            Some(end) if end.hook.is_none() && end.name == ERROR && end.rules.start == rules.len() => {
                Ok(Table { rules, chains })
            }
            _ => Err("its last rule does not end it"),
        }
    }
}
