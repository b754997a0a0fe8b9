//! Services: what the naive pair of rules does to their clients under a real kube-proxy, and that ours never does.
//! Hazards 1, 2 and 31.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use notrack_cluster::{Cluster, Node, Options, PATIENCE, condition, fetch, is_ready, policy, serve};
use notrack_lab::{run_ok, wait_until};
use serde_json::Value;

#[path = "services/address.rs"]
mod address;

const PATIENT: Duration = Duration::from_secs(5);
/// What a client waits that is expected to hang.
const HANGS: Duration = Duration::from_secs(2);
const PORT: u16 = 8080;
const NODE_PORT: u16 = 30080;

#[test]
fn clients_of_a_service_never_hang_with_kube_proxy_of_iptables() {
    clients_of_a_service_never_hang("iptables");
}

#[test]
fn clients_of_a_service_never_hang_with_kube_proxy_of_nftables() {
    clients_of_a_service_never_hang("nftables");
}

fn clients_of_a_service_never_hang(proxy_mode: &'static str) {
    let world = World::start(proxy_mode);
    world.naive_rules_hang_them();
    world.naive_rules_for_the_service_itself_hang_them();
    world.a_policy_for_the_service_itself_is_refused_with_its_name();
    world.a_policy_for_the_endpoint_is_refused_with_the_service_named();
    world.without_the_service_it_takes_effect();
    world.a_service_that_comes_later_withdraws_it();
    world.on_uplinks_alone_it_may_stay_where_only_a_cluster_address_is_served();
    world.service_addresses_and_those_to_come_are_kept();
}

/// Two nodes: the server is on `node2`'s own network, `node1` asks from outside.
struct World {
    cluster: Cluster,
}

/// Who reaches the server how.
#[derive(Debug, PartialEq, Eq)]
struct Reached {
    directly: bool,
    by_cluster_address_on_the_node: bool,
    by_cluster_address_from_another: bool,
    by_node_port: bool,
}

const ALL: Reached = Reached {
    directly: true,
    by_cluster_address_on_the_node: true,
    by_cluster_address_from_another: true,
    by_node_port: true,
};

impl World {
    fn start(proxy_mode: &'static str) -> World {
        let cluster = Cluster::start(&Options { nodes: 2, proxy_mode }).unwrap();
        cluster.install().unwrap();
        serve(&cluster, "web", "node2", PORT).unwrap();
        let world = World { cluster };
        world.make_service("NodePort");
        world
    }

    fn server(&self) -> &Node {
        self.cluster.node("node2").unwrap()
    }

    fn make_service(&self, kind: &str) {
        let node_port = if kind == "NodePort" { format!(", nodePort: {NODE_PORT}") } else { String::new() };
        self.cluster
            .apply(&format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default}}\nspec:\n  type: {kind}\n  \
                 selector: {{app: web}}\n  ports: [{{protocol: TCP, port: 80, targetPort: {PORT}{node_port}}}]\n"
            ))
            .unwrap();
    }

    fn delete_service(&self) {
        self.cluster.kubectl("delete service web").unwrap();
    }

    fn cluster_address(&self) -> String {
        self.cluster.get("service/web").unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned()
    }

    fn ask(&self, from: &str, address: &str, port: u16, patience: Duration) -> bool {
        let network = self.cluster.node(from).unwrap().network().unwrap();
        fetch(network.command("curl"), address, port, patience)
    }

    fn directly(&self) -> bool {
        self.ask("node1", &self.server().address, PORT, PATIENT)
    }

    /// Who reaches it; `kube-proxy` needs its time to write what it serves.
    fn reached(&self, patience: Duration) -> Reached {
        let address = self.cluster_address();
        Reached {
            directly: self.directly(),
            by_cluster_address_on_the_node: self.ask("node2", &address, 80, patience),
            by_cluster_address_from_another: self.ask("node1", &address, 80, patience),
            by_node_port: self.ask("node1", &self.server().address, NODE_PORT, patience),
        }
    }

    fn wait_until_kube_proxy_serves(&self) {
        let address = self.cluster_address();
        let serves = || self.ask("node2", &address, 80, HANGS) && self.ask("node1", &address, 80, HANGS);
        wait_until("kube-proxy serves the Service", PATIENCE, serves).unwrap();
    }

    fn apply(&self, name: &str, more: &str) {
        let flow = format!("name: http, action: NoTrack, {more}");
        self.cluster
            .apply(&policy(
                name,
                &format!(
                    "nodeSelector: {{matchLabels: {{kubernetes.io/hostname: node2}}}}\nflows:\n- {{{flow}}}"
                ),
            ))
            .unwrap();
    }

    fn delete(&self, name: &str) {
        self.cluster.kubectl(&format!("delete notrackpolicy {name}")).unwrap();
        let gone = || !self.server().has_rules().unwrap();
        wait_until("its rules are gone", PATIENCE, gone).unwrap();
    }

    /// Takes the translated connections out of the table, as their end would, once nothing makes new ones.
    fn end_translated(&self) {
        let network = self.server().network().unwrap();
        let gone = || {
            // Fails where there is none.
            let _ = run_ok(network.command("conntrack").args(["-D", "--dst-nat"]));
            network.conntrack("--dst-nat").is_ok_and(|entries| entries.is_empty())
        };
        wait_until("no translated connection is left", PATIENCE, gone).unwrap();
    }

    /// Entries of direct clients.
    fn entries(&self) -> usize {
        self.server().network().unwrap().conntrack(&format!("-p tcp --orig-port-dst {PORT}")).unwrap().len()
    }

    fn naive_rules_hang_them(&self) {
        self.wait_until_kube_proxy_serves();
        assert_eq!(self.reached(PATIENT), ALL, "before");
        let address = &self.server().address;
        let network = self.server().network().unwrap();
        network
            .nft(&format!(
                "table ip naive {{
                    chain prerouting {{
                        type filter hook prerouting priority raw; policy accept;
                        ip daddr {address} tcp dport {PORT} notrack
                    }}
                    chain output {{
                        type filter hook output priority raw; policy accept;
                        ip saddr {address} tcp sport {PORT} notrack
                    }}
                }}"
            ))
            .unwrap();
        let harmed = self.reached(HANGS);
        network.nft("delete table ip naive").unwrap();
        assert!(harmed.directly, "{harmed:?}");
        assert!(!harmed.by_cluster_address_on_the_node && !harmed.by_node_port, "{harmed:?}");
        assert_eq!(self.reached(PATIENT), ALL, "after");
    }

    fn server_flow() -> String {
        format!("role: Server, ports: [{{protocol: TCP, port: {PORT}}}]")
    }

    /// Whether the kernel bypasses the server where the Service's clients are sent.
    fn bypasses(&self) -> bool {
        // kube-proxy has tables of its own, with the same tuples.
        let network = self.server().network().unwrap();
        let listed = run_ok(network.command("nft").args(["list", "table", "inet", "notrack-dev"]));
        listed.is_ok_and(|table| table.contains(&format!("{} . tcp . {PORT} ", self.server().address)))
    }

    fn a_policy_for_the_endpoint_is_refused_with_the_service_named(&self) {
        self.apply(
            "web",
            &format!("{}, serverAddresses: [{}/32]", World::server_flow(), self.server().address),
        );
        let refused = |policy: &Value| condition(policy, "Ready") == Some(("False", "ServiceEndpoint"));
        let found = self.cluster.wait_for("notrackpolicy/web", "it is refused", refused).unwrap();
        let hazards = found["status"]["hazards"].to_string();
        assert!(hazards.contains("NT002") && hazards.contains("default/web"), "{hazards}");
        assert_eq!(self.reached(PATIENT), ALL);
        assert!(!self.server().has_rules().unwrap());
        // Without an address the node's other ones are left; what is taken is said all the same.
        self.apply("web", &World::server_flow());
        let says = |policy: &Value| {
            is_ready(policy) && policy["status"]["reasons"].to_string().contains("ServiceEndpoint")
        };
        let found = self.cluster.wait_for("notrackpolicy/web", "it says what is left out", says).unwrap();
        let hazards = found["status"]["hazards"].to_string();
        assert!(hazards.contains("NT002") && hazards.contains("default/web"), "{hazards}");
        assert_eq!(self.reached(PATIENT), ALL);
        assert!(!self.bypasses());
    }

    fn without_the_service_it_takes_effect(&self) {
        self.delete_service();
        // As long as a translated connection is in the table its replies need the entry.
        let holds = |policy: &Value| policy["status"]["reasons"].to_string().contains("LiveNAT");
        self.cluster.wait_for("notrackpolicy/web", "translated connections hold it", holds).unwrap();
        assert!(!self.bypasses());
        self.end_translated();
        wait_until("the endpoint is bypassed", PATIENCE, || self.bypasses()).unwrap();
        let bypassed = || self.directly() && self.entries() == 0;
        wait_until("direct clients skip the table", PATIENCE, bypassed).unwrap();
    }

    fn a_service_that_comes_later_withdraws_it(&self) {
        let mut times = Vec::new();
        for _ in 0..5 {
            self.make_service("NodePort");
            let began = Instant::now();
            let withdrawn = || !self.bypasses();
            wait_until("the bypass is withdrawn", PATIENCE, withdrawn).unwrap();
            times.push(began.elapsed());
            self.wait_until_kube_proxy_serves();
            assert_eq!(self.reached(PATIENT), ALL);
            self.delete_service();
            self.end_translated();
            wait_until("without the Service it is back", PATIENCE, || self.bypasses()).unwrap();
        }
        times.sort();
        println!(
            "a Service made: its endpoint is withdrawn after {:?} (median), {:?} (longest of 5)",
            times[2], times[4]
        );
        self.delete("web");
    }

    fn on_uplinks_alone_it_may_stay_where_only_a_cluster_address_is_served(&self) {
        let routes = self.server().network().unwrap().ip("-o route get 10.255.255.1").unwrap();
        let words: Vec<&str> = routes.split_whitespace().collect();
        let place = words.iter().position(|word| *word == "dev").unwrap();
        self.make_service("ClusterIP");
        self.wait_until_kube_proxy_serves();
        self.apply("uplink", &format!("{}, interfaces: [{}]", World::server_flow(), words[place + 1]));
        let found = self.cluster.wait_for("notrackpolicy/uplink", "it is ready", is_ready).unwrap();
        let hazards = found["status"]["hazards"].to_string();
        assert!(hazards.contains("NT002"), "a warning stays: {hazards}");
        let bypassed = || self.directly() && self.entries() == 0;
        let address = self.cluster_address();
        for _ in 0..5 {
            assert!(self.ask("node2", &address, 80, PATIENT), "a client on the node itself");
            assert!(self.ask("node1", &address, 80, PATIENT), "a client of the Service on another node");
        }
        // An entry does not tell its interface, so those of the time before stay until they end by themselves.
        let network = self.server().network().unwrap();
        let filter = format!("-D -p tcp --orig-port-dst {PORT}");
        run_ok(network.command("conntrack").args(filter.split(' '))).unwrap();
        wait_until("direct clients skip the table", PATIENCE, bypassed).unwrap();
        self.delete("uplink");
        self.delete_service();
    }

    fn service_addresses_and_those_to_come_are_kept(&self) {
        self.is_refused(
            "to-come",
            "role: Server, ports: [{protocol: TCP, port: 31000}]",
            "FutureService",
            || (),
        );
        let api = self.cluster.get("service/kubernetes").unwrap();
        let address = api["spec"]["clusterIP"].as_str().unwrap();
        let peers =
            format!("role: Client, ports: [{{protocol: TCP, port: 443}}], peers: [{{cidr: {address}/32}}]");
        self.is_refused("api", &peers, "Protected", || ());
    }

    /// Applies a policy, sees what `holds` while it is there, and deletes it again; returns its hazards.
    fn is_refused(&self, name: &str, more: &str, reason: &str, holds: impl FnOnce()) -> String {
        self.apply(name, more);
        let is = |policy: &Value| condition(policy, "Ready") == Some(("False", reason));
        let found = self.cluster.wait_for(&format!("notrackpolicy/{name}"), "it is refused", is).unwrap();
        assert!(!self.server().has_rules().unwrap());
        holds();
        self.cluster.kubectl(&format!("delete notrackpolicy {name}")).unwrap();
        found["status"]["hazards"].to_string()
    }
}
