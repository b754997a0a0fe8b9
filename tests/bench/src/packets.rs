//! What a packet costs under each configuration.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use notrack_lab::{Fill, fill_conntrack, run_ok};

use crate::hosts::{Host, Rules};
use crate::ours::Size;
use crate::report::{Aim, Finding};
use crate::source::{HOST, PORT, Traffic};
use crate::stats::{Shuffle, Summary};

/// A measurement; as many flows as the largest traffic has.
const PACKETS: u32 = Traffic::MANY;
const WARM_UP: u32 = 10_000;

const SMALL: Size = Size { keys: 10, policies: 1 };
const MEDIUM: Size = Size { keys: 1000, policies: 1 };
const LARGE: Size = Size { keys: 100_000, policies: 1 };
const SHARED: Size = Size { keys: 1000, policies: 1000 };
const LARGE_SHARED: Size = Size { keys: 100_000, policies: 1000 };
const OURS: [Size; 5] = [SMALL, MEDIUM, LARGE, SHARED, LARGE_SHARED];

/// Nanoseconds of CPU a packet, one for each round.
#[derive(Debug, Default)]
pub struct Costs(BTreeMap<(String, Traffic), Vec<f64>>);

/// Measures every configuration in each of so many rounds, in an order shuffled by `seed`.
pub fn measure(rounds: usize, seed: u64, say: impl Fn(&str)) -> Result<Costs> {
    let mut rules =
        vec![Rules::Nothing, Rules::Tracked, Rules::Notrack, Rules::Legacy(100), Rules::Legacy(1000)];
    rules.extend(OURS.map(Rules::Ours));
    rules.extend([Rules::Missed(MEDIUM), Rules::MissedByAll]);
    let hosts = rules.into_iter().map(|rules| {
        let name = rules.name();
        Host::new(rules).with_context(|| format!("the host for: {name}"))
    });
    let hosts: Vec<Host> = hosts.collect::<Result<_>>()?;
    let mut costs = Costs::default();
    let mut shuffle = Shuffle::new(seed);
    for round in 1..=rounds {
        say(&format!("packets: round {round} of {rounds}"));
        let mut order: Vec<(&Host, Traffic)> =
            hosts.iter().flat_map(|host| Traffic::ALL.map(|traffic| (host, traffic))).collect();
        shuffle.shuffle(&mut order);
        for (host, traffic) in order {
            let cost = measure_one(host, traffic)?;
            costs.0.entry((host.rules.name(), traffic)).or_default().push(cost);
        }
    }
    Ok(costs)
}

fn measure_one(host: &Host, traffic: Traffic) -> Result<f64> {
    if host.rules.tracks() {
        // Entries of the round before would be found instead of made.
        flush(host)?;
    }
    let warm_up = if traffic == Traffic::ManyFlows { PACKETS } else { WARM_UP };
    host.source.send(traffic, warm_up)?;
    let cost = host.source.send(traffic, PACKETS)?;
    let entries = host.namespace.sysctl("net.netfilter.nf_conntrack_count")?;
    // A bypass that does not bypass would be measured as something else.
    ensure!(
        host.rules.tracks() == (entries != "0"),
        "{} has left {entries} entries in the connection table",
        host.rules.name()
    );
    if host.rules.tracks() {
        // All namespaces share one hash table: nobody shall walk another's entries.
        flush(host)?;
    }
    Ok(cost)
}

fn flush(host: &Host) -> Result<()> {
    run_ok(host.namespace.command("conntrack").arg("-F")).map(drop)
}

impl Costs {
    /// A table of medians, in the order of the configurations' cost.
    pub fn lines(&self) -> Vec<String> {
        let mut names: Vec<&String> = self.0.keys().map(|(name, _)| name).collect();
        names.dedup();
        names.sort_by(|a, b| {
            let cost = |name: &String| self.summary(name, Traffic::NewFlows).median;
            cost(a).total_cmp(&cost(b))
        });
        let head = Traffic::ALL.map(|traffic| format!("{:>15}", traffic.name())).concat();
        let mut lines = vec![format!("{:<38}{head}", "ns of CPU a packet")];
        for name in names {
            let cells = Traffic::ALL.map(|traffic| {
                let Summary { median, spread } = self.summary(name, traffic);
                format!("{:>15}", format!("{median:.0} ±{:.0} %", spread * 50.0))
            });
            lines.push(format!("{name:<38}{}", cells.concat()));
        }
        lines
    }

    fn summary(&self, name: &str, traffic: Traffic) -> Summary {
        Summary::of(self.of_name(name, traffic))
    }

    fn of_name(&self, name: &str, traffic: Traffic) -> &[f64] {
        self.0.get(&(name.to_owned(), traffic)).map(Vec::as_slice).unwrap_or_default()
    }

    fn of(&self, rules: Rules, traffic: Traffic) -> &[f64] {
        self.of_name(&rules.name(), traffic)
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
        for size in OURS {
            for traffic in Traffic::ALL {
                let what = format!("{} / unconditional notrack", Rules::Ours(size).name());
                let aim = Some(Aim::AtLeast(0.92));
                findings.push(ratio(what, Rules::Notrack, Rules::Ours(size), traffic, aim));
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
        for missed in [Rules::Missed(MEDIUM), Rules::MissedByAll] {
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
        let host = Host::new(rules)?;
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
            server: (std::net::Ipv4Addr::new(192, 0, 2, 1), 443),
            lifetime: std::time::Duration::from_secs(600),
        };
        fill_conntrack(&host.namespace, fill)?;
        host.source.send(Traffic::NewFlows, NEW)?;
        let arrived = host.namespace.counter("inet counted", "arrived")?.packets;
        Ok((f64::from(NEW) - arrived as f64) / f64::from(NEW) * 100.0)
    };
    let none = Some(Aim::AtMost(0.0));
    Ok(vec![
        Finding::new("new flows lost at a full table, tracked", lost(Rules::Tracked)?, "%", None),
        Finding::new("new flows lost at a full table, ours", lost(Rules::Ours(MEDIUM))?, "%", none),
    ])
}
