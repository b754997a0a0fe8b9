//! `hostFirewall: Adapt` in a policy that only watches, and under connections that live when the policy goes.

use notrack_core::net::Family;
use notrack_lab::wait_until;
use notrack_netns::agent::{Live, PATIENCE, Policies};
use notrack_netns::traffic::Connection;

use super::adapt::{ADAPT, present};
use super::check::state;
use super::site::{Role, Site, Tool};

/// Each tool with a role that its firewall would cut off.
const EACH: [(Tool, Role); 4] = [
    (Tool::Nft, Role::ServerTcp),
    (Tool::IptablesNft, Role::ServerTcp),
    (Tool::IptablesLegacy, Role::ServerTcp),
    (Tool::Firewalld, Role::ClientTcp),
];

/// Waits until the agent has looked at everything again, and told.
fn looks_again(agent: &Live) {
    let reported = || agent.status().unwrap()["node"]["reportedAt"].clone();
    for _ in 0..2 {
        let before = reported();
        wait_until("another report", PATIENCE, || reported() != before).unwrap();
    }
}

#[test]
fn an_audited_policy_changes_no_rule_of_the_firewall() {
    for (tool, role) in EACH {
        let site = Site::new(tool, Family::Ipv4).unwrap();
        let before = site.rules().unwrap();
        let enforced = role.policy(ADAPT);
        let audited = enforced.replace("mode: Enforce", "mode: Audit");
        let policies = Policies::of(&audited).unwrap();
        let agent = Live::start(site.node(), &policies, &[]).unwrap();
        let name = role.name();
        let is_untouched = || {
            looks_again(&agent);
            assert!(present(&site).is_empty(), "{tool:?}: {:?}", present(&site));
            assert_eq!(site.rules().unwrap(), before, "{tool:?}");
            site.talk(role).unwrap();
            assert!(!site.entries(role).unwrap().is_empty(), "{tool:?}: bypassed");
        };
        state(&agent, &name, "Auditing");
        is_untouched();
        policies.write("policy.yaml", &enforced).unwrap();
        state(&agent, &name, "Programmed");
        assert!(!present(&site).is_empty(), "{tool:?}: nothing would have been missing");
        policies.write("policy.yaml", &audited).unwrap();
        state(&agent, &name, "Auditing");
        wait_until("ours gone", PATIENCE, || present(&site).is_empty()).unwrap();
        is_untouched();
    }
}

fn goes_on(connection: &mut Connection, what: &str) {
    let talked = connection.talk().and_then(|()| connection.talk_back());
    talked.unwrap_or_else(|error| panic!("{what}: {error}"));
}

#[test]
fn connections_outlive_a_policy_and_its_rules_in_the_firewall() {
    for (tool, role) in EACH {
        for existing in ["Evict", "Keep"] {
            let what = format!("{tool:?} {existing}");
            let site = Site::new(tool, Family::Ipv4).unwrap();
            let node = site.node();
            node.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", "0").unwrap();
            let mut harmed = site.open(role).unwrap();
            site.naive(role).unwrap();
            assert!(harmed.talk().is_err(), "{what}: the firewall let it through untracked");
            node.nft("delete table inet naive").unwrap();
            drop(harmed);

            let before = site.rules().unwrap();
            let mut old = site.open(role).unwrap();
            let policies =
                Policies::of(&role.policy(&format!("{ADAPT}\nexistingEntries: {existing}"))).unwrap();
            let agent = Live::start(node, &policies, &[]).unwrap();
            state(&agent, &role.name(), "Programmed");
            let mut new = site.open(role).unwrap();
            for connection in [&mut old, &mut new] {
                goes_on(connection, &what);
            }
            policies.remove("policy.yaml").unwrap();
            wait_until("the end of the bypass", PATIENCE, || {
                !node.ruleset().unwrap().contains("notrack-dev") && present(&site).is_empty()
            })
            .unwrap();
            assert_eq!(site.rules().unwrap(), before, "{what}");
            for connection in [&mut old, &mut new] {
                goes_on(connection, &what);
            }
            assert!(site.entries(role).unwrap().len() >= 2, "{what}: tracked again");
        }
    }
}
