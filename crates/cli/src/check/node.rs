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
    /// What of it could not be read, in words: what is in there is judged by nobody.
    pub unread: Vec<String>,
}

impl Node {
    /// The node that the arguments name, for the policies in files.
    pub fn of(args: &Check, sources: &[Source]) -> anyhow::Result<Node> {
        if !args.this_node {
            return Ok(Node::new(input::facts(&args.files)?, args.files.node_facts.is_some()));
        }
        let facts = notrack_netlink::facts::read(&flows(sources)).context("--this-node")?;
        if let Some(path) = &args.save_facts {
            let text = serde_json::to_string_pretty(&facts).context("the facts of this node")?;
            fs::write(path, text + "\n").with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(Node::new(facts, true))
    }

    pub(super) fn new(facts: NodeFacts, is_known: bool) -> Node {
        let incomplete = facts.host.rules.incomplete.iter().chain(&facts.host.surroundings.unknown);
        let unread = incomplete.cloned().collect();
        Node { facts, is_known, unread }
    }
}

/// The flows of all policies that are valid.
fn flows(sources: &[Source]) -> Vec<ValidatedFlow> {
    let manifests = sources.iter().flat_map(|source| &source.parsed.manifests);
    let policies = manifests.filter_map(|manifest| validate(&manifest.policy).ok());
    policies.flat_map(|policy| policy.flows).collect()
}
