//! notrack-controller: compiles the policies of a cluster into a plan for every node and adds up what the nodes report.
//!
//! ```text
//! watch ── events of the API server to Updates       objects ── what is kept of each kind
//! world ── everything known, and what became stale   controller ── the steps, and when
//! publish ── RuleSets and NodePlans that differ      collect ── RuleSets that nobody names
//! status ── what a policy's status is, and when      crds, kinds ── whether our kinds are there, new enough
//! withdrawal ── whether nothing is to run any more    jobs ── what is done around an installation
//! leader ── who may write                            effects ── the writes, and how each ended (write)
//! ```
#![forbid(unsafe_code)]

mod args;
mod collect;
mod controller;
mod crds;
mod debounce;
mod effects;
mod jobs;
mod kinds;
mod leader;
mod metrics;
mod objects;
mod publish;
mod run;
mod shown;
mod status;
mod watch;
mod withdrawal;
mod world;
mod write;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // {:#} gives the causes too.
            eprintln!("notrack-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}
