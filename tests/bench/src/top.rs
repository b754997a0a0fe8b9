//! Who fills a table of 200,000 entries: our dump against `conntrack -L` piped to a counter.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notrack_lab::{Fill, Namespace, fill_conntrack, run_ok};
use notrack_netlink::conntrack::{Conntrack, Filter};

use crate::report::{Aim, Finding};

const ENTRIES: usize = 200_000;

/// The sources of most entries, as people count them.
const PEER: &str = "conntrack -L 2>/dev/null \
    | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^src=/) { count[$i]++; break } } \
           END { for (source in count) print count[source], source }' \
    | sort -rn | head -n 10";

/// Counts entries by source, both ways.
pub fn talkers(rounds: usize) -> Result<Vec<Finding>> {
    let host = Namespace::new("top")?;
    let fill = Fill {
        entries: ENTRIES,
        server: (Ipv4Addr::new(192, 0, 2, 1), 443),
        lifetime: Duration::from_secs(600),
    };
    let taken = fill_conntrack(&host, fill)?;
    ensure!(taken == ENTRIES, "this machine's table takes {taken} entries, not {ENTRIES}");
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        let counted = count(&host)?;
        ours.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let listed = run_ok(host.command("sh").args(["-c", PEER]))?;
        peer.push(start.elapsed().as_secs_f64());
        let first = listed.split_whitespace().next().unwrap_or_default();
        let most = counted.values().max().map(u64::to_string);
        ensure!(most.as_deref() == Some(first), "we count {most:?}, conntrack -L {first}");
    }
    let aim = Some(Aim::AtLeast(3.0));
    Ok(vec![Finding::ratio("top of 200,000 entries / conntrack -L and awk", &peer, &ours, aim)])
}

fn count(host: &Namespace) -> Result<HashMap<IpAddr, u64>> {
    let mut table = host.enter(Conntrack::open)??;
    let mut counts = HashMap::new();
    let dumped = table.dump(&Filter::default(), |entry| {
        *counts.entry(entry.original.source).or_insert(0) += 1;
    });
    dumped.context("cannot read the connection table")?;
    Ok(counts)
}
