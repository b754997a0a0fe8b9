//! 7: a server behind a virtual address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;

use crate::agent::{Agent, SERVICE};
use crate::lines::{NAIVE, TRIES, lost};
use crate::load::lost_connections;
use crate::report::{Figure, Line, Row};
use crate::services::answer;
use crate::site::Site;
use crate::stage::Stage;

const VIRTUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
/// As kube-proxy makes them for a Service with one endpoint on this node, and a firewall without state of its own.
const SERVICES: &str = "
table ip kube-proxy {
  chain services {
    type nat hook prerouting priority dstnat;
    ip daddr 10.96.0.10 tcp dport 80 dnat to 10.77.0.1:8080
  }
}
table inet site {
  chain input {
    type filter hook input priority filter;
    ct state invalid counter
  }
}";
const NAIVE_RULES: &str = "
table inet naive {
  chain prerouting { type filter hook prerouting priority raw; tcp dport { 8080, 8081 } notrack; }
  chain output { type filter hook output priority raw; tcp sport { 8080, 8081 } notrack; }
}";

/// Plain rules for the server's own port and another one; then our policy for both.
pub fn service(stage: &Stage) -> Result<Line> {
    stage.say("7  Service: a virtual address in front of port 8080, with plain notrack rules");
    let site = Site::with(SERVICES)?;
    site.client.ip("route add 10.96.0.0/16 via 10.77.0.1")?;
    let behind = answer(&site.node, Site::service(8080))?;
    let beside = answer(&site.node, Site::service(8081))?;
    let try_all = || -> Result<[u64; 3]> {
        let lost = |to| lost_connections(&site.client, to, TRIES);
        Ok([lost(VIRTUAL)?, lost(behind)?, lost(beside)?])
    };
    site.node.nft(NAIVE_RULES)?;
    let naive = try_all()?;
    site.node.nft("delete table inet naive")?;

    stage.say("7  Service: our policy for the same ports");
    let agent = Agent::start(stage, &site.node, SERVICE)?;
    let ours = try_all()?;
    let tracked = site.entries("tcp", 8080)?;
    let entries = site.entries("tcp", 8081)?;
    let bypassed = agent.bypassed()?;
    let notes = agent.subtracted()?;
    let told = notes.iter().any(|note| note.contains("TCP 8080") && note.contains("chain services, handle "));

    let none = Figure::Word("");
    let counted = Figure::Count;
    Ok(Line {
        name: "service",
        title: "A server behind a virtual address".into(),
        heads: NAIVE,
        rows: vec![
            Row::new("virtual", "its clients lost", lost(naive[0]), lost(ours[0]))
                .promised(naive[0] == TRIES && ours[0] == 0),
            Row::new("direct", "direct clients of 8080 lost", lost(naive[1]), lost(ours[1]))
                .promised(ours[1] == 0),
            Row::new(
                "tracked",
                "8080 in the table, and why",
                none.clone(),
                Figure::word(told, "told below", "not told"),
            )
            .promised(told && tracked > 0),
            Row::new("beside", "clients of 8081 beside it lost", lost(naive[2]), lost(ours[2]))
                .promised(ours[2] == 0),
            Row::new("entries", "entries of 8081 left", none.clone(), counted(entries))
                .promised(entries == 0),
            Row::new("bypassed", "packets that skipped tracking", none, counted(bypassed))
                .promised(bypassed >= 2 * TRIES),
        ],
        notes,
    })
}
