//! The pure heart of notrack: policies and node facts in, rules and reasons out.
//!
//! No clock, no environment, no I/O, no client. The way through it:
//!
//! ```text
//! manifest ── text to object, with positions        policy::validate ── object to ValidatedPolicy
//! index ── what is known                            compile ── RuleSet of a node class
//! services ── what a cluster needs tracked           plan ── a RuleSet and exclusions for every node
//! payload ── RuleSet to opaque bytes and back        status ── nodes' reports to a policy's status
//! rules ── RuleSet + NodeFacts to nf::Table          diff ── Observed + Table to Transaction
//! model ── what must happen to a packet             nf::eval ── what a table does to it
//! ```
#![forbid(unsafe_code)]

pub mod compile;
pub mod diff;
pub mod evidence;
pub mod facts;
pub mod guard;
pub mod hazard;
pub mod host;
pub mod idle;
pub mod index;
pub mod kept;
pub mod manifest;
pub mod model;
pub mod net;
pub mod nf;
pub mod packet;
pub mod payload;
pub mod plan;
pub mod policy;
pub mod pressure;
pub mod rules;
pub mod selector;
pub mod services;
pub mod status;
mod suggest;
