//! Helm, as its users run it.

use std::process::Command;

use anyhow::Result;
use notrack_lab::run_ok;

use crate::cluster::Cluster;
use crate::testbed::repository;

/// `helm` in the repository's root, its arguments to be added. It is built where it is missing.
pub fn helm() -> Result<Command> {
    let path = run_ok(&mut Command::new(repository().join("tests/tools/helm.sh")))?;
    let mut command = Command::new(path.trim());
    command.current_dir(repository());
    // Nobody's repositories and plugins.
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, "/nonexistent");
    }
    Ok(command)
}

impl Cluster {
    /// Runs helm with the words of `arguments` on this cluster, as its administrator.
    pub fn helm(&self, arguments: &str) -> Result<String> {
        run_ok(&mut self.helm_command(arguments)?)
    }

    /// The same, to be run.
    pub fn helm_command(&self, arguments: &str) -> Result<Command> {
        let mut command = helm()?;
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments.split_whitespace());
        Ok(command)
    }
}
