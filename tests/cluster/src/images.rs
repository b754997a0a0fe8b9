//! Images of our programs: the program and the Debian libraries that it needs, nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use notrack_lab::run_ok;

/// The tag that `deploy/` names.
pub const TAG: &str = env!("CARGO_PKG_VERSION");

/// The programs that run in a cluster.
pub const PROGRAMS: [&str; 2] = ["notrack-agent", "notrack-controller"];

/// That which looks at nodes. It has an image too.
pub const CLI: &str = "kubectl-notrack";

/// Makes the image of a program, named as the chart of that version names it; returns the archive.
pub fn image(launcher: &Path, folder: &Path, program: &Path, version: &str) -> Result<PathBuf> {
    let stripped = strip(program, folder)?;
    let name = stripped.file_name().context("a program has a name")?.to_string_lossy().into_owned();
    let archive = folder.join(format!("{name}.tar"));
    let name = format!("{name}:{version}");
    run_ok(Command::new(launcher).args(["image", "--name", &name, "--out"]).arg(&archive).arg(&stripped))?;
    Ok(archive)
}

/// Puts a program into a folder, without its debug information: that is ten times the program.
pub fn strip(program: &Path, folder: &Path) -> Result<PathBuf> {
    let stripped = folder.join(program.file_name().context("a program has a name")?);
    fs::copy(program, &stripped)?;
    run_ok(Command::new("strip").arg("--strip-debug").arg(&stripped))?;
    Ok(stripped)
}
