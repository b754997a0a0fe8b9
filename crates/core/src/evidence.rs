//! Evidence where there is little room: what is to be run is shown whole or not at all.

use crate::hazard::{Cause, Finding, HazardKind};

/// Ahead of the commands that add what a firewall lacks.
const MISSING: &str = "; missing: ";
/// In the place of commands that find no room.
const POINTER: &str = "; kubectl-notrack check --this-node on the node shows the missing rules";
const ADAPT: &str = ", hostFirewall: Adapt adds them";

/// A finding's evidence in at most `max` characters. A rule that is cut in the middle is none, or another rule: where
/// not all of them fit, it is said where they are.
pub fn within(finding: &Finding, max: usize) -> String {
    let evidence = finding.evidence.as_str();
    let is_short = evidence.chars().nth(max).is_none();
    match evidence.split_once(MISSING) {
        Some((said, _)) if !is_short => {
            let adapts = finding.cause == Cause::Hazard(HazardKind::HostFirewallDrops);
            let pointer = format!("{POINTER}{}", if adapts { ADAPT } else { "" });
            cut(said, max.saturating_sub(pointer.chars().count())) + &pointer
        }
        _ => cut(evidence, max),
    }
}

/// At most `max` characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max.saturating_sub(3)).chain("...".chars()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hazard::Effect;

    #[test]
    fn commands_are_whole_or_elsewhere() {
        let command = "nft 'insert rule inet site input position 5 tcp dport 80 ct state untracked accept'";
        let of = |cause, commands: usize| Finding {
            policy: "p".into(),
            flow: "f".into(),
            effect: Effect::Blocked,
            cause: Cause::Hazard(cause),
            evidence: format!(
                "inet site, chain input: policy drop: would drop{MISSING}{}",
                vec![command; commands].join("; ")
            ),
        };
        let one = of(HazardKind::HostFirewallDrops, 1);
        assert_eq!(within(&one, 300), one.evidence);
        for commands in [2, 12, 64] {
            let short = within(&of(HazardKind::HostFirewallDrops, commands), 190);
            assert!(short.starts_with("inet site, chain input: policy drop: would drop; kubectl"), "{short}");
            assert!(short.ends_with("hostFirewall: Adapt adds them") && short.len() <= 190, "{short}");
            assert!(!short.contains("nft '"), "{short}");
        }
        let long = Finding { evidence: format!("{}{}", "x".repeat(400), one.evidence), ..one };
        let short = within(&long, 300);
        assert_eq!(short.chars().count(), 300);
        assert!(short.contains("xxx...; kubectl-notrack check"), "{short}");
        // Nothing is added to an engine's chains.
        assert!(!within(&of(HazardKind::PodPolicy, 12), 300).contains("Adapt"));
    }
}
