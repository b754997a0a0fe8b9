//! `hostFirewall: Check`, the default: blocked, with what would mend it.

use std::time::Instant;

use anyhow::{Context, Result};
use notrack_core::net::Family;
use notrack_lab::{run_ok, wait_until};
use notrack_netns::agent::{Live, PATIENCE, Policies};

use super::site::{Role, Site, Tool};

/// What was found about a policy.
pub fn findings(agent: &Live, policy: &str) -> Result<Vec<String>> {
    let status = agent.status()?;
    let policies = status["policies"].as_array().context("no policies")?;
    let of_policy = policies.iter().filter(|known| known["name"] == policy);
    let found = of_policy.flat_map(|known| known["findings"].as_array().into_iter().flatten());
    Ok(found.filter_map(|text| text.as_str().map(str::to_owned)).collect())
}

pub fn of_firewall(agent: &Live, policy: &str) -> Vec<String> {
    let mut found = findings(agent, policy).unwrap();
    found.retain(|text| text.contains("HostFirewallDrops"));
    found
}

/// The commands in a message, in its order.
pub fn commands(finding: &str) -> Vec<String> {
    let Some((_, missing)) = finding.split_once("missing: ") else { return Vec::new() };
    let is_command = |part: &&str| part.starts_with("nft '") || part.starts_with("ip");
    missing.split("; ").filter(is_command).map(str::to_owned).collect()
}

pub fn state(agent: &Live, policy: &str, wanted: &str) {
    let waited = wait_until(wanted, PATIENCE, || agent.state(policy).is_some_and(|state| state == wanted));
    waited.with_context(|| format!("{:#}\n{}", agent.status().unwrap(), agent.process.output())).unwrap();
}

pub fn blocks_until_the_commands_ran(tool: Tool, family: Family, role: Role) {
    let site = Site::new(tool, family).unwrap();
    let what = format!("{tool:?} {family:?} {role:?}");
    site.talk(role).unwrap();
    assert_eq!(site.attack(role).unwrap(), 0, "{what}: the firewall itself is open");
    site.naive(role).unwrap();
    assert!(site.talk(role).is_err(), "{what}: naive rules cut nothing");
    site.node().nft("delete table inet naive").unwrap();

    let policies = Policies::of(&role.policy("")).unwrap();
    let agent = Live::start(site.node(), &policies, &[]).unwrap();
    let name = role.name();
    state(&agent, &name, "Blocked");
    let before = site.rules().unwrap();
    site.talk(role).unwrap();
    let found = of_firewall(&agent, &name);
    for text in &found {
        assert!(
            text.contains("blocked: ") && text.contains(", chain ") && text.contains("drop untracked"),
            "{text}"
        );
    }
    let printed: Vec<String> = found.iter().flat_map(|text| commands(text)).collect();
    assert!(!printed.is_empty(), "{found:#?}");
    for command in &printed {
        run_ok(site.node().command("sh").args(["-c", command])).unwrap();
    }
    let ran = Instant::now();
    state(&agent, &name, "Programmed");
    println!("{what}: {} commands, programmed after {:?}", printed.len(), ran.elapsed());
    assert_eq!(of_firewall(&agent, &name), Vec::<String>::new());
    assert_ne!(site.rules().unwrap(), before);

    site.talk(role).unwrap();
    wait_until("no entry", PATIENCE, || site.entries(role).unwrap().is_empty()).unwrap();
    site.talk(role).unwrap();
    assert_eq!(site.entries(role).unwrap(), Vec::<String>::new(), "{what}");
    assert_eq!(site.attack(role).unwrap(), 0, "{what}: {}", site.rules().unwrap());
}
