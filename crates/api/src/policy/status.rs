//! The status of a policy: what the controller has added up from the reports of the nodes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    condition::{self, Condition},
    nodeplan::PressureLevel,
    schema,
};

/// How the policy stands on all its nodes. Figures come from what the agents read back from their kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoTrackPolicyStatus {
    /// The `metadata.generation` that this status is about. Lower than that of the object: not caught up yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Accepted: the policy is sound. Programmed: the kernels hold it. Ready: it works everywhere that it can. Look at
    /// Ready first; its reason and message say what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::of_policy")]
    pub conditions: Vec<Condition>,
    /// How many nodes, by how the policy stands on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub nodes: Option<NodeCounts>,
    /// Why nodes are not as asked for, with some examples, at most 16 reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub reasons: Vec<ReasonCount>,
    /// What the policy would break or has to leave out, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub hazards: Vec<HazardFound>,
    /// The traffic that skipped tracking on all nodes, since their rules were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub traffic: Option<Traffic>,
    /// The fullest connection table among the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub pressure: Option<HighestPressure>,
}

/// How many nodes, by how the policy stands on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that the selector selects.
    #[serde(default)]
    pub matched: u32,
    /// Nodes whose kernel holds the rules of this generation.
    #[serde(default)]
    pub programmed: u32,
    /// Nodes where the rules act: traffic skips tracking. None in mode Audit.
    #[serde(default)]
    pub engaged: u32,
    /// Nodes where a hazard keeps the policy from taking effect.
    #[serde(default)]
    pub blocked: u32,
    /// Nodes whose agent tried and failed.
    #[serde(default)]
    pub failed: u32,
    /// Nodes that say nothing: no agent, not ready, or gone quiet.
    #[serde(default)]
    pub unavailable: u32,
}

/// One reason, and where it applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReasonCount {
    /// The reason, as one word. Example: `HostFirewallDrops`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// How many nodes have it.
    pub count: u32,
    /// Names of some of these nodes, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub examples: Vec<String>,
}

/// A hazard that was found, and what proves it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HazardFound {
    /// The hazard's code. Example: `NT001`; see docs/hazards.md.
    #[schemars(length(max = 5))]
    pub code: String,
    /// Name of the flow that has it. Absent: the whole policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub flow: Option<String>,
    /// What proves it: which Service, which chain, which entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub evidence: Option<String>,
}

/// Traffic that skipped tracking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Packets, both directions together.
    #[serde(default)]
    pub packets: u64,
    /// Bytes of these packets.
    #[serde(default)]
    pub bytes: u64,
    /// Mode Audit: connections in the table now that mode Enforce would take out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evictable_entries: Option<u64>,
}

/// The fullest connection table among a policy's nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HighestPressure {
    /// How pressing it is: Normal, Elevated, High or Full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::short_string")]
    pub level: Option<PressureLevel>,
    /// Entries in per cent of the maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_percent: Option<u32>,
    /// Name of that node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
}
