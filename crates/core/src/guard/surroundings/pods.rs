//! Hazards of pods whose packets a network policy engine judges.

use super::{Found, some_of};
use crate::hazard::{Effect, HazardKind};
use crate::host::{HostRules, Surroundings};
use crate::net::AddressRange;
use crate::policy::{Role, ValidatedFlow};

/// How the chains of an engine begin that judges pods' packets by their state.
const CHAINS: [(&str, &str); 4] = [
    ("cali-", "Calico"),
    ("KUBE-ROUTER-", "kube-router"),
    ("KUBE-NWPLCY-", "kube-router"),
    ("KUBE-POD-FW-", "kube-router"),
];
/// How Calico names the node's ends of its pods' interfaces.
const CALICO_INTERFACE: &str = "cali";

/// H8. An engine accepts replies by their state and drops what is INVALID, so that untracked packets of a pod that
/// has a policy are judged one by one, and its answers are dropped.
///
/// - `Forward` is about other hosts' packets: where it may name a pod of this node it is refused. Its addresses are
///   asked for, so it may only be about pods where it says so.
/// - In the other roles the node's own programs speak. Pods are among the other ends where `peers` has their
///   addresses, or is empty; the rest of the flow is fine, so it is a warning, with what to leave out.
///
/// Without an engine, or where this node has no pods, nothing is found.
pub(super) fn policy(flow: &ValidatedFlow, rules: &HostRules, around: &Surroundings) -> Option<Found> {
    let engine = engine(rules, around)?;
    let shared = |ranges: &Option<Vec<AddressRange>>| -> Vec<String> {
        let named = |network: &AddressRange| match ranges {
            None => vec![*network],
            Some(ranges) => ranges.iter().filter_map(|range| range.intersection(*network)).collect(),
        };
        around.pod_networks.iter().flat_map(named).map(|range| range.to_string()).collect()
    };
    let (effect, pods) = match flow.role {
        Role::Forward => {
            let mut pods = shared(&flow.server_addresses);
            // Peers that are not named are whoever asks a server that is.
            pods.extend(flow.peers.is_some().then(|| shared(&flow.peers)).into_iter().flatten());
            (Effect::Refused, pods)
        }
        Role::Server | Role::Client | Role::Peer => (Effect::Warning, shared(&flow.peers)),
    };
    let evidence = match effect {
        Effect::Refused => format!("{engine} judges packets of the pods at {}", some_of(&pods)),
        _ => format!("{engine} judges packets of the pods at {}: except them from peers", some_of(&pods)),
    };
    (!pods.is_empty()).then_some(Found { effect, kind: HazardKind::PodPolicy, evidence })
}

fn engine(rules: &HostRules, around: &Surroundings) -> Option<&'static str> {
    let mut chains = rules.tables.iter().flat_map(|table| table.chains.keys());
    let by_chain = chains.find_map(|chain| engine_of(chain));
    let has_calico = || {
        let calico = |name: &str| name.starts_with(CALICO_INTERFACE);
        around.interfaces.iter().any(|interface| interface.kind == "veth" && calico(&interface.name))
    };
    by_chain.or_else(|| has_calico().then_some("Calico"))
}

/// The engine that a chain belongs to: it writes its chains anew, so that a rule added there would not last.
pub(crate) fn engine_of(chain: &str) -> Option<&'static str> {
    CHAINS.iter().find(|(prefix, _)| chain.starts_with(prefix)).map(|(_, engine)| *engine)
}
