//! `hostFirewall: Adapt`: the agent adds what is missing, keeps it and takes it back.

use std::collections::BTreeSet;
use std::time::Instant;

use notrack_core::host::Backend;
use notrack_core::net::Family;
use notrack_lab::{run_ok, wait_until};
use notrack_netlink::adapters::{self, Present};
use notrack_netns::agent::{Live, PATIENCE, Policies, command};

use super::check::state;
use super::site::{Role, Site, Tool};

pub const ADAPT: &str = "hostFirewall: Adapt";

pub fn present(site: &Site) -> BTreeSet<Present> {
    site.node().enter(adapters::present).unwrap().unwrap()
}

fn comments(site: &Site) -> BTreeSet<String> {
    present(site).into_iter().map(|rule| rule.comment).collect()
}

/// The lines that are not ours.
pub fn others(listing: &str) -> Vec<&str> {
    listing.lines().filter(|line| !line.contains("notrack-dev:")).collect()
}

pub fn bypassed(site: &Site, role: Role) {
    site.talk(role).unwrap();
    wait_until("no entry", PATIENCE, || site.entries(role).unwrap().is_empty()).unwrap();
    site.talk(role).unwrap();
    assert_eq!(site.entries(role).unwrap(), Vec::<String>::new());
}

pub fn mends(tool: Tool, family: Family, role: Role) {
    let site = Site::new(tool, family).unwrap();
    let what = format!("{tool:?} {family:?} {role:?}");
    assert_eq!(site.attack(role).unwrap(), 0, "{what}: the firewall itself is open");
    let before = site.rules().unwrap();
    let policies = Policies::of(&role.policy(ADAPT)).unwrap();
    let mut agent = Live::start(site.node(), &policies, &[]).unwrap();
    let name = role.name();
    state(&agent, &name, "Programmed");
    let ours = present(&site);
    assert!(!ours.is_empty(), "{what}");
    for rule in &ours {
        assert!(rule.comment.starts_with(&format!("notrack-dev:{name}:")), "{rule:?}");
        let backend = match tool {
            Tool::Nft | Tool::Firewalld => Backend::Nft,
            Tool::IptablesNft => Backend::IptablesNft,
            Tool::IptablesLegacy => Backend::IptablesLegacy,
        };
        assert_eq!(rule.table.backend, backend);
    }
    let with = site.rules().unwrap();
    assert_eq!(others(&with), before.lines().collect::<Vec<_>>(), "{what}");
    bypassed(&site, role);
    assert_eq!(site.attack(role).unwrap(), 0, "{what}: {with}");

    agent.process.stop().unwrap();
    drop(agent);
    let agent = Live::start(site.node(), &policies, &[]).unwrap();
    state(&agent, &name, "Programmed");
    assert_eq!(present(&site), ours, "{what}: a restart");

    let wanted = comments(&site);
    site.load().unwrap();
    let reloaded = Instant::now();
    wait_until("the rules anew", PATIENCE, || comments(&site) == wanted).unwrap();
    println!("{what}: {} rules, anew after {:?}", wanted.len(), reloaded.elapsed());
    state(&agent, &name, "Programmed");
    bypassed(&site, role);
    assert_eq!(site.attack(role).unwrap(), 0, "{what}: after a reload");

    policies.remove("policy.yaml").unwrap();
    wait_until("ours gone", PATIENCE, || present(&site).is_empty()).unwrap();
    assert_eq!(site.rules().unwrap(), before, "{what}: the policy is gone");
    policies.write("policy.yaml", &role.policy(ADAPT)).unwrap();
    wait_until("ours back", PATIENCE, || comments(&site) == wanted).unwrap();
    drop(agent);
    run_ok(command(site.node()).unwrap().arg("remove")).unwrap();
    assert_eq!(site.rules().unwrap(), before, "{what}: notrack-agent remove");
    site.talk(role).unwrap();
}
