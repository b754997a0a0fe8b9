//! The version before this one, built from this repository's history.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use notrack_lab::run_ok;

use crate::testbed::repository;

/// Programs and chart.
#[derive(Debug)]
pub struct Previous {
    /// Its version: the tag of its images.
    pub version: String,
    folder: PathBuf,
}

impl Previous {
    /// Builds it where that was not done before.
    pub fn new() -> Result<Previous> {
        let named = std::fs::read_to_string(repository().join("tests/cluster/previous"))?;
        let version =
            named.lines().find(|line| !line.starts_with('#')).and_then(|line| line.split(' ').next());
        let folder = run_ok(&mut Command::new(repository().join("tests/tools/previous.sh")))?;
        Ok(Previous {
            version: version.context("tests/cluster/previous names no version")?.to_owned(),
            folder: folder.trim().into(),
        })
    }

    /// Its chart.
    pub fn chart(&self) -> PathBuf {
        self.folder.join("chart")
    }

    /// One of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }
}
