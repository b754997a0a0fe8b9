//! A Prometheus of a test's own.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notrack_lab::{Background, run_ok};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, PATIENCE};
use crate::monitoring::Monitoring;

/// How often it reads figures and judges alerts.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// A Prometheus on this machine, with the chart's PodMonitors and alerts, and the pods of now. Dropping it ends it.
#[derive(Debug)]
pub struct Prometheus {
    // Before the folder: it writes there as long as it lives.
    program: Background,
    _folder: TempDir,
    address: String,
}

impl Prometheus {
    /// Starts it; it answers.
    pub fn start(cluster: &Cluster, monitoring: &Monitoring) -> Result<Prometheus> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let interval = format!("{}s", INTERVAL.as_secs());
        // JSON is YAML.
        let config = json!({
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [path("rules.yaml")],
            "scrape_configs": monitoring.scrape_configs(cluster)?,
        });
        fs::write(path("rules.yaml"), monitoring.rules.to_string())?;
        fs::write(path("prometheus.yaml"), config.to_string())?;
        let mut command = Command::new("prometheus");
        command.arg("--web.listen-address=127.0.0.1:0");
        command.arg(format!("--config.file={}", path("prometheus.yaml").display()));
        command.arg(format!("--storage.tsdb.path={}", path("data").display()));
        let mut program = Background::spawn(command)?;
        // The kernel has chosen the port; Prometheus does not tell it.
        let owner = format!("pid={},", program.pid());
        let mut address = None;
        program.wait_ready("it answers", PATIENCE, || {
            let sockets = run_ok(Command::new("ss").args(["-H", "-l", "-t", "-n", "-p"])).unwrap_or_default();
            let line = sockets.lines().find(|line| line.contains(&owner));
            address = line.and_then(|line| line.split_whitespace().nth(3)).map(str::to_owned);
            address.as_ref().is_some_and(|address| {
                run_ok(Command::new("curl").args(["-sf", &format!("http://{address}/-/ready")])).is_ok()
            })
        })?;
        Ok(Prometheus { program, _folder: folder, address: address.context("it has no address")? })
    }

    /// An answer of its API: what is in `data`.
    pub fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--get",
            &format!("http://{}/api/v1/{path}", self.address),
        ]);
        for (name, value) in parameters {
            command.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        let mut answer: Value = serde_json::from_str(&run_ok(&mut command)?)?;
        ensure!(answer["status"] == "success", "{path} {parameters:?}: {answer}");
        Ok(answer["data"].take())
    }

    /// The series of an instant query, each with `metric` and `value`.
    pub fn query(&self, expr: &str) -> Result<Vec<Value>> {
        let data = self.get("query", &[("query", expr)])?;
        ensure!(data["resultType"] == "vector", "{expr} is no vector: {data}");
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// Pending and firing alerts.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        Ok(self.get("alerts", &[])?["alerts"].as_array().cloned().unwrap_or_default())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.program.output()
    }
}
