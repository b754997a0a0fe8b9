//! From a rule set to the table of one node: fill in the node's facts, cut the tuples into disjoint cells,
//! write cells as elements of maps.

mod boxes;
mod cells;
mod clause;
mod findings;
mod guarded;
mod lasting;
mod limit;
mod page;
mod render;
mod sites;
mod writer;

pub use clause::{Class, Clause, Clauses, Outcome, localise};
pub(crate) use clause::{served_addresses, served_among};
pub use lasting::lasting_of;
pub use render::{
    BYPASS_PRIORITY, RenderError, Rendered, counter_name, half_of_chain, is_lease, policy_of_chain, render,
};
pub use sites::{Half, Interfaces, Site, View, sites};
