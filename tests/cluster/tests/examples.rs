//! The way of a newcomer: README's own commands on a real cluster, word for word, then every example.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use notrack_cluster::{Cluster, Options, condition, helm, is_ready, repository};
use notrack_lab::{built, run_ok};
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
    a_namespace_that_is_deleted_ends_and_nodes_can_be_cleaned(&cluster);
}

/// As docs/install.md has it.
fn a_namespace_that_is_deleted_ends_and_nodes_can_be_cleaned(cluster: &Cluster) {
    cluster.kubectl("delete namespace notrack-system --timeout=120s").unwrap();
    assert!(cluster.rules().unwrap().values().all(|has| *has), "nobody has ordered to remove rules");
    let agent = built("notrack-agent").unwrap();
    for node in &cluster.nodes {
        let mut remove = node.network().unwrap().command(agent.to_str().unwrap());
        println!("{}: {}", node.name, run_ok(remove.arg("remove")).unwrap());
    }
    assert!(cluster.rules().unwrap().values().all(|has| !has));
    let kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings,flowschemas,\
                 prioritylevelconfigurations,crds";
    let command = format!("kubectl delete {kinds} -l app.kubernetes.io/name=notrack");
    let documented = fs::read_to_string(repository().join("docs/install.md")).unwrap();
    assert!(documented.contains(&command), "docs/install.md lacks: {command}");
    as_written(cluster, &command);
    let left = cluster.get(&format!("{kinds} -A")).unwrap();
    let names = left["items"].as_array().unwrap().iter().map(|object| object["metadata"]["name"].to_string());
    let ours: Vec<String> = names.filter(|name| name.contains("notrack")).collect();
    assert!(ours.is_empty(), "{ours:?}");
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
