//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::top;

/// Check, render and understand NoTrackPolicies, and see who is in the connection table.
#[derive(Debug, Parser)]
#[command(name = "kubectl-notrack", bin_name = "kubectl notrack", version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What it can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check policy files as the API server and the agents would; exit 1 on an error, or where a node is given that
    /// refuses or blocks something or could not be read in full.
    Check(Check),
    /// Show the rules that policies become on a node, in nft's own syntax.
    Render(Render),
    /// See who is in the connection table of this machine.
    Top(top::Args),
    /// Write a completion script to standard output.
    Completion {
        /// For which shell.
        shell: Shell,
    },
}

/// Files of policies.
#[derive(Debug, Args)]
pub struct Files {
    /// Policy files, or folders of them; - for standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Facts of a node, as JSON; without them a node with the usual defaults is assumed.
    #[arg(long, value_name = "FILE")]
    pub node_facts: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub files: Files,
    /// Judge by this machine as it is now, such as its firewall and NAT; needs root (CAP_NET_ADMIN), changes nothing.
    #[arg(long, conflicts_with = "node_facts")]
    pub this_node: bool,
    /// Write what was read to a file for --node-facts, which gives the same answer elsewhere.
    #[arg(long, value_name = "FILE", requires = "this_node")]
    pub save_facts: Option<PathBuf>,
}

/// Arguments of `render`.
#[derive(Debug, Args)]
pub struct Render {
    #[command(flatten)]
    pub files: Files,
}
