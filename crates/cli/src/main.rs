//! kubectl-notrack: check, render and understand policies; see who is in the connection table.
#![forbid(unsafe_code)]

mod args;
mod check;
mod input;
mod render;
mod stdout;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Render(args) => render::run(&args),
        Command::Top(args) => top::run(args).map(|()| ExitCode::SUCCESS),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kubectl-notrack", &mut script);
            stdout::print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("kubectl-notrack: {error:#}");
        ExitCode::FAILURE
    })
}
