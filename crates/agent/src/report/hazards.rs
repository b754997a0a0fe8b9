//! What a report has of findings, in the room that there is.

use std::cmp::Reverse;

use notrack_api as api;
use notrack_core::evidence;
use notrack_core::hazard::{Cause, Effect, Finding, HazardKind};

/// The custom resource takes no more characters.
const MOST_EVIDENCE: usize = 512;
/// A plan's status stays small whatever the rules' texts are.
const MOST_EVIDENCE_IN_PLAN: usize = 300;
const MOST_IN_PLAN: usize = 2;
const MOST_IN_POLICY: usize = 32;

/// For a policy's status.
pub(super) fn all(found: &[Finding]) -> Vec<api::HazardFound> {
    found.iter().filter_map(|finding| hazard(finding, MOST_EVIDENCE)).take(MOST_IN_POLICY).collect()
}

/// What the controller cannot see: it is in the node's own rules, devices or table. The gravest first.
pub(super) fn seen_here(found: &[Finding]) -> Vec<api::HazardFound> {
    let is_own = |finding: &&Finding| {
        use HazardKind::{AnyPeer, ForgedPathMTU, HostPort, IPVS, LiveNAT, Masquerade, Multicast};
        let Cause::Hazard(kind) = finding.cause else { return false };
        match finding.effect {
            Effect::Blocked | Effect::Refused => true,
            Effect::Subtracted => matches!(kind, HostPort | IPVS | LiveNAT | Masquerade),
            // Those come from the policy alone.
            Effect::Warning => !matches!(kind, AnyPeer | ForgedPathMTU | Multicast),
        }
    };
    let mut own: Vec<&Finding> = found.iter().filter(is_own).collect();
    own.sort_by_key(|finding| Reverse(finding.effect));
    own.into_iter().filter_map(|finding| hazard(finding, MOST_EVIDENCE_IN_PLAN)).take(MOST_IN_PLAN).collect()
}

fn hazard(finding: &Finding, most: usize) -> Option<api::HazardFound> {
    let Cause::Hazard(kind) = finding.cause else { return None };
    let flow = (!finding.flow.is_empty()).then(|| finding.flow.clone());
    Some(api::HazardFound { code: kind.code(), flow, evidence: Some(evidence::within(finding, most)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: HazardKind, effect: Effect) -> Finding {
        Finding {
            policy: "p".into(),
            flow: "f".into(),
            effect,
            cause: Cause::Hazard(kind),
            evidence: "x".repeat(400),
        }
    }

    #[test]
    fn a_node_tells_what_the_controller_cannot_see() {
        let codes = |found: &[Finding]| -> Vec<String> {
            let told = seen_here(found);
            assert!(told.iter().all(|hazard| hazard.evidence.as_ref().is_some_and(|text| text.len() == 300)));
            told.into_iter().map(|hazard| hazard.code).collect()
        };
        // The controller has the policy, and what is protected or a Service's.
        let known = [
            found(HazardKind::AnyPeer, Effect::Warning),
            found(HazardKind::ForgedPathMTU, Effect::Warning),
            found(HazardKind::ServiceEndpoint, Effect::Subtracted),
        ];
        assert_eq!(codes(&known), Vec::<String>::new());
        let here = [
            found(HazardKind::ForgedPathMTU, Effect::Warning),
            found(HazardKind::ForeignDataplane, Effect::Warning),
            found(HazardKind::HostPort, Effect::Subtracted),
            found(HazardKind::HostFirewallDrops, Effect::Blocked),
        ];
        assert_eq!(codes(&here[..2]), ["NT006"]);
        assert_eq!(codes(&here), ["NT007", "NT004"]);
    }

    #[test]
    fn no_command_is_told_in_part() {
        let command =
            "iptables-nft -t filter -I INPUT 3 -p tcp --dport 80 -m conntrack --ctstate UNTRACKED -j ACCEPT";
        let blocked = Finding {
            evidence: format!("ip filter, chain INPUT: would drop; missing: {}", [command; 12].join("; ")),
            ..found(HazardKind::HostFirewallDrops, Effect::Blocked)
        };
        for told in [seen_here(std::slice::from_ref(&blocked)), all(&[blocked])] {
            let evidence = told[0].evidence.as_ref().unwrap();
            assert!(!evidence.contains("iptables-nft"), "{evidence}");
            assert!(evidence.contains("check --this-node on the node shows the missing rules"), "{evidence}");
        }
    }
}
