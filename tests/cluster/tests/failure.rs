//! What fails in a cluster, and that nothing enforced changes with it: before, during and after.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use notrack_cluster::{Cluster, Options, PATIENCE, fetch, is_ready, policy, serve};
use notrack_lab::{run_ok, wait_until};
use serde_json::Value;

#[path = "failure/controllers.rs"]
mod controllers;

const PORT: u16 = 8080;
const SECOND: Duration = Duration::from_secs(1);

/// A node gets the address of its bridge with its first pod, and agents follow addresses: every node has it from the
/// start, so that only what fails makes a difference.
const POD_EVERYWHERE: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: pods, namespace: default}
spec:
  selector: {matchLabels: {app: pods}}
  template:
    metadata: {labels: {app: pods}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations: [{operator: Exists}]
      containers:
      - {name: sleep, image: 'busybox:test', imagePullPolicy: Never, command: [/bin/busybox, sleep, '3600']}
";

#[test]
fn nothing_enforced_changes_when_something_fails() {
    let world = World::start();
    world.agents_restart_all_at_once();
    world.the_api_server_goes_away();
    world.plans_are_deleted();
    world.the_agents_are_forbidden_everything();
    world.plans_change_under_the_controller();
    world.the_controllers_are_killed();
    world.a_controller_sleeps_through_its_lease();
    world.a_node_is_deleted_and_comes_back();
    world.the_definitions_are_deleted();
    world.the_definitions_are_older_than_the_controller();
}

struct World {
    cluster: Cluster,
}

/// What a kernel enforces: the rules with their handles, which a new commit of them would change.
type Enforced = BTreeMap<String, String>;

impl World {
    fn start() -> World {
        let cluster = Cluster::start(&Options::default()).unwrap();
        cluster.install().unwrap();
        serve(&cluster, "web", "node2", PORT).unwrap();
        cluster.apply(POD_EVERYWHERE).unwrap();
        cluster.kubectl("rollout status --timeout=120s daemonset/pods").unwrap();
        let world = World { cluster };
        world.apply_policy();
        world.wait_until_ready();
        world
    }

    fn apply_policy(&self) {
        let flow = format!(
            "{{name: http, action: NoTrack, role: Server, ports: [{{protocol: TCP, port: {PORT}}}]}}"
        );
        self.cluster.apply(&policy("edge", &format!("nodeSelector: {{}}\nflows:\n- {flow}"))).unwrap();
    }

    fn wait_until_ready(&self) {
        self.cluster.wait_for("notrackpolicy/edge", "the policy is ready", is_ready).unwrap();
    }

    /// Rules and their handles on every node, without what counts or runs out.
    fn enforced(&self) -> Enforced {
        let table = |node: &notrack_cluster::Node| {
            let network = node.network().unwrap();
            let list = ["-a", "-s", "list", "table", "inet", "notrack-dev"];
            let text = run_ok(network.command("nft").args(list)).unwrap_or_default();
            // The rest of an element's life changes by itself, and who owns the table with the agent.
            let is_stable = |line: &&str| {
                let line = line.trim();
                !line.contains("expires")
                    && !line.starts_with("table")
                    && !line.starts_with("flags owner")
                    && line != "flags"
            };
            text.lines().filter(is_stable).collect::<Vec<_>>().join("\n")
        };
        self.cluster.nodes.iter().map(|node| (node.name.clone(), table(node))).collect()
    }

    /// Asks the server; fails unless the answer came and neither half made an entry.
    fn is_bypassed(&self) -> bool {
        let (client, server) = (self.cluster.node("node1").unwrap(), self.cluster.node("node2").unwrap());
        let answered = fetch(client.network().unwrap().command("curl"), &server.address, PORT, SECOND);
        let entries = server.network().unwrap().conntrack(&format!("-p tcp --dport {PORT}")).unwrap();
        answered && entries.is_empty()
    }

    /// Checks that nothing changes while something fails.
    fn unchanged_while<T>(&self, what: &str, fails: impl FnOnce() -> T) -> T {
        let before = self.enforced();
        assert!(before.values().all(|table| table.contains("notrack")), "{what}: before: {before:?}");
        assert!(self.is_bypassed(), "{what}: before");
        let result = fails();
        assert_eq!(self.enforced(), before, "{what}: during");
        assert!(self.is_bypassed(), "{what}: during");
        result
    }

    fn reports_after(&self, mark: &Value) -> impl Fn(&Value) -> bool {
        let mark = mark.clone();
        move |plan: &Value| plan["status"]["reportedAt"].is_string() && plan["status"]["reportedAt"] != mark
    }

    fn agents_restart_all_at_once(&self) {
        self.unchanged_while("all agents restart", || {
            self.cluster
                .kubectl("delete pods -n notrack-system -l app.kubernetes.io/component=agent --now")
                .unwrap();
            self.cluster.wait_until_installed().unwrap();
        });
        self.wait_until_ready();
    }

    fn the_api_server_goes_away(&self) {
        let reported = self.cluster.get("nodeplan/node2").unwrap()["status"]["reportedAt"].clone();
        self.unchanged_while("the API server is killed", || {
            self.cluster.control("stop", "apiserver").unwrap();
            for _ in 0..10 {
                assert!(self.is_bypassed());
                std::thread::sleep(SECOND / 2);
            }
        });
        let mark = self.cluster.audit_mark().unwrap();
        self.unchanged_while("the API server is back", || {
            self.cluster.control("start", "apiserver").unwrap()
        });
        // Whoever has something to say says it again: a change reaches the kernels and comes back.
        self.cluster.kubectl("annotate --overwrite nodeplan/node2 seen=again").unwrap();
        self.apply_other(9001);
        let newer = self.reports_after(&reported);
        self.cluster.wait_for("nodeplan/node2", "the agent reports again", newer).unwrap();
        // An API server that has just started refuses with 429 until its caches are filled, and knows nothing of what the
        // watches have seen before (410): they list again. No agent was restarted.
        let requests = self.cluster.requests_since(mark).unwrap();
        let lists = requests.iter().filter(|request| {
            request.user == "notrack-agent" && request.verb == "list" && request.code == 200
        });
        assert!(lists.count() >= self.cluster.nodes.len(), "{requests:#?}");
        let told_to_wait = requests.iter().filter(|request| request.code == 429).count();
        println!(
            "the API server came back: watches expired and listed again, {told_to_wait} requests met 429"
        );
    }

    /// A change of the policy that every node must take: shows that all parts work again.
    fn apply_other(&self, port: u16) {
        self.apply_other_to_kernels(port);
        self.wait_until_ready();
    }

    /// As [`Self::apply_other`], without the reports: an agent with much to say spaces them.
    fn apply_other_to_kernels(&self, port: u16) {
        let ports = format!("[{{protocol: TCP, port: {PORT}}}, {{protocol: TCP, port: {port}}}]");
        let flow = format!("{{name: http, action: NoTrack, role: Server, ports: {ports}}}");
        self.cluster.apply(&policy("edge", &format!("nodeSelector: {{}}\nflows:\n- {flow}"))).unwrap();
        let programmed = || self.enforced().values().all(|table| table.contains(&format!(" {port} ")));
        wait_until("every kernel has the change", PATIENCE, programmed).unwrap();
    }

    fn plans_are_deleted(&self) {
        self.unchanged_while("every plan is deleted", || {
            self.cluster.kubectl("delete nodeplans --all").unwrap();
            let all = |plans: &Value| {
                let with_rules = |plan: &&Value| {
                    plan["spec"]["ruleSet"].is_object()
                        && plan["status"]["programmedDigest"] == plan["spec"]["ruleSet"]["digest"]
                };
                plans["items"].as_array().is_some_and(|all| all.iter().filter(with_rules).count() == 3)
            };
            self.cluster.wait_for("nodeplans", "the plans are back and reported", all).unwrap();
        });
        self.wait_until_ready();
    }

    fn the_agents_are_forbidden_everything(&self) {
        self.unchanged_while("the agents get 403", || {
            self.cluster.kubectl("delete clusterrolebinding notrack-agent").unwrap();
            // A restarted agent has nothing but its kernel then.
            self.cluster
                .kubectl("delete pods -n notrack-system -l app.kubernetes.io/component=agent --now")
                .unwrap();
            let running = |pods: &Value| {
                let runs = |pod: &&Value| pod["status"]["phase"] == "Running";
                pods["items"].as_array().is_some_and(|all| all.iter().filter(runs).count() == 3)
            };
            let pods = "pods -n notrack-system -l app.kubernetes.io/component=agent";
            self.cluster.wait_for(pods, "the agents run", running).unwrap();
        });
        self.unchanged_while("the agents may read again", || {
            self.cluster.kubectl("apply --server-side -f deploy/access.yaml").unwrap();
            self.cluster.wait_until_installed().unwrap();
        });
        self.apply_other(9002);
    }

    fn a_node_is_deleted_and_comes_back(&self) {
        let uid = |node: &Value| node["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let old = uid(&self.cluster.get("node/node3").unwrap());
        self.unchanged_while("a Node object is deleted", || {
            self.cluster.kubectl("delete node node3").unwrap();
            let gone = |plan: &Value| plan.is_null();
            self.cluster.wait_for("nodeplan/node3", "its plan is collected", gone).unwrap();
            // Its agent's pod is collected too: another one, with a token of the new node, comes with that.
            let gone = |pods: &Value| pods["items"].as_array().is_none_or(Vec::is_empty);
            let pods = "pods -n notrack-system -l app.kubernetes.io/component=agent --field-selector spec.nodeName=node3";
            self.cluster.wait_for(pods, "its agent's pod is collected", gone).unwrap();
        });
        // A kubelet registers its node when it starts.
        self.cluster.control("stop", "node3/kubelet").unwrap();
        self.cluster.control("start", "node3/kubelet").unwrap();
        let plan = self
            .cluster
            .wait_for("nodeplan/node3", "the new node's agent reports", |plan| {
                plan["status"]["programmedDigest"].is_string()
                    && plan["status"]["programmedDigest"] == plan["spec"]["ruleSet"]["digest"]
            })
            .unwrap();
        assert_ne!(plan["spec"]["nodeUID"].as_str().unwrap(), old);
        assert_eq!(plan["spec"]["nodeUID"], plan["status"]["nodeUID"]);
        self.wait_until_ready();
    }
}
