//! The node that policies are judged for.

use std::fs;

use anyhow::Context;
use notrack_core::facts::NodeFacts;
use notrack_core::policy::{ValidatedFlow, validate};

use crate::args::Check;
use crate::input::{self, Source};

/// A node.
pub struct Node {
    /// What is known of it.
    pub facts: NodeFacts,
    /// Whether there is such a node, or it is assumed.
    pub is_known: bool,
}

impl Node {
    /// The node that the arguments name, for the policies in files. What of it could not be read is told on standard
    /// error.
    pub fn of(args: &Check, sources: &[Source]) -> anyhow::Result<Node> {
        if !args.this_node {
            return Ok(Node { facts: input::facts(&args.files)?, is_known: args.files.node_facts.is_some() });
        }
        let facts = notrack_netlink::facts::read(&flows(sources)).context("--this-node")?;
        for unknown in facts.host.rules.incomplete.iter().chain(&facts.host.surroundings.unknown) {
            eprintln!("kubectl-notrack: not all of this node is known: {unknown}");
        }
        if let Some(path) = &args.save_facts {
            let text = serde_json::to_string_pretty(&facts).context("the facts of this node")?;
            fs::write(path, text + "\n").with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(Node { facts, is_known: true })
    }
}

/// The flows of all policies that are valid.
fn flows(sources: &[Source]) -> Vec<ValidatedFlow> {
    let manifests = sources.iter().flat_map(|source| &source.parsed.manifests);
    let policies = manifests.filter_map(|manifest| validate(&manifest.policy).ok());
    policies.flat_map(|policy| policy.flows).collect()
}
