//! Who may do what: the programs run as the ServiceAccounts of `deploy/`, and a stolen token is worth one node's status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use notrack_cluster::{Cluster, Options, agent_pod, policy};
use notrack_lab::{run_ok, run_ok_with_input};

#[test]
fn a_stolen_token_writes_one_nodes_status_and_nothing_else() {
    let cluster = Cluster::start(&Options { nodes: 2, ..Options::default() }).unwrap();
    cluster.install().unwrap();
    agents_have_one_capability(&cluster);
    let thief = Thief::of_agent(&cluster, "node1");
    thief.writes_its_own_status();
    thief.is_denied_everything_else();
    a_token_without_a_node_is_worth_nothing(&cluster);
    a_stale_controllers_plan_is_refused(&cluster);
    role_forward_needs_its_verb(&cluster);
}

/// Every process of a program in the cluster: their nodes are this machine's processes.
fn processes(program: &str) -> Vec<u32> {
    let found = run_ok(std::process::Command::new("pgrep").args(["-x", program])).unwrap();
    found.lines().map(|line| line.parse().unwrap()).collect()
}

fn agents_have_one_capability(cluster: &Cluster) {
    let namespaces: Vec<_> = cluster
        .nodes
        .iter()
        .map(|node| {
            node.network().unwrap().enter(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap()
        })
        .collect();
    let mut seen = 0;
    for pid in processes("notrack-agent") {
        let network = fs::read_link(format!("/proc/{pid}/ns/net"));
        if !network.is_ok_and(|network| namespaces.contains(&network)) {
            continue;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let effective = status.lines().find(|line| line.starts_with("CapEff")).unwrap();
        assert_eq!(effective.split_whitespace().last(), Some("0000000000001000"), "NET_ADMIN alone");
        seen += 1;
    }
    assert_eq!(seen, cluster.nodes.len());
}

/// Somebody with an agent's token.
struct Thief<'a> {
    cluster: &'a Cluster,
    token: String,
}

impl<'a> Thief<'a> {
    fn of_agent(cluster: &'a Cluster, node: &str) -> Thief<'a> {
        let pod = agent_pod(cluster, node).unwrap();
        let token = cluster
            .kubectl(&format!(
                "create token notrack-agent -n notrack-system --bound-object-kind=Pod --bound-object-name={pod}"
            ))
            .unwrap();
        Thief { cluster, token: token.trim().to_owned() }
    }

    fn kubectl(&self, arguments: &str) -> Result<String, String> {
        // The administrator's certificate would win over a token: a kubeconfig without it.
        let mut command = std::process::Command::new(self.cluster.kubectl_path());
        command.args([
            "--kubeconfig",
            "/dev/null",
            "--server",
            self.cluster.server(),
            "--insecure-skip-tls-verify",
        ]);
        command.args(["--token", &self.token]).args(arguments.split_whitespace());
        run_ok(&mut command).map_err(|error| format!("{error:#}"))
    }

    /// Not by kubectl: it would read the subresource first, which an agent may not.
    fn patch_status(&self, node: &str) -> Result<String, String> {
        let url = format!("{}/apis/notrack.dev/v1alpha1/nodeplans/{node}/status", self.cluster.server());
        let mut command = std::process::Command::new("curl");
        command.args(["--silent", "--insecure", "--fail-with-body", "--request", "PATCH"]);
        command.args(["--header", "Content-Type: application/merge-patch+json"]);
        command.args(["--header", &format!("Authorization: Bearer {}", self.token)]);
        command.args(["--data", r#"{"status":{"agentVersion":"stolen"}}"#, &url]);
        run_ok(&mut command).map_err(|error| format!("{error:#}"))
    }

    fn writes_its_own_status(&self) {
        self.patch_status("node1").unwrap();
    }

    fn is_denied_everything_else(&self) {
        let error = self.patch_status("node2").unwrap_err();
        assert!(error.contains("this token belongs to node") && error.contains("node2"), "{error}");
        for attempt in [
            r#"patch nodeplan node1 --type=merge -p {"spec":{"ruleSet":null}}"#,
            "delete nodeplan node1",
            "delete rulesets --all",
            concat!("create -f ", env!("CARGO_MANIFEST_DIR"), "/playground.yaml"),
            "delete notrackpolicies --all",
            "get secrets -A",
            "get nodes",
            "get pods -A",
        ] {
            let error = self.kubectl(attempt).expect_err(attempt);
            assert!(error.contains("orbidden"), "{attempt}: {error}");
        }
    }
}

fn a_token_without_a_node_is_worth_nothing(cluster: &Cluster) {
    let token = cluster.kubectl("create token notrack-agent -n notrack-system").unwrap();
    let error = Thief { cluster, token: token.trim().to_owned() }.patch_status("node1").unwrap_err();
    assert!(error.contains("names no node"), "{error}");
}

/// The API server itself refuses the plan of a controller that has lost its lease.
fn a_stale_controllers_plan_is_refused(cluster: &Cluster) {
    let error = run_ok(cluster.kubectl_command().args([
        "patch",
        "nodeplan",
        "node1",
        "--type=merge",
        "-p",
        r#"{"spec":{"epoch":0,"reportEverySeconds":31}}"#,
        "--as=system:serviceaccount:notrack-system:notrack-controller",
    ]))
    .unwrap_err()
    .to_string();
    assert!(error.contains("stale controller"), "{error}");
}

fn role_forward_needs_its_verb(cluster: &Cluster) {
    cluster.kubectl("create clusterrolebinding alice --clusterrole=notrack-edit --user=alice").unwrap();
    let apply = |manifest: &str| {
        let mut command = cluster.kubectl_command();
        run_ok_with_input(command.args(["create", "--as=alice", "-f", "-"]), manifest)
            .map_err(|error| error.to_string())
    };
    let forward = |name: &str| {
        policy(
            name,
            "nodeSelector: {}\nflows:\n- {name: f, action: NoTrack, role: Forward, ports: [{protocol: TCP, port: 80}], \
             serverAddresses: [198.51.100.0/24]}",
        )
    };
    let error = apply(&forward("through")).unwrap_err();
    assert!(error.contains("needs the verb forward"), "{error}");
    cluster
        .kubectl("create clusterrole forwarder --verb=forward --resource=notrackpolicies.notrack.dev")
        .unwrap();
    cluster.kubectl("create clusterrolebinding forwarder --clusterrole=forwarder --user=alice").unwrap();
    apply(&forward("through")).unwrap();
}
