//! 6: a host whose firewall accepts by state alone.

use anyhow::{Context, Result};
use notrack_lab::wait_until;

use crate::agent::{Agent, FIREWALL};
use crate::lines::{NAIVE, TRIES, lost};
use crate::load::lost_connections;
use crate::report::{Figure, Line, Row};
use crate::services::{START, answer};
use crate::site::Site;
use crate::stage::Stage;

/// The usual one: what was not asked for is new, and has a rule of its own.
const STATEFUL: &str = "
table inet site {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname lo accept
    ct state established,related accept
    ct state new tcp dport { 22, 80 } accept
  }
}";
const NAIVE_RULES: &str = "
table inet naive {
  chain prerouting { type filter hook prerouting priority raw; tcp dport 80 notrack; }
  chain output { type filter hook output priority raw; tcp sport 80 notrack; }
}";

/// Plain rules; our policy, which is blocked; and the same with leave to complete the firewall.
pub fn firewall(stage: &Stage) -> Result<Line> {
    stage.say("6  firewall: a node that accepts by state, with plain notrack rules");
    let site = Site::with(STATEFUL)?;
    let server = answer(&site.node, Site::service(80))?;
    site.node.nft(NAIVE_RULES)?;
    let naive = lost_connections(&site.client, server, TRIES)?;
    site.node.nft("delete table inet naive")?;

    stage.say("6  firewall: our policy, which the agent keeps out of effect");
    let agent = Agent::start_until(stage, &site.node, FIREWALL, "Blocked")?;
    let blocked = lost_connections(&site.client, server, TRIES)?;
    let missing = missing(&agent)?;

    stage.say("6  firewall: the same with hostFirewall: Adapt");
    agent.change(&FIREWALL.1.replace("hostFirewall: Check", "hostFirewall: Adapt"))?;
    let swept = || site.entries("tcp", 80).is_ok_and(|entries| entries == 0);
    wait_until("the agent to sweep what was tracked before", START, swept)?;
    let adapted = lost_connections(&site.client, server, TRIES)?;
    let entries = site.entries("tcp", 80)?;
    let bypassed = agent.bypassed()?;
    agent.withdraw()?;
    let after = lost_connections(&site.client, server, TRIES)?;

    let none = Figure::Word("");
    Ok(Line {
        name: "firewall",
        title: "A firewall that accepts by state".into(),
        heads: NAIVE,
        rows: vec![
            Row::new("blocked", "Check (default): connections lost", lost(naive), lost(blocked))
                .promised(naive == TRIES && blocked == 0),
            Row::new("missing", "Check: the missing rule", none.clone(), Figure::Word("told below"))
                .promised(missing.contains("ct state untracked accept")),
            Row::new("adapted", "Adapt: connections lost", none.clone(), lost(adapted))
                .promised(adapted == 0),
            Row::new("entries", "Adapt: entries left", none.clone(), Figure::Count(entries))
                .promised(entries == 0),
            Row::new("bypassed", "Adapt: packets that skipped", none.clone(), Figure::Count(bypassed))
                .promised(bypassed >= 2 * TRIES),
            Row::new("after", "policy deleted: connections lost", none, lost(after)).promised(after == 0),
        ],
        notes: vec![format!("blocked: NT007 HostFirewallDrops: missing: {missing}")],
    })
}

/// The rules that the firewall lacks, in the agent's words.
fn missing(agent: &Agent) -> Result<String> {
    let findings = agent.findings()?;
    let mut missing = findings.iter().filter_map(|finding| finding.split_once("missing: "));
    let (_, rules) = missing.next().with_context(|| format!("no missing rule is told: {findings:?}"))?;
    Ok(rules.split_once("; set hostFirewall").map_or(rules, |(rules, _)| rules).to_owned())
}
