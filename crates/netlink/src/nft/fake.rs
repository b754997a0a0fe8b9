//! nf_tables in memory, with the kernel's semantics: all or nothing, no dangling reference, no duplicate.
//! The conformance suite holds it against the kernel.

use notrack_core::diff::{CounterValue, Observed, ObservedChain, ObservedSet, Op, Transaction};
use notrack_core::nf::expr::Expr;
use notrack_core::nf::{Element, Verdict};

use super::{Netfilter, NftError};
use crate::socket::NetlinkError;

/// A fake kernel with one table.
#[derive(Debug, Default)]
pub struct Fake {
    /// The table, as it would be read.
    pub table: Option<Observed>,
    /// How many transactions were committed.
    pub commits: usize,
}

impl Netfilter for Fake {
    fn observe(&mut self) -> Result<Option<Observed>, NftError> {
        Ok(self.table.clone())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        if transaction.is_empty() {
            return Ok(());
        }
        let mut next = self.table.clone();
        for op in &transaction.ops {
            apply(&mut next, op).map_err(|errno| NftError::Refused {
                op: op.to_string(),
                source: NetlinkError::Kernel { errno, what: "nf_tables", ext_ack: None },
            })?;
        }
        self.table = next;
        self.commits += 1;
        Ok(())
    }
}

/// Applies one message; the error is the kernel's number.
fn apply(table: &mut Option<Observed>, op: &Op) -> Result<(), i32> {
    match op {
        Op::AddTable => {
            table.get_or_insert_default();
            return Ok(());
        }
        Op::DeleteTable => return table.take().map(|_| ()).ok_or(libc::ENOENT),
        _ => {}
    }
    let table = table.as_mut().ok_or(libc::ENOENT)?;
    match op {
        Op::AddTable | Op::DeleteTable => {}
        Op::AddChain { name, base } => {
            let chain = ObservedChain { base: *base, accepts: true, rules: Vec::new() };
            table.chains.entry(name.clone()).or_insert(chain);
        }
        Op::FlushChain(name) => table.chains.get_mut(name).ok_or(libc::ENOENT)?.rules.clear(),
        Op::DeleteChain(name) => {
            let chain = table.chains.get(name).ok_or(libc::ENOENT)?;
            if !chain.rules.is_empty() || is_target(table, name) {
                return Err(libc::EBUSY);
            }
            table.chains.remove(name);
        }
        Op::AddRule { chain, rule } => {
            check_references(table, rule)?;
            table.chains.get_mut(chain).ok_or(libc::ENOENT)?.rules.push(rule.clone());
        }
        Op::AddSet { name, spec, size } => {
            let set = || ObservedSet { spec: spec.clone(), size: *size, elements: Vec::new() };
            // What is there may be made again, but not as something else.
            if table.sets.entry(name.clone()).or_insert_with(set).spec != *spec {
                return Err(libc::EEXIST);
            }
        }
        Op::DeleteSet(name) => {
            let used = |expr: &Expr| matches!(expr, Expr::Lookup { set, .. } if set == name);
            if expressions(table).any(used) {
                return Err(libc::EBUSY);
            }
            table.sets.remove(name).ok_or(libc::ENOENT)?;
        }
        Op::FlushSet(name) => table.sets.get_mut(name).ok_or(libc::ENOENT)?.elements.clear(),
        Op::AddElements { set, elements, .. } => add_elements(table, set, elements)?,
        Op::DeleteElements { set, elements, .. } => {
            let set = table.sets.get_mut(set).ok_or(libc::ENOENT)?;
            for element in elements {
                let same = |known: &Element| known.key == element.key && known.end == element.end;
                let place = set.elements.iter().position(same).ok_or(libc::ENOENT)?;
                set.elements.remove(place);
            }
        }
        Op::AddCounter(name) => {
            table.counters.entry(name.clone()).or_insert(CounterValue::default());
        }
        Op::DeleteCounter(name) => {
            let used = |expr: &Expr| matches!(expr, Expr::Counter(counter) if counter == name);
            if expressions(table).any(used) {
                return Err(libc::EBUSY);
            }
            table.counters.remove(name).ok_or(libc::ENOENT)?;
        }
    }
    Ok(())
}

fn add_elements(table: &mut Observed, name: &str, elements: &[Element]) -> Result<(), i32> {
    for element in elements {
        if let Some(target) = element.verdict.as_ref().and_then(Verdict::target)
            && !table.chains.contains_key(&**target)
        {
            return Err(libc::ENOENT);
        }
        let set = table.sets.get_mut(name).ok_or(libc::ENOENT)?;
        match set.elements.iter().find(|known| known.key == element.key && known.end == element.end) {
            Some(known) if known.verdict == element.verdict => {}
            // The same key with another verdict.
            Some(_) => return Err(libc::EEXIST),
            None if set.size.is_some_and(|size| set.elements.len() >= size as usize) => {
                return Err(libc::ENFILE);
            }
            None => set.elements.push(element.clone()),
        }
        set.elements.sort();
    }
    Ok(())
}

fn expressions(table: &Observed) -> impl Iterator<Item = &Expr> {
    table.chains.values().flat_map(|chain| &chain.rules).flatten()
}

fn is_target(table: &Observed, name: &str) -> bool {
    let leads = |verdict: &Verdict| verdict.target().is_some_and(|target| **target == *name);
    let by_element = table
        .sets
        .values()
        .flat_map(|set| &set.elements)
        .filter_map(|element| element.verdict.as_ref())
        .any(leads);
    by_element || expressions(table).any(|expr| matches!(expr, Expr::Immediate(verdict) if leads(verdict)))
}

fn check_references(table: &Observed, rule: &[Expr]) -> Result<(), i32> {
    let resolved = rule.iter().all(|expr| match expr {
        Expr::Lookup { set, .. } => table.sets.contains_key(set),
        Expr::Counter(name) => table.counters.contains_key(name),
        Expr::Immediate(verdict) => {
            verdict.target().is_none_or(|target| table.chains.contains_key(&**target))
        }
        _ => true,
    });
    if resolved { Ok(()) } else { Err(libc::ENOENT) }
}
