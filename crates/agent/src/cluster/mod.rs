//! A node of a cluster: its plan is watched by name, the rule set of the plan read by name, its status written back.
//!
//! ```text
//! client ── the API server, and what of it stays tracked      identity ── which node this token belongs to
//! watch ── the plan's object, as events                       plan ── whether a plan is to be followed
//! load ── the plan's rule set: an Order, or a Trouble         source ── what the agent knows of it all
//! pace ── when a report is due                                report ── the status, written by server-side apply
//! live ── the loop of all of it
//! ```
//! Nothing here touches the kernel, and no trouble ever removes a rule.

mod client;
mod identity;
pub mod live;
mod load;
mod pace;
mod plan;
mod report;
pub mod source;
mod trouble;
mod watch;

pub use trouble::Trouble;
