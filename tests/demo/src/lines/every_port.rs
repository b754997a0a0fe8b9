//! 4: a policy that names every port, and what it cannot cut off.

use std::net::SocketAddr;

use anyhow::Result;

use crate::agent::{Agent, EVERY_PORT};
use crate::load::lost_connections;
use crate::report::{Figure, Line, Row};
use crate::services::{answer, nginx};
use crate::site::Site;
use crate::ssh::{Session, login, sshd};
use crate::stage::Stage;

const REQUESTS: u64 = 50;

/// What is true of a node at one time.
struct State {
    session: bool,
    login: bool,
    ssh_tracked: bool,
    outgoing_lost: u64,
    http_entries: u64,
}

/// The same node before and after, with an SSH session that is open all the while.
pub fn every_port(stage: &Stage) -> Result<Line> {
    let folder = stage.folder("every-port")?;
    stage.say("4  every port: a node with SSH and HTTP, a session open");
    let site = Site::new()?;
    let _servers = [nginx(&site, &folder)?, sshd(&site, &folder)?];
    let upstream = answer(&site.client, SocketAddr::new(Site::CLIENT, 0))?;
    let mut session = Session::open(&site, &folder)?;
    let mut look = |site: &Site| -> Result<State> {
        let known = site.entries("tcp", 80)?;
        lost_connections(&site.client, Site::service(80), REQUESTS)?;
        Ok(State {
            session: session.echoes("still here"),
            login: login(site, &folder),
            ssh_tracked: site.entries("tcp", 22)? > 0,
            outgoing_lost: lost_connections(&site.node, upstream, REQUESTS)?,
            http_entries: site.entries("tcp", 80)?.saturating_sub(known),
        })
    };
    let without = look(&site)?;
    stage.say("4  every port: the policy, and the same again");
    let agent = Agent::start(stage, &site.node, EVERY_PORT)?;
    let with = look(&site)?;
    let mut rows = rows(&without, &with);
    let bypassed = agent.bypassed()?;
    rows.push(
        // Two packets a request at the very least.
        Row::new("bypassed", "packets that skipped tracking", Figure::Count(0), Figure::Count(bypassed))
            .promised(bypassed >= 2 * REQUESTS),
    );
    let notes = agent.subtracted()?;
    let told = |what: &str| notes.iter().any(|note| note.contains(what));
    let told = told("TCP 22 is SSH") && told("EphemeralPorts: TCP");
    let figure = Figure::word(told, "told below", "not told");
    rows.push(Row::new("subtracted", "what stays tracked, and why", Figure::Word(""), figure).promised(told));
    Ok(Line {
        name: "everyPort",
        title: "A policy that names every port".into(),
        heads: ["", ""],
        rows,
        notes,
    })
}

fn rows(without: &State, with: &State) -> Vec<Row> {
    let row =
        |name, what, figure: &dyn Fn(&State) -> Figure| Row::new(name, what, figure(without), figure(with));
    let both = |good: fn(&State) -> bool| good(without) && good(with);
    vec![
        row("session", "an SSH session open before", &|s| Figure::word(s.session, "alive", "dead"))
            .promised(both(|s| s.session)),
        row("login", "a new SSH login", &|s| Figure::word(s.login, "works", "fails"))
            .promised(both(|s| s.login)),
        row("sshTracked", "SSH in the table", &|s| Figure::word(s.ssh_tracked, "tracked", "missing"))
            .promised(both(|s| s.ssh_tracked)),
        row("outgoing", "the node's own connections lost", &|s| {
            Figure::Share(s.outgoing_lost as f64 / REQUESTS as f64)
        })
        .promised(both(|s| s.outgoing_lost == 0)),
        row("entries", "entries of 50 HTTP requests", &|s| Figure::Count(s.http_entries))
            .promised(without.http_entries > 0 && with.http_entries == 0),
    ]
}
