//! `make demo`: what a policy does to real traffic, on one machine, in a minute and a half.
//!
//! Everything happens in network namespaces of our own, which vanish with this process however it
//! ends. Each line of the table has its own node, once without and once with a policy,
//! or once with plain notrack rules and once with a policy.

mod agent;
mod lines;
mod load;
mod report;
mod services;
mod site;
mod ssh;
mod stage;
mod table;

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use notrack_lab::{require_root, require_tools};

use crate::report::Report;
use crate::stage::Stage;

const TOOLS: &[&str] =
    &["conntrack", "dnsperf", "ip", "nft", "nginx", "ssh", "ssh-keygen", "sshd", "unbound", "wrk"];

/// Shows on real traffic what notrack does; exits with 1 where a line of it does not hold.
#[derive(Debug, Parser)]
struct Arguments {
    /// Print the result as JSON; the progress stays on standard error.
    #[arg(long)]
    json: bool,
    /// The agent's program; without it, notrack-agent beside this program.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.agent).and_then(|report| print(&report, arguments.json)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(agent: Option<PathBuf>) -> Result<Report> {
    require_root()?;
    require_tools(TOOLS)?;
    let stage = Stage::new(agent)?;
    let mut lines = Vec::new();
    let plays = [
        lines::http,
        lines::full,
        lines::dns,
        lines::every_port,
        lines::gateway,
        lines::firewall,
        lines::service,
    ];
    for play in plays {
        lines.push(play(&stage)?);
    }
    Ok(Report { lines, seconds: stage.seconds() })
}

fn print(report: &Report, json: bool) -> Result<bool> {
    if json {
        let text = serde_json::to_string_pretty(&report.to_json()).context("the report as JSON")?;
        println!("{text}");
    } else {
        let colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        print!("\n{}", table::draw(report, colour));
    }
    Ok(report.holds())
}
