//! `kubectl-notrack check --this-node`: what the kernel has is what is judged.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{TcpListener, TcpStream};
use std::path::Path;

use notrack_lab::{Background, Namespace, Pair, built, run_ok_with_input};
use notrack_netns::agent::{Live, PATIENCE, Policies, server};
use notrack_netns::{track, traffic};

const FIREWALL: &str = "table inet site {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname lo accept
    ct state established,related accept
    ct state new tcp dport 80 accept
    tcp dport 443 accept
  }
}";

/// Exit status and everything said.
fn check(host: &Namespace, policies: &Policies, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = host.command(&built("kubectl-notrack").unwrap().to_string_lossy());
    command.arg("check").arg(policies.path()).args(arguments);
    let mut check = Background::spawn(command).unwrap();
    let status = check.wait(PATIENCE).unwrap();
    (status.code(), check.output())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_firewall_that_would_drop_is_shown_and_saved_and_its_missing_rules_help() {
    let Pair { client: _other_end, node } = Pair::new().unwrap();
    node.nft(FIREWALL).unwrap();
    let [http, https] = ["80", "443"].map(|port| Policies::of(&server("web", "TCP", port)).unwrap());
    let (status, said) = check(&node, &https, &["--this-node"]);
    assert_eq!(status, Some(0), "a static rule accepts it: {said}");

    let folder = tempfile::tempdir().unwrap();
    let facts = folder.path().join("facts.json");
    let (status, said) = check(&node, &http, &["--this-node", "--save-facts", path(&facts)]);
    assert_eq!(status, Some(1), "{said}");
    for wanted in
        ["NT007 HostFirewallDrops", "inet site, chain input\n", "policy drop", "hostFirewall: Adapt"]
    {
        assert!(said.contains(wanted), "{wanted} is not in\n{said}");
    }
    let elsewhere = Namespace::new("elsewhere").unwrap();
    assert_eq!(check(&elsewhere, &http, &["--node-facts", path(&facts)]), (status, said.clone()));

    let missing: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("nft '")).collect();
    assert!(!missing.is_empty(), "{said}");
    for rule in missing {
        run_ok_with_input(node.command("nft").args(["-f", "-"]), rule.trim_end_matches('\'')).unwrap();
    }
    let (status, said) = check(&node, &http, &["--this-node"]);
    assert_eq!(status, Some(0), "the missing rules were added: {said}");
}

#[test]
fn a_connection_that_is_translated_now_is_shown() {
    let Pair { client, node } = Pair::new().unwrap();
    track(&node).unwrap();
    node.nft(
        "table ip nat {\n chain prerouting {\n type nat hook prerouting priority dstnat;\n \
         tcp dport 8080 redirect to :80\n }\n}",
    )
    .unwrap();
    let listener = traffic::bind(&node, || TcpListener::bind("10.77.0.1:80")).unwrap();
    let open = client.enter(|| TcpStream::connect("10.77.0.1:8080")).unwrap().unwrap();
    // The rule is gone, the connection is not.
    node.nft("delete table ip nat").unwrap();
    let http = Policies::of(&server("web", "TCP", "80")).unwrap();
    let (status, said) = check(&node, &http, &["--this-node"]);
    assert!(said.contains("NT016 LiveNAT") && said.contains("10.77.0.1:8080"), "{status:?} {said}");
    drop((open, listener));
}

#[test]
fn a_finding_has_one_name_in_the_status_the_metrics_and_the_check() {
    let Pair { client: _other_end, node } = Pair::new().unwrap();
    node.nft(FIREWALL).unwrap();
    let web = Policies::of(&server("web", "TCP", "80")).unwrap();
    let agent = Live::start(&node, &web, &[]).unwrap();
    let status = agent.status().unwrap()["policies"][0].clone();
    assert_eq!(status["state"], "Blocked");
    let found = status["findings"][0].as_str().unwrap();
    let (who, rest) = found.split_once(": blocked: ").unwrap();
    assert_eq!(who, "web/f");
    let (code, name) = rest.split_once(": ").unwrap().0.split_once(' ').unwrap();
    assert_eq!((code, name), ("NT007", "HostFirewallDrops"));

    let conditions = status["status"]["conditions"].as_array().unwrap();
    for kind in ["Programmed", "Ready"] {
        let condition = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
        assert_eq!((condition["status"].as_str(), condition["reason"].as_str()), (Some("False"), Some(name)));
    }
    assert_eq!(status["status"]["hazards"][0]["code"], code);
    let metrics = agent.get("/metrics").unwrap().1;
    let metric = metrics.lines().find(|line| line.starts_with("notrack_policy_hazards{")).unwrap();
    for label in [r#"policy="web""#, &format!(r#"hazard="{name}""#), r#"effect="Blocked""#] {
        assert!(metric.contains(label), "{label} is not in {metric}");
    }
    let (code_of_exit, said) = check(&node, &web, &["--this-node"]);
    assert_eq!(code_of_exit, Some(1), "{said}");
    assert!(said.contains(&format!("{code} {name}")), "{said}");
}
