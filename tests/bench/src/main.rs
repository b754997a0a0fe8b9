//! `make bench`: what bypassing costs, beside its peers on the same kernel and in the same run.
//!
//! Only ratios mean anything: each is of two figures measured in the same rounds, in an order that
//! a printed seed shuffles, in CPU time wherever others may use the machine too.

mod bpf;
mod control;
mod hosts;
mod ours;
mod packets;
mod program;
mod report;
mod source;
mod stats;
mod top;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Parser;
use notrack_lab::{require_root, require_tools};
use serde_json::json;

const TOOLS: &[&str] = &["awk", "conntrack", "ip", "iptables-legacy-restore", "nft", "sort"];

/// How often what takes seconds is measured at most.
const SLOW_ROUNDS: usize = 11;

/// Measures on the real kernel, in network namespaces of its own.
#[derive(Debug, Parser)]
struct Arguments {
    /// Few rounds: to see that it works, not to judge by.
    #[arg(long)]
    quick: bool,
    /// How many rounds of packets.
    #[arg(long, default_value_t = 101)]
    rounds: usize,
    /// Measure packets under this nft script instead, beside three peers. May be repeated.
    #[arg(long, value_name = "FILE")]
    nft: Vec<PathBuf>,
    /// Repeats the order of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the result as JSON; the progress stays on standard error.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    require_root()?;
    require_tools(TOOLS)?;
    let rounds = if arguments.quick { 11 } else { arguments.rounds.max(1) };
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()),
    };
    let started = Instant::now();
    let say = |what: &str| eprintln!("{:>4.0} s  {what}", started.elapsed().as_secs_f64());

    // Until the end of the process, as all else here.
    let scripts: Vec<&'static Path> =
        arguments.nft.iter().map(|file| &*Box::leak(file.clone().into_boxed_path())).collect();
    let costs = packets::measure(rounds, seed, &scripts, say)?;
    println!("{rounds} rounds, order by --seed {seed}; medians, ± half of the middle half\n");
    println!("{}\n", costs.lines().join("\n"));
    if !scripts.is_empty() {
        return Ok(());
    }
    let mut findings = costs.findings();
    // What takes seconds each time differs less from time to time than a packet does.
    let rounds_of_seconds = rounds.min(SLOW_ROUNDS);
    say("packets: new flows at a full table");
    findings.extend(packets::lost_when_full()?);
    say("control: loading 100,000 keys");
    findings.extend(control::loading(rounds_of_seconds)?);
    say("control: one policy changed among 1,000");
    findings.extend(control::changing(if arguments.quick { 100 } else { 1000 })?);
    say("top: a table of 200,000 entries");
    findings.extend(top::talkers(rounds_of_seconds)?);

    if arguments.json {
        let findings: Vec<_> = findings.iter().map(report::Finding::to_json).collect();
        println!("{:#}", json!({ "seed": seed, "rounds": rounds, "findings": findings }));
        return Ok(());
    }
    println!("\n{rounds} rounds, order by --seed {seed}; medians, ± half of the middle half's width\n");
    println!("{}\n", costs.lines().join("\n"));
    for finding in &findings {
        println!("{}", finding.line());
    }
    let short = findings.iter().filter(|finding| finding.holds() == Some(false)).count();
    println!("\n{} figures, {short} of them fall short of their aim", findings.len());
    Ok(())
}
