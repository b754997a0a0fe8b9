//! Compensating filter rules: a stateless limit on new connections, ahead of the host's own filter.

use super::clause::Class;
use super::page::Page;
use super::render::{RenderError, limit_chain};
use super::sites::Half;
use super::writer::{ClassCells, Purpose};
use crate::compile::RuleSet;
use crate::nf::{Base, Chain, Hook, Rule, Statement, Table, Verdict};

/// Ahead of filter (0): nothing here can override a drop there, but what is dropped here never gets there.
pub const COMPENSATION_PRIORITY: i32 = -10;

/// Adds the look-ups of one family to the input and forward chains.
pub(super) fn write(page: &mut Page<'_>, cells: &ClassCells) -> Result<(), RenderError> {
    // Only untracked packets are limited. Where that cannot be asked without turning tracking on, nothing is.
    if !page.facts.tracked.ct_expression_is_free() {
        return Ok(());
    }
    for (hook, class) in [(Hook::Input, Class::Own), (Hook::Forward, Class::Forward)] {
        let cells = cells.get(&class).map(Vec::as_slice).unwrap_or_default();
        let lookups = page.writer(Purpose::Limit).write(class, Half::ToServer, cells)?;
        for lookup in lookups {
            let rule =
                vec![Statement::Family(page.family), Statement::CtUntracked, Statement::TcpSyn, lookup];
            let base = Some(Base { hook, priority: COMPENSATION_PRIORITY });
            let chain = page.table.chains.entry(hook.nft_name().to_owned());
            chain.or_insert(Chain { base, rules: Vec::new() }).rules.push(Rule(rule));
        }
    }
    Ok(())
}

/// Adds the chain of each policy with a limit.
pub(super) fn add_chains(table: &mut Table, rule_set: &RuleSet) {
    for policy in rule_set.policies() {
        let per_second = policy.compensation.new_connections_per_second;
        let chain = limit_chain(policy);
        let led_to = |set: &crate::nf::Set| {
            set.elements.iter().any(|element| {
                element.verdict.as_ref().and_then(Verdict::target).is_some_and(|target| *target == chain)
            })
        };
        if per_second == 0 || !table.sets.values().any(led_to) {
            continue;
        }
        let dropped = chain.clone();
        table.counters.insert(dropped.to_string());
        let rule = Rule(vec![
            Statement::RateOver { per_second },
            Statement::Counter(dropped),
            Statement::Verdict(Verdict::Drop),
        ]);
        table.chains.insert(chain.to_string(), Chain { base: None, rules: vec![rule] });
    }
}
