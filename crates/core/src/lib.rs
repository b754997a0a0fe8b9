//! The pure heart of notrack: policies and node facts in, rules and reasons out.
//!
//! No clock, no environment, no I/O, no client. The way through it:
//!
//! ```text
//! manifest ── text to object, with positions        policy::validate ── object to ValidatedPolicy
//! index ── what is known                            compile ── RuleSet of a node class
//! services ── what a cluster needs tracked          plan ── a RuleSet and exclusions for every node
//! payload ── RuleSet to opaque bytes and back       status ── nodes' reports to a policy's status
//! rules ── RuleSet + NodeFacts to nf::Table         diff ── Observed + Table to Transaction
//! model ── what must happen to a packet             nf::eval ── what a table does to it
//! ```
//!
//! What stands against a bypass on a node, and what is said about it:
//!
//! ```text
//! facts ── NodeFacts: what is known of a node       host ── other programs' rules; connections sent through them
//! guard ── what those say against a flow            kept ── servers that stay tracked, and for whom
//! hazard ── codes, findings, effects                evidence ── a finding's proof where there is little room
//! idle ── policies that match nothing               pressure ── how full the connection table is
//! ```
//!
//! What all of them are made of: `net` (ranges of addresses and ports), `packet` (a packet as rules see it), `nf` (a model
//! of nf_tables), `selector` (labels), `suggest` (did you mean?).
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
