//! Images of our programs: the program and the Debian libraries that it needs, nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use notrack_lab::{built, run_ok};

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
    fs::copy(built(program)?, &stripped)?;
    run_ok(Command::new("strip").arg("--strip-debug").arg(&stripped))?;
    Ok(stripped)
}
