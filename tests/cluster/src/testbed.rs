//! The launcher of the test bed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use notrack_lab::run_ok;

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds the launcher and returns where it is.
pub fn launcher() -> Result<PathBuf> {
    Ok(run_ok(&mut Command::new(repository().join("tests/tools/testbed.sh")))?.trim().into())
}
