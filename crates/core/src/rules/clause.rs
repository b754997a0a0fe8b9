//! Clauses: a rule set's flows with one node's facts filled in, as products of ranges.
//!
//! Every flow is seen as tuples (client address, client port, server address, server port) of a class that
//! tells which end is this node. A clause that keeps its tuples tracked is how everything is subtracted:
//! exceptions, protected ports, the ephemeral range.

use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::RuleSet;
use crate::facts::{NodeFacts, ProtectedSide};
use crate::hazard::{Cause, Effect, Finding, HazardKind};
use crate::net::{AddressRange, Family, PortRange, Proto, merge_ports};
use crate::policy::{Action, Role, ValidatedFlow, ValidatedPolicy};

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
}

/// A rule set made the node's own.
#[derive(Clone, Debug, Default)]
pub struct Clauses {
    /// The clauses; where two share a tuple the earlier one has it. Those that keep come first.
    pub clauses: Vec<Clause>,
    /// What was subtracted, refused or is worth a warning.
    pub findings: Vec<Finding>,
}

fn everywhere() -> Vec<AddressRange> {
    Family::ALL.map(AddressRange::all).to_vec()
}

fn own_addresses(facts: &NodeFacts) -> Vec<AddressRange> {
    facts.addresses.iter().map(|address| AddressRange::one(*address)).collect()
}

/// Fills a node's facts into a rule set.
pub fn localise(rule_set: &RuleSet, facts: &NodeFacts) -> Clauses {
    let mut clauses = system_clauses(facts);
    let mut findings = Vec::new();
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
    for (place, policy, flow) in flows().filter(|(_, _, flow)| flow.action == Action::NoTrack) {
        let mut own = flow_clauses(flow, facts, Outcome::Policy(place));
        findings.extend(examine(policy, flow, &mut own, facts, rule_set));
        clauses.extend(own);
    }
    findings.sort();
    findings.dedup();
    Clauses { clauses, findings }
}

/// What stays tracked on this node whatever a policy says.
fn system_clauses(facts: &NodeFacts) -> Vec<Clause> {
    let keep = |class, proto| Clause {
        class,
        proto,
        servers: everywhere(),
        server_ports: vec![PortRange::ALL],
        clients: everywhere(),
        client_ports: vec![PortRange::ALL],
        interfaces: Vec::new(),
        outcome: Outcome::Keep,
    };
    let mut clauses = Vec::new();
    for protected in &facts.protected {
        let ports = vec![protected.ports];
        if protected.side != ProtectedSide::Remote {
            clauses.push(Clause { server_ports: ports.clone(), ..keep(Class::Own, protected.protocol) });
            clauses.push(Clause { client_ports: ports.clone(), ..keep(Class::Peer, protected.protocol) });
        }
        if protected.side != ProtectedSide::Local {
            clauses.push(Clause { server_ports: ports, ..keep(Class::Peer, protected.protocol) });
        }
    }
    for proto in Proto::ALL {
        if !facts.ephemeral.is_empty() {
            // The reply half of a served port equals any local client that has the port as its source.
            clauses.push(Clause { server_ports: facts.ephemeral.clone(), ..keep(Class::Own, proto) });
        }
        if !facts.addresses.is_empty() {
            // What this node sends or receives itself is never forwarded: only one half would be seen.
            let own = own_addresses(facts);
            clauses.push(Clause { servers: own.clone(), ..keep(Class::Forward, proto) });
            clauses.push(Clause { clients: own, ..keep(Class::Forward, proto) });
        }
    }
    clauses
}

/// The clauses of one flow, one a class and protocol.
fn flow_clauses(flow: &ValidatedFlow, facts: &NodeFacts, outcome: Outcome) -> Vec<Clause> {
    let mut clauses = Vec::new();
    for proto in Proto::ALL {
        let ports: Vec<PortRange> =
            flow.ports.iter().filter(|(of, _)| *of == proto).map(|(_, ports)| *ports).collect();
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
            clauses.push(clause(Class::Peer, peers(), own_addresses(facts), local()));
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
fn served_addresses(flow: &ValidatedFlow, facts: &NodeFacts) -> Vec<AddressRange> {
    let named = |address: &IpAddr| match &flow.server_addresses {
        Some(ranges) => ranges.iter().any(|range| range.contains(*address)),
        None => true,
    };
    facts
        .addresses
        .iter()
        .filter(|address| named(address))
        .map(|address| AddressRange::one(*address))
        .collect()
}

/// What there is to say about a bypassed flow.
fn examine(
    policy: &ValidatedPolicy,
    flow: &ValidatedFlow,
    clauses: &mut [Clause],
    facts: &NodeFacts,
    rule_set: &RuleSet,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |effect, cause, evidence| {
        findings.push(Finding {
            policy: policy.name.clone(),
            flow: flow.name.clone(),
            effect,
            cause,
            evidence,
        });
    };
    if clauses.is_empty() {
        let evidence = match &flow.server_addresses {
            Some(named) => format!("no address of this node lies in {}", list(named)),
            None => "this node has no address for the flow".to_owned(),
        };
        found(Effect::Refused, Cause::Hazard(HazardKind::AddressNotOurs), evidence);
    }
    for (proto, ports) in &flow.ports {
        for protected in facts.protected.iter().filter(|protected| protected.protocol == *proto) {
            let as_server =
                matches!(flow.role, Role::Server | Role::Peer) && protected.side != ProtectedSide::Remote;
            let as_client =
                matches!(flow.role, Role::Client | Role::Peer) && protected.side != ProtectedSide::Local;
            if let (true, Some(shared)) = (as_server || as_client, intersect(*ports, protected.ports)) {
                let evidence = format!("{proto} {shared} is {}", protected.reason);
                found(Effect::Subtracted, Cause::Hazard(HazardKind::Protected), evidence);
            }
        }
        if matches!(flow.role, Role::Server | Role::Peer) {
            for shared in facts.ephemeral.iter().filter_map(|range| intersect(*ports, *range)) {
                let evidence = format!("{proto} {shared}: this node's own clients use these source ports");
                found(Effect::Subtracted, Cause::Hazard(HazardKind::EphemeralPorts), evidence);
            }
        }
        for (other, exception) in exceptions(rule_set) {
            let shared: Vec<PortRange> = exception
                .ports
                .iter()
                .filter(|(of, _)| of == proto)
                .filter_map(|(_, range)| intersect(*ports, *range))
                .collect();
            for shared in shared {
                let evidence =
                    format!("{proto} {shared}: flow {} of policy {other} has action Track", exception.name);
                found(Effect::Subtracted, Cause::Exception, evidence);
            }
        }
    }
    if matches!(flow.role, Role::Client | Role::Peer)
        && flow.peers.iter().flatten().any(|range| *range == AddressRange::all(range.family))
    {
        let evidence = "peers name every address of a family".to_owned();
        found(Effect::Warning, Cause::Hazard(HazardKind::AnyPeer), evidence);
    }
    let named = flow.peers.iter().chain(flow.server_addresses.iter()).flatten();
    for range in named.filter(|range| is_multicast(**range)) {
        found(Effect::Warning, Cause::Hazard(HazardKind::Multicast), format!("{range} is a group address"));
    }
    findings
}

fn exceptions(rule_set: &RuleSet) -> impl Iterator<Item = (&str, &ValidatedFlow)> {
    rule_set.policies().iter().flat_map(|policy| {
        let tracks = policy.flows.iter().filter(|flow| flow.action == Action::Track);
        tracks.map(move |flow| (policy.name.as_str(), flow))
    })
}

fn is_multicast(range: AddressRange) -> bool {
    range.first_address().is_multicast() && range.last_address().is_multicast()
}

fn intersect(a: PortRange, b: PortRange) -> Option<PortRange> {
    PortRange::new(a.first().max(b.first()), a.last().min(b.last()))
}

fn list(ranges: &[AddressRange]) -> String {
    let shown: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    shown.join(", ")
}
