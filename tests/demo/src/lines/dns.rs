//! 3: DNS over UDP, and what it opens to whom.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use notrack_lab::{Namespace, wait_until};

use crate::agent::{Agent, DNS};
use crate::lines::{SECONDS, compare, in_turns};
use crate::load;
use crate::report::{Figure, Line, Row};
use crate::services::unbound;
use crate::site::Site;
use crate::stage::Stage;

const PACKETS: u64 = 20;
/// Of the node: a port such as a resolver asks from.
const ASKED_FROM: u16 = 40_053;

/// unbound and dnsperf, a query from a wrong source, and a reply that nobody asked for.
pub fn dns(stage: &Stage) -> Result<Line> {
    let folder = stage.folder("dns")?;
    stage.say("3  DNS: two nodes with unbound, one with a policy for its clients");
    let (tracked, bypassed) = (Site::new()?, Site::new()?);
    let _servers = [unbound(&tracked, &folder)?, unbound(&bypassed, &folder)?];
    let agent = Agent::start(stage, &bypassed.node, DNS)?;

    let rounds = in_turns([&tracked, &bypassed], |round, site| {
        stage.say(&format!("3  DNS: dnsperf, {round}"));
        load::dns(site, &folder, SECONDS)
    })?;
    let entries = [tracked.entries("udp", 53)?, bypassed.entries("udp", 53)?];
    let mut rows = compare(("queries", "queries a second"), &rounds, entries, agent.bypassed()?);

    stage.say("3  DNS: a query from a wrong source, a reply that nobody asked for");
    let strangers = [wrong_source(&tracked)?, wrong_source(&bypassed)?];
    let unasked = [unasked_reply(&tracked)?, unasked_reply(&bypassed)?];
    for (name, what, [without, with]) in [
        ("wrongSource", "queries from a wrong source", strangers),
        ("unaskedReply", "replies that nobody asked for", unasked),
    ] {
        let figure = |dropped| Figure::word(dropped, "firewall drops", "let in");
        rows.push(Row::new(name, what, figure(without), figure(with)).promised(without && with));
    }
    Ok(Line { name: "dns", title: "DNS over UDP".into(), heads: ["", ""], rows, notes: Vec::new() })
}

/// Whether the firewall, which judges by state, has dropped all queries of a foreign network.
fn wrong_source(site: &Site) -> Result<bool> {
    let stranger = socket(&site.client, SocketAddr::new(Site::STRANGER, 0))?;
    Ok(all_dropped(site, "stranger", &stranger, Site::service(53))? && !receives(&stranger)?)
}

/// The same for answers from port 53 to a port where the node asks from.
fn unasked_reply(site: &Site) -> Result<bool> {
    let asker = socket(&site.node, Site::service(ASKED_FROM))?;
    let liar = socket(&site.client, SocketAddr::new(Site::CLIENT, 53))?;
    Ok(all_dropped(site, "unasked", &liar, Site::service(ASKED_FROM))? && !receives(&asker)?)
}

fn all_dropped(site: &Site, rule: &str, from: &UdpSocket, to: SocketAddr) -> Result<bool> {
    let before = site.dropped(rule)?;
    for _ in 0..PACKETS {
        from.send_to(b"\x00\x01\x80\x00", to).context("cannot send to the node")?;
    }
    let all = || site.dropped(rule).is_ok_and(|now| now == before + PACKETS);
    Ok(wait_until("the firewall to drop them", Duration::from_secs(2), all).is_ok())
}

fn socket(host: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    let socket = host.enter(|| UdpSocket::bind(address))?;
    let socket = socket.with_context(|| format!("cannot use {address}"))?;
    // What the firewall has counted as dropped would be here by now if it had been let in.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn receives(socket: &UdpSocket) -> Result<bool> {
    match socket.recv(&mut [0; 512]) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error).context("cannot receive"),
    }
}
