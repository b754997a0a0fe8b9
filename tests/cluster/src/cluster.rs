//! A cluster that lives as long as its value.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use notrack_lab::{Namespace, built, require_root, run_ok, run_ok_with_input, wait_until};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::images::{PROGRAMS, TAG, image};
use crate::previous::Previous;
use crate::testbed::{launcher, repository};

/// What anything in a cluster may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a cluster is like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// kube-proxy's mode: `iptables` or `nftables`.
    pub proxy_mode: &'static str,
}

impl Default for Options {
    fn default() -> Options {
        Options { nodes: 3, proxy_mode: "iptables" }
    }
}

/// What the launcher prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    dir: PathBuf,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    server: String,
    audit_log: PathBuf,
    nodes: Vec<NodeDescription>,
}

#[derive(Debug, Deserialize)]
struct NodeDescription {
    name: String,
    netns: PathBuf,
    address: String,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its InternalIP.
    pub address: String,
    /// Where its namespace is found, also after a restart.
    netns: PathBuf,
}

impl Node {
    /// Its network namespace as it is now.
    pub fn network(&self) -> Result<Namespace> {
        Namespace::open(&self.name, &self.netns)
    }

    /// Whether its kernel holds a table of ours.
    pub fn has_rules(&self) -> Result<bool> {
        Ok(self.network()?.ruleset()?.contains("table inet notrack-dev"))
    }
}

/// A running cluster. Dropping it removes everything of it.
#[derive(Debug)]
pub struct Cluster {
    child: Child,
    // The launcher ends when this closes, whatever ends us. What it prints later is of no interest, but must have a reader.
    output: BufReader<ChildStdout>,
    launcher: PathBuf,
    described: Description,
    /// The nodes.
    pub nodes: Vec<Node>,
    folder: TempDir,
}

impl Cluster {
    /// Starts a cluster; its nodes are ready.
    pub fn start(options: &Options) -> Result<Cluster> {
        require_root()?;
        let launcher = launcher()?;
        let mut child = Command::new(&launcher)
            .args(["up", "--until-stdin-closes", "--proxy-mode", options.proxy_mode, "--nodes"])
            .arg(options.nodes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the test bed")?;
        let mut output = BufReader::new(child.stdout.take().context("the test bed has no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the test bed ended with {}: see above", child.wait()?);
        }
        let described: Description = serde_json::from_str(&line)?;
        let nodes = described.nodes.iter().map(|node| Node {
            name: node.name.clone(),
            address: node.address.clone(),
            netns: node.netns.clone(),
        });
        let nodes = nodes.collect();
        Ok(Cluster { child, output, launcher, described, nodes, folder: tempfile::tempdir()? })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.described.kubeconfig
    }

    /// Where kubectl is.
    pub fn kubectl_path(&self) -> &Path {
        &self.described.kubectl
    }

    /// The API server's address, as an URL.
    pub fn server(&self) -> &str {
        &self.described.server
    }

    /// The API server's log of requests, one line of JSON each.
    pub fn audit_log(&self) -> &Path {
        &self.described.audit_log
    }

    /// `kubectl` as administrator, its arguments to be added.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.described.kubectl);
        command.arg("--kubeconfig").arg(&self.described.kubeconfig).current_dir(repository());
        command
    }

    /// Runs kubectl with the words of `arguments`, in the repository's root.
    pub fn kubectl(&self, arguments: &str) -> Result<String> {
        run_ok(self.kubectl_command().args(arguments.split_whitespace()))
    }

    /// Applies manifests, as `kubectl apply -f -` does.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        run_ok_with_input(self.kubectl_command().args(["apply", "-f", "-"]), manifests)
    }

    /// An object as JSON; `Null` where there is none.
    pub fn get(&self, what: &str) -> Result<Value> {
        let text = self.kubectl(&format!("get {what} --ignore-not-found -o json"))?;
        Ok(if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    /// Waits until an object is as it should be; the error shows it as it was last.
    pub fn wait_for(&self, what: &str, why: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let waited = wait_until(why, PATIENCE, || {
            // The API server may be away: that is what some tests are about, and says nothing of the object.
            self.get(what).is_ok_and(|found| {
                last = found;
                is(&last)
            })
        });
        waited.with_context(|| format!("{what} is {last:#}"))?;
        Ok(last)
    }

    /// Stops or starts a part, such as `apiserver` or `node1/kubelet`.
    pub fn control(&self, verb: &str, part: &str) -> Result<()> {
        run_ok(Command::new(&self.launcher).arg("ctl").arg(&self.described.dir).args([verb, part]))?;
        Ok(())
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("there is no node {name}"))
    }

    /// Puts the images of our programs onto every node.
    pub fn load_images(&self) -> Result<()> {
        PROGRAMS.into_iter().try_for_each(|program| self.load_program(&built(program)?, TAG))
    }

    /// The same of the version before.
    pub fn load_previous_images(&self, previous: &Previous) -> Result<()> {
        PROGRAMS
            .into_iter()
            .try_for_each(|program| self.load_program(&previous.program(program), &previous.version))
    }

    fn load_program(&self, program: &Path, version: &str) -> Result<()> {
        self.load(&image(&self.launcher, self.folder.path(), program, version)?)
    }

    /// Puts the image of an archive onto every node.
    pub fn load(&self, archive: &Path) -> Result<()> {
        run_ok(Command::new(&self.launcher).arg("load").arg(&self.described.dir).arg(archive))?;
        Ok(())
    }

    /// Installs the operator with the manifests of `deploy/`, and waits until it runs.
    pub fn install(&self) -> Result<()> {
        self.load_images()?;
        self.kubectl("apply --server-side -k deploy")?;
        self.wait_until_installed()
    }

    /// Waits until every agent has reported and a controller leads.
    pub fn wait_until_installed(&self) -> Result<()> {
        self.kubectl(
            "rollout status --timeout=120s -n notrack-system daemonset/notrack-agent deployment/notrack-controller",
        )?;
        self.wait_for("nodeplans", "every agent has reported", |plans| {
            let reported = |plan: &&Value| plan["status"]["reportedAt"].is_string();
            plans["items"]
                .as_array()
                .is_some_and(|all| all.iter().filter(reported).count() == self.nodes.len())
        })?;
        Ok(())
    }

    /// Runs a pod on every node to its end: with the first one a node's pod network gets its address, and so the rules
    /// change. Of use where they are compared from then on.
    pub fn run_pods(&self) -> Result<()> {
        for Node { name, .. } in &self.nodes {
            self.apply(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: first-{name}}}\nspec:\n  nodeName: {name}\n  restartPolicy: Never\n  \
                 containers: [{{name: first, image: 'notrack-agent:{TAG}', command: [notrack-agent, --version]}}]"
            ))?;
            self.wait_for(&format!("pod/first-{name}"), "it has ended", |pod| {
                pod["status"]["phase"] == "Succeeded"
            })?;
            self.kubectl(&format!("delete pod first-{name}"))?;
        }
        Ok(())
    }

    /// Each node's rules with their handles, without what counts, runs out or belongs to an agent.
    pub fn stable_rules(&self) -> Result<BTreeMap<String, String>> {
        let list = ["-a", "-s", "list", "table", "inet", "notrack-dev"];
        let rules = |node: &Node| {
            let text = run_ok(node.network()?.command("nft").args(list))?;
            Ok((node.name.clone(), text.split("\n\n").map(stable).collect::<Vec<_>>().join("\n\n")))
        };
        self.nodes.iter().map(rules).collect()
    }

    /// How many of our tables the nodes' kernels hold, by node.
    pub fn rules(&self) -> Result<BTreeMap<String, bool>> {
        self.nodes.iter().map(|node| Ok((node.name.clone(), node.has_rules()?))).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Asks the launcher to end and waits until everything is removed: the next cluster must not meet a half.
        drop(self.child.stdin.take().map(|mut input| input.flush()));
        let _ = std::io::copy(&mut self.output, &mut std::io::sink());
        let _ = self.child.wait();
    }
}

/// What nft prints of a chain, a set or a counter: the elements of a hash come in any order.
fn stable(block: &str) -> String {
    if block.contains("elements = ") {
        let mut words: Vec<&str> =
            block.split([' ', '\t', '\n', ',']).filter(|word| !word.is_empty()).collect();
        words.sort_unstable();
        return words.join(" ");
    }
    let is_stable = |line: &&str| {
        let line = line.trim();
        !line.contains("expires") && !line.starts_with("table") && !line.starts_with("flags")
    };
    block.lines().filter(is_stable).collect::<Vec<_>>().join("\n")
}

/// A policy; `spec` is what it has beside the mode.
pub fn policy(name: &str, spec: &str) -> String {
    let spec: String = spec.trim().lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata:\n  name: {name}\nspec:\n  mode: Enforce\n{spec}"
    )
}

/// A policy: a port that the nodes of a selector (`{}`: all) serve is not tracked.
pub fn server(name: &str, selector: &str, protocol: &str, port: u16) -> String {
    let ports = format!("ports: [{{protocol: {protocol}, port: {port}}}]");
    policy(
        name,
        &format!(
            "nodeSelector: {selector}\nflows:\n- {{name: served, action: NoTrack, role: Server, {ports}}}"
        ),
    )
}
