//! `prove`: whether this kernel's datapath does what it is told, tried with real connections in a network namespace that
//! nothing else needs.
//!
//! A policy for one port of our own goes the way of every policy ([`Engine`]). Connections to that port must then pass
//! untracked, and those to a port that no policy names must not: without the second the first would prove nothing, as
//! in a namespace that is new nothing is tracked at all.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use notrack_core::compile::RuleSet;
use notrack_core::diff::{Op, Transaction};
use notrack_core::facts::Tracked;
use notrack_core::manifest;
use notrack_core::policy::validate;
use notrack_core::rules::counter_name;
use notrack_netlink::adapters;
use notrack_netlink::facts;
use notrack_netlink::nft::{Netfilter, Nft, NftError};

use crate::engine::{Engine, Settings};
use crate::evict::Stop;
use crate::intent::Intent;
use crate::lock;

mod failure;
mod pair;

use failure::Failure;
use pair::{Pair, entries};

/// The policy's name, and so its counter's.
const POLICY: &str = "prove";
/// A proof takes a fraction of a second. What it waits for is an answer of the kernel or a packet that something drops.
const BOUND: Duration = Duration::from_secs(20);
/// Ends the rules of a proof that was killed.
const LEASE: Duration = Duration::from_secs(60);

/// Proves the datapath of this network namespace, a line on standard output for each thing that is proved. No rule stays.
///
/// # Errors
/// What is not proved, after the rules are removed.
pub fn prove() -> Result<(), Failure> {
    // Whoever ends us waits until the table is gone, at most for the bound. Threads that follow inherit it.
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
        .thread_block()
        .map_err(io::Error::from)?;
    let _lock = lock::take()?;
    is_free()?;
    // A thread, so that neither silence nor a panic keeps us from removing the table.
    let (tell, told) = mpsc::channel();
    thread::Builder::new().name("prove".to_owned()).spawn(move || tell.send(steps()))?;
    let proved = told.recv_timeout(BOUND).unwrap_or(Err(Failure::Late(BOUND)));
    match (proved, remove()) {
        (Ok(()), Ok(())) => {
            println!("table inet notrack-dev is removed");
            Ok(())
        }
        (Err(failure), Err(left)) => Err(Failure::Both(failure.into(), left.into())),
        (failed, removed) => failed.and(removed),
    }
}

/// Nobody's rules are to be touched.
fn is_free() -> Result<(), Failure> {
    if Nft::open_without_owning()?.observe()?.is_some() {
        return Err(Failure::Occupied("table inet notrack-dev"));
    }
    if !adapters::present()?.is_empty() {
        return Err(Failure::Occupied("a rule of ours in another program's firewall"));
    }
    Ok(())
}

fn steps() -> Result<(), Failure> {
    let addresses = facts::addresses();
    let (port, pairs) = pair::listen(&addresses)?;
    let mut engine = program(port, &addresses)?;
    for pair in &pairs {
        is_bypassed(&mut engine, pair)?;
    }
    Ok(())
}

/// Has the kernel run a policy for the port, and show it again.
fn program(port: u16, addresses: &BTreeSet<IpAddr>) -> Result<Engine, Failure> {
    let intent = Intent { rule_set: rule_set(port)?, digest: None, kept: Vec::new(), asked: Vec::new() };
    let settings =
        Settings { labels: BTreeMap::new(), own_port: None, lease: Some(LEASE), owns_table: false };
    let mut engine = Engine::open(settings, Stop::default())?;
    let mut facts = engine.facts(&intent, true, addresses)?;
    // Rules for a node that tracks look at the state of packets, which turns tracking on in a namespace that is new. It
    // ends with them.
    facts.tracked = Tracked { ipv4: true, ipv6: true };
    let programmed = engine.reconcile(&intent, &facts, None)?;
    if !programmed.policies.contains(POLICY) {
        let findings: Vec<String> = programmed.findings.iter().map(ToString::to_string).collect();
        return Err(Failure::NotInForce(findings.join("\n  ")));
    }
    let elements = programmed.table.element_count();
    println!("rules for TCP port {port} ({elements} elements) are programmed and read back");
    Ok(engine)
}

/// The policy as a file would have it.
fn rule_set(port: u16) -> Result<RuleSet, Failure> {
    let text = format!(
        "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata: {{name: {POLICY}}}\nspec:\n  nodeSelector: {{}}\n  \
         mode: Enforce\n  flows:\n  - {{name: own, action: NoTrack, role: Server, ports: [{{protocol: TCP, port: {port}}}]}}\n"
    );
    let manifests = manifest::parse(POLICY, &text)
        .into_result()
        .map_err(|problems| Failure::Policy(format!("{problems:?}")))?;
    let policies = manifests.iter().map(|manifest| validate(&manifest.policy).map(Arc::new));
    let policies =
        policies.collect::<Result<_, _>>().map_err(|invalid| Failure::Policy(format!("{invalid:?}")))?;
    Ok(RuleSet::new(policies, Vec::new()))
}

/// Connections to both servers, and what the kernel has of them afterwards.
fn is_bypassed(engine: &mut Engine, pair: &Pair) -> Result<(), Failure> {
    let (at, to) = (pair.bypassed.address, pair.tracked.address);
    let before = counted(engine)?;
    pair.bypassed.exchange().map_err(|source| Failure::Connection { to: at, which: "bypassed", source })?;
    let times = counted(engine)?.saturating_sub(before);
    pair.tracked.exchange().map_err(|source| Failure::Connection { to, which: "tracked", source })?;
    let (bypassed, tracked) = (entries(at)?, entries(to)?);
    if tracked == 0 {
        return Err(Failure::NotTracked { to });
    }
    if times == 0 || bypassed > 0 {
        return Err(Failure::Tracked { at, times, entries: bypassed });
    }
    // Over lo each packet goes out and comes in, and is counted at both hooks.
    println!(
        "packets to and from {at} skipped tracking {times} times, going out and coming in, 0 entries; {tracked} entry for \
         port {}",
        to.port()
    );
    Ok(())
}

/// How often the policy's rules have made a packet untracked.
fn counted(engine: &mut Engine) -> Result<u64, Failure> {
    Ok(engine.counters()?.get(&counter_name(POLICY)).map_or(0, |counter| counter.packets))
}

fn remove() -> Result<(), Failure> {
    let left = |error: NftError| Failure::Left(error.to_string());
    let mut nft = Nft::open_without_owning().map_err(left)?;
    if nft.observe().map_err(left)?.is_none() {
        return Ok(());
    }
    nft.commit(&Transaction { ops: vec![Op::DeleteTable] }).map_err(left)?;
    match nft.observe().map_err(left)? {
        None => Ok(()),
        Some(_) => Err(Failure::Left("it is there again".to_owned())),
    }
}
