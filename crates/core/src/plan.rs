//! From what is known of a cluster to what each node is to run: pure.
//!
//! Nodes that the same policies select are a class and share one rule set. What backs Services on a node's own
//! addresses differs from node to node and goes into its plan as exclusions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use notrack_api as api;

use crate::compile::{RuleSet, RuleSetDigest};
use crate::facts::NodeFacts;
use crate::hazard::{Cause, Finding, HazardKind};
use crate::index::Index;
use crate::kept::Kept;
use crate::net::{AddressRange, PortRange, Proto};
use crate::policy::{Action, Role, ValidatedFlow, ValidatedPolicy};
use crate::rules::localise;
use crate::services::{Endpoints, Service, ServiceRanges};

/// Most exclusions that a plan holds; beyond them they are made wider, never fewer.
const MOST_EXCLUSIONS: usize = 64;

/// A node, as far as it decides what it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Its own addresses, as its agent reports them for this uid. `None`: it has not reported yet.
    pub addresses: Option<BTreeSet<IpAddr>>,
}

/// What is known of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// The policies.
    pub policies: &'a Index,
    /// The nodes, by name.
    pub nodes: &'a BTreeMap<String, Node>,
    /// Services, by `namespace/name`.
    pub services: &'a BTreeMap<String, Service>,
    /// What backs them, by the slices' names.
    pub endpoints: &'a BTreeMap<String, Endpoints>,
    /// Where Services get their addresses and ports from.
    pub ranges: &'a ServiceRanges,
}

/// What the cluster is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterPlan {
    /// The rule sets in use.
    pub rule_sets: BTreeMap<RuleSetDigest, Arc<RuleSet>>,
    /// What each node runs.
    pub nodes: BTreeMap<String, NodeOrder>,
    /// What there is to say about each policy: the union over its classes.
    pub findings: BTreeMap<String, Vec<Finding>>,
    /// Names of the nodes that each policy selects, expired or not.
    pub selected: BTreeMap<String, Vec<String>>,
}

/// What one node is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOrder {
    /// The node's uid.
    pub uid: String,
    /// The rule set. `None`: no policy selects the node, it runs no rules.
    pub rule_set: Option<RuleSetDigest>,
    /// What stays tracked on this node besides.
    pub exclusions: Vec<api::Exclusion>,
}

/// Compiles the whole cluster at `now` (seconds since 1970).
pub fn plan(cluster: Cluster<'_>, now: i64) -> ClusterPlan {
    let wishes = Wishes::of(cluster);
    let mut plan = ClusterPlan::default();
    for (policies, nodes) in classes(cluster) {
        for policy in &policies {
            let selected = plan.selected.entry(policy.name.clone()).or_default();
            selected.extend(nodes.iter().map(|(name, _)| (*name).clone()));
        }
        let alive: Vec<_> = policies.into_iter().filter(|policy| !policy.is_expired(now)).collect();
        let rule_set = (!alive.is_empty()).then(|| {
            let kept = wishes.for_class(&alive);
            Arc::new(RuleSet::new(alive, kept))
        });
        let mut facts = NodeFacts { addresses: BTreeSet::new(), ..NodeFacts::assumed() };
        for (name, node) in nodes {
            let own =
                rule_set.as_ref().map(|set| wishes.for_node(set.policies(), name, node)).unwrap_or_default();
            facts.addresses.extend(node.addresses.iter().flatten());
            facts.kept.extend(own.iter().cloned());
            let order = NodeOrder {
                uid: node.uid.clone(),
                rule_set: rule_set.as_ref().map(|set| set.digest().clone()),
                exclusions: exclusions(own),
            };
            plan.nodes.insert(name.clone(), order);
        }
        if let Some(rule_set) = rule_set {
            facts.kept.sort();
            facts.kept.dedup();
            for finding in localise(&rule_set, &facts).findings {
                // Whether an address is a node's own, the node itself says.
                if finding.cause != Cause::Hazard(HazardKind::AddressNotOurs) {
                    plan.findings.entry(finding.policy.clone()).or_default().push(finding);
                }
            }
            plan.rule_sets.insert(rule_set.digest().clone(), rule_set);
        }
    }
    for names in plan.selected.values_mut() {
        names.sort();
    }
    for found in plan.findings.values_mut() {
        found.sort();
        found.dedup();
    }
    plan
}

type Class<'a> = (Vec<Arc<ValidatedPolicy>>, Vec<(&'a String, &'a Node)>);

/// The nodes by the policies that select them. Labels that no selector names make no difference, so most nodes are
/// matched once for all that are like them.
fn classes<'a>(cluster: Cluster<'a>) -> Vec<Class<'a>> {
    let keys: BTreeSet<&str> =
        cluster.policies.policies().flat_map(|policy| policy.selector.keys()).collect();
    let mut alike: BTreeMap<Vec<Option<&String>>, Vec<(&String, &Node)>> = BTreeMap::new();
    for (name, node) in cluster.nodes {
        let seen = keys.iter().map(|key| node.labels.get(*key)).collect();
        alike.entry(seen).or_default().push((name, node));
    }
    let mut classes: BTreeMap<Vec<&str>, Class<'a>> = BTreeMap::new();
    for nodes in alike.into_values() {
        let Some((_, first)) = nodes.first() else { continue };
        let policies: Vec<_> =
            cluster.policies.policies().filter(|policy| policy.selector.matches(&first.labels)).collect();
        let names = policies.iter().map(|policy| policy.name.as_str()).collect();
        let class =
            classes.entry(names).or_insert_with(|| (policies.into_iter().cloned().collect(), Vec::new()));
        class.1.extend(nodes);
    }
    classes.into_values().collect()
}

/// What the cluster needs tracked, ready to be asked.
struct Wishes<'a> {
    /// Services and the ranges that they come from: on every node.
    everywhere: Vec<Kept>,
    /// What backs Services: the node that has the address, where it is known.
    endpoints: Vec<(IpAddr, Option<&'a str>, Kept)>,
}

impl<'a> Wishes<'a> {
    fn of(cluster: Cluster<'a>) -> Wishes<'a> {
        let mut everywhere = cluster.ranges.kept();
        everywhere.extend(cluster.services.values().flat_map(Service::kept));
        let mut endpoints = Vec::new();
        for slice in cluster.endpoints.values() {
            let Some(service) = cluster.services.get(&slice.service).filter(|service| service.is_virtual())
            else {
                continue;
            };
            for (address, node) in &slice.addresses {
                for (protocol, ports) in &slice.ports {
                    endpoints.push((
                        *address,
                        node.as_deref(),
                        service.kept_endpoint(*address, *protocol, *ports),
                    ));
                }
            }
        }
        Wishes { everywhere, endpoints }
    }

    /// What the flows of a class might name, whichever node runs them. Endpoints count here only where the node is
    /// not the server: those are its peers.
    fn for_class(&self, policies: &[Arc<ValidatedPolicy>]) -> Vec<Kept> {
        let flows =
            || policies.iter().flat_map(|policy| &policy.flows).filter(|flow| flow.action == Action::NoTrack);
        let fixed = self
            .everywhere
            .iter()
            .filter(|kept| flows().any(|flow| shares_port(flow, kept.protocol, kept.ports)));
        let peers = self.endpoints.iter().filter(|(address, _, kept)| {
            flows().any(|flow| shares_port(flow, kept.protocol, kept.ports) && may_ask(flow, *address))
        });
        fixed.cloned().chain(peers.map(|(_, _, kept)| kept.clone())).collect()
    }

    /// What backs Services on a node's own addresses and may be named by its flows. Until a node has said which
    /// addresses it has, everything that runs on it counts.
    fn for_node(&self, policies: &[Arc<ValidatedPolicy>], name: &str, node: &Node) -> Vec<Kept> {
        let flows = || {
            let flows = policies.iter().flat_map(|policy| &policy.flows);
            flows.filter(|flow| {
                flow.action == Action::NoTrack && matches!(flow.role, Role::Server | Role::Peer)
            })
        };
        let mut kept: Vec<Kept> = self
            .endpoints
            .iter()
            .filter(|(address, on, _)| match &node.addresses {
                Some(own) => own.contains(address),
                None => on.is_none_or(|on| on == name),
            })
            .filter(|(_, _, kept)| flows().any(|flow| shares_port(flow, kept.protocol, kept.ports)))
            .map(|(_, _, kept)| kept.clone())
            .collect();
        kept.sort();
        kept.dedup();
        kept
    }
}

/// Whether a flow names a port on either side: a peer's flow may have a server's port at its own end.
fn shares_port(flow: &ValidatedFlow, protocol: Proto, ports: PortRange) -> bool {
    let local = flow.local_ports.iter().flatten();
    flow.names_port(protocol, ports) || local.copied().any(|range| range.intersection(ports).is_some())
}

/// Whether a server at the address may be another node for the flow.
fn may_ask(flow: &ValidatedFlow, address: IpAddr) -> bool {
    let within = |ranges: &Option<Vec<AddressRange>>| match ranges {
        Some(ranges) => ranges.iter().any(|range| range.contains(address)),
        None => true,
    };
    match flow.role {
        Role::Server => false,
        Role::Client | Role::Peer => within(&flow.peers),
        Role::Forward => within(&flow.server_addresses),
    }
}

/// As a plan holds them. Where there are too many, the addresses are left out, then the ports are joined to ranges: more
/// stays tracked then than need be, never less.
fn exclusions(mut kept: Vec<Kept>) -> Vec<api::Exclusion> {
    let merge = |kept: &mut Vec<Kept>| {
        let key = |kept: &Kept| (kept.protocol, kept.addresses, kept.ports);
        kept.sort_by_key(key);
        // Of two reasons for one tuple the one that spares less stays.
        kept.dedup_by(|next, first| {
            let same = key(next) == key(first);
            first.spares_interfaces &= !same || next.spares_interfaces;
            same
        });
    };
    merge(&mut kept);
    if kept.len() > MOST_EXCLUSIONS {
        kept.iter_mut().for_each(|kept| kept.addresses = None);
        merge(&mut kept);
    }
    while kept.len() > MOST_EXCLUSIONS {
        join_nearest(&mut kept);
    }
    kept.iter().map(exclusion).collect()
}

/// Joins the two neighbours of a protocol that have the fewest ports between them.
fn join_nearest(kept: &mut Vec<Kept>) {
    let gap = |pair: &[Kept]| match pair {
        [a, b] if a.protocol == b.protocol => Some(b.ports.first().saturating_sub(a.ports.last())),
        _ => None,
    };
    let gaps = kept.windows(2).enumerate().filter_map(|(place, pair)| Some((gap(pair)?, place)));
    let Some((_, place)) = gaps.min() else {
        // More kinds of protocols than exclusions: there are three.
        return kept.truncate(MOST_EXCLUSIONS);
    };
    let next = kept.remove(place + 1);
    let first = &mut kept[place];
    let ends = (first.ports.first(), first.ports.last().max(next.ports.last()));
    first.ports = PortRange::new(ends.0, ends.1).unwrap_or(PortRange::ALL);
    first.spares_interfaces &= next.spares_interfaces;
}

fn exclusion(kept: &Kept) -> api::Exclusion {
    api::Exclusion {
        protocol: kept.protocol.into(),
        address: kept.addresses.map(|range| range.to_string()),
        port: kept.ports.first(),
        end_port: (kept.ports.len() > 1).then(|| kept.ports.last()),
        spares_interfaces: kept.spares_interfaces,
        reason: kept.hazard.code(),
    }
}

/// As an agent reads them from its plan. What cannot be read is taken at its widest: every address.
pub fn kept_of(exclusions: &[api::Exclusion]) -> Vec<Kept> {
    exclusions
        .iter()
        .map(|exclusion| {
            let api::Exclusion { protocol, address, port, end_port, spares_interfaces, reason } = exclusion;
            let last = end_port.unwrap_or(*port);
            Kept {
                hazard: HazardKind::from_code(reason).unwrap_or(HazardKind::Protected),
                protocol: (*protocol).into(),
                addresses: address.as_deref().and_then(address_range),
                ports: PortRange::new(*port, last).unwrap_or(PortRange::ALL),
                clients: None,
                spares_interfaces: *spares_interfaces,
                evidence: format!("excluded by the controller ({reason})"),
            }
        })
        .collect()
}

fn address_range(text: &str) -> Option<AddressRange> {
    let net = text.parse::<ipnet::IpNet>().map(AddressRange::from);
    net.ok().or_else(|| text.parse::<IpAddr>().ok().map(AddressRange::one))
}

#[cfg(test)]
mod tests;
