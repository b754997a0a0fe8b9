//! Clauses: a rule set's flows with one node's facts filled in, as products of ranges.
//!
//! Every flow is seen as tuples (client address, client port, server address, server port) of a class that
//! tells which end is this node. A clause that keeps its tuples tracked is how everything is subtracted:
//! exceptions, protected ports, the ephemeral range.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::findings::examine;
use super::guarded::{Guarded, Wanted, guard};
use crate::compile::RuleSet;
use crate::facts::{NodeFacts, ProtectedSide};
use crate::guard::{kept_by_surroundings, ports, translated};
use crate::hazard::{Finding, HazardKind};
use crate::host::Adapter;
use crate::host::region::Ranges;
use crate::kept::Kept;
use crate::net::{AddressRange, Family, PortRange, Proto, merge_ports};
use crate::policy::{Action, Role, ValidatedFlow};

/// Which end of a tuple is this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The server: its addresses are this node's own.
    Own,
    /// The client: the server is a peer.
    Peer,
    /// Neither: this node routes.
    Forward,
}

impl Class {
    /// All classes, in the order in which they are looked up.
    pub const ALL: [Class; 3] = [Class::Own, Class::Peer, Class::Forward];

    /// The beginning of the names of its maps.
    pub fn prefix(self) -> &'static str {
        match self {
            Class::Own => "own",
            Class::Peer => "peer",
            Class::Forward => "forward",
        }
    }

    /// The class of the same packets with client and server exchanged.
    fn mirrored(self) -> Class {
        match self {
            Class::Own => Class::Peer,
            Class::Peer => Class::Own,
            Class::Forward => Class::Forward,
        }
    }
}

/// What becomes of a clause's tuples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// They stay tracked.
    Keep,
    /// They belong to the policy at this place of the rule set.
    Policy(usize),
}

/// Tuples: every combination of the ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Which end is this node.
    pub class: Class,
    /// The transport protocol.
    pub proto: Proto,
    /// The server's addresses, of both families.
    pub servers: Vec<AddressRange>,
    /// The server's ports.
    pub server_ports: Vec<PortRange>,
    /// The client's addresses, of both families.
    pub clients: Vec<AddressRange>,
    /// The client's ports.
    pub client_ports: Vec<PortRange>,
    /// Interface names or patterns. Empty: any.
    pub interfaces: Vec<Arc<str>>,
    /// What becomes of them.
    pub outcome: Outcome,
}

impl Clause {
    fn mirrored(&self) -> Clause {
        Clause {
            class: self.class.mirrored(),
            servers: self.clients.clone(),
            server_ports: self.client_ports.clone(),
            clients: self.servers.clone(),
            client_ports: self.server_ports.clone(),
            ..self.clone()
        }
    }

    /// The tuples that are `other`'s as well, if there are any; on the interfaces of this one.
    fn shared_with(&self, other: &Clause) -> Option<Clause> {
        let addresses = |ours: &[AddressRange], theirs: &[AddressRange]| -> Vec<AddressRange> {
            ours.iter()
                .flat_map(|ours| theirs.iter().filter_map(|theirs| ours.intersection(*theirs)))
                .collect()
        };
        let ports = |ours: &[PortRange], theirs: &[PortRange]| -> Vec<PortRange> {
            ours.iter()
                .flat_map(|ours| theirs.iter().filter_map(|theirs| ours.intersection(*theirs)))
                .collect()
        };
        let shared = Clause {
            servers: addresses(&self.servers, &other.servers),
            server_ports: ports(&self.server_ports, &other.server_ports),
            clients: addresses(&self.clients, &other.clients),
            client_ports: ports(&self.client_ports, &other.client_ports),
            ..self.clone()
        };
        let is_some = self.class == other.class
            && self.proto == other.proto
            && !(shared.servers.is_empty() || shared.server_ports.is_empty())
            && !(shared.clients.is_empty() || shared.client_ports.is_empty());
        is_some.then_some(shared)
    }
}

/// A rule set made the node's own.
#[derive(Clone, Debug, Default)]
pub struct Clauses {
    /// The clauses; where two share a tuple the earlier one has it. Those that keep come first.
    pub clauses: Vec<Clause>,
    /// What was subtracted, refused, blocked or is worth a warning.
    pub findings: Vec<Finding>,
    /// Rules that other programs' firewalls need for it.
    pub adapters: BTreeSet<Adapter>,
}

fn everywhere() -> Vec<AddressRange> {
    Family::ALL.map(AddressRange::all).to_vec()
}

/// Fills a node's facts into a rule set.
pub fn localise(rule_set: &RuleSet, facts: &NodeFacts) -> Clauses {
    let mut clauses = system_clauses(facts);
    let flows =
        || {
            rule_set.policies().iter().enumerate().flat_map(|(place, policy)| {
                policy.flows.iter().map(move |flow| (place, policy.as_ref(), flow))
            })
        };
    for (_, _, flow) in flows().filter(|(_, _, flow)| flow.action == Action::Track) {
        for clause in flow_clauses(flow, facts, Outcome::Keep) {
            clauses.push(clause.mirrored());
            clauses.push(clause);
        }
    }
    let wanted: Vec<Wanted<'_>> = flows()
        .filter(|(_, _, flow)| flow.action == Action::NoTrack)
        .map(|(place, policy, flow)| Wanted {
            policy,
            flow,
            clauses: flow_clauses(flow, facts, Outcome::Policy(place)),
        })
        .collect();
    let kept = kept(rule_set, facts, &wanted);
    clauses.extend(kept.iter().flat_map(|kept| kept_clauses(kept, facts)));
    let spared: Vec<Clause> = kept.iter().filter_map(|kept| spared_clause(kept, facts)).collect();
    let Guarded { mut findings, adapters, without } = guard(&wanted, facts, &clauses, &spared);
    for Wanted { policy, flow, clauses: own } in &wanted {
        findings.extend(examine(policy, flow, own.is_empty(), facts, rule_set, &kept));
    }
    let left = wanted.iter().filter(|wanted| {
        let Wanted { policy, flow, clauses: _ } = wanted;
        !without.contains(&(policy.name.as_str(), flow.name.as_str()))
    });
    let left: Vec<&Clause> = left.flat_map(|wanted| &wanted.clauses).collect();
    for hole in spared {
        let named = left.iter().filter(|clause| !clause.interfaces.is_empty());
        clauses.extend(named.filter_map(|clause| clause.shared_with(&hole)));
        clauses.push(hole);
    }
    clauses.extend(left.into_iter().cloned());
    findings.sort();
    findings.dedup();
    Clauses { clauses, findings, adapters }
}

/// Everything that stays tracked by its server, whoever says so.
fn kept(rule_set: &RuleSet, facts: &NodeFacts, wanted: &[Wanted<'_>]) -> Vec<Kept> {
    let own = Ranges::from(facts.own_ranges());
    let mut kept: Vec<Kept> = rule_set.kept().iter().chain(&facts.kept).cloned().collect();
    kept.extend(kept_by_surroundings(facts));
    for Wanted { flow, .. } in wanted {
        kept.extend(translated(flow, facts, &own));
    }
    // What a spared Service translates now is no more than what the Service says.
    let spared: Vec<Kept> = kept.iter().filter(|kept| kept.spares_interfaces).cloned().collect();
    for live in kept.iter_mut().filter(|kept| kept.hazard == HazardKind::LiveNAT) {
        live.spares_interfaces = spared.iter().any(|service| service.covers(live));
    }
    kept.sort();
    kept.dedup();
    kept
}

/// What stays tracked on this node whatever a policy says.
fn system_clauses(facts: &NodeFacts) -> Vec<Clause> {
    let mut clauses = Vec::new();
    for protected in &facts.protected {
        let ports = vec![protected.ports];
        if protected.side != ProtectedSide::Remote {
            clauses
                .push(Clause { server_ports: ports.clone(), ..everything(Class::Own, protected.protocol) });
            clauses
                .push(Clause { client_ports: ports.clone(), ..everything(Class::Peer, protected.protocol) });
        }
        if protected.side != ProtectedSide::Local {
            clauses.push(Clause { server_ports: ports, ..everything(Class::Peer, protected.protocol) });
        }
    }
    for proto in Proto::ALL {
        if !facts.ephemeral.is_empty() {
            // The reply half of a served port equals any local client that has the port as its source.
            clauses.push(Clause { server_ports: facts.ephemeral.clone(), ..everything(Class::Own, proto) });
        }
        if !facts.addresses.is_empty() {
            // What this node sends or receives itself is never forwarded: only one half would be seen.
            let own = facts.own_ranges();
            clauses.push(Clause { servers: own.clone(), ..everything(Class::Forward, proto) });
            clauses.push(Clause { clients: own, ..everything(Class::Forward, proto) });
        }
    }
    clauses
}

/// A server that stays tracked, whichever end is this node; what [`spared_clause`] has left out.
fn kept_clauses(kept: &Kept, facts: &NodeFacts) -> Vec<Clause> {
    let of_class = |class| {
        let clause = kept_clause(kept, class, facts);
        let mirrored = clause.mirrored();
        let is_whole = class != Class::Own || !kept.spares_interfaces;
        [Some(mirrored), is_whole.then_some(clause)]
    };
    Class::ALL.into_iter().flat_map(of_class).flatten().collect()
}

/// This node's own server that stays tracked but for the flows that name interfaces.
fn spared_clause(kept: &Kept, facts: &NodeFacts) -> Option<Clause> {
    kept.spares_interfaces.then(|| kept_clause(kept, Class::Own, facts))
}

fn kept_clause(kept: &Kept, class: Class, facts: &NodeFacts) -> Clause {
    Clause {
        servers: kept.addresses.map_or_else(|| facts.own_ranges(), |range| vec![range]),
        server_ports: vec![kept.ports],
        clients: kept.clients.map_or_else(everywhere, |range| vec![range]),
        ..everything(class, kept.protocol)
    }
}

/// Every tuple of a class and protocol, kept.
fn everything(class: Class, proto: Proto) -> Clause {
    Clause {
        class,
        proto,
        servers: everywhere(),
        server_ports: vec![PortRange::ALL],
        clients: everywhere(),
        client_ports: vec![PortRange::ALL],
        interfaces: Vec::new(),
        outcome: Outcome::Keep,
    }
}

/// The clauses of one flow, one a class and protocol.
fn flow_clauses(flow: &ValidatedFlow, facts: &NodeFacts, outcome: Outcome) -> Vec<Clause> {
    let mut clauses = Vec::new();
    for proto in Proto::ALL {
        let ports = ports(flow, proto);
        if ports.is_empty() {
            continue;
        }
        let peers = || flow.peers.clone().unwrap_or_else(everywhere);
        let clause = |class, servers, clients, client_ports| Clause {
            class,
            proto,
            servers,
            server_ports: ports.clone(),
            clients,
            client_ports,
            interfaces: flow.interfaces.clone(),
            outcome,
        };
        let local = || match &flow.local_ports {
            Some(ports) => ports.clone(),
            None => facts.ephemeral.clone(),
        };
        if matches!(flow.role, Role::Server | Role::Peer) {
            let own = served_addresses(flow, facts);
            clauses.push(clause(Class::Own, own, peers(), vec![PortRange::ALL]));
        }
        if flow.role == Role::Client {
            clauses.push(clause(Class::Peer, peers(), facts.own_ranges(), local()));
        }
        if flow.role == Role::Peer {
            // Peers ask from an ephemeral port (VXLAN, Ceph) or from the fixed one itself (NTP).
            let local = merge_ports([local(), ports.clone()].concat());
            clauses.push(clause(Class::Peer, peers(), served_addresses(flow, facts), local));
        }
        if flow.role == Role::Forward {
            let servers = flow.server_addresses.clone().unwrap_or_default();
            clauses.push(clause(Class::Forward, servers, peers(), vec![PortRange::ALL]));
        }
    }
    clauses.retain(|clause| {
        !clause.servers.is_empty() && !clause.clients.is_empty() && !clause.client_ports.is_empty()
    });
    clauses
}

/// This node's own addresses that a flow names; all of them where it names none.
pub(crate) fn served_addresses(flow: &ValidatedFlow, facts: &NodeFacts) -> Vec<AddressRange> {
    served_among(flow, &facts.addresses)
}

/// The same of addresses that are all of this node's.
pub(crate) fn served_among(flow: &ValidatedFlow, own: &BTreeSet<IpAddr>) -> Vec<AddressRange> {
    let named = |address: &IpAddr| match &flow.server_addresses {
        Some(ranges) => ranges.iter().any(|range| range.contains(*address)),
        None => true,
    };
    own.iter().filter(|address| named(address)).map(|address| AddressRange::one(*address)).collect()
}
