//! A git repository, as a site keeps one for Argo CD.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use notrack_lab::run_ok;
use tempfile::TempDir;

use crate::testbed::repository;

/// A bare repository with a working copy beside it.
#[derive(Debug)]
pub struct GitRepository {
    folder: TempDir,
}

impl GitRepository {
    /// An empty one.
    pub fn new() -> Result<GitRepository> {
        let made = GitRepository { folder: tempfile::tempdir()? };
        made.git(&["init", "--quiet", "--bare", "--initial-branch=main", "site.git"])?;
        made.git(&["clone", "--quiet", "site.git", "work"])?;
        Ok(made)
    }

    /// Where Argo CD finds it.
    pub fn url(&self) -> String {
        format!("file://{}", self.folder.path().join("site.git").display())
    }

    /// Writes a file of the working copy.
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        Ok(fs::write(path, content)?)
    }

    /// Removes a file of the working copy.
    pub fn remove(&self, path: &str) -> Result<()> {
        Ok(fs::remove_file(self.work().join(path))?)
    }

    /// Copies a folder of this project to the same place of the working copy.
    pub fn copy(&self, path: &str) -> Result<()> {
        let target = self.work().join(path);
        fs::create_dir_all(target.parent().context("a folder is in another")?)?;
        run_ok(Command::new("cp").arg("-r").arg(repository().join(path)).arg(target))?;
        Ok(())
    }

    /// Puts a folder in the place of one of the working copy.
    pub fn replace(&self, path: &str, with: &Path) -> Result<()> {
        let target = self.work().join(path);
        fs::remove_dir_all(&target)?;
        run_ok(Command::new("cp").arg("-r").arg(with).arg(target))?;
        Ok(())
    }

    /// Commits everything and pushes it.
    pub fn push(&self, message: &str) -> Result<()> {
        self.git(&["-C", "work", "add", "--all"])?;
        self.git(&["-C", "work", "commit", "--quiet", "--message", message])?;
        self.git(&["-C", "work", "push", "--quiet", "origin", "HEAD:main"])?;
        Ok(())
    }

    /// Names what was committed last, and pushes the name.
    pub fn tag(&self, name: &str) -> Result<()> {
        self.git(&["-C", "work", "tag", name])?;
        self.git(&["-C", "work", "push", "--quiet", "origin", name])?;
        Ok(())
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn git(&self, arguments: &[&str]) -> Result<String> {
        run_ok(git(self.folder.path()).args(arguments))
    }
}

/// `git` with nobody's configuration.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "test").env(format!("GIT_{role}_EMAIL"), "test@example.org");
    }
    command
}
