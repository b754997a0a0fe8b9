//! From what is in the kernel to what should be there: the smallest transaction, empty where both agree.

mod observed;
mod transaction;

use std::collections::BTreeSet;

pub use observed::{CounterValue, Observed, ObservedChain, ObservedSet};
pub use transaction::{Op, Transaction};

use crate::nf::expr::Expr;
use crate::nf::{Chain, Element, Set, Table};

/// The transaction that turns `observed` into `desired`; `None` observed: there is no table of ours.
///
/// Objects that did not change are not touched, so counters keep counting and packets always meet exactly one
/// complete table. Whatever else is in our table is removed.
pub fn diff(observed: Option<&Observed>, desired: &Table) -> Transaction {
    let mut ops = Vec::new();
    match observed {
        None if desired.chains.is_empty() => {}
        Some(_) if desired.chains.is_empty() => ops.push(Op::DeleteTable),
        Some(observed) if observed.foreign.is_empty() => change(observed, desired, &mut ops),
        // Objects of a kind that we never make: only removing the table removes them for certain.
        Some(_) => {
            ops.push(Op::DeleteTable);
            ops.push(Op::AddTable);
            change(&Observed::default(), desired, &mut ops);
        }
        None => {
            ops.push(Op::AddTable);
            change(&Observed::default(), desired, &mut ops);
        }
    }
    Transaction { ops }
}

/// The transaction that gives every lease of a table its full time again. Flush and add in one batch renew on any
/// kernel; below 6.12 adding alone does not.
pub fn renew(table: &Table) -> Transaction {
    let leases = table.sets.iter().filter(|(_, set)| set.spec.timeout);
    let ops =
        leases.flat_map(|(name, set)| [Op::FlushSet(name.clone()), add_elements(name, set, &set.elements)]);
    Transaction { ops: ops.collect() }
}

fn change(observed: &Observed, desired: &Table, ops: &mut Vec<Op>) {
    let plan = Plan::new(observed, desired);
    // Rules first: they hold on to sets, chains and counters; then elements, which hold on to chains.
    ops.extend(plan.flushed.iter().map(|name| Op::FlushChain(name.to_string())));
    for (name, set) in &observed.sets {
        match desired.sets.get(name) {
            Some(wanted) if !plan.new_sets.contains(name.as_str()) => {
                let stale = difference(&set.elements, &wanted.elements);
                if !stale.is_empty() {
                    ops.push(Op::DeleteElements {
                        set: name.clone(),
                        spec: set.spec.clone(),
                        elements: stale,
                    });
                }
            }
            _ => ops.push(Op::DeleteSet(name.clone())),
        }
    }
    let gone = observed.chains.keys().filter(|name| plan.is_gone(name, desired));
    ops.extend(gone.map(|name| Op::DeleteChain(name.clone())));
    let gone = observed.counters.keys().filter(|name| !desired.counters.contains(*name));
    ops.extend(gone.map(|name| Op::DeleteCounter(name.clone())));

    let new = desired.counters.iter().filter(|name| !observed.counters.contains_key(*name));
    ops.extend(new.map(|name| Op::AddCounter(name.clone())));
    let new = desired.chains.iter().filter(|(name, _)| plan.new_chains.contains(name.as_str()));
    ops.extend(new.map(|(name, chain)| Op::AddChain { name: name.clone(), base: chain.base }));
    for (name, set) in &desired.sets {
        let missing = if plan.new_sets.contains(name.as_str()) {
            ops.push(Op::AddSet { name: name.clone(), spec: set.spec.clone(), size: size(set) });
            set.elements.clone()
        } else {
            let known = observed.sets.get(name).map(|set| set.elements.as_slice()).unwrap_or_default();
            difference(&set.elements, known)
        };
        if !missing.is_empty() {
            ops.push(add_elements(name, set, &missing));
        }
    }
    for (name, chain) in &desired.chains {
        if plan.flushed.contains(name.as_str()) || plan.new_chains.contains(name.as_str()) {
            let rules =
                chain.rules.iter().map(|rule| Op::AddRule { chain: name.clone(), rule: rule.lower() });
            ops.extend(rules);
        }
    }
}

fn add_elements(name: &str, set: &Set, elements: &[Element]) -> Op {
    Op::AddElements {
        set: name.to_owned(),
        spec: set.spec.clone(),
        elements: elements.to_vec(),
        lifetime: set.lifetime,
    }
}

/// Which named objects are made anew.
struct Plan<'a> {
    /// Chains whose rules go, because they change or because they refer to something that is made anew.
    flushed: BTreeSet<&'a str>,
    new_chains: BTreeSet<&'a str>,
    new_sets: BTreeSet<&'a str>,
}

impl<'a> Plan<'a> {
    fn new(observed: &'a Observed, desired: &'a Table) -> Plan<'a> {
        let same_set = |name: &str, set: &Set| {
            observed.sets.get(name).is_some_and(|known| {
                known.spec == set.spec && known.size.is_none_or(|size| set.elements.len() <= size as usize)
            })
        };
        let new_sets: BTreeSet<&str> = desired
            .sets
            .iter()
            .filter(|(name, set)| !same_set(name, set))
            .map(|(name, _)| name.as_str())
            .collect();
        let same_base = |name: &str, chain: &Chain| {
            observed.chains.get(name).is_some_and(|known| known.base == chain.base && known.accepts)
        };
        let new_chains: BTreeSet<&str> = desired
            .chains
            .iter()
            .filter(|(name, chain)| !same_base(name, chain))
            .map(|(name, _)| name.as_str())
            .collect();
        let uses_new_set = |rule: &Vec<Expr>| {
            rule.iter()
                .any(|expr| matches!(expr, Expr::Lookup { set, .. } if new_sets.contains(set.as_str())))
        };
        let same_rules = |chain: &Chain, known: &ObservedChain| {
            known.rules.len() == chain.rules.len()
                && known.rules.iter().zip(&chain.rules).all(|(known, rule)| *known == rule.lower())
        };
        let flushed = observed
            .chains
            .iter()
            .filter(|(name, known)| {
                !known.rules.is_empty()
                    || desired.chains.get(*name).is_some_and(|chain| !chain.rules.is_empty())
            })
            .filter(|(name, known)| match desired.chains.get(*name) {
                Some(chain) => !same_rules(chain, known) || known.rules.iter().any(uses_new_set),
                None => true,
            })
            .map(|(name, _)| name.as_str());
        // A chain that is made anew loses its rules too.
        let remade = observed.chains.keys().map(String::as_str).filter(|name| new_chains.contains(name));
        Plan { flushed: flushed.chain(remade).collect(), new_chains, new_sets }
    }

    fn is_gone(&self, name: &str, desired: &Table) -> bool {
        !desired.chains.contains_key(name) || self.new_chains.contains(name)
    }
}

/// The elements of sorted `a` that sorted `b` lacks.
fn difference(a: &[Element], b: &[Element]) -> Vec<Element> {
    let mut rest = b.iter().peekable();
    let mut missing = Vec::new();
    for element in a {
        while rest.peek().is_some_and(|other| *other < element) {
            rest.next();
        }
        if rest.peek().is_none_or(|other| *other != element) {
            missing.push(element.clone());
        }
    }
    missing
}

/// Room for twice the elements: with a size the kernel takes the hash of fixed size, which is filled three times
/// as fast and looked up without a read-side walk of a growing table.
fn size(set: &Set) -> Option<u32> {
    const SMALLEST: usize = 64;
    if set.spec.interval || set.spec.timeout {
        return None;
    }
    u32::try_from((set.elements.len() * 2).max(SMALLEST).next_power_of_two()).ok()
}
