//! The chains and maps by which packets of each family are looked up.

use std::collections::{BTreeMap, BTreeSet};

use super::cells::{Cell, cells};
use super::clause::{Class, Clause, Outcome};
use super::limit;
use super::render::{RenderError, byte_set};
use super::sites::{Interfaces, View, sites};
use super::writer::{ClassCells, Purpose, Writer};
use crate::compile::RuleSet;
use crate::facts::NodeFacts;
use crate::net::Family;
use crate::nf::{Chain, Direction, FieldType, Hook, RawField, Rule, Statement, Table, Verdict};
use crate::packet::{icmp_errors, icmp_number};

/// The chains and maps of both families.
pub(super) struct Pages {
    pub table: Table,
    /// The policies that have something in them.
    pub owners: BTreeSet<usize>,
    /// Which families a hook has chains for.
    pub hooks: BTreeMap<Hook, Vec<Family>>,
}

pub(super) fn pages(rule_set: &RuleSet, facts: &NodeFacts, clauses: &[Clause]) -> Result<Pages, RenderError> {
    let mut pages = Pages { table: Table::default(), owners: BTreeSet::new(), hooks: BTreeMap::new() };
    let Pages { table, owners, hooks } = &mut pages;
    let mut elements = 0;
    for family in Family::ALL {
        let by_class: ClassCells =
            Class::ALL.into_iter().map(|class| (class, cells(clauses, class, family))).collect();
        owners.extend(by_class.values().flatten().flat_map(cell_owners));
        for hook in [Hook::Prerouting, Hook::Output] {
            let mut page = Page { table, rule_set, facts, family, elements: &mut elements };
            if page.write(hook, &by_class)? {
                hooks.entry(hook).or_default().push(family);
            }
        }
        let mut page = Page { table, rule_set, facts, family, elements: &mut elements };
        limit::write(&mut page, &by_class)?;
    }
    Ok(pages)
}

fn cell_owners(cell: &Cell) -> impl Iterator<Item = usize> {
    cell.stages.iter().flat_map(|stage| &stage.clients).filter_map(|(_, outcome)| owner(*outcome))
}

/// The policy that has a clause; `None`: it stays tracked.
pub(super) fn owner(outcome: Outcome) -> Option<usize> {
    match outcome {
        Outcome::Policy(place) => Some(place),
        Outcome::Keep => None,
    }
}

/// One family's chains of the table.
pub(super) struct Page<'a> {
    pub table: &'a mut Table,
    pub rule_set: &'a RuleSet,
    pub facts: &'a NodeFacts,
    pub family: Family,
    pub elements: &'a mut usize,
}

impl Page<'_> {
    pub fn writer(&mut self, purpose: Purpose) -> Writer<'_> {
        Writer {
            table: self.table,
            rule_set: self.rule_set,
            purpose,
            family: self.family,
            elements: self.elements,
        }
    }

    /// Writes the chain of a hook; returns whether there is one.
    fn write(&mut self, hook: Hook, cells: &ClassCells) -> Result<bool, RenderError> {
        let direct = self.lookups(hook, Purpose::Bypass(View::Direct), View::Direct, cells)?;
        let icmp = self.write_icmp(hook, cells)?;
        if direct.is_empty() && icmp.is_none() {
            return Ok(false);
        }
        let mut rules = Vec::new();
        if let Some(chain) = icmp {
            rules.push(Rule(vec![
                Statement::L4Proto(icmp_number(self.family)),
                Statement::Verdict(Verdict::Goto(chain.into())),
            ]));
        }
        for (guard, lookup) in direct {
            rules.push(Rule([guard, vec![Statement::Family(self.family), lookup]].concat()));
        }
        self.table.chains.insert(family_chain(hook, self.family), Chain { base: None, rules });
        Ok(true)
    }

    /// The look-ups of a hook with the guard that each needs.
    fn lookups(
        &mut self,
        hook: Hook,
        purpose: Purpose,
        view: View,
        cells: &ClassCells,
    ) -> Result<Vec<(Vec<Statement>, Statement)>, RenderError> {
        let incoming = if hook == Hook::Prerouting { Direction::In } else { Direction::Out };
        let mut rules = Vec::new();
        for site in sites(hook, view) {
            let cells = cells.get(&site.class).map(Vec::as_slice).unwrap_or_default();
            let guard = match site.interfaces {
                Interfaces::All => Vec::new(),
                Interfaces::Loopback if self.reaches_itself(cells) => vec![Statement::Loopback(incoming)],
                Interfaces::Loopback => continue,
            };
            let lookups = self.writer(purpose).write(site.class, site.half, cells)?;
            rules.extend(lookups.into_iter().map(|lookup| (guard.clone(), lookup)));
        }
        Ok(rules)
    }

    /// Whether a server of the cells is this node itself, so that its packets pass the loopback device.
    fn reaches_itself(&self, cells: &[Cell]) -> bool {
        cells.iter().any(|cell| self.facts.addresses.iter().any(|address| cell.servers.contains(*address)))
    }

    /// The chain for ICMP errors about bypassed packets, found by the tuple that they embed.
    fn write_icmp(&mut self, hook: Hook, cells: &ClassCells) -> Result<Option<String>, RenderError> {
        let mut rules = Vec::new();
        // Version 4 with a header of five words, unfragmented or a first fragment; others stay tracked.
        let plain = match self.family {
            Family::Ipv4 => vec![bits(64, 8, 0xff, 0x45), bits(112, 16, 0x1fff, 0)],
            Family::Ipv6 => Vec::new(),
        };
        let mut shapes = vec![(Purpose::Bypass(View::Embedded), plain)];
        if self.family == Family::Ipv6 {
            // A first fragment: next header 44, offset 0.
            shapes.push((Purpose::BypassFragment, vec![bits(112, 8, 0xff, 44), bits(400, 16, 0xfff8, 0)]));
        }
        for (purpose, shape) in shapes {
            for (guard, lookup) in self.lookups(hook, purpose, View::Embedded, cells)? {
                rules.push(Rule([vec![self.icmp_error()], guard, shape.clone(), vec![lookup]].concat()));
            }
        }
        if rules.is_empty() {
            return Ok(None);
        }
        let name = format!("{}-icmp", family_chain(hook, self.family));
        self.table.chains.insert(name.clone(), Chain { base: None, rules });
        let (set, field) = match self.family {
            Family::Ipv4 => ("icmp-errors4", FieldType::IcmpType),
            Family::Ipv6 => ("icmp-errors6", FieldType::Icmpv6Type),
        };
        self.table.sets.insert(set.to_owned(), byte_set(field, icmp_errors(self.family)));
        Ok(Some(name))
    }

    fn icmp_error(&self) -> Statement {
        let (field, set) = match self.family {
            Family::Ipv4 => (RawField::IcmpType, "icmp-errors4"),
            Family::Ipv6 => (RawField::Icmpv6Type, "icmp-errors6"),
        };
        Statement::InSet { key: vec![field], set: set.into(), inverted: false }
    }
}

fn bits(offset: u16, bits: u16, mask: u16, value: u16) -> Statement {
    Statement::TransportBits { offset, bits, mask, value }
}

pub(super) fn family_chain(hook: Hook, family: Family) -> String {
    format!("{}{}", hook.nft_name(), family.digit())
}
