//! A site: a cluster, its Argo CD, its repository.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use notrack_cluster::{ArgoCd, Cluster, GitRepository, Options, policy, repository};
use notrack_lab::run_ok;
use serde_json::Value;

pub const POLICIES: &str = "notrack-policies";

pub struct Site {
    // Ends first: it runs on a node.
    pub argocd: ArgoCd,
    pub cluster: Cluster,
    pub git: GitRepository,
}

/// A cluster with an Argo CD that knows our health checks, and a repository with the chart and a policy.
pub fn start() -> Site {
    let cluster = Cluster::start(&Options::default()).unwrap();
    cluster.load_images().unwrap();
    let began = Instant::now();
    let argocd = ArgoCd::start(&cluster, "node3").unwrap();
    cluster
        .kubectl("patch configmap argocd-cm --namespace argocd --patch-file deploy/argocd/argocd-cm.yaml")
        .unwrap();
    println!("Argo CD runs after {:?}", began.elapsed());
    let git = GitRepository::new().unwrap();
    git.copy("charts/notrack").unwrap();
    git.write("policies/edge.yaml", &server("edge", "{}", 9001, "")).unwrap();
    git.push("the operator and a policy").unwrap();
    git.tag(concat!("v", env!("CARGO_PKG_VERSION"))).unwrap();
    Site { argocd, cluster, git }
}

/// A policy for a server; `more` is what its spec has besides.
pub fn server(name: &str, selector: &str, port: u16, more: &str) -> String {
    let flow =
        format!("{{name: http, action: NoTrack, role: Server, ports: [{{protocol: TCP, port: {port}}}]}}");
    policy(name, &format!("nodeSelector: {selector}\nflows:\n- {flow}\n{more}"))
}

impl Site {
    /// How often Argo CD has asked for all objects of one of our kinds, as it does before it watches them.
    pub fn listed(&self, resource: &str) -> usize {
        let log = fs::read_to_string(self.cluster.audit_log()).unwrap();
        let lines = log.lines().filter(|line| line.contains("\"userAgent\":\"argocd-application-controller"));
        let lists = |line: &Value| line["objectRef"]["resource"] == resource && line["verb"] == "list";
        lines.filter(|line| serde_json::from_str(line).is_ok_and(|line| lists(&line))).count()
    }

    /// An example, with this repository in place of the one that it names.
    pub fn example(&self, file: &str) -> String {
        let text = fs::read_to_string(repository().join("deploy/argocd").join(file)).unwrap();
        let line = text.lines().find(|line| line.trim_start().starts_with("repoURL: ")).unwrap();
        text.replace(line, &format!("    repoURL: {}", self.git.url()))
    }

    /// Waits until an Application is as it should be.
    pub fn wait_for(&self, app: &str, why: &str, is: impl Fn(&Value) -> bool) -> Value {
        let found = self.cluster.wait_for(&format!("application/{app} -n argocd"), why, is);
        found.unwrap_or_else(|error| {
            let differences = self.argocd.cli(&format!("app diff {app} --exit-code=false"));
            panic!("{error:#}\nit differs by {differences:?}\nArgo CD said: {}", self.argocd.said())
        })
    }

    /// Commits, and has Argo CD look.
    pub fn push(&self, app: &str, message: &str) {
        self.git.push(message).unwrap();
        self.cluster.refresh(app).unwrap();
    }

    /// Changes an object as people do.
    pub fn patch(&self, what: &str, patch: Value) {
        let mut command = self.cluster.kubectl_command();
        command.arg("patch").args(what.split_whitespace()).args([
            "--type=merge",
            "--patch",
            &patch.to_string(),
        ]);
        run_ok(&mut command).unwrap();
    }

    /// Whether every kernel holds rules for a port.
    pub fn bypassed(&self, port: u16) -> bool {
        self.nodes_with(port) == self.cluster.nodes.len()
    }

    /// How many kernels hold rules for a port.
    pub fn nodes_with(&self, port: u16) -> usize {
        let key = format!(". tcp . {port} ");
        let networks = self.cluster.nodes.iter().map(|node| node.network().unwrap());
        networks.filter(|network| network.ruleset().unwrap().contains(&key)).count()
    }

    /// The objects of a kind, by name, and which they are.
    pub fn uids(&self, what: &str) -> BTreeMap<String, String> {
        let all = self.cluster.get(what).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let items = all["items"].as_array().into_iter().flatten().map(|object| &object["metadata"]);
        items.map(|object| (text(&object["name"]), text(&object["uid"]))).collect()
    }
}

/// Whether an Application is as in git, and what it has made is healthy.
pub fn is_in_order(app: &Value) -> bool {
    app["status"]["sync"]["status"] == "Synced"
        && app["status"]["health"]["status"] == "Healthy"
        && app["status"]["operationState"]["phase"] == "Succeeded"
}
