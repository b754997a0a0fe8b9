//! Argo CD: its programs as processes on a node's network, where a pod with `hostNetwork` would be. Only pods, logins and
//! certificates are missing.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use notrack_lab::{Background, Namespace, run_ok};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, PATIENCE};
use crate::helm::helm;
use crate::operator::condition;
use crate::testbed::repository;

/// What Argo CD finds in every installation, beside its definitions.
const BASE: &str = "
apiVersion: v1
kind: Secret
metadata: {name: argocd-secret, namespace: argocd, labels: {app.kubernetes.io/part-of: argocd}}
stringData: {server.secretkey: nobody logs in}
---
apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: default, namespace: argocd}
spec:
  sourceRepos: ['*']
  destinations: [{server: '*', namespace: '*'}]
  clusterResourceWhitelist: [{group: '*', kind: '*'}]
";
const CONFIG_MAPS: [&str; 5] =
    ["argocd-cm", "argocd-rbac-cm", "argocd-gpg-keys-cm", "argocd-ssh-known-hosts-cm", "argocd-tls-certs-cm"];

const REDIS: u16 = 6379;
const SERVER: u16 = 8080;
const REPO_SERVER: u16 = 8081;

/// A running Argo CD. Dropping it ends its programs.
#[derive(Debug)]
pub struct ArgoCd {
    // In this order they end: who asks before who answers.
    server: Background,
    controller: Background,
    repo_server: Background,
    _redis: Background,
    network: Namespace,
    // What they write.
    folder: TempDir,
}

impl ArgoCd {
    /// Installs Argo CD in a cluster and starts its programs on the network of a node.
    pub fn start(cluster: &Cluster, node: &str) -> Result<ArgoCd> {
        let build = build()?;
        install(cluster, &build)?;
        let folder = tempfile::tempdir()?;
        let network = cluster.node(node)?.network()?;
        for own in ["bin", "tmp", "redis"] {
            fs::create_dir(folder.path().join(own))?;
        }
        programs(&folder.path().join("bin"), &build)?;
        let start = |program: &str, arguments: &[&str]| {
            let mut command = network.command(program);
            environment(&mut command, cluster, folder.path());
            Background::spawn({
                command.args(arguments);
                command
            })
        };
        let part = |name: &str, arguments: &[&str]| {
            let path = folder.path().join("bin").join(name);
            start(&path.to_string_lossy(), &[&["--loglevel", "warn"], arguments].concat())
        };

        let mut redis = start(
            "redis-server",
            &["--port", "6379", "--bind", "127.0.0.1", "--save", "", "--dir", "redis"],
        )?;
        wait_for_port(&network, &mut redis, REDIS)?;
        // Without encryption it asks for no certificates; the empty path says so twice.
        let mut repo_server = part(
            "argocd-repo-server",
            &["--address", "127.0.0.1", "--redis", "127.0.0.1:6379", "--disable-tls", "--client-ca-path="],
        )?;
        // A controller that finds no repo-server remembers that for a while.
        wait_for_port(&network, &mut repo_server, REPO_SERVER)?;
        let shared =
            ["--namespace", "argocd", "--redis", "127.0.0.1:6379", "--repo-server", "127.0.0.1:8081"];
        // Health with its message in the Application's own status.
        let controller = part(
            "argocd-application-controller",
            &[&shared[..], &["--repo-server-plaintext", "--persist-resource-health"]].concat(),
        )?;
        let mut server = part(
            "argocd-server",
            &[
                &shared[..],
                &["--repo-server-plaintext", "--insecure", "--disable-auth", "--address", "127.0.0.1"],
            ]
            .concat(),
        )?;
        wait_for_port(&network, &mut server, SERVER)?;
        Ok(ArgoCd { server, controller, repo_server, _redis: redis, network, folder })
    }

    /// `argocd` with the words of `arguments`.
    pub fn cli(&self, arguments: &str) -> Result<String> {
        let mut command = self.network.command(&self.folder.path().join("bin/argocd").to_string_lossy());
        let folder = self.folder.path();
        command.env("HOME", folder).env("TMPDIR", folder.join("tmp")).current_dir(folder);
        command.args(["--server", "127.0.0.1:8080", "--plaintext", "--auth-token", "none"]);
        run_ok(command.args(arguments.split_whitespace()))
    }

    /// What the programs have said; for errors.
    pub fn said(&self) -> String {
        let all = [&self.repo_server, &self.controller, &self.server];
        all.map(|program| program.output()).concat()
    }
}

/// The folder of its programs and definitions, built where it is missing.
fn build() -> Result<PathBuf> {
    Ok(run_ok(&mut Command::new(repository().join("tests/tools/argocd.sh")))?.trim().into())
}

/// `argocd`, its arguments to be added: for what needs no cluster.
pub fn argocd() -> Result<Command> {
    let mut command = Command::new(build()?.join("bin/argocd"));
    command.env_remove("KUBECONFIG").env("HOME", "/nonexistent");
    Ok(command)
}

fn install(cluster: &Cluster, build: &Path) -> Result<()> {
    for kind in ["application", "applicationset", "appproject"] {
        let definition = build.join(format!("crds/{kind}-crd.yaml"));
        run_ok(cluster.kubectl_command().args(["apply", "--server-side", "-f"]).arg(definition))?;
    }
    cluster.wait_for("crd/appprojects.argoproj.io", "it is served", |definition| {
        condition(definition, "Established").is_some_and(|(status, _)| status == "True")
    })?;
    cluster.kubectl("create namespace argocd")?;
    let empty = CONFIG_MAPS.map(|name| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\n\
             metadata: {{name: {name}, namespace: argocd, labels: {{app.kubernetes.io/part-of: argocd}}}}\n---\n"
        )
    });
    cluster.apply(&format!("{}{BASE}", empty.concat()))?;
    Ok(())
}

/// The programs that Argo CD calls, in a folder of their own.
fn programs(folder: &Path, build: &Path) -> Result<()> {
    for entry in fs::read_dir(build.join("bin"))? {
        let entry = entry?;
        symlink(entry.path(), folder.join(entry.file_name()))?;
    }
    symlink(helm()?.get_program(), folder.join("helm"))?;
    // Called for every commit, also where no signature is asked for: it finds none.
    let verify = folder.join("git-verify-wrapper.sh");
    fs::write(&verify, "#!/bin/sh\n")?;
    Ok(fs::set_permissions(&verify, fs::Permissions::from_mode(0o755))?)
}

fn environment(command: &mut Command, cluster: &Cluster, folder: &Path) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = [folder.join("bin")].into_iter().chain(std::env::split_paths(&path));
    if let Ok(path) = std::env::join_paths(path) {
        command.env("PATH", path);
    }
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("TMPDIR", folder.join("tmp"))
        .env("ARGOCD_ASK_PASS_SOCK", folder.join("ask-pass.sock"))
        .env("ARGOCD_GPG_ENABLED", "false")
        .env("ARGOCD_FAKE_IN_CLUSTER", "true")
        .env("KUBECONFIG", cluster.kubeconfig());
}

fn wait_for_port(network: &Namespace, program: &mut Background, port: u16) -> Result<()> {
    program.wait_ready("its port answers", PATIENCE, || {
        network.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()).unwrap_or(false)
    })
}

/// An Application's part for an object: its sync state, its health and the message of the latter.
pub fn resource<'a>(app: &'a Value, kind: &str, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let all = app["status"]["resources"].as_array()?;
    let found = all.iter().find(|resource| resource["kind"] == kind && resource["name"] == name)?;
    let text = |value: &'a Value| value.as_str().unwrap_or_default();
    Some((text(&found["status"]), text(&found["health"]["status"]), text(&found["health"]["message"])))
}

impl Cluster {
    /// An Application.
    pub fn application(&self, name: &str) -> Result<Value> {
        self.get(&format!("application/{name} -n argocd"))
    }

    /// Has Argo CD look into git now: it does so by itself every few minutes, or when git tells it.
    pub fn refresh(&self, name: &str) -> Result<()> {
        self.kubectl(&format!(
            "annotate application/{name} -n argocd --overwrite argocd.argoproj.io/refresh=normal"
        ))
        .context("Argo CD is not asked to look")?;
        Ok(())
    }
}
