//! What it costs to load rules, and to change a policy.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use notrack_core::diff::diff;
use notrack_lab::Namespace;
use notrack_netlink::nft::Netfilter;

use crate::ours::{Ours, Size, one_port, open};
use crate::report::{Aim, Finding};
use crate::source::PORT;
use crate::stats::quantile;

const LARGE: Size = Size { keys: 100_000, policies: 1 };
const MANY: Size = Size { keys: 1000, policies: 1000 };

/// Our table of 100,000 keys into an empty namespace, by our netlink and by `nft -f`.
pub fn loading(rounds: usize) -> Result<Vec<Finding>> {
    let table = Ours::new(LARGE, PORT)?.table()?;
    let elements: usize = table.sets.values().map(|set| set.elements.len()).sum();
    let text = table.to_string();
    let transaction = diff(None, &table);
    let (mut ours, mut kernel, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let host = Namespace::new("load")?;
        let mut nft = open(&host)?;
        let (start, before) = (Instant::now(), usage(UsageWho::RUSAGE_THREAD)?);
        nft.commit(&transaction).context("cannot load our rules")?;
        let spent = usage(UsageWho::RUSAGE_THREAD)?;
        ours.push(start.elapsed().as_secs_f64());
        kernel.push(seconds_in_kernel(&spent) - seconds_in_kernel(&before));

        let host = Namespace::new("load")?;
        let start = Instant::now();
        host.nft(&text)?;
        peer.push(start.elapsed().as_secs_f64());
    }
    let median = |figures: &[f64]| crate::stats::Summary::of(figures).median * 1e3;
    let what = format!("loading 100,000 keys ({elements} elements)");
    Ok(vec![
        Finding::new(format!("{what}, kernel time"), median(&kernel), "ms", Some(Aim::AtMost(100.0))),
        Finding::new(format!("{what}, all of it"), median(&ours), "ms", None),
        Finding::ratio(format!("{what} / nft -f"), &peer, &ours, Some(Aim::AtLeast(4.0))),
    ])
}

fn usage(who: UsageWho) -> Result<Usage> {
    getrusage(who).context("cannot read the time spent")
}

fn seconds_in_kernel(usage: &Usage) -> f64 {
    Duration::from_micros(usage.system_time().num_microseconds().unsigned_abs()).as_secs_f64()
}

/// One policy among 1,000 gets another port, again and again.
pub fn changing(times: usize) -> Result<Vec<Finding>> {
    let host = Namespace::new("change")?;
    let mut ours = Ours::new(MANY, PORT)?;
    let mut nft = open(&host)?;
    nft.commit(&diff(None, &ours.table()?)).context("cannot program our rules")?;
    let (mut commits, mut wholes) = (Vec::new(), Vec::new());
    for change in 0..times {
        let name = format!("policy-{}", change % MANY.policies);
        let port = PORT + 2000 + u16::try_from(change)?;
        let policy = one_port(&name, port)?;
        let start = Instant::now();
        ours.index.apply(policy);
        let table = ours.table()?;
        let transaction = diff(nft.observe()?.as_ref(), &table);
        let commit = Instant::now();
        nft.commit(&transaction).context("cannot change a policy")?;
        commits.push(commit.elapsed().as_secs_f64() * 1e3);
        wholes.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let figure = |what: &str, mut figures: Vec<f64>, share: f64, aim| {
        figures.sort_by(f64::total_cmp);
        Finding::new(what, quantile(&figures, share), "ms", aim)
    };
    let aim = Some(Aim::AtMost(2.0));
    Ok(vec![
        figure("one policy changed among 1,000, commit, median", commits.clone(), 0.5, None),
        figure("one policy changed among 1,000, commit, p99", commits, 0.99, aim),
        figure("  from the policy to the commit, median", wholes, 0.5, None),
    ])
}
