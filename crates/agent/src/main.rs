//! notrack-agent: programs the connection tracking bypass of one node and reports what it read back.
#![forbid(unsafe_code)]

mod agent;
mod args;
mod cluster;
mod engine;
mod evict;
mod facts;
mod folder;
mod handover;
mod host;
mod intent;
mod lasting;
mod listeners;
mod lock;
mod metrics;
mod prove;
mod report;
mod resolver;
mod run;
mod sampler;
mod shown;
mod ssh;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match run::run(args) {
        Ok(code) => code,
        Err(error) => {
            // {:#} gives the causes too.
            eprintln!("notrack-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
