//! 1: short HTTP connections.

use anyhow::Result;

use crate::agent::{Agent, HTTP};
use crate::lines::{SECONDS, compare, in_turns};
use crate::load;
use crate::report::Line;
use crate::services::nginx;
use crate::site::Site;
use crate::stage::Stage;

/// nginx and wrk, a connection for each request.
pub fn http(stage: &Stage) -> Result<Line> {
    let folder = stage.folder("http")?;
    stage.say("1  HTTP: two nodes with nginx, one with a policy for port 80");
    let (tracked, bypassed) = (Site::new()?, Site::new()?);
    let _servers = [nginx(&tracked, &folder)?, nginx(&bypassed, &folder)?];
    let agent = Agent::start(stage, &bypassed.node, HTTP)?;

    let rounds = in_turns([&tracked, &bypassed], |round, site| {
        stage.say(&format!("1  HTTP: wrk, {round}"));
        load::http(site, &folder, SECONDS)
    })?;
    let entries = [tracked.entries("tcp", 80)?, bypassed.entries("tcp", 80)?];
    Ok(Line {
        name: "http",
        title: "HTTP, a new connection for each request".into(),
        heads: ["", ""],
        rows: compare(("requests", "requests a second"), &rounds, entries, agent.bypassed()?),
        notes: Vec::new(),
    })
}
