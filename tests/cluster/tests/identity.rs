//! Who may do what: the programs run as the ServiceAccounts of `deploy/`, and a stolen token is worth one node's status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use notrack_cluster::{Cluster, Options, PATIENCE, agent_pod, agent_processes, policy};
use notrack_lab::{run_ok, run_ok_with_input, wait_until};
use serde_json::{Value, json};

#[test]
fn a_stolen_token_writes_one_nodes_status_and_nothing_else() {
    let cluster = Cluster::start(&Options { nodes: 2, ..Options::default() }).unwrap();
    it_is_installed_from_one_file(&cluster);
    agents_have_one_capability(&cluster);
    let thief = Thief::of_agent(&cluster, "node1");
    thief.writes_its_own_status();
    thief.is_denied_everything_else();
    a_token_without_a_node_is_worth_nothing(&cluster);
    a_stale_controllers_plan_is_refused(&cluster);
    let alice = Alice::new(&cluster);
    role_forward_needs_its_verb(&alice);
    acknowledging_a_hazard_needs_its_verb(&alice);
    what_is_no_hazard_is_not_accepted(&cluster);
    what_was_applied_does_not_differ(&cluster);
    what_one_file_has_made_the_folder_takes_away(&cluster);
}

/// The other way of docs/install.md; the other tests take the folder.
fn it_is_installed_from_one_file(cluster: &Cluster) {
    cluster.load_images().unwrap();
    cluster.kubectl("apply --server-side -f deploy/notrack.yaml").unwrap();
    cluster.wait_until_installed().unwrap();
    // A token must be worth one node's status from its first moment on.
    cluster.admission_came_first().unwrap();
}

fn agents_have_one_capability(cluster: &Cluster) {
    for node in &cluster.nodes {
        let agents = agent_processes(node).unwrap();
        assert_eq!(agents.len(), 1, "{}: {agents:?}", node.name);
        let status = fs::read_to_string(format!("/proc/{}/status", agents[0])).unwrap();
        let effective = status.lines().find(|line| line.starts_with("CapEff")).unwrap();
        assert_eq!(effective.split_whitespace().last(), Some("0000000000001000"), "NET_ADMIN alone");
    }
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

/// Somebody who may write policies, and nothing that needs a verb of its own.
struct Alice<'a>(&'a Cluster);

impl Alice<'_> {
    fn new(cluster: &Cluster) -> Alice<'_> {
        cluster.kubectl("create clusterrolebinding alice --clusterrole=notrack-edit --user=alice").unwrap();
        cluster
            .kubectl("create clusterrolebinding alice-sees --clusterrole=notrack-view --user=alice")
            .unwrap();
        Alice(cluster)
    }

    /// For policies of these names; for all, where none is given.
    fn is_given(&self, verb: &str, names: &[&str]) {
        let names: String = names.iter().map(|name| format!(" --resource-name={name}")).collect();
        let role = format!("create clusterrole {verb} --verb={verb} --resource=notrackpolicies.notrack.dev");
        self.0.kubectl(&(role + &names)).unwrap();
        self.0
            .kubectl(&format!("create clusterrolebinding {verb} --clusterrole={verb} --user=alice"))
            .unwrap();
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.0.kubectl_command();
        run_ok_with_input(command.arg("--as=alice").args(arguments), input).map_err(|error| error.to_string())
    }

    fn create(&self, manifest: &str) -> Result<String, String> {
        self.run(&["create", "-f", "-"], manifest)
    }

    fn patch(&self, name: &str, patch: &str) -> Result<String, String> {
        self.run(&["patch", "notrackpolicy", name, "--type=merge", "-p", patch], "")
    }
}

fn role_forward_needs_its_verb(alice: &Alice) {
    let through = policy(
        "through",
        "nodeSelector: {}\nflows:\n- {name: f, action: NoTrack, role: Forward, \
         ports: [{protocol: TCP, port: 80}], serverAddresses: [198.51.100.0/24]}",
    );
    let error = alice.create(&through).unwrap_err();
    assert!(error.contains("needs the verb forward"), "{error}");
    alice.is_given("forward", &[]);
    alice.create(&through).unwrap();
}

fn acknowledging_a_hazard_needs_its_verb(alice: &Alice) {
    const DENIED: &str = "acknowledging a hazard needs the verb acknowledge on notrackpolicies.notrack.dev";
    // No node: what these policies do is not the matter here.
    let known = |name: &str, port: u16, acknowledge: &str| {
        policy(
            name,
            &format!(
                "nodeSelector: {{matchLabels: {{none: such}}}}\nflows:\n\
                 - {{name: f, action: NoTrack, role: Server, ports: [{{protocol: TCP, port: {port}}}], \
                 acknowledge: {acknowledge}}}"
            ),
        )
    };
    let taken = "[{hazard: StatefulLimits, reason: the load balancer limits}]";
    let error = alice.create(&known("known", 80, taken)).unwrap_err();
    assert!(error.contains(DENIED), "{error}");
    alice.create(&known("nothing-taken", 80, "[]")).unwrap();
    let error = alice.run(&["apply", "-f", "-"], &known("nothing-taken", 80, taken)).unwrap_err();
    assert!(error.contains(DENIED), "{error}");

    // Somebody else has acknowledged it: what does not touch the spec stays free, and the spec does not.
    alice.0.apply(&known("known", 80, taken)).unwrap();
    alice.run(&["label", "notrackpolicy", "known", "team=edge"], "").unwrap();
    alice.run(&["annotate", "notrackpolicy", "known", "note=seen"], "").unwrap();
    let error = alice.patch("known", r#"{"spec":{"mode":"Audit"}}"#).unwrap_err();
    assert!(error.contains(DENIED), "{error}");
    // The controller has no such verb either: its status is there because a status needs none.
    let generation = |known: &Value| known["metadata"]["generation"].as_i64();
    let reported = |known: &Value| {
        known["status"]["observedGeneration"].as_i64() == generation(known) && generation(known) == Some(1)
    };
    alice.0.wait_for("notrackpolicy known", "the controller has looked at it", reported).unwrap();

    alice.is_given("acknowledge", &["known", "known-too"]);
    alice.patch("known", r#"{"spec":{"mode":"Audit"}}"#).unwrap();
    alice.create(&known("known-too", 81, taken)).unwrap();
    let error = alice.create(&known("another", 82, taken)).unwrap_err();
    assert!(error.contains(DENIED), "{error}");
}

/// The API server knows no hazards by name. The controller does.
fn what_is_no_hazard_is_not_accepted(cluster: &Cluster) {
    let slip = policy(
        "slip",
        "nodeSelector: {}\nflows:\n- {name: f, action: NoTrack, role: Server, \
         ports: [{protocol: TCP, port: 80}], \
         acknowledge: [{hazard: HostFirewalDrops, reason: known to the site}]}",
    );
    cluster.apply(&slip).unwrap();
    let accepted = |policy: &Value| {
        let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|one| one["type"] == "Accepted").unwrap_or_default()
    };
    let policy = cluster
        .wait_for("notrackpolicy slip", "it is refused", |policy| accepted(policy)["status"] == "False")
        .unwrap();
    assert_eq!(accepted(&policy)["reason"], "Invalid");
    let message = accepted(&policy)["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message,
        "spec.flows[0].acknowledge[0].hazard: \"HostFirewalDrops\" is no hazard: did you mean HostFirewallDrops?"
    );
}

/// A tool that compares what is wanted with what is there finds no difference: defaults are filled in on both.
fn what_was_applied_does_not_differ(cluster: &Cluster) {
    for (written, firewall, entries) in
        [("", "Check", "Evict"), ("\nhostFirewall: Adapt\nexistingEntries: Keep", "Adapt", "Keep")]
    {
        let spec = "nodeSelector: {matchLabels: {none: such}}\nflows:\n- {name: f, action: NoTrack, \
                    role: Server, ports: [{protocol: TCP, port: 80}], \
                    acknowledge: [{hazard: VRF, reason: for management only}]}";
        let manifest = policy("same", &format!("{spec}{written}"));
        cluster.apply(&manifest).unwrap();
        // Exits with 1, an error here, where there is a difference.
        let diff = run_ok_with_input(cluster.kubectl_command().args(["diff", "-f", "-"]), &manifest).unwrap();
        assert_eq!(diff, "");
        let spec = cluster.get("notrackpolicy same").unwrap()["spec"].clone();
        assert_eq!((&spec["hostFirewall"], &spec["existingEntries"]), (&json!(firewall), &json!(entries)));
    }
}

/// Both hold the same objects, and deletion ends with policies and agents there.
fn what_one_file_has_made_the_folder_takes_away(cluster: &Cluster) {
    cluster.kubectl("delete -k deploy --timeout=120s").unwrap();
    let kinds = "namespaces,clusterroles,clusterrolebindings,flowschemas,prioritylevelconfigurations,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings,crds";
    let left = || cluster.get(&format!("{kinds} -l app.kubernetes.io/name=notrack")).unwrap();
    wait_until("nothing of ours is left", PATIENCE, || left()["items"].as_array().is_none_or(Vec::is_empty))
        .unwrap_or_else(|_| panic!("{:#}", left()));
}
