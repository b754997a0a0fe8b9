//! 2: the table full.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notrack_lab::{Fill, fill_conntrack};

use crate::agent::{Agent, HTTP};
use crate::load::lost_connections;
use crate::report::{Figure, Line, Row, thousands};
use crate::services::nginx;
use crate::site::Site;
use crate::stage::Stage;

const ATTEMPTS: u64 = 1000;

/// New connections to a node whose table is at its maximum.
pub fn full(stage: &Stage) -> Result<Line> {
    let folder = stage.folder("full")?;
    // One after the other: a full table is memory, and two are twice as much.
    let site = Site::new()?;
    let server = nginx(&site, &folder)?;
    let (maximum, without) = lost_when_full(stage, &site, "without a policy")?;
    drop((server, site));

    let site = Site::new()?;
    let _server = nginx(&site, &folder)?;
    let _agent = Agent::start(stage, &site.node, HTTP)?;
    let (_, with) = lost_when_full(stage, &site, "with the policy")?;

    let share = |lost| Figure::Share(lost as f64 / ATTEMPTS as f64);
    Ok(Line {
        name: "full",
        title: format!("The table full: {} entries", thousands(maximum)),
        heads: ["", ""],
        rows: vec![
            Row::new("tried", "new connections tried", Figure::Count(ATTEMPTS), Figure::Count(ATTEMPTS)),
            // Some get through without a policy where other entries end meanwhile.
            Row::new("lost", "of them lost", share(without), share(with))
                .promised(without > ATTEMPTS / 2 && with == 0),
        ],
        notes: Vec::new(),
    })
}

/// The table's maximum, and how many of the attempts were lost.
fn lost_when_full(stage: &Stage, site: &Site, how: &str) -> Result<(u64, u64)> {
    let figure = |key: &str| -> Result<u64> {
        let value = site.node.sysctl(&format!("net.netfilter.nf_conntrack_{key}"))?;
        value.parse().with_context(|| format!("nf_conntrack_{key} is {value}"))
    };
    let maximum = figure("max")?;
    ensure!(maximum > 0, "nf_conntrack_max is 0: this machine's table cannot be full");
    stage.say(&format!("2  full: filling the table up to its {} entries", thousands(maximum)));
    let fill = Fill {
        entries: maximum as usize + 1,
        server: (Ipv4Addr::new(192, 0, 2, 1), 443),
        lifetime: Duration::from_secs(600),
    };
    fill_conntrack(&site.node, fill)?;
    let count = figure("count")?;
    ensure!(count >= maximum, "the table took {count} entries of {maximum}");
    stage.say(&format!("2  full: {ATTEMPTS} new connections {how}"));
    Ok((maximum, lost_connections(&site.client, Site::service(80), ATTEMPTS)?))
}
