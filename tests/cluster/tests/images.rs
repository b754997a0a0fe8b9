//! The images that users build: what is in them, and the operator that runs from them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use notrack_cluster::{Buildah, Built, Cluster, Options, is_ready, policy};
use serde_json::Value;

/// What an image may hold beside its program, in bytes: 2.8 MB of libraries and licences when this was written.
const BESIDE_THE_PROGRAM: u64 = 3_500_000;

#[test]
fn the_operator_runs_from_the_images_that_the_dockerfile_makes() {
    let buildah = Buildah::new().unwrap();
    let images = buildah.build("first").unwrap();
    let (agent, controller) = (&images["notrack-agent"], &images["notrack-controller"]);
    let cli = &images["kubectl-notrack"];
    holds(agent, "notrack-agent", &["libc6", "libgcc-s1", "libmnl0", "libnftnl11"]);
    holds(controller, "notrack-controller", &["libc6", "libgcc-s1"]);
    holds(cli, "kubectl-notrack", &["libc6", "libgcc-s1"]);
    assert_eq!(agent.config["config"]["User"], "0:0");
    assert_eq!(controller.config["config"]["User"], "65532:65532");
    let licence =
        |built: &Built| built.config["config"]["Labels"]["org.opencontainers.image.licenses"].clone();
    assert_eq!((licence(agent), licence(controller)), ("GPL-3.0-or-later".into(), "Apache-2.0".into()));
    assert_eq!(licence(cli), licence(controller), "it links no libnftnl");
    let crates = |built: &Built| names(&built.sbom, "pkg:cargo/");
    assert!(crates(agent).contains("nftnl") && crates(agent).contains("kube"), "{:?}", crates(agent));
    assert!(crates(controller).contains("kube") && !crates(controller).contains("nftnl"));
    // Of tests and builds, and inside of compilers.
    for absent in ["proptest", "serde_derive", "cc"] {
        assert!(!crates(agent).contains(absent), "{absent}");
    }
    for (program, built) in &images {
        let said = buildah.run(&built.container, &[program, "--version"]).unwrap();
        assert_eq!(said, format!("{program} {}", env!("CARGO_PKG_VERSION")));
    }

    for (program, again) in buildah.build("second").unwrap() {
        let same = fs::read(&again.archive).unwrap() == fs::read(&images[program].archive).unwrap();
        assert!(same, "{program}: the same programs and packages gave another image");
    }

    let cluster = Cluster::start(&Options { nodes: 1, ..Options::default() }).unwrap();
    for built in images.values() {
        cluster.load(&built.archive).unwrap();
    }
    cluster
        .helm("install notrack charts/notrack --namespace notrack-system --create-namespace --wait --timeout 3m")
        .unwrap();
    cluster.wait_until_installed().unwrap();
    let running = cluster.get("pods -n notrack-system").unwrap().to_string();
    for built in [agent, controller] {
        assert!(running.contains(&format!("sha256:{}", digest(built))), "another image runs: {running}");
    }
    let flow = "{name: http, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 8080}]}";
    cluster.apply(&policy("edge", &format!("nodeSelector: {{}}\nflows:\n- {flow}"))).unwrap();
    cluster.wait_for("notrackpolicy/edge", "it is ready", is_ready).unwrap();
    assert!(cluster.nodes[0].has_rules().unwrap());

    // What a person does who has no other way to the node than kubectl.
    let seen = debug(&cluster, "kubectl-notrack", "kubectl-notrack top");
    assert!(seen.starts_with("ENTRIES ") && seen.contains("tcp"), "the node's connections: {seen}");
    cluster.helm("uninstall notrack --namespace notrack-system --wait --timeout 2m --no-hooks").unwrap();
    assert!(cluster.nodes[0].has_rules().unwrap(), "nobody has told the node");
    let removed = debug(&cluster, "notrack-agent", "notrack-agent remove");
    assert_eq!(removed.trim(), "removed table inet notrack-dev");
    assert!(!cluster.nodes[0].has_rules().unwrap());
}

/// What a command says in a debugging pod on the node's own network, as docs/agent.md prints it.
fn debug(cluster: &Cluster, image: &str, command: &str) -> String {
    let image = format!("{image}:{}", env!("CARGO_PKG_VERSION"));
    let node = &cluster.nodes[0].name;
    let said = cluster
        .kubectl(&format!("debug node/{node} --profile=netadmin --image={image} --attach=false -- {command}"))
        .unwrap();
    let pod = said.split_whitespace().find(|word| word.starts_with("node-debugger-")).unwrap().to_owned();
    cluster
        .wait_for(&format!("pod/{pod}"), "it has ended", |pod| {
            ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase)
        })
        .unwrap();
    let said = cluster.kubectl(&format!("logs {pod}")).unwrap();
    cluster.kubectl(&format!("delete pod {pod}")).unwrap();
    said
}

/// The program, the libraries of `packages`, licences, and nothing that could be used for anything else.
fn holds(built: &Built, program: &str, packages: &[&str]) {
    let mut all = Vec::new();
    files(&built.root, &mut all);
    let below = |path: &Path| path.strip_prefix(&built.root).unwrap().to_str().unwrap().to_owned();
    let (mut programs, mut libraries, mut beside) = (Vec::new(), BTreeSet::new(), 0);
    for path in &all {
        let found = fs::symlink_metadata(path).unwrap();
        let (name, mode) = (below(path), found.permissions().mode());
        assert!(found.is_file(), "{name} is a link or a device");
        assert_eq!(mode & 0o6022, 0, "{name} has mode {mode:o}");
        let last = name.rsplit('/').next().unwrap();
        if name == format!("usr/bin/{program}") {
            programs.push(name);
            continue;
        }
        beside += found.len();
        if mode & 0o111 != 0 {
            assert!(last.contains(".so"), "{name} is a program");
            libraries.insert(name);
        }
    }
    assert_eq!(programs.len(), 1);
    println!("{program}: {beside} bytes beside the program, {} libraries", libraries.len());
    assert!(beside < BESIDE_THE_PROGRAM, "{beside} bytes beside the program");
    for text in ["notrack/LICENSE", "notrack/NOTICE", "notrack/crates.gz", "libc6/copyright"] {
        assert!(built.root.join("usr/share/doc").join(text).is_file(), "{text}");
    }

    // The SBOM: each library is of a package that has a version, and each crate has a licence.
    let packages: BTreeSet<String> = packages.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names(&built.sbom, "pkg:deb/"), packages);
    let owned = |library: &String| owner(&built.sbom, library).is_some_and(|name| packages.contains(&name));
    assert!(libraries.iter().all(owned), "{libraries:?}");
    for package in built.sbom["packages"].as_array().unwrap() {
        assert!(package["versionInfo"].as_str().is_some_and(|version| !version.is_empty()), "{package}");
        let crate_of_others = purl(package).is_some_and(|purl| purl.starts_with("pkg:cargo/"));
        assert!(!crate_of_others || package["licenseDeclared"] != "NOASSERTION", "{package}");
        assert!(!crate_of_others || package["checksums"][0]["checksumValue"].is_string(), "{package}");
    }
}

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for found in fs::read_dir(folder).unwrap() {
        let found = found.unwrap();
        if found.file_type().unwrap().is_dir() {
            files(&found.path(), all);
        } else {
            all.push(found.path());
        }
    }
}

fn purl(package: &Value) -> Option<&str> {
    package["externalRefs"][0]["referenceLocator"].as_str()
}

/// The packages of a kind that an SBOM names.
fn names(sbom: &Value, kind: &str) -> BTreeSet<String> {
    let of_kind = |package: &&Value| purl(package).is_some_and(|purl| purl.starts_with(kind));
    let packages = sbom["packages"].as_array().unwrap().iter().filter(of_kind);
    packages.map(|package| package["name"].as_str().unwrap().to_owned()).collect()
}

/// The package that an SBOM says a file is from.
fn owner(sbom: &Value, file: &str) -> Option<String> {
    let find = |list: &str, is: &dyn Fn(&Value) -> bool| {
        sbom[list].as_array().unwrap().iter().find(|one| is(one)).cloned()
    };
    let file = find("files", &|one| one["fileName"] == format!("./{file}"))?;
    let contains =
        |one: &Value| one["relationshipType"] == "CONTAINS" && one["relatedSpdxElement"] == file["SPDXID"];
    let owner = find("relationships", &contains)?["spdxElementId"].clone();
    let package = find("packages", &|one| one["SPDXID"] == owner)?;
    Some(package["name"].as_str()?.to_owned())
}

/// The digest by which a container runtime knows an image: that of its configuration.
fn digest(built: &Built) -> String {
    let image =
        built.sbom["packages"].as_array().unwrap().iter().find(|one| one["SPDXID"] == "SPDXRef-image");
    image.unwrap()["checksums"][0]["checksumValue"].as_str().unwrap().to_owned()
}
