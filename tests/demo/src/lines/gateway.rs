//! 5: a gateway that translates what passes.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use notrack_lab::Line as Path;

use crate::agent::{Agent, THROUGH};
use crate::lines::{NAIVE, TRIES, lost};
use crate::load::lost_connections;
use crate::report::{Figure, Line, Row};
use crate::services::answer;
use crate::stage::Stage;

const MASQUERADE: &str = "
table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname eth1 masquerade
  }
}";
/// On the far side: packets whose private source address was not translated.
const LEAKS: &str = "
table ip far {
  counter leaked {}
  chain input {
    type filter hook input priority filter;
    ip saddr 10.77.0.0/24 counter name leaked
  }
}";
const NAIVE_RULES: &str = "
table ip naive {
  chain prerouting {
    type filter hook prerouting priority raw;
    ip daddr 10.88.0.2 tcp dport 80 notrack
    ip saddr 10.88.0.2 tcp sport 80 notrack
  }
}";
/// Of a router without NAT: it tracks.
const FIREWALL: &str = "
table inet site {
  chain forward {
    type filter hook forward priority filter;
    ct state invalid drop
    tcp dport 80 accept
  }
}";
const SERVER: SocketAddr = SocketAddr::new(Path::SERVER, 80);

/// Plain rules on a gateway, then our policy for the same; and that policy on a router without NAT.
pub fn gateway(stage: &Stage) -> Result<Line> {
    stage.say("5  gateway: a node that masquerades, with plain notrack rules");
    let path = Path::new()?;
    path.node.nft(MASQUERADE)?;
    // As on the internet: nobody there knows the way to a private address.
    path.server.ip("route del default")?;
    path.server.nft(LEAKS)?;
    let server = answer(&path.server, SERVER)?;
    let leaked = || Ok::<_, anyhow::Error>(path.server.counter("ip far", "leaked")?.packets);
    path.node.nft(NAIVE_RULES)?;
    let naive = lost_connections(&path.client, server, TRIES)?;
    let naive_leaks = leaked()?;
    path.node.nft("delete table ip naive")?;

    stage.say("5  gateway: our policy for the same, with a connection open");
    let open = path.client.enter(|| TcpStream::connect_timeout(&server, Duration::from_secs(5)))?;
    let open = open.context("no connection through the gateway")?;
    let known = leaked()?;
    let agent = Agent::start_until(stage, &path.node, THROUGH, "Refused")?;
    let ours = lost_connections(&path.client, server, TRIES)?;
    let our_leaks = leaked()? - known;
    let source = open.local_addr().context("the open connection's address")?;
    let mut notes = agent.subtracted()?;
    // The refusal tells it.
    notes.retain(|note| !note.starts_with("stays tracked: NT003"));
    let told = |what: &str| notes.iter().any(|note| note.contains(what));
    let told = told("ip nat, chain postrouting, handle ") && told(&format!("{source} to {server}"));

    stage.say("5  gateway: the same policy on a router without NAT");
    let (plain_lost, entries, bypassed) = plain_router(stage)?;

    let none = Figure::Word("");
    let share = |count: u64| Figure::Count(count);
    Ok(Line {
        name: "gateway",
        title: "A gateway that masquerades".into(),
        heads: NAIVE,
        rows: vec![
            Row::new("lost", "connections through it lost", lost(naive), lost(ours))
                .promised(naive == TRIES && ours == 0),
            Row::new("leaked", "packets with private addresses", share(naive_leaks), share(our_leaks))
                .promised(naive_leaks > 0 && our_leaks == 0),
            Row::new(
                "refused",
                "bypass of translated traffic",
                Figure::Word("in effect"),
                Figure::Word("refused"),
            ),
            Row::new(
                "why",
                "the chain, the open connection",
                none.clone(),
                Figure::word(told, "told below", "not told"),
            )
            .promised(told),
            Row::new("plainLost", "without NAT: connections lost", none.clone(), lost(plain_lost))
                .promised(plain_lost == 0),
            Row::new("plainEntries", "without NAT: entries left", none.clone(), share(entries))
                .promised(entries == 0),
            Row::new("plainBypassed", "without NAT: packets that skipped", none, share(bypassed))
                .promised(bypassed >= 2 * TRIES),
        ],
        notes,
    })
}

/// Connections lost, entries left, and packets that skipped tracking.
fn plain_router(stage: &Stage) -> Result<(u64, u64, u64)> {
    let path = Path::new()?;
    path.node.nft(FIREWALL)?;
    let server = answer(&path.server, SERVER)?;
    let agent = Agent::start(stage, &path.node, THROUGH)?;
    let lost = lost_connections(&path.client, server, TRIES)?;
    let entries = path.node.conntrack("-p tcp --dport 80")?.len() as u64;
    Ok((lost, entries, agent.bypassed()?))
}
