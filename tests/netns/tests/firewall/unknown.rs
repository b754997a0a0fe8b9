//! Rules that nobody can evaluate but the kernel: they are no difference between tracked and untracked packets, unless
//! the state decides beside them.

use std::collections::BTreeSet;

use notrack_core::net::Family;
use notrack_lab::run_ok_with_input;
use notrack_netns::agent::{Live, Policies};

use super::adapt::present;
use super::check::{commands, of_firewall, state};
use super::site::{Role, Site, Tool};

const ROLE: Role = Role::ServerTcp;

/// A site whose firewall is only these rules of the input chain, and the policy's state under it.
fn judged(tool: Tool, rules: &[&str], wanted: &str, rest: &str) -> Vec<String> {
    let site = Site::new(tool, Family::Ipv4).unwrap();
    match tool {
        Tool::Nft => {
            let rules = rules.join("\n");
            let input = format!(
                "chain input {{\ntype filter hook input priority filter; policy drop;\niifname lo accept\n{rules}\n}}"
            );
            site.node().nft(&format!("delete table inet site\ntable inet site {{\n{input}\n}}\n")).unwrap();
        }
        _ => {
            let rules: String = rules.iter().map(|rule| format!("-A INPUT {rule}\n")).collect();
            let all = format!(
                "*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\n{rules}COMMIT\n"
            );
            run_ok_with_input(&mut site.node().command(&site.iptables("-restore")), &all).unwrap();
        }
    }
    let policies = Policies::of(&ROLE.policy(rest)).unwrap();
    let agent = Live::start(site.node(), &policies, &[]).unwrap();
    state(&agent, &ROLE.name(), wanted);
    if wanted == "Blocked" {
        assert_eq!(present(&site), BTreeSet::new());
    }
    of_firewall(&agent, &ROLE.name())
}

const IPTABLES: [Tool; 2] = [Tool::IptablesNft, Tool::IptablesLegacy];
const KNOWN: &str = "-m conntrack --ctstate ESTABLISHED -j ACCEPT";
/// Extensions whose payload is not read.
const FOREIGN: [&str; 2] =
    ["-m u32 --u32 0>>22&0x3C@12>>26&0x3C@0=1", "-m string --string forbidden --algo bm"];

#[test]
fn what_decides_alike_for_both_is_no_finding() {
    let none = Vec::<String>::new();
    let nft = ["meta random < 1 drop", "ct state established accept", "tcp dport 80 accept"];
    // nft 1.0.6 has no words for it, numgen is its like.
    let nft =
        [nft[0].replace("meta random < 1", "numgen random mod 1000 == 999"), nft[1].into(), nft[2].into()];
    assert_eq!(judged(Tool::Nft, &nft.each_ref().map(String::as_str), "Programmed", ""), none);
    for tool in IPTABLES {
        for foreign in FOREIGN {
            let bans = format!("{foreign} -j DROP");
            assert_eq!(
                judged(tool, &[&bans, KNOWN, "-p tcp --dport 80 -j ACCEPT"], "Programmed", ""),
                none,
                "{tool:?}"
            );
        }
    }
}

#[test]
fn where_it_matters_the_rule_is_named() {
    for tool in IPTABLES {
        for foreign in FOREIGN {
            // Only behind the state: a later packet of a connection never meets the rule, an untracked one would.
            let bans = format!("{foreign} -j DROP");
            let found = judged(tool, &[KNOWN, &bans, "-p tcp --dport 80 -j ACCEPT"], "Blocked", "");
            let word = foreign.split(' ').nth(1).unwrap();
            assert!(
                found.iter().any(|text| text.contains("may drop untracked") && text.contains(word)),
                "{found:#?}"
            );
            assert!(found.iter().any(|text| !commands(text).is_empty()), "{found:#?}");
            let none = Vec::<String>::new();
            assert_eq!(
                judged(
                    tool,
                    &[KNOWN, &bans, "-p tcp --dport 80 -j ACCEPT"],
                    "Programmed",
                    "hostFirewall: Adapt"
                ),
                none
            );
        }
    }
    let nft = ["ct state established accept", "numgen random mod 1000 == 999 drop", "tcp dport 80 accept"];
    let found = judged(Tool::Nft, &nft, "Blocked", "");
    assert!(
        found.iter().any(|text| text.contains("may drop untracked") && text.contains("numgen")),
        "{found:#?}"
    );
}
