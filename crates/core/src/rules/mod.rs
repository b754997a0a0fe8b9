//! From a rule set to the table of one node: fill in the node's facts, cut the tuples into disjoint cells,
//! write cells as elements of maps.

mod boxes;
mod cells;
mod clause;
mod findings;
mod limit;
mod render;
mod sites;
mod writer;

pub use clause::{Class, Clause, Clauses, Outcome, localise};
pub use render::{RenderError, Rendered, counter_name, render};
pub use sites::{Half, Interfaces, Site, View, sites};
