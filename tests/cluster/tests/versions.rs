//! Two versions of the operator on one cluster, under load: the one before this is installed with its own chart, upgraded in
//! either order of its programs, and rolled back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use notrack_cluster::load::{self, Load};
use notrack_cluster::{Cluster, Options, Previous, is_ready, server};
use notrack_lab::{Background, run_ok};
use tempfile::TempDir;

/// What nginx and unbound listen on.
const WEB: u16 = 8080;
const DNS: u16 = 53;

const CURRENT: &str = env!("CARGO_PKG_VERSION");

#[test]
fn versions_follow_each_other_and_lose_nothing() {
    let previous = Previous::new().unwrap();
    assert_ne!(previous.version, CURRENT);
    let cluster = Cluster::start(&Options::default()).unwrap();
    cluster.load_images().unwrap();
    cluster.load_previous_images(&previous).unwrap();
    let site = Site { cluster: &cluster, previous: &previous };

    let chart = previous.chart();
    let install =
        format!("install notrack {} --namespace notrack-system --create-namespace", chart.display());
    cluster.helm(&format!("{install} --wait --timeout 3m")).unwrap();
    cluster.wait_until_installed().unwrap();
    cluster.run_pods().unwrap();
    cluster.apply(&server("edge", "{}", "TCP", WEB)).unwrap();
    cluster.apply(&server("dns", "{}", "UDP", DNS)).unwrap();
    for policy in ["edge", "dns"] {
        cluster.wait_for(&format!("notrackpolicy/{policy}"), "it is ready", is_ready).unwrap();
    }
    let before = &previous.version;
    site.runs(before, before);
    let enforced = cluster.stable_rules().unwrap();
    assert!(enforced.values().all(|rules| rules.contains("8080")), "{enforced:?}");

    let traffic = Traffic::start(&cluster);
    site.upgrade(&format!("agent.image.tag={before}"));
    site.runs(before, CURRENT);
    site.follows_a_change("older-agent", &enforced);

    site.upgrade("agent.maxUnavailable=100%");
    site.runs(CURRENT, CURRENT);
    site.follows_a_change("same", &enforced);
    assert_eq!(site.definitions(), BTreeSet::from([CURRENT.to_owned()]));

    site.upgrade(&format!("controller.image.tag={before}"));
    site.runs(CURRENT, before);
    site.follows_a_change("newer-agent", &enforced);

    cluster.helm("rollback notrack 1 --namespace notrack-system --wait --timeout 3m").unwrap();
    site.runs(before, before);
    site.follows_a_change("back", &enforced);
    // What objects may hold by now, the older definitions would take away.
    assert_eq!(site.definitions(), BTreeSet::from([CURRENT.to_owned()]));
    traffic.nothing_was_lost(&cluster);
}

struct Site<'a> {
    cluster: &'a Cluster,
    previous: &'a Previous,
}

impl Site<'_> {
    /// To this version's chart, with other values than its own.
    fn upgrade(&self, values: &str) {
        let upgrade =
            "upgrade notrack charts/notrack --namespace notrack-system --wait --timeout 3m --reset-values";
        self.cluster.helm(&format!("{upgrade} --set {values}")).unwrap();
    }

    /// The agents have the one version and the controllers the other.
    fn runs(&self, agents: &str, controllers: &str) {
        self.cluster.wait_until_installed().unwrap();
        self.cluster
            .wait_for("nodeplans", "every agent has that version", |plans| {
                let plans = plans["items"].as_array().unwrap();
                plans.iter().all(|plan| plan["status"]["agentVersion"] == agents)
            })
            .unwrap();
        let deployment = self.cluster.get("deployment/notrack-controller -n notrack-system").unwrap();
        let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(*image, format!("notrack-controller:{controllers}"));
        assert!([&self.previous.version, CURRENT].contains(&agents));
    }

    /// The rules have stood until now, and a policy that comes and goes does as it should.
    fn follows_a_change(&self, name: &str, enforced: &BTreeMap<String, String>) {
        for policy in ["edge", "dns"] {
            self.cluster.wait_for(&format!("notrackpolicy/{policy}"), "it is ready still", is_ready).unwrap();
        }
        same(&self.cluster.stable_rules().unwrap(), enforced);
        self.cluster.apply(&server(name, "{}", "TCP", 9090)).unwrap();
        self.cluster.wait_for(&format!("notrackpolicy/{name}"), "it is ready", is_ready).unwrap();
        let rules = self.cluster.stable_rules().unwrap();
        assert!(rules.values().all(|rules| rules.contains("9090")), "{name}: {rules:?}");
        self.cluster.kubectl(&format!("delete notrackpolicy {name}")).unwrap();
        self.cluster
            .wait_for("nodeplans", "no rules for it", |_| {
                self.cluster.stable_rules().is_ok_and(|now| now == *enforced)
            })
            .unwrap();
    }

    /// The versions of the definitions.
    fn definitions(&self) -> BTreeSet<String> {
        let ours = ["notrackpolicies", "nodeplans", "rulesets"];
        let version = |kind: &str| {
            let crd = self.cluster.get(&format!("crd/{kind}.notrack.dev")).unwrap();
            let version = crd["metadata"]["labels"]["app.kubernetes.io/version"].as_str();
            version.unwrap_or_default().to_owned()
        };
        ours.map(version).into()
    }
}

/// Says where two states of the nodes differ: they are long.
fn same(now: &BTreeMap<String, String>, before: &BTreeMap<String, String>) {
    for ((node, now), before) in now.iter().zip(before.values()) {
        let (now, before): (BTreeSet<&str>, BTreeSet<&str>) =
            (now.lines().collect(), before.lines().collect());
        let (new, gone): (Vec<_>, Vec<_>) =
            (now.difference(&before).collect(), before.difference(&now).collect());
        assert!(new.is_empty() && gone.is_empty(), "{node}: new {new:#?}, gone {gone:#?}");
    }
    assert_eq!(now.len(), before.len());
}

/// An ingress node under wrk and a DNS node under dnsperf, both bypassed, as long as this lives.
struct Traffic {
    http: Load,
    dns: Load,
    _servers: [Background; 2],
    _folder: TempDir,
}

impl Traffic {
    fn start(cluster: &Cluster) -> Traffic {
        let folder = tempfile::tempdir().unwrap();
        let [web, resolver] = ["node1", "node2"].map(|name| cluster.node(name).unwrap());
        let servers = [
            load::nginx(web, WEB, folder.path()).unwrap(),
            load::unbound(resolver, DNS, folder.path()).unwrap(),
        ];
        Traffic {
            http: Load::http(&web.address, WEB, folder.path()).unwrap(),
            dns: Load::dns(&resolver.address, DNS, folder.path()).unwrap(),
            _servers: servers,
            _folder: folder,
        }
    }

    fn nothing_was_lost(self, cluster: &Cluster) {
        // While it still flows: a moment without the rules would have left entries that live for minutes.
        for (node, protocol, port) in [("node1", "tcp", WEB), ("node2", "udp", DNS)] {
            let network = cluster.node(node).unwrap().network().unwrap();
            let port = port.to_string();
            let list = ["-L", "-p", protocol, "--dport", &port];
            let entries = run_ok(network.command("conntrack").args(list)).unwrap();
            assert_eq!(entries, "", "{node} tracks what it bypassed all the time");
        }
        let counted = [self.http.stop().unwrap(), self.dns.stop().unwrap()];
        println!("under three upgrades and a rollback, HTTP and DNS: {counted:?}");
        assert!(counted.iter().all(|counted| counted.lost == 0 && counted.asked > 1000), "{counted:?}");
    }
}
