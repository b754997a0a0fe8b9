//! `check`: every problem, pointing into the file.

mod hazard;
mod node;

use std::collections::BTreeMap;
use std::process::ExitCode;

use miette::{LabeledSpan, MietteDiagnostic, MietteHandlerOpts, NamedSource, Report, Severity};
use notrack_core::compile::compile;
use notrack_core::hazard::{Effect, Finding};
use notrack_core::index::Index;
use notrack_core::manifest::{Diagnostic, Manifest, Severity as Level};
use notrack_core::policy::validate;
use notrack_core::rules::render;

use crate::args::Check;
use crate::input::{self, Source};
use crate::stdout;

use node::Node;

/// Checks files; says what is wrong on standard error and counts on standard output.
pub fn run(args: &Check) -> anyhow::Result<ExitCode> {
    // A rule that is to be copied must stay on its line.
    miette::set_hook(Box::new(|_| Box::new(MietteHandlerOpts::new().wrap_lines(false).build())))?;
    let sources = input::read(&args.files)?;
    let node = Node::of(args, &sources)?;
    let mut checked = Checked::default();
    for source in &sources {
        for diagnostic in &source.parsed.diagnostics {
            checked.show(source, of_diagnostic(diagnostic));
        }
        for manifest in &source.parsed.manifests {
            checked.check(source, manifest, &node);
        }
    }
    for unread in &node.unread {
        eprintln!("kubectl-notrack: not all of the node is known: {unread}");
    }
    stdout::print(&checked.summary(&node))?;
    Ok(if checked.is_good(&node) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was found so far.
#[derive(Default)]
struct Checked {
    errors: usize,
    warnings: usize,
    policies: usize,
    /// In which file each policy was first.
    names: BTreeMap<String, String>,
}

impl Checked {
    /// A node that is not known in full may have anything: the agent there would change nothing.
    fn is_good(&self, node: &Node) -> bool {
        self.errors == 0 && node.unread.is_empty()
    }

    fn summary(&self, node: &Node) -> String {
        let Checked { errors, warnings, policies, names: _ } = self;
        let rest = match node.unread.is_empty() {
            true => "",
            false => "; there may be more: not all of the node could be read, and no agent would program it",
        };
        format!("{policies} policies checked: {errors} errors, {warnings} warnings{rest}\n")
    }

    fn check(&mut self, source: &Source, manifest: &Manifest, node: &Node) {
        self.policies += 1;
        let name = manifest.policy.metadata.name.clone().unwrap_or_default();
        if let Some(first) = self.names.insert(name.clone(), source.name.clone()) {
            let message = format!("policy {name:?} is also in {first}: the later one would replace it");
            self.show(source, error(manifest, "metadata.name", message));
        }
        let mut index = Index::default();
        match validate(&manifest.policy) {
            Ok(policy) => index.apply(policy),
            Err(invalid) => {
                for problem in invalid {
                    self.show(source, error(manifest, &problem.path, problem.message));
                }
                return;
            }
        };
        // Labels and time are not the file's: every policy is looked at as on a node that it selects.
        let labels = manifest.policy.spec.node_selector.match_labels.clone();
        match render(&compile(&index, &labels, i64::MIN), &node.facts, None) {
            Err(error) => self.show(source, self::error(manifest, "spec.flows", error.to_string())),
            Ok(rendered) => {
                for finding in rendered.findings.iter().filter(|found| is_worth_telling(found, node)) {
                    if !is_told_again(finding, &rendered.findings) {
                        self.show(source, hazard::diagnostic(manifest, finding));
                    }
                }
            }
        }
    }

    fn show(&mut self, source: &Source, diagnostic: MietteDiagnostic) {
        match diagnostic.severity {
            Some(Severity::Warning | Severity::Advice) => self.warnings += 1,
            Some(Severity::Error) | None => self.errors += 1,
        }
        let report =
            Report::new(diagnostic).with_source_code(NamedSource::new(&source.name, source.text.clone()));
        eprintln!("{report:?}");
    }
}

/// What lies in a node's addresses is not known where the node is only assumed.
fn is_worth_telling(finding: &Finding, node: &Node) -> bool {
    node.is_known || finding.effect != Effect::Refused
}

/// Whether the refusal of the whole flow tells the same and more.
fn is_told_again(finding: &Finding, all: &[Finding]) -> bool {
    let tells_more = |other: &Finding| {
        other.effect == Effect::Refused
            && (&other.flow, other.cause) == (&finding.flow, finding.cause)
            && other.evidence.len() > finding.evidence.len()
            && other.evidence.ends_with(&finding.evidence)
    };
    matches!(finding.effect, Effect::Subtracted | Effect::Refused) && all.iter().any(tells_more)
}

fn of_diagnostic(diagnostic: &Diagnostic) -> MietteDiagnostic {
    let Diagnostic { severity, path, message, help, span, .. } = diagnostic;
    let mut shown = MietteDiagnostic::new(message.clone())
        .with_severity(match severity {
            Level::Error => Severity::Error,
            Level::Warning => Severity::Warning,
        })
        .with_label(LabeledSpan::new(Some(path.clone()), span.offset, span.len));
    if let Some(help) = help {
        shown = shown.with_help(help.clone());
    }
    shown
}

fn error(manifest: &Manifest, path: &str, message: String) -> MietteDiagnostic {
    of_diagnostic(&manifest.diagnostic(Level::Error, path, message, None))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use notrack_core::facts::NodeFacts;
    use notrack_core::host::{Host, HostRules, Surroundings};

    use super::*;

    #[test]
    fn a_node_that_could_not_be_read_in_full_is_no_good_news() {
        let checked = Checked { policies: 1, ..Checked::default() };
        let node = |host: Host| Node::new(NodeFacts { host: Arc::new(host), ..NodeFacts::assumed() }, true);
        let known = node(Host::default());
        assert!(checked.is_good(&known));
        assert_eq!(checked.summary(&known), "1 policies checked: 0 errors, 0 warnings\n");
        let rules = HostRules { incomplete: vec!["set x".to_owned()], ..HostRules::default() };
        let surroundings = Surroundings { unknown: vec!["IPVS".to_owned()], ..Surroundings::default() };
        for host in [Host { rules, ..Host::default() }, Host { surroundings, ..Host::default() }] {
            let node = node(host);
            assert!(!checked.is_good(&node));
            assert!(checked.summary(&node).contains("not all of the node could be read"));
        }
        let checked = Checked { errors: 1, ..checked };
        assert!(!checked.is_good(&known));
    }
}
