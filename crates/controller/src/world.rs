//! Everything that is known of the cluster, and what became stale by what was learned.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use notrack_core::index::Index;
use notrack_core::net::{AddressRange, PortRange};
use notrack_core::plan::{self, Cluster};
use notrack_core::policy::ValidatedPolicy;
use notrack_core::services::{Endpoints, Service, ServiceRanges};

use crate::objects::{Node, Plan, Policy, RuleSet};

/// What happened to the objects of a kind, by name or `namespace/name`.
#[derive(Clone, Debug)]
pub enum Change<T> {
    /// A complete listing. `None`: it is there, but cannot be read; what was known of it stays.
    Reset(BTreeMap<String, Option<T>>),
    /// One is new or different.
    Apply(String, T),
    /// One is gone.
    Delete(String),
}

/// What a watch learned.
#[derive(Clone, Debug)]
pub enum Update {
    /// Of NoTrackPolicies.
    Policies(Change<Policy>),
    /// Of Nodes.
    Nodes(Change<Node>),
    /// Of NodePlans.
    Plans(Change<Plan>),
    /// Of RuleSets.
    RuleSets(Change<RuleSet>),
    /// Of Services.
    Services(Change<Service>),
    /// Of EndpointSlices.
    Endpoints(Change<Endpoints>),
    /// Of ServiceCIDRs.
    ServiceCidrs(Change<Vec<AddressRange>>),
    /// Of the order to withdraw all rules: until when it holds.
    Withdrawal(Change<Timestamp>),
}

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// NoTrackPolicy.
    Policies,
    /// Node.
    Nodes,
    /// NodePlan.
    Plans,
    /// RuleSet.
    RuleSets,
    /// Service.
    Services,
    /// EndpointSlice.
    Endpoints,
    /// ServiceCIDR.
    ServiceCidrs,
    /// The Lease that orders to withdraw all rules.
    Withdrawal,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] = [
        Kind::Policies,
        Kind::Nodes,
        Kind::Plans,
        Kind::RuleSets,
        Kind::Services,
        Kind::Endpoints,
        Kind::ServiceCidrs,
        Kind::Withdrawal,
    ];

    /// The kinds of our own.
    pub const OWN: [Kind; 3] = [Kind::Policies, Kind::Plans, Kind::RuleSets];

    /// The name, as in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Policies => "NoTrackPolicy",
            Kind::Nodes => "Node",
            Kind::Plans => "NodePlan",
            Kind::RuleSets => "RuleSet",
            Kind::Services => "Service",
            Kind::Endpoints => "EndpointSlice",
            Kind::ServiceCidrs => "ServiceCIDR",
            Kind::Withdrawal => "Lease",
        }
    }
}

/// What became stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// What the nodes are to run.
    pub compiled: bool,
    /// What was written of it.
    pub published: bool,
    /// What the policies' status says.
    pub status: bool,
}

/// The order that no node runs any rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Withdrawal {
    end: Timestamp,
    /// Given, or given again, since this controller watches: then it is its own Deployment that is to go.
    is_recent: bool,
}

/// The cluster, as far as it is known.
#[derive(Debug, Default)]
pub struct World {
    /// The last good version of every policy.
    pub index: Index,
    /// The policies, good or not.
    pub policies: BTreeMap<String, Policy>,
    /// The nodes.
    pub nodes: BTreeMap<String, Node>,
    /// The plans, as they are in the API.
    pub plans: BTreeMap<String, Plan>,
    /// The rule sets that are in the API.
    pub rule_sets: BTreeMap<String, RuleSet>,
    /// The nodes with their addresses, for compiling.
    described: BTreeMap<String, plan::Node>,
    services: BTreeMap<String, Service>,
    endpoints: BTreeMap<String, Endpoints>,
    service_cidrs: BTreeMap<String, Vec<AddressRange>>,
    fixed_cidrs: Vec<AddressRange>,
    ranges: ServiceRanges,
    withdrawal: Option<Withdrawal>,
    /// What is compiled where nothing is to run.
    no_policies: Index,
    complete: BTreeSet<Kind>,
    stale: Stale,
}

impl World {
    /// Nothing is known but what the command line says.
    pub fn new(fixed_cidrs: Vec<AddressRange>, node_ports: Option<PortRange>) -> World {
        let ranges = ServiceRanges { addresses: fixed_cidrs.clone(), node_ports };
        World { fixed_cidrs, ranges, ..World::default() }
    }

    /// For compiling.
    pub fn cluster(&self, now: Timestamp) -> Cluster<'_> {
        Cluster {
            policies: if self.is_withdrawn(now) { &self.no_policies } else { &self.index },
            nodes: &self.described,
            services: &self.services,
            endpoints: &self.endpoints,
            ranges: &self.ranges,
        }
    }

    /// When the order ends to run no rules anywhere, where there is one.
    pub fn withdrawn_until(&self) -> Option<Timestamp> {
        self.withdrawal.map(|order| order.end)
    }

    /// Whether no rules are to run anywhere.
    pub fn is_withdrawn(&self, now: Timestamp) -> bool {
        self.withdrawn_until().is_some_and(|end| now < end)
    }

    /// The kinds that were not listed yet.
    pub fn awaited(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| !self.complete.contains(kind)).collect()
    }

    /// Nothing is done until these kinds are listed again. What is known of them stays.
    pub fn await_again(&mut self, kinds: &[Kind]) {
        self.complete.retain(|kind| !kinds.contains(kind));
    }

    /// What became stale since the last call.
    pub fn take_stale(&mut self) -> Stale {
        std::mem::take(&mut self.stale)
    }

    /// Takes in what a watch learned.
    pub fn learn(&mut self, update: Update) {
        match update {
            Update::Policies(change) => self.learn_policies(change),
            Update::Nodes(change) => self.learn_nodes(change),
            Update::Plans(change) => self.learn_plans(change),
            Update::RuleSets(change) => {
                self.completes(&change, Kind::RuleSets);
                self.stale.published |= !merge(&mut self.rule_sets, change).is_empty();
            }
            Update::Services(change) => {
                self.completes(&change, Kind::Services);
                // Most Services are none to us: what is not translated takes no room.
                let changed = merge(&mut self.services, change);
                self.services.retain(|_, service| service.is_virtual());
                self.stale.compiled |= !changed.is_empty();
            }
            Update::Endpoints(change) => {
                self.completes(&change, Kind::Endpoints);
                let changed = merge(&mut self.endpoints, change);
                self.stale.compiled |= !changed.is_empty();
            }
            Update::ServiceCidrs(change) => {
                self.completes(&change, Kind::ServiceCidrs);
                if !merge(&mut self.service_cidrs, change).is_empty() {
                    let known = self.service_cidrs.values().flatten();
                    self.ranges.addresses = self.fixed_cidrs.iter().chain(known).copied().collect();
                    self.stale.compiled = true;
                }
            }
            Update::Withdrawal(change) => self.learn_withdrawal(change),
        }
    }

    /// What the API server answered to our own write; the watch tells the same later.
    pub fn wrote_plan(&mut self, name: String, plan: Plan) {
        self.learn_plans(Change::Apply(name, plan));
    }

    fn completes<T>(&mut self, change: &Change<T>, kind: Kind) {
        if matches!(change, Change::Reset(_)) && self.complete.insert(kind) {
            self.stale = Stale { compiled: true, published: true, status: true };
        }
    }

    /// A policy that is there but not good keeps its last good version in the index: a mistake in an edit, or an object
    /// for a newer version, must not change what runs. Only its deletion ends it.
    fn learn_policies(&mut self, change: Change<Policy>) {
        self.completes(&change, Kind::Policies);
        if let Change::Reset(listed) = &change {
            self.policies.retain(|name, _| listed.contains_key(name));
            let gone = self.index.reset(&listed.keys().cloned().collect());
            self.stale.compiled |= !gone.is_empty();
        }
        let (applied, deleted) = match change {
            Change::Reset(listed) => {
                (listed.into_iter().filter_map(|(name, policy)| Some((name, policy?))).collect(), None)
            }
            Change::Apply(name, policy) => (vec![(name, policy)], None),
            Change::Delete(name) => (Vec::new(), Some(name)),
        };
        for (name, policy) in applied {
            let successor = self.policies.get(&name).is_some_and(|known| known.uid != policy.uid);
            match &policy.content {
                Ok(content) => self.stale.compiled |= self.index.apply(ValidatedPolicy::clone(content)),
                // Of the same name, but another object: it never had a good version.
                Err(_) if successor => self.stale.compiled |= self.index.delete(&name),
                Err(_) => {}
            }
            self.policies.insert(name, policy);
        }
        if let Some(name) = deleted {
            self.policies.remove(&name);
            self.stale.compiled |= self.index.delete(&name);
        }
        self.stale.status = true;
    }

    /// The Lease goes with the controllers' Deployment, and controllers outlive both by seconds: to those its deletion ends
    /// nothing, or the last act of one would be to order all rules back. One that was there before a controller is of
    /// an installation that is gone, as soon as it is gone itself.
    fn learn_withdrawal(&mut self, change: Change<Timestamp>) {
        let is_first = !self.complete.contains(&Kind::Withdrawal);
        self.completes(&change, Kind::Withdrawal);
        let (end, is_recent) = match change {
            Change::Reset(listed) => (listed.into_values().flatten().max(), false),
            Change::Apply(_, end) => (Some(end), true),
            Change::Delete(_) => (None, false),
        };
        let known = self.withdrawal;
        let next = match (known, end) {
            (None, end) => end.map(|end| Withdrawal { end, is_recent: !is_first }),
            (Some(known), None) => Some(known).filter(|known| known.is_recent),
            (Some(known), Some(end)) => {
                Some(Withdrawal { end, is_recent: known.is_recent || is_recent || known.end != end })
            }
        };
        self.withdrawal = next;
        self.stale.compiled |= known.map(|order| order.end) != next.map(|order| order.end);
    }

    fn learn_nodes(&mut self, change: Change<Node>) {
        self.completes(&change, Kind::Nodes);
        for name in merge(&mut self.nodes, change) {
            self.describe(&name);
        }
    }

    fn learn_plans(&mut self, change: Change<Plan>) {
        self.completes(&change, Kind::Plans);
        if let Change::Apply(name, plan) = &change
            && self.plans.get(name).is_some_and(|known| plan.is_older_than(known))
        {
            return;
        }
        let seen = |plans: &BTreeMap<String, Plan>, name: &String| {
            plans.get(name).map(|plan| (plan.uid.clone(), plan.spec.clone(), plan.owners.clone()))
        };
        let before: BTreeMap<String, _> = match &change {
            Change::Reset(_) => {
                self.plans.keys().map(|name| (name.clone(), seen(&self.plans, name))).collect()
            }
            Change::Apply(name, _) | Change::Delete(name) => {
                BTreeMap::from([(name.clone(), seen(&self.plans, name))])
            }
        };
        for name in merge(&mut self.plans, change) {
            let before = before.get(&name).cloned().flatten();
            self.stale.published |= before != seen(&self.plans, &name);
            self.stale.status = true;
            self.describe(&name);
        }
    }

    /// What compiling sees of a node.
    fn describe(&mut self, name: &str) {
        let described = self.nodes.get(name).map(|node| node.with_addresses(self.plans.get(name)));
        if self.described.get(name) != described.as_ref() {
            match described {
                Some(node) => self.described.insert(name.to_owned(), node),
                None => self.described.remove(name),
            };
            self.stale.compiled = true;
        }
    }
}

/// Takes a change in; gives the names of what is different now.
fn merge<T: PartialEq>(known: &mut BTreeMap<String, T>, change: Change<T>) -> Vec<String> {
    let mut different = Vec::new();
    match change {
        Change::Reset(listed) => {
            different.extend(known.keys().filter(|name| !listed.contains_key(*name)).cloned());
            known.retain(|name, _| listed.contains_key(name));
            for (name, value) in listed {
                if let Some(value) = value {
                    different.extend(put(known, name, value));
                }
            }
        }
        Change::Apply(name, value) => different.extend(put(known, name, value)),
        Change::Delete(name) => {
            if known.remove(&name).is_some() {
                different.push(name);
            }
        }
    }
    different
}

fn put<T: PartialEq>(known: &mut BTreeMap<String, T>, name: String, value: T) -> Option<String> {
    if known.get(&name) == Some(&value) {
        return None;
    }
    known.insert(name.clone(), value);
    Some(name)
}

#[cfg(test)]
mod tests;
