//! What a policy's conditions say of its state.

use std::cmp::Reverse;

use notrack_core::evidence;
use notrack_core::hazard::{Cause, Effect, Finding, HazardKind};

use super::State;
use super::since::MOST_MESSAGE;

/// What an audited policy does.
const AUDITS: &str = "counts what would be bypassed; changes nothing";
/// Evidence has this many characters at most where not everything that was found has room.
const SHORT_EVIDENCE: usize = 300;

/// Why a policy is in its state.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// As a condition's reason.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// `failure` is why the kernel does not run what is wanted: reason and message.
pub(super) fn verdict(state: State, found: &[Finding], failure: Option<&(&'static str, String)>) -> Verdict {
    Verdict { reason: reason(state, found, failure), message: message(state, found, failure) }
}

fn reason(state: State, found: &[Finding], failure: Option<&(&'static str, String)>) -> &'static str {
    let cause =
        |effect| found.iter().find(|finding| finding.effect == effect).map(|finding| finding.cause.name());
    let is_idle = |finding: &Finding| {
        finding.effect == Effect::Warning && finding.cause == Cause::Hazard(HazardKind::NothingMatches)
    };
    match state {
        State::Failed => failure.map_or(state.name(), |(reason, _)| reason),
        State::Ineffective => "NotTracked",
        State::Refused => cause(Effect::Refused).unwrap_or(HazardKind::NothingMatches.name()),
        State::Blocked => cause(Effect::Blocked).unwrap_or(state.name()),
        State::Programmed | State::Auditing if found.iter().any(is_idle) => HazardKind::NothingMatches.name(),
        // In effect, but not all of it: what took the rest is worth more than the state's name.
        State::Programmed | State::Auditing => {
            cause(Effect::Refused).or(cause(Effect::Subtracted)).unwrap_or(state.name())
        }
        State::NotSelected | State::Expired => state.name(),
    }
}

fn message(state: State, found: &[Finding], failure: Option<&(&'static str, String)>) -> String {
    match (state, failure) {
        (State::Failed, Some((_, message))) => message.clone(),
        (State::Failed, None) => "not read back from the kernel yet".to_owned(),
        (State::Ineffective, _) => "nothing in this network namespace tracks connections".to_owned(),
        (State::Expired, _) => "spec.expireTime has passed: its traffic is tracked again".to_owned(),
        (State::NotSelected, _) => "spec.nodeSelector does not select this node".to_owned(),
        (State::Auditing, _) if found.is_empty() => AUDITS.to_owned(),
        (State::Auditing, _) => format!("{AUDITS}; {}", summary(found, MOST_MESSAGE - AUDITS.len() - 2)),
        (State::Programmed | State::Refused | State::Blocked, _) if found.is_empty() => {
            "all of its flows are in the kernel, read back".to_owned()
        }
        (State::Programmed | State::Refused | State::Blocked, _) => summary(found, MOST_MESSAGE),
    }
}

/// All that was found, the gravest first, or as many whole findings as `most` characters hold.
fn summary(found: &[Finding], most: usize) -> String {
    let mut found: Vec<&Finding> = found.iter().collect();
    found.sort_by_key(|finding| Reverse(finding.effect));
    let whole = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if whole.chars().count() <= most {
        return whole;
    }
    let mut told = String::new();
    for (place, finding) in found.iter().enumerate() {
        let evidence = evidence::within(finding, SHORT_EVIDENCE);
        let next = Finding { evidence, ..Finding::clone(finding) }.to_string();
        let rest = format!("; and {} more", found.len() - place);
        if place == 0 {
            told = next;
        } else if told.chars().count() + next.chars().count() + 2 + rest.len() <= most {
            told = format!("{told}; {next}");
        } else {
            return told + &rest;
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(effect: Effect, kind: HazardKind, evidence: &str) -> Finding {
        Finding {
            policy: "p".into(),
            flow: "f".into(),
            effect,
            cause: Cause::Hazard(kind),
            evidence: evidence.into(),
        }
    }

    #[test]
    fn the_reason_is_what_stands_against_the_policy() {
        let warning = found(Effect::Warning, HazardKind::AnyPeer, "");
        let idle = found(Effect::Warning, HazardKind::NothingMatches, "");
        let port = found(Effect::Subtracted, HazardKind::HostPort, "");
        let refused = found(Effect::Refused, HazardKind::Masquerade, "");
        let blocked = found(Effect::Blocked, HazardKind::HostFirewallDrops, "");
        let failure = ("CommitFailed", "no".to_owned());
        let reason = |state, found: &[&Finding]| {
            let found: Vec<Finding> = found.iter().copied().cloned().collect();
            verdict(state, &found, Some(&failure).filter(|_| state == State::Failed)).reason
        };
        for (state, found, wanted) in [
            (State::Programmed, vec![], "Programmed"),
            (State::Programmed, vec![&warning], "Programmed"),
            (State::Programmed, vec![&warning, &port], "HostPort"),
            (State::Programmed, vec![&port, &refused], "Masquerade"),
            (State::Auditing, vec![&port, &idle], "NothingMatches"),
            (State::Refused, vec![], "NothingMatches"),
            (State::Blocked, vec![&port, &blocked], "HostFirewallDrops"),
            (State::Failed, vec![&blocked], "CommitFailed"),
            (State::Ineffective, vec![&port], "NotTracked"),
            (State::Expired, vec![&port], "Expired"),
        ] {
            assert_eq!(reason(state, &found), wanted, "{state:?} {found:?}");
        }
        assert_eq!(verdict(State::Failed, &[], None).reason, "Failed");
    }

    #[test]
    fn a_message_holds_whole_findings() {
        let command = "nft 'insert rule inet site input position 5 tcp dport 80 ct state untracked accept'";
        let evidence = format!("inet site, chain input: would drop; missing: {}", [command; 14].join("; "));
        let long: Vec<Finding> =
            (0..5).map(|_| found(Effect::Blocked, HazardKind::HostFirewallDrops, &evidence)).collect();
        for state in [State::Blocked, State::Auditing] {
            let Verdict { message, .. } = verdict(state, &long, None);
            assert!(message.chars().count() <= MOST_MESSAGE && message.ends_with(" more"), "{message}");
            assert!(!message.contains("nft '") && message.contains("check --this-node"), "{message}");
        }
        let Verdict { message, .. } = verdict(State::Blocked, &long[..1], None);
        assert!(message.contains("hostFirewall: Adapt") && !message.contains("nft '"), "{message}");
        let short = found(Effect::Blocked, HazardKind::HostFirewallDrops, &format!("x; missing: {command}"));
        assert!(verdict(State::Blocked, &[short], None).message.contains(command));
    }
}
