//! `render`: the rules of a node, for review and for diffs in git.

use std::process::ExitCode;

use anyhow::bail;
use notrack_core::compile::compile;
use notrack_core::index::Index;
use notrack_core::policy::validate;
use notrack_core::rules::render;

use crate::args::Render;
use crate::{input, stdout};

/// Prints the table; what stays tracked goes in front of it, as comments.
pub fn run(args: &Render) -> anyhow::Result<ExitCode> {
    let facts = input::facts(&args.files)?;
    let mut index = Index::default();
    for source in input::read(&args.files)? {
        if source.parsed.has_errors() {
            bail!("{} has errors: see `kubectl notrack check {}`", source.name, source.name);
        }
        for manifest in &source.parsed.manifests {
            match validate(&manifest.policy) {
                Ok(policy) => index.apply(policy),
                Err(invalid) => {
                    let shown: Vec<String> = invalid.iter().map(ToString::to_string).collect();
                    bail!("{}: {}", source.name, shown.join("; "));
                }
            };
        }
    }
    // A policy that has expired renders as it did: what a file becomes must not depend on the day.
    let rule_set = compile(&index, &facts.labels, i64::MIN);
    let rendered = render(&rule_set, &facts, None)?;
    let unselected = index.policies().filter(|policy| !policy.selector.matches(&facts.labels));
    let unselected =
        unselected.map(|policy| format!("# {}: not selected by the node's labels\n", policy.name));
    let findings = rendered.findings.iter().map(|finding| format!("# {finding}\n"));
    let comments: String = unselected.chain(findings).collect();
    stdout::print(&format!("{comments}{}", rendered.table))?;
    Ok(ExitCode::SUCCESS)
}
