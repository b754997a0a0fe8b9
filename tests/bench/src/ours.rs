//! Our rules for the benches: policies on the same way as in the agent, on facts made by hand.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use notrack_core::compile::compile;
use notrack_core::diff::diff;
use notrack_core::facts::{NodeFacts, Tracked};
use notrack_core::index::Index;
use notrack_core::net::PortRange;
use notrack_core::nf::Table;
use notrack_core::policy::{ValidatedPolicy, validate};
use notrack_core::rules::render;
use notrack_lab::Namespace;
use notrack_netlink::nft::{Netfilter, Nft};
use serde_json::{Value, json};

use crate::source::{HOST, PORT};

/// Where the ports of a table begin that misses the packets.
pub const ELSEWHERE: u16 = PORT + 1000;

/// A range of up to so many ports of one address becomes exact keys (128 in the renderer).
const RANGE: usize = 100;
const RANGES_A_FLOW: usize = 32;
/// More keys than this take four addresses: there are not that many ports.
const KEYS_OF_ONE_ADDRESS: usize = 10_000;

/// Policies of role Server, as many as told, that share so many keys of address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    pub keys: usize,
    pub policies: usize,
}

/// What an agent knows: policies and its node.
#[derive(Debug)]
pub struct Ours {
    pub index: Index,
    facts: NodeFacts,
}

impl Ours {
    /// Policies whose ports are counted up from `first`.
    pub fn new(size: Size, first: u16) -> Result<Self> {
        let count: u32 = if size.keys > KEYS_OF_ONE_ADDRESS { 4 } else { 1 };
        // Not neighbours: those would become one range.
        let address = |number: u32| IpAddr::from(Ipv4Addr::from(u32::from(HOST) + 2 * number));
        let mut ours = Self { index: Index::default(), facts: facts((0..count).map(address)) };
        let mut next = usize::from(first);
        for number in 0..size.policies {
            let mut ranges = Vec::new();
            let mut left = size.keys / count as usize / size.policies;
            while left > 0 {
                let length = left.min(RANGE);
                ranges.push(ports(next.try_into()?, (next + length - 1).try_into()?));
                left -= length;
                // A gap where more of this policy follows: adjacent ranges would become one.
                next += length + usize::from(left > 0);
            }
            let flows: Vec<Value> = ranges
                .chunks(RANGES_A_FLOW)
                .enumerate()
                .map(|(number, ranges)| server(&format!("flow-{number}"), ranges))
                .collect();
            ours.index.apply(policy(&format!("policy-{number}"), &flows)?);
        }
        Ok(ours)
    }

    /// As [`Self::new`], and a range that is too long to become exact keys.
    pub fn with_range(size: Size, first: u16) -> Result<Self> {
        let mut ours = Self::new(size, first)?;
        ours.index.apply(policy("range", &[server("range", &[ports(50_000, 58_000)])])?);
        Ok(ours)
    }

    /// Policies that make every kind of look-up there is in prerouting, none for the packets.
    pub fn every_kind() -> Result<Self> {
        // More than 1,024 cells: exact keys and ranges both, each in a map of its own.
        let mut ours = Self::new(Size { keys: 1100, policies: 1100 }, ELSEWHERE)?;
        let port = |port: u16| json!([{ "protocol": "UDP", "port": port }]);
        let peers = json!([{ "cidr": "192.0.2.0/24" }]);
        let flows = [
            json!({
                "name": "client", "action": "NoTrack", "role": "Client",
                "ports": port(53), "peers": peers,
            }),
            json!({
                "name": "peer", "action": "NoTrack", "role": "Peer",
                "ports": port(4789), "peers": peers,
            }),
            json!({
                "name": "forward", "action": "NoTrack", "role": "Forward",
                "ports": port(80), "serverAddresses": ["198.51.100.0/24"],
            }),
            server("ranges", &[ports(50_000, 58_000)]),
        ];
        ours.index.apply(policy("every-kind", &flows)?);
        Ok(ours)
    }

    /// Compiles and renders.
    pub fn table(&self) -> Result<Table> {
        let rule_set = compile(&self.index, &BTreeMap::new(), 0);
        let lease = Duration::from_secs(24 * 3600);
        Ok(render(&rule_set, &self.facts, Some(lease))?.table)
    }

    /// Puts the rules into a namespace's kernel.
    pub fn program(&self, host: &Namespace) -> Result<()> {
        let transaction = diff(None, &self.table()?);
        open(host)?.commit(&transaction).context("cannot program our rules")
    }
}

/// nf_tables of a namespace.
pub fn open(host: &Namespace) -> Result<Nft> {
    Ok(host.enter(Nft::open_without_owning)??)
}

/// A policy of one port.
pub fn one_port(name: &str, port: u16) -> Result<ValidatedPolicy> {
    policy(name, &[server("one", &[ports(port, port)])])
}

fn facts(addresses: impl Iterator<Item = IpAddr>) -> NodeFacts {
    NodeFacts {
        addresses: addresses.collect(),
        ephemeral: PortRange::new(60_000, 60_999).into_iter().collect(),
        protected: Vec::new(),
        tracked: Tracked { ipv4: true, ipv6: true },
        kept: Vec::new(),
        host: Arc::default(),
        lasting: Arc::default(),
        labels: BTreeMap::new(),
    }
}

fn ports(first: u16, last: u16) -> Value {
    json!({ "protocol": "UDP", "port": first, "endPort": last })
}

fn server(name: &str, ports: &[Value]) -> Value {
    json!({ "name": name, "action": "NoTrack", "role": "Server", "ports": ports })
}

fn policy(name: &str, flows: &[Value]) -> Result<ValidatedPolicy> {
    let object = serde_json::from_value(json!({
        "apiVersion": "notrack.dev/v1alpha1",
        "kind": "NoTrackPolicy",
        "metadata": { "name": name },
        "spec": { "nodeSelector": {}, "mode": "Enforce", "flows": flows },
    }));
    let object = object.with_context(|| format!("policy {name}"))?;
    validate(&object).map_err(|problems| anyhow!("policy {name}: {problems:?}"))
}
