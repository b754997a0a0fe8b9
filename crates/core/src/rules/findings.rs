//! What there is to say about the flows of a rule set on a node.

use super::clause::served_addresses;
use crate::compile::RuleSet;
use crate::facts::{NodeFacts, ProtectedSide};
use crate::guard::{Found, helper_ports};
use crate::hazard::{Cause, Effect, Finding, HazardKind};
use crate::kept::Kept;
use crate::net::{AddressRange, PortRange};
use crate::policy::{Action, Role, ValidatedFlow, ValidatedPolicy};

/// What there is to say about a bypassed flow.
pub(super) fn examine(
    policy: &ValidatedPolicy,
    flow: &ValidatedFlow,
    is_empty: bool,
    facts: &NodeFacts,
    rule_set: &RuleSet,
    kept: &[Kept],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |effect, cause, evidence| {
        let (effect, evidence) = match cause {
            Cause::Hazard(kind) => {
                let Found { effect, evidence, .. } = Found { effect, kind, evidence }.taken_by(flow);
                (effect, evidence)
            }
            Cause::Exception => (effect, evidence),
        };
        findings.push(Finding {
            policy: policy.name.clone(),
            flow: flow.name.clone(),
            effect,
            cause,
            evidence,
        });
    };
    if is_empty {
        let (hazard, evidence) = why_empty(flow, facts);
        found(Effect::Refused, Cause::Hazard(hazard), evidence);
    }
    for (proto, port, name) in helper_ports(flow) {
        let evidence = format!("{proto} {port} is {name}, whose other connections are found by a helper");
        found(Effect::Subtracted, Cause::Hazard(HazardKind::Helper), evidence);
    }
    for (proto, ports) in &flow.ports {
        for protected in facts.protected.iter().filter(|protected| protected.protocol == *proto) {
            let as_server =
                matches!(flow.role, Role::Server | Role::Peer) && protected.side != ProtectedSide::Remote;
            let as_client =
                matches!(flow.role, Role::Client | Role::Peer) && protected.side != ProtectedSide::Local;
            if let (true, Some(shared)) = (as_server || as_client, ports.intersection(protected.ports)) {
                let evidence = format!("{proto} {shared} is {}", protected.reason);
                found(Effect::Subtracted, Cause::Hazard(HazardKind::Protected), evidence);
            }
        }
        if matches!(flow.role, Role::Server | Role::Peer) {
            for shared in facts.ephemeral.iter().filter_map(|range| ports.intersection(*range)) {
                let evidence = format!("{proto} {shared}: this node's own clients use these source ports");
                found(Effect::Subtracted, Cause::Hazard(HazardKind::EphemeralPorts), evidence);
            }
        }
        for kept in kept.iter().filter(|kept| kept.protocol == *proto) {
            if let (Some(effect), Some(shared)) =
                (collides(flow, facts, kept), ports.intersection(kept.ports))
            {
                let whose = kept.clients.map(|clients| format!(" of {clients}")).unwrap_or_default();
                let evidence = format!("{proto} {shared}{whose} is {}", kept.evidence);
                found(effect, Cause::Hazard(kept.hazard), evidence);
            }
        }
        for (other, exception) in exceptions(rule_set) {
            let shared: Vec<PortRange> = exception
                .ports
                .iter()
                .filter(|(of, _)| of == proto)
                .filter_map(|(_, range)| ports.intersection(*range))
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

/// Why nothing of a flow is left on this node.
fn why_empty(flow: &ValidatedFlow, facts: &NodeFacts) -> (HazardKind, String) {
    if flow.peers.as_ref().is_some_and(Vec::is_empty) {
        return (HazardKind::NothingMatches, "except leaves nothing of peers".to_owned());
    }
    let has_no_port = flow.role == Role::Client && flow.local_ports.is_none() && facts.ephemeral.is_empty();
    if has_no_port && !facts.addresses.is_empty() {
        let evidence = "this node has no ephemeral ports: name the flow's own in localPorts";
        return (HazardKind::NothingMatches, evidence.to_owned());
    }
    let evidence = match &flow.server_addresses {
        Some(named) => format!("no address of this node lies in {}", list(named)),
        None => "this node has no address for the flow".to_owned(),
    };
    (HazardKind::AddressNotOurs, evidence)
}

/// What a server that the cluster needs tracked does to a flow, if the flow may name it.
fn collides(flow: &ValidatedFlow, facts: &NodeFacts, kept: &Kept) -> Option<Effect> {
    let is_kept = |address: AddressRange| match kept.addresses {
        Some(range) => range.overlaps(address),
        None => facts.addresses.iter().any(|own| address.contains(*own)),
    };
    let as_server = matches!(flow.role, Role::Server | Role::Peer)
        && served_addresses(flow, facts).into_iter().any(is_kept);
    let as_client = matches!(flow.role, Role::Client | Role::Peer)
        && flow.peers.as_ref().is_none_or(|peers| peers.iter().copied().any(is_kept));
    let as_router =
        flow.role == Role::Forward && flow.server_addresses.iter().flatten().copied().any(is_kept);
    // Less than all of the other ends: most of the flow may be bypassed all the same.
    if kept.clients.is_some_and(|clients| !is_every_client(flow, clients))
        && (as_server || as_client || as_router)
    {
        return Some(Effect::Warning);
    }
    match (as_server, as_client || as_router) {
        (_, true) => Some(Effect::Subtracted),
        (true, false) if kept.spares_interfaces && !flow.interfaces.is_empty() => Some(Effect::Warning),
        (true, false) => Some(Effect::Subtracted),
        (false, false) => None,
    }
}

/// Whether a range holds every other end of a flow.
fn is_every_client(flow: &ValidatedFlow, clients: AddressRange) -> bool {
    let peers = flow.peers.iter().flatten();
    matches!(flow.role, Role::Server | Role::Forward)
        && flow.peers.is_some()
        && peers
            .filter(|range| range.family == clients.family)
            .all(|range| clients.first <= range.first && range.last <= clients.last)
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

fn list(ranges: &[AddressRange]) -> String {
    let shown: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    shown.join(", ")
}
