//! From the version before to this one, through git.

use std::time::Instant;

use notrack_cluster::{Previous, is_ready};
use serde_json::Value;

use crate::site::{Site, is_in_order, server};

const CURRENT: &str = env!("CARGO_PKG_VERSION");

/// Of one line in the Application. The rules stand meanwhile.
pub fn an_upgrade_is_a_change_of_a_line(site: &Site) {
    let previous = Previous::new().unwrap();
    site.cluster.load_previous_images(&previous).unwrap();
    site.git.replace("charts/notrack", &previous.chart()).unwrap();
    site.git.push("the version before").unwrap();
    site.git.tag(&format!("v{}", previous.version)).unwrap();

    let line = |version: &str| format!("targetRevision: v{version}\n");
    let current = site.example("notrack.yaml");
    site.cluster.apply(&current.replace(&line(CURRENT), &line(&previous.version))).unwrap();
    agents_are(site, &previous.version);
    site.wait_for("notrack", "the version before is in order", is_in_order);
    site.cluster.run_pods().unwrap();
    site.cluster.apply(&server("edge", "{}", 9001, "")).unwrap();
    site.cluster.wait_for("notrackpolicy/edge", "it is ready", is_ready).unwrap();
    let enforced = site.cluster.stable_rules().unwrap();

    let began = Instant::now();
    site.cluster.apply(&current).unwrap();
    agents_are(site, CURRENT);
    site.wait_for("notrack", "this version is in order", is_in_order);
    println!("from the changed line to Synced and Healthy: {:?}", began.elapsed());
    assert_eq!(site.cluster.stable_rules().unwrap(), enforced, "the upgrade changed rules");
    site.cluster.wait_for("notrackpolicy/edge", "it is ready still", is_ready).unwrap();
}

fn agents_are(site: &Site, version: &str) {
    let have = |plans: &Value| {
        let plans = plans["items"].as_array();
        plans.is_some_and(|plans| {
            plans.len() == site.cluster.nodes.len()
                && plans.iter().all(|plan| plan["status"]["agentVersion"] == version)
        })
    };
    site.cluster.wait_for("nodeplans", &format!("every agent is of version {version}"), have).unwrap();
}
