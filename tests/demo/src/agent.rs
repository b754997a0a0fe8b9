//! The real agent, with real policy files, on a node.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use notrack_lab::{Background, Namespace, wait_until};
use serde_json::Value;

use crate::services::{START, write};
use crate::stage::Stage;

/// A policy: its name, which its file has too, and what is in it.
type Policy = (&'static str, &'static str);

pub const HTTP: Policy = ("http", include_str!("../policies/http.yaml"));
pub const DNS: Policy = ("dns", include_str!("../policies/dns.yaml"));
pub const EVERY_PORT: Policy = ("every-port", include_str!("../policies/every-port.yaml"));
pub const THROUGH: Policy = ("through", include_str!("../policies/through.yaml"));
pub const FIREWALL: Policy = ("firewall", include_str!("../policies/firewall.yaml"));
pub const SERVICE: Policy = ("service", include_str!("../policies/service.yaml"));

/// Of the node's loopback.
const STATUS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9811);
/// For an answer from the agent; it looks at the kernel once a second.
const ANSWER: Duration = Duration::from_secs(5);

/// An agent that runs one policy on a node.
#[derive(Debug)]
pub struct Agent {
    _process: Background,
    node: Namespace,
    policy: &'static str,
    /// The policy's.
    file: PathBuf,
}

impl Agent {
    /// Starts the agent on a node and returns once it has read the policy's rules back from the
    /// kernel.
    pub fn start(stage: &Stage, node: &Namespace, policy: Policy) -> Result<Self> {
        Self::start_until(stage, node, policy, "Programmed")
    }

    /// The same for a policy that comes to another state.
    pub fn start_until(stage: &Stage, node: &Namespace, policy: Policy, state: &str) -> Result<Self> {
        let (policy, yaml) = policy;
        let folder = stage.folder(&format!("policy-{policy}-{}", node.name()))?;
        let file = folder.join(policy).with_extension("yaml");
        write(&file, yaml)?;
        let mut command = node.command(&stage.agent().to_string_lossy());
        command.args(["--listen", &STATUS.to_string(), "--policies"]).arg(&folder);
        let mut process = Background::spawn(command)?;
        process.wait_ready("the agent to answer", START, || status(node).is_ok())?;
        let agent = Self { _process: process, node: node.clone(), policy, file };
        agent.wait_for(state)?;
        Ok(agent)
    }

    /// Waits until the policy is in a state.
    fn wait_for(&self, state: &str) -> Result<()> {
        let Self { node, policy, .. } = self;
        let mut said = None;
        let reached = wait_until(&format!("the agent to have the policy {state}"), START, || {
            said = status(node).ok();
            said.as_ref().is_some_and(|status| policy_of(status, policy)["state"] == state)
        });
        reached.with_context(|| match said {
            Some(status) => format!("the agent's last word on {policy}: {}", policy_of(&status, policy)),
            None => "the agent said nothing".to_owned(),
        })
    }

    /// Writes the policy anew and waits until it is in effect.
    pub fn change(&self, yaml: &str) -> Result<()> {
        write(&self.file, yaml)?;
        self.wait_for("Programmed")
    }

    /// Deletes the policy and waits until nothing of ours is in the kernel's rules.
    pub fn withdraw(&self) -> Result<()> {
        fs::remove_file(&self.file).with_context(|| format!("cannot remove {}", self.file.display()))?;
        wait_until("the agent to take its rules back", START, || {
            self.node.ruleset().is_ok_and(|rules| !rules.contains("notrack-dev"))
        })
    }

    /// How many packets have skipped tracking by now, as the kernel counts.
    pub fn bypassed(&self) -> Result<u64> {
        let reported = |status: &Value| status["node"]["reportedAt"].as_str().map(str::to_owned);
        let mut latest = status(&self.node)?;
        let known = reported(&latest);
        wait_until("a new report of the agent", ANSWER, || {
            latest = status(&self.node).unwrap_or_default();
            reported(&latest).is_some_and(|at| Some(at) != known)
        })?;
        let traffic = &policy_of(&latest, self.policy)["status"]["traffic"];
        traffic["packets"].as_u64().with_context(|| format!("no packets are reported: {traffic}"))
    }

    /// What of the policy stays tracked, and why, in the agent's words; one line a reason.
    pub fn subtracted(&self) -> Result<Vec<String>> {
        Ok(by_reason(self.findings()?.iter().map(String::as_str)))
    }

    /// Everything that the agent has to say about the policy.
    pub fn findings(&self) -> Result<Vec<String>> {
        let status = status(&self.node)?;
        let findings = policy_of(&status, self.policy)["findings"].as_array();
        let findings = findings.context("the agent reports no findings")?;
        Ok(findings.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }
}

/// `policy/flow: effect: hazard: evidence; remedy`, many times over, as `effect: hazard: all the
/// evidence`. What does not look like that is kept as it is.
fn by_reason<'a>(findings: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for finding in findings {
        let (said, _remedy) = finding.split_once("; ").unwrap_or((finding, ""));
        let parts: Vec<&str> = said.splitn(4, ": ").collect();
        match parts[..] {
            [_, effect, hazard, evidence] => {
                reasons.entry(format!("{effect}: {hazard}: ")).or_default().push(evidence);
            }
            _ => reasons.entry(said.to_owned()).or_default().push(""),
        }
    }
    reasons.into_iter().map(|(reason, evidence)| reason + &evidence.join("; ")).collect()
}

fn policy_of<'a>(status: &'a Value, name: &str) -> &'a Value {
    let policies = status["policies"].as_array().into_iter().flatten();
    policies.into_iter().find(|policy| policy["name"] == name).unwrap_or(&Value::Null)
}

/// `GET /status`.
fn status(node: &Namespace) -> Result<Value> {
    let answer = node.enter(|| -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&STATUS, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })??;
    let Some((_, body)) = answer.split_once("\r\n\r\n") else { bail!("no HTTP: {answer}") };
    serde_json::from_str(body).with_context(|| format!("no JSON: {body}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_gathered_by_reason() {
        let findings = [
            "p/f: stays tracked: NT018 Protected: TCP 22 is SSH; nothing to do",
            "p/f: stays tracked: NT022 EphemeralPorts: TCP 32768-60999: clients use these; move",
            "p/f: stays tracked: NT018 Protected: TCP 179 is BGP; nothing to do",
            "something else",
        ];
        let told = [
            "something else",
            "stays tracked: NT018 Protected: TCP 22 is SSH; TCP 179 is BGP",
            "stays tracked: NT022 EphemeralPorts: TCP 32768-60999: clients use these",
        ];
        assert_eq!(by_reason(findings.into_iter()), told);
    }
}
