//! Images of our programs: the program and the Debian libraries that it needs, nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use notrack_lab::run_ok;

/// The tag that `deploy/` names.
pub const TAG: &str = env!("CARGO_PKG_VERSION");

/// The programs that have images.
pub const PROGRAMS: [&str; 2] = ["notrack-agent", "notrack-controller"];

/// Makes the image of a program that cargo built beside this one; returns the archive.
pub fn image(launcher: &Path, folder: &Path, program: &str) -> Result<PathBuf> {
    let archive = folder.join(format!("{program}.tar"));
    let stripped = strip(program, folder)?;
    let name = format!("{program}:{TAG}");
    run_ok(Command::new(launcher).args(["image", "--name", &name, "--out"]).arg(&archive).arg(&stripped))?;
    Ok(archive)
}

/// Puts a program that cargo built beside this one into a folder, without its debug information: that is ten times the
/// program.
pub fn strip(program: &str, folder: &Path) -> Result<PathBuf> {
    let stripped = folder.join(program);
    fs::copy(binary(program)?, &stripped)?;
    run_ok(Command::new("strip").arg("--strip-debug").arg(&stripped))?;
    Ok(stripped)
}

/// A program that cargo built beside this one.
fn binary(program: &str) -> Result<PathBuf> {
    // target/debug/deps/<test> lies two levels below target/debug/<program>, a program one.
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    let found = found.with_context(|| format!("{program} is missing: run cargo build --workspace first"))?;
    ensure!(found.is_file());
    Ok(found)
}
