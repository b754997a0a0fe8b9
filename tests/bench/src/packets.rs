//! What a packet costs under each configuration.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notrack_lab::{Fill, fill_conntrack, run_ok};

use crate::hosts::{Host, Rules};
use crate::ours::Size;
use crate::report::{Aim, Finding};
use crate::source::{HOST, PORT, Traffic};
use crate::stats::{Shuffle, Summary};

/// A measurement: some milliseconds, so that what else the machine does meets all alike.
const PACKETS: u32 = 10_000;

const SMALL: Size = Size { keys: 10, policies: 1 };
const MEDIUM: Size = Size { keys: 1000, policies: 1 };
const LARGE: Size = Size { keys: 100_000, policies: 1 };
const SHARED: Size = Size { keys: 1000, policies: 1000 };
const LARGE_SHARED: Size = Size { keys: 100_000, policies: 1000 };
const OURS: [Rules; 6] = [
    Rules::Ours(SMALL),
    Rules::Ours(MEDIUM),
    Rules::Ours(LARGE),
    Rules::Ours(SHARED),
    Rules::Ours(LARGE_SHARED),
    Rules::OursAndRange(SHARED),
];
const PEERS: [Rules; 5] =
    [Rules::Nothing, Rules::Tracked, Rules::Notrack, Rules::Legacy(100), Rules::Legacy(1000)];
const MISSED: [Rules; 2] = [Rules::Missed(MEDIUM), Rules::MissedByAll];

/// Nanoseconds of CPU a packet, one for each round.
#[derive(Debug, Default)]
pub struct Costs(BTreeMap<(Rules, Traffic), Vec<f64>>);

/// Measures every configuration, or just some peers and the `scripts` where there are any, in each
/// of so many rounds, in an order shuffled by `seed`.
pub fn measure(rounds: usize, seed: u64, scripts: &[&'static Path], say: impl Fn(&str)) -> Result<Costs> {
    say("packets: a host for each configuration and traffic");
    let scripts = scripts.iter().map(|script| Rules::Script(script));
    let bypassing: Vec<Rules> = if scripts.len() == 0 {
        PEERS.into_iter().chain(OURS).collect()
    } else {
        PEERS[..3].iter().copied().chain(scripts).collect()
    };
    let missed = if bypassing.contains(&OURS[0]) { MISSED.as_slice() } else { &[] };
    let all = bypassing.iter().flat_map(|rules| Traffic::ALL.map(|traffic| (*rules, traffic)));
    // All namespaces share one hash table of connections: 200,000 flows of one host are enough.
    let some = missed.iter().flat_map(|rules| Traffic::ALL[..2].iter().map(|of| (*rules, *of)));
    let mut hosts = all
        .chain(some)
        .map(|(rules, traffic)| prepare(rules, traffic).with_context(|| rules.name()))
        .collect::<Result<Vec<Host>>>()?;
    let mut costs = Costs::default();
    let mut shuffle = Shuffle::new(seed);
    for round in 1..=rounds {
        if round % 10 == 1 {
            say(&format!("packets: round {round} of {rounds}"));
        }
        shuffle.shuffle(&mut hosts);
        for host in &hosts {
            let cost = measure_one(host).with_context(|| host.rules.name())?;
            costs.0.entry((host.rules, host.traffic)).or_default().push(cost);
        }
    }
    Ok(costs)
}

fn prepare(rules: Rules, traffic: Traffic) -> Result<Host> {
    let host = Host::new(rules, traffic)?;
    let every_flow = traffic == Traffic::ManyFlows && rules.tracks() == Some(true);
    host.source.send(if every_flow { Traffic::MANY } else { PACKETS })?;
    Ok(host)
}

fn measure_one(host: &Host) -> Result<f64> {
    let cost = host.source.send(PACKETS)?;
    let entries = host.namespace.sysctl("net.netfilter.nf_conntrack_count")?;
    if let Some(tracks) = host.rules.tracks() {
        // A bypass that does not bypass would be measured as something else.
        ensure!(tracks == (entries != "0"), "{entries} entries in the connection table");
    }
    if entries != "0" && host.traffic == Traffic::NewFlows {
        run_ok(host.namespace.command("conntrack").arg("-F"))?;
    }
    Ok(cost)
}

impl Costs {
    /// A table of medians, the cheapest for new flows first.
    pub fn lines(&self) -> Vec<String> {
        let mut rules: Vec<Rules> = self.0.keys().map(|(rules, _)| *rules).collect();
        rules.dedup();
        let key = |rules: &Rules| Summary::of(self.of(*rules, Traffic::NewFlows)).median;
        rules.sort_by(|a, b| key(a).total_cmp(&key(b)));
        let head = Traffic::ALL.map(|traffic| format!("{:>16}", traffic.name())).concat();
        let mut lines = vec![format!("{:<40}{head}", "ns of CPU a packet")];
        for rules in rules {
            let cells = Traffic::ALL.map(|traffic| match self.of(rules, traffic) {
                [] => format!("{:>16}", "-"),
                costs => {
                    let Summary { median, spread } = Summary::of(costs);
                    format!("{:>16}", format!("{median:.0} ±{:.0} %", spread * 50.0))
                }
            });
            lines.push(format!("{:<40}{}", rules.name(), cells.concat()));
        }
        lines
    }

    fn of(&self, rules: Rules, traffic: Traffic) -> &[f64] {
        self.0.get(&(rules, traffic)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The ratios that we aim at.
    pub fn findings(&self) -> Vec<Finding> {
        let ratio = |what: String, peer: Rules, ours: Rules, traffic: Traffic, aim: Option<Aim>| {
            let what = format!("{what}, {}", traffic.name());
            Finding::ratio(what, self.of(peer, traffic), self.of(ours, traffic), aim)
        };
        let mut findings = vec![Finding::new(
            "packet source without netfilter, million packets a CPU second",
            1e3 / Summary::of(self.of(Rules::Nothing, Traffic::OneFlow)).median,
            "M/s",
            Some(Aim::AtLeast(1.0)),
        )];
        for ours in OURS {
            for traffic in Traffic::ALL {
                let what = format!("{} / notrack", ours.name());
                let aim = Some(Aim::AtLeast(0.92));
                findings.push(ratio(what, Rules::Notrack, ours, traffic, aim));
            }
        }
        let ours = Rules::Ours(MEDIUM);
        for (traffic, aim) in [
            (Traffic::OneFlow, None),
            (Traffic::NewFlows, Some(Aim::AtLeast(2.0))),
            (Traffic::ManyFlows, None),
        ] {
            findings.push(ratio("ours / tracked".into(), Rules::Tracked, ours, traffic, aim));
        }
        for (rules, least) in [(100, 1.4), (1000, 8.0)] {
            for traffic in Traffic::ALL {
                let what = format!("ours / iptables-legacy, {rules} rules");
                let aim = Some(Aim::AtLeast(least));
                findings.push(ratio(what, Rules::Legacy(rules), ours, traffic, aim));
            }
        }
        for missed in MISSED {
            for (traffic, most) in [(Traffic::NewFlows, 5.0), (Traffic::OneFlow, 8.0)] {
                let cost = ratio(String::new(), missed, Rules::Tracked, traffic, None);
                findings.push(Finding {
                    what: format!("{} costs, {}", missed.name(), traffic.name()),
                    value: (cost.value - 1.0) * 100.0,
                    unit: "%",
                    aim: Some(Aim::AtMost(most)),
                    ..cost
                });
            }
        }
        findings
    }
}

/// How many packets of new flows are lost at a full table: with our rules, and without.
pub fn lost_when_full() -> Result<Vec<Finding>> {
    const NEW: u32 = 100_000;
    let lost = |rules: Rules| -> Result<f64> {
        let host = Host::new(rules, Traffic::NewFlows)?;
        host.namespace.nft(&format!(
            "table inet counted {{
              counter arrived {{}}
              chain input {{
                type filter hook input priority -200
                ip daddr {HOST} udp dport {PORT} counter name arrived
              }}
            }}"
        ))?;
        let maximum: usize = host.namespace.sysctl("net.netfilter.nf_conntrack_max")?.parse()?;
        let fill = Fill {
            entries: maximum + 1,
            server: (Ipv4Addr::new(192, 0, 2, 1), 443),
            lifetime: Duration::from_secs(600),
        };
        fill_conntrack(&host.namespace, fill)?;
        host.source.send(NEW)?;
        let arrived = host.namespace.counter("inet counted", "arrived")?.packets;
        Ok((f64::from(NEW) - arrived as f64) / f64::from(NEW) * 100.0)
    };
    let none = Some(Aim::AtMost(0.0));
    Ok(vec![
        Finding::new("new flows lost at a full table, tracked", lost(Rules::Tracked)?, "%", None),
        Finding::new("new flows lost at a full table, ours", lost(Rules::Ours(MEDIUM))?, "%", none),
    ])
}
