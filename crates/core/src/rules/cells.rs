//! Cells: the server side of all clauses cut into disjoint boxes, each with the stages that judge the client
//! side. The server side is the key of a map in the kernel; a cell is what its elements lead to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::boxes::{Rectangle, subtract};
use super::clause::{Class, Clause, Outcome};
use crate::net::{AddressRange, Family, PortRange, Proto};

/// Client rectangles behind one choice of interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stage {
    /// Interface names or patterns. Empty: any.
    pub interfaces: Vec<Arc<str>>,
    /// Disjoint rectangles and what becomes of their tuples.
    pub clients: Vec<(Rectangle, Outcome)>,
}

/// The stages of a cell, asked one after the other until one has the packet's client.
pub type Stages = Arc<Vec<Stage>>;

/// A box of server addresses and ports that share their stages.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The protocol.
    pub proto: Proto,
    /// The server's addresses.
    pub servers: AddressRange,
    /// The server's ports.
    pub ports: PortRange,
    /// Who may be the client.
    pub stages: Stages,
}

/// The disjoint cells of a class and family that bypass anything.
pub fn cells(clauses: &[Clause], class: Class, family: Family) -> Vec<Cell> {
    let mut cells = Vec::new();
    for proto in Proto::ALL {
        let relevant: Vec<&Clause> =
            clauses.iter().filter(|clause| clause.class == class && clause.proto == proto).collect();
        if relevant.iter().any(|clause| clause.outcome != Outcome::Keep) {
            Cutter { clauses: relevant, family, proto, runs: HashMap::new(), stages: HashMap::new() }
                .cut(&mut cells);
        }
    }
    cells
}

/// A row of one port interval: server ranges and their stages.
type Run = Arc<Vec<(AddressRange, Stages)>>;

struct Cutter<'a> {
    clauses: Vec<&'a Clause>,
    family: Family,
    proto: Proto,
    runs: HashMap<Vec<usize>, Run>,
    stages: HashMap<Vec<usize>, Option<Stages>>,
}

impl Cutter<'_> {
    /// Sweeps over the ports: between two boundaries the same clauses are active.
    fn cut(mut self, cells: &mut Vec<Cell>) {
        let mut starts: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut ends: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (number, clause) in self.clauses.iter().enumerate() {
            for ports in &clause.server_ports {
                starts.entry(u32::from(ports.first())).or_default().push(number);
                ends.entry(u32::from(ports.last()) + 1).or_default().push(number);
            }
        }
        let bounds: BTreeSet<u32> = starts.keys().chain(ends.keys()).copied().collect();
        let bounds: Vec<u32> = bounds.into_iter().collect();
        // A clause may be active by more than one of its ranges.
        let mut active: BTreeMap<usize, u32> = BTreeMap::new();
        let mut open: Option<(u32, u32, Run)> = None;
        for (place, bound) in bounds.iter().enumerate() {
            for number in ends.get(bound).into_iter().flatten() {
                if let Some(count) = active.get_mut(number) {
                    *count -= 1;
                    if *count == 0 {
                        active.remove(number);
                    }
                }
            }
            for number in starts.get(bound).into_iter().flatten() {
                *active.entry(*number).or_default() += 1;
            }
            let Some(next) = bounds.get(place + 1) else { break };
            let run = self.run(active.keys().copied().collect());
            open = match open {
                Some((first, end, previous)) if end == *bound && *previous == *run => {
                    Some((first, *next, previous))
                }
                previous => {
                    self.close(previous, cells);
                    Some((*bound, *next, run))
                }
            };
        }
        self.close(open, cells);
    }

    fn close(&self, open: Option<(u32, u32, Run)>, cells: &mut Vec<Cell>) {
        let Some((first, end, run)) = open else { return };
        // Bounds lie between 0 and 65,536, and the end is above the start.
        let Some(ports) = PortRange::new(first as u16, (end - 1) as u16) else { return };
        cells.extend(run.iter().map(|(servers, stages)| Cell {
            proto: self.proto,
            servers: *servers,
            ports,
            stages: stages.clone(),
        }));
    }

    /// The server ranges where the active clauses bypass anything.
    fn run(&mut self, active: Vec<usize>) -> Run {
        if let Some(run) = self.runs.get(&active) {
            return run.clone();
        }
        let run = Arc::new(self.cut_addresses(&active));
        self.runs.insert(active, run.clone());
        run
    }

    fn cut_addresses(&mut self, active: &[usize]) -> Vec<(AddressRange, Stages)> {
        let mut bounds: BTreeSet<u128> = BTreeSet::new();
        let mut to_the_end = false;
        for range in active.iter().flat_map(|number| &self.clauses[*number].servers) {
            if range.family == self.family {
                bounds.insert(range.first);
                match range.last.checked_add(1) {
                    Some(next) => bounds.insert(next),
                    None => std::mem::replace(&mut to_the_end, true),
                };
            }
        }
        let bounds: Vec<u128> = bounds.into_iter().collect();
        let mut row: Vec<(AddressRange, Stages)> = Vec::new();
        for (place, first) in bounds.iter().enumerate() {
            let last = match bounds.get(place + 1) {
                Some(next) => next - 1,
                None if to_the_end => u128::MAX,
                None => break,
            };
            let servers = AddressRange { family: self.family, first: *first, last };
            let here: Vec<usize> = active
                .iter()
                .copied()
                .filter(|number| {
                    let ranges = &self.clauses[*number].servers;
                    ranges.iter().any(|range| range.overlaps(servers))
                })
                .collect();
            let Some(stages) = self.stages(here) else { continue };
            match row.last_mut() {
                Some((before, same)) if before.last + 1 == *first && *same == stages => before.last = last,
                _ => row.push((servers, stages)),
            }
        }
        row
    }

    fn stages(&mut self, clauses: Vec<usize>) -> Option<Stages> {
        if let Some(known) = self.stages.get(&clauses) {
            return known.clone();
        }
        let list: Vec<&Clause> = clauses.iter().map(|number| self.clauses[*number]).collect();
        let stages = stages(&list, self.family).map(Arc::new);
        self.stages.insert(clauses, stages.clone());
        stages
    }
}

/// The stages of clauses in the order of precedence; `None` where nothing is bypassed.
fn stages(clauses: &[&Clause], family: Family) -> Option<Vec<Stage>> {
    let mut stages: Vec<Stage> = Vec::new();
    // What clauses for every interface have taken is out of reach of all later ones.
    let mut taken: Vec<Rectangle> = Vec::new();
    for clause in clauses {
        let mut rectangles = subtract(client_rectangles(clause, family), &taken);
        if clause.interfaces.is_empty() {
            taken.extend(&rectangles);
        }
        match stages.last_mut() {
            Some(stage) if stage.interfaces == clause.interfaces => {
                rectangles = subtract(rectangles, stage.clients.iter().map(|(rectangle, _)| rectangle));
                stage.clients.extend(rectangles.into_iter().map(|rectangle| (rectangle, clause.outcome)));
            }
            _ => stages.push(Stage {
                interfaces: clause.interfaces.clone(),
                clients: rectangles.into_iter().map(|rectangle| (rectangle, clause.outcome)).collect(),
            }),
        }
    }
    // Nothing follows the last stage: what it keeps is kept anyway.
    while let Some(stage) = stages.last_mut() {
        stage.clients.retain(|(_, outcome)| *outcome != Outcome::Keep);
        if !stage.clients.is_empty() {
            break;
        }
        stages.pop();
    }
    stages.retain(|stage| !stage.clients.is_empty());
    (!stages.is_empty()).then_some(stages)
}

fn client_rectangles(clause: &Clause, family: Family) -> Vec<Rectangle> {
    let addresses = clause.clients.iter().filter(|range| range.family == family);
    addresses
        .flat_map(|addresses| {
            clause.client_ports.iter().map(|ports| Rectangle { addresses: *addresses, ports: *ports })
        })
        .collect()
}
