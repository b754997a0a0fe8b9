//! `check`: every problem, pointing into the file.

use std::collections::BTreeMap;
use std::process::ExitCode;

use miette::{LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity};
use notrack_core::compile::compile;
use notrack_core::hazard::{Cause, Effect, Finding};
use notrack_core::index::Index;
use notrack_core::manifest::{Diagnostic, Manifest, Severity as Level};
use notrack_core::policy::validate;
use notrack_core::rules::render;

use crate::args::Files;
use crate::input::{self, Source};
use crate::stdout;

/// Checks files; says what is wrong on standard error and counts on standard output.
pub fn run(files: &Files) -> anyhow::Result<ExitCode> {
    let sources = input::read(files)?;
    let facts = input::facts(files)?;
    let (mut errors, mut warnings, mut policies) = (0, 0, 0);
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for source in &sources {
        for diagnostic in &source.parsed.diagnostics {
            match diagnostic.severity {
                Level::Error => errors += 1,
                Level::Warning => warnings += 1,
            }
            show(source, of_diagnostic(diagnostic));
        }
        for manifest in &source.parsed.manifests {
            policies += 1;
            let name = manifest.policy.metadata.name.clone().unwrap_or_default();
            if let Some(first) = names.insert(name.clone(), source.name.clone()) {
                errors += 1;
                let message = format!("policy {name:?} is also in {first}: the later one would replace it");
                show(source, error(manifest, "metadata.name", message));
            }
            let mut index = Index::default();
            match validate(&manifest.policy) {
                Ok(policy) => index.apply(policy),
                Err(invalid) => {
                    for problem in invalid {
                        errors += 1;
                        show(source, error(manifest, &problem.path, problem.message));
                    }
                    continue;
                }
            };
            // Labels and time are not the file's: every policy is looked at as on a node that it selects.
            let labels = manifest.policy.spec.node_selector.match_labels.clone();
            let rule_set = compile(&index, &labels, i64::MIN);
            match render(&rule_set, &facts, None) {
                Err(error) => {
                    errors += 1;
                    show(source, self::error(manifest, "spec.flows", error.to_string()));
                }
                // What lies in a node's addresses is not known here, unless its facts were given.
                Ok(rendered) => {
                    for finding in rendered.findings {
                        if finding.effect == Effect::Refused && files.node_facts.is_none() {
                            continue;
                        }
                        warnings += 1;
                        show(source, of_finding(manifest, &finding));
                    }
                }
            }
        }
    }
    stdout::print(&format!("{policies} policies checked: {errors} errors, {warnings} warnings\n"))?;
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(source: &Source, diagnostic: MietteDiagnostic) {
    let report =
        Report::new(diagnostic).with_source_code(NamedSource::new(&source.name, source.text.clone()));
    eprintln!("{report:?}");
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

fn of_finding(manifest: &Manifest, finding: &Finding) -> MietteDiagnostic {
    let Finding { flow, effect, cause, evidence, .. } = finding;
    let number = manifest.policy.spec.flows.iter().position(|known| known.name == *flow).unwrap_or_default();
    let what = match effect {
        Effect::Warning => "warning",
        Effect::Subtracted => "stays tracked",
        Effect::Blocked => "blocked",
        Effect::Refused => "refused",
    };
    let (code, help) = match cause {
        Cause::Hazard(kind) => (kind.to_string(), Some(kind.remedy().to_owned())),
        Cause::Exception => (cause.to_string(), None),
    };
    let path = format!("spec.flows[{number}].ports");
    of_diagnostic(&manifest.diagnostic(Level::Warning, &path, format!("{what}: {evidence}"), help))
        .with_code(code)
}
