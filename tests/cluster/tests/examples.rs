//! The way of a newcomer: README's own commands on a real cluster, word for word, then every example.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use notrack_cluster::{Cluster, Options, condition, fetch, helm, is_ready, remove_rules, repository, serve};
use notrack_lab::run_ok;
use serde_json::Value;

#[test]
fn a_newcomer_gets_from_nothing_to_a_bypassed_flow_and_on_to_every_example() {
    let cluster = Cluster::start(&Options::default()).unwrap();
    cluster.load_images().unwrap();
    let commands = readme_commands();
    assert_eq!(commands.len(), 5, "{commands:#?}");
    for command in &commands {
        println!("$ {command}\n{}", as_written(&cluster, command));
    }
    assert!(cluster.rules().unwrap().values().all(|has| *has), "a kernel has no rules");
    a_request_skips_the_table(&cluster);

    cluster.kubectl("label node node1 node-role.kubernetes.io/storage=").unwrap();
    cluster.kubectl("label node node2 notrack.example.org/incident=").unwrap();
    cluster.kubectl("label node node3 node-role.kubernetes.io/gateway=").unwrap();
    let gateway = cluster.node("node3").unwrap().network().unwrap();
    gateway
        .nft("table ip site {\n chain outward {\n type nat hook postrouting priority srcnat;\n tcp dport { 80, 443 } masquerade\n }\n}\n")
        .unwrap();
    let examples = examples();
    assert_eq!(examples.len(), 6, "{examples:?}");
    for (name, path) in &examples {
        cluster.kubectl(&format!("apply -f {path}")).unwrap();
        let policy = match name.as_str() {
            "nat-gateway" => cluster.wait_for(&format!("notrackpolicy/{name}"), "it is refused", is_refused),
            _ => cluster.wait_for(&format!("notrackpolicy/{name}"), "it is ready", is_ready),
        };
        let policy = policy.unwrap();
        println!("{name}: {}", policy["status"]["conditions"]);
        if name == "nat-gateway" {
            let said = policy["status"].to_string();
            assert!(said.contains("chain outward") && said.contains("masquerade"), "{said}");
        }
    }
    // Reports of counters alone come every few minutes; those of the rules above bring them along.
    let packets = |policy: &Value| policy["status"]["traffic"]["packets"].as_u64();
    let policy = cluster.wait_for("notrackpolicy/edge-http", "it tells what skipped the table", |policy| {
        packets(policy).is_some_and(|packets| packets > 0)
    });
    println!("edge-http: {} packets skipped the table", packets(&policy.unwrap()).unwrap());
    a_namespace_that_is_deleted_ends_and_nodes_can_be_cleaned(&cluster);
}

/// What the five commands are for.
fn a_request_skips_the_table(cluster: &Cluster) {
    serve(cluster, "web", "node2", 80).unwrap();
    let (client, server) = (cluster.node("node1").unwrap(), cluster.node("node2").unwrap());
    let entries =
        |name: &str| cluster.node(name).unwrap().network().unwrap().conntrack("-p tcp --dport 80").unwrap();
    let patience = Duration::from_secs(5);
    assert!(fetch(client.network().unwrap().command("curl"), &server.address, 80, patience));
    assert_eq!(entries("node2"), Vec::<String>::new(), "it is tracked");
    // The policy is about servers: on the client's side the same connection is tracked, so the nodes do track.
    assert!(!entries("node1").is_empty(), "a node that does not track proves nothing");
}

/// As docs/install.md has it.
fn a_namespace_that_is_deleted_ends_and_nodes_can_be_cleaned(cluster: &Cluster) {
    // One that has lost its power confirms the end of no pod.
    cluster.control("stop", "node3").unwrap();
    cluster.kubectl("delete namespace notrack-system --wait=false").unwrap();
    let are_its_pods = |pods: &Value| {
        let is_its = |pod: &Value| pod["spec"]["nodeName"] == "node3";
        pods["items"].as_array().is_some_and(|pods| !pods.is_empty() && pods.iter().all(is_its))
    };
    cluster.wait_for("pods -n notrack-system", "the dead node's pods alone are left", are_its_pods).unwrap();
    documented(cluster, "kubectl delete pods --all --namespace notrack-system --force --grace-period=0");
    cluster.wait_for("namespace/notrack-system", "it is gone", Value::is_null).unwrap();

    for name in ["node1", "node2"] {
        let node = cluster.node(name).unwrap();
        assert!(node.has_rules().unwrap(), "{name}: nobody has ordered to remove rules");
        println!("{name}: {}", remove_rules(node).unwrap());
        assert!(!node.has_rules().unwrap());
    }
    let kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings,flowschemas,\
                 prioritylevelconfigurations,crds";
    documented(cluster, &format!("kubectl delete {kinds} -l app.kubernetes.io/name=notrack"));
    let left = cluster.get(&format!("{kinds} -A")).unwrap();
    let names = left["items"].as_array().unwrap().iter().map(|object| object["metadata"]["name"].to_string());
    let ours: Vec<String> = names.filter(|name| name.contains("notrack")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// Runs a command of docs/install.md.
fn documented(cluster: &Cluster, command: &str) {
    let text = fs::read_to_string(repository().join("docs/install.md")).unwrap();
    assert!(text.contains(command), "docs/install.md lacks: {command}");
    as_written(cluster, command);
}

fn is_refused(policy: &Value) -> bool {
    condition(policy, "Ready") == Some(("False", "Masquerade"))
}

/// The examples by the name of their policy.
fn examples() -> BTreeMap<String, String> {
    let files = fs::read_dir(repository().join("deploy/examples")).unwrap().flatten();
    let files = files.filter(|file| file.path().is_file());
    let name = |path: &str| path.rsplit('/').next().unwrap().trim_end_matches(".yaml").to_owned();
    files.map(|file| file.path().to_str().unwrap().to_owned()).map(|path| (name(&path), path)).collect()
}

/// The commands of README's section about clusters, without what stands behind `#`.
fn readme_commands() -> Vec<String> {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with("Use it in a cluster\n")).unwrap();
    let block = section.split("```\n").nth(1).unwrap();
    let command = |line: &str| line.split(" #").next().unwrap().trim().to_owned();
    block.lines().map(command).filter(|line| !line.is_empty()).collect()
}

/// Runs a command as it stands, by a shell, in the repository, with `kubectl` and `helm` of the test bed.
fn as_written(cluster: &Cluster, command: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, program) in
        [("kubectl", cluster.kubectl_path().into()), ("helm", helm().unwrap().get_program().to_owned())]
    {
        std::os::unix::fs::symlink(&program, folder.path().join(name)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    run_ok(
        Command::new("bash")
            .args(["-euc", command])
            .current_dir(repository())
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .env("KUBECONFIG", cluster.kubeconfig()),
    )
    .unwrap()
}
