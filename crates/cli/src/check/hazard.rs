//! A hazard as a person reads it: what it does, the evidence broken over lines, what can be done.

use miette::MietteDiagnostic;
use notrack_core::hazard::{Cause, Effect, Finding, HazardKind};
use notrack_core::manifest::{Manifest, Severity};

use super::of_diagnostic;

/// How evidence says that a user has taken the hazard.
const ACKNOWLEDGED: &str = "acknowledged: ";

/// The diagnostic of a finding, at its flow's ports.
pub fn diagnostic(manifest: &Manifest, finding: &Finding) -> MietteDiagnostic {
    let Finding { policy: _, flow, effect, cause, evidence } = finding;
    let number = manifest.policy.spec.flows.iter().position(|known| known.name == *flow).unwrap_or_default();
    let (severity, what) = match effect {
        Effect::Warning => (Severity::Warning, "warning, nothing is changed"),
        Effect::Subtracted => (Severity::Warning, "this stays tracked"),
        Effect::Refused => (Severity::Error, "refused, the whole flow stays tracked"),
        Effect::Blocked => (Severity::Error, "blocked, the whole policy stays out of effect"),
    };
    let evidence = Evidence::of(evidence);
    let message: Vec<String> =
        std::iter::once(format!("flow {flow}: {what}")).chain(evidence.lines).collect();
    let path = format!("spec.flows[{number}].ports");
    let mut shown = of_diagnostic(&manifest.diagnostic(severity, &path, String::new(), None));
    shown.message = message.join("\n");
    let mut help = Vec::new();
    if !evidence.missing.is_empty() {
        help.push("missing:".to_owned());
        help.extend(evidence.missing);
    }
    match cause {
        Cause::Hazard(kind) => {
            help.push(kind.remedy().to_owned());
            let stops = matches!(effect, Effect::Subtracted | Effect::Refused | Effect::Blocked);
            if stops && kind.is_acknowledgeable() {
                help.push(acknowledgement(*kind));
            }
            shown = shown.with_code(kind.to_string());
        }
        Cause::Exception => shown = shown.with_code(cause.to_string()),
    }
    if help.is_empty() { shown } else { shown.with_help(help.join("\n")) }
}

/// What to write into the flow to take a hazard.
fn acknowledgement(kind: HazardKind) -> String {
    format!(
        "to take it all the same, say why in the flow:\n  acknowledge:\n  - hazard: {}\n    reason: \"why it does no harm here\"",
        kind.name()
    )
}

/// Evidence, in lines of which each can be read, and copied, by itself.
#[derive(Debug, Default, PartialEq)]
struct Evidence {
    lines: Vec<String>,
    /// Commands that add what a firewall lacks.
    missing: Vec<String>,
}

impl Evidence {
    /// Breaks the one line that status and logs have: in front of the rule, which is quoted, and of the examples.
    /// What does not look like that is a line as it is.
    fn of(text: &str) -> Evidence {
        let text: String = text.chars().flat_map(printable).collect();
        let (said, commands) = text.split_once("; missing: ").unwrap_or((&text, ""));
        let mut rest = said;
        let mut lines = Vec::new();
        if let Some(inner) = rest.strip_prefix(ACKNOWLEDGED) {
            lines.push("acknowledged in the policy".to_owned());
            rest = inner;
        }
        if let Some((first, inner)) = rest.split_once("on this node: ") {
            lines.push(format!("{first}on this node"));
            rest = inner;
        }
        let (rest, example) = match rest.split_once(", such as ") {
            Some((rest, example)) => (rest, Some(example)),
            None => (rest, None),
        };
        // `inet filter, chain input, handle 5: RULE: would drop ...`
        match rest.find(", chain ").and_then(|at| Some((at, at + rest.get(at..)?.find(": ")?))) {
            Some((_, colon)) => {
                let (place, rule) = (&rest[..colon], &rest[colon + 2..]);
                let (rule, verdict) = match (example, rule.rsplit_once(": ")) {
                    (Some(_), Some((rule, verdict))) => (rule, Some(verdict)),
                    _ => (rule, None),
                };
                lines.push(place.to_owned());
                lines.push(format!("  {rule}"));
                lines.extend(verdict.map(str::to_owned));
            }
            None => lines.push(rest.to_owned()),
        }
        lines.extend(example.map(|example| format!("for example {example}")));
        let (commands, more) = match commands.rsplit_once(" and ") {
            Some((commands, more)) if more.ends_with(" more") => (commands, Some(format!("  and {more}"))),
            _ => (commands, None),
        };
        let commands = commands.split("; ").filter(|command| !command.is_empty());
        let missing = commands.map(|command| format!("  {command}")).chain(more).collect();
        Evidence { lines, missing }
    }
}

/// Other programs' rules may hold anything: what would move a terminal's cursor is shown for what it is.
fn printable(c: char) -> Vec<char> {
    if c.is_control() { c.escape_unicode().collect() } else { vec![c] }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn evidence_is_broken_where_it_turns_to_something_else() {
        let drops = "inet filter, chain input, handle 5: ct state established,related accept: would drop untracked what \
                     it accepts by state, such as 0.0.0.0 to 10.0.0.1 port 80; missing: nft 'add rule a'; nft 'add rule b' \
                     and 3 more";
        let Evidence { lines, missing } = Evidence::of(drops);
        assert_eq!(
            lines,
            [
                "inet filter, chain input, handle 5",
                "  ct state established,related accept",
                "would drop untracked what it accepts by state",
                "for example 0.0.0.0 to 10.0.0.1 port 80"
            ]
        );
        assert_eq!(missing, ["  nft 'add rule a'", "  nft 'add rule b'", "  and 3 more"]);
        let nat = "nothing of the flow is left to bypass on this node: TCP 80 is given another source address by ip nat, \
                   chain postrouting, handle 4: oifname \"eth1\" masquerade";
        assert_eq!(
            Evidence::of(nat).lines,
            [
                "nothing of the flow is left to bypass on this node",
                "TCP 80 is given another source address by ip nat, chain postrouting, handle 4",
                "  oifname \"eth1\" masquerade"
            ]
        );
    }

    #[test]
    fn anything_else_is_a_line_and_moves_no_cursor() {
        assert_eq!(Evidence::of("TCP 22 is SSH").lines, ["TCP 22 is SSH"]);
        assert_eq!(Evidence::of("a\u{1b}[2Jb").lines, ["a\\u{1b}[2Jb"]);
        assert_eq!(Evidence::of("acknowledged: UDP 53").lines, ["acknowledged in the policy", "UDP 53"]);
    }
}
