//! `NodePlan`: what one node is to run, and what it reports.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::policy::HazardFound;
use crate::{
    condition::{self, Condition},
    policy::Protocol,
    schema::{self, Rule},
};

/// What one node is to run. Written by the controller alone.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "notrack.dev",
    version = "v1alpha1",
    kind = "NodePlan",
    category = "notrack",
    status = "NodePlanStatus",
    derive = "PartialEq",
    schema = "manual",
    doc = "What one node is to run and what it reports. It has the node's name; the controller writes the spec, the node's agent the status.",
    printcolumn(name = "RuleSet", type_ = "string", json_path = ".spec.ruleSet.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Entries", type_ = "integer", json_path = ".status.conntrack.entries"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".status.conntrack.max"),
    printcolumn(name = "Used%", type_ = "integer", json_path = ".status.conntrack.usedPercent"),
    printcolumn(name = "Level", type_ = "string", json_path = ".status.conntrack.level"),
    printcolumn(name = "Reported", type_ = "date", json_path = ".status.reportedAt")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("self.epoch >= oldSelf.epoch", "stale controller: epoch must not decrease").forbidden().at(".epoch"),
    Rule::new(
        "!has(self.ruleSet) || self.ruleSet.name == 'rs-' + self.ruleSet.digest.substring(0, 40)",
        "ruleSet.name must be rs- and the first characters of its digest",
    ),
]))]
pub struct NodePlanSpec {
    /// UID of the Node that this plan is for. An agent refuses the plan of an earlier node of the same name.
    #[serde(rename = "nodeUID")]
    #[schemars(length(min = 36, max = 36), extend("format" = "uuid"))]
    pub node_uid: String,
    /// Term of the controller that wrote this. The API server refuses a lower one, so that a controller that has lost
    /// its lease cannot overwrite a newer plan.
    #[schemars(range(min = 0))]
    pub epoch: i64,
    /// The rules to run. Absent means that this node must run no rules at all: the only order to remove them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub rule_set: Option<RuleSetRef>,
    /// What the agent must be able to do to run the rules. An agent that lacks one keeps its last rules and reports it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 40)), extend("x-kubernetes-list-type" = "atomic"))]
    pub requires: Vec<String>,
    /// Ports that stay tracked on this node, whatever the rules say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub exclusions: Vec<Exclusion>,
    /// How often the agent reports its figures, in seconds. Changes of level or of rules are reported at once.
    #[serde(default = "default_report_every")]
    #[schemars(range(min = 30, max = 3600))]
    pub report_every_seconds: u32,
}

const fn default_report_every() -> u32 {
    300
}

/// Names a RuleSet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleSetRef {
    /// Name of the RuleSet: `rs-` and the first 40 characters of the digest.
    #[schemars(length(max = 43), regex(pattern = "^rs-[0-9a-f]{40}$"))]
    pub name: String,
    /// The RuleSet's whole digest. The agent checks the payload against it.
    #[schemars(length(max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub digest: String,
}

/// A port that stays tracked on this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exclusion {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// CIDR of the node's addresses that this is about. Absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 43))]
    pub address: Option<String>,
    /// The port, or the first one of a range.
    pub port: u16,
    /// The last port of the range, itself included. Absent: one port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
    /// Whether a flow of role Server that names interfaces may bypass it all the same: it backs a Service with nothing
    /// but a cluster address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spares_interfaces: bool,
    /// Code of the hazard that this avoids. Example: `NT002`.
    #[schemars(length(max = 5))]
    pub reason: String,
}

/// Most addresses that a report holds: a list that is as long may have been cut.
pub const MOST_ADDRESSES: usize = 64;

/// What the node's agent has read back from its kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePlanStatus {
    /// The `metadata.generation` of the plan that this report is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// UID of the Node that the agent runs on.
    #[serde(rename = "nodeUID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub node_uid: Option<String>,
    /// The kernel's boot ID. Another one: the node has restarted, and its counters with it.
    #[serde(rename = "bootID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub boot_id: Option<String>,
    /// Version of the agent. Example: `0.2.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub agent_version: Option<String>,
    /// The node's own addresses that others can reach, as its kernel has them, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_ADDRESSES), inner(length(max = 43)), extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<String>,
    /// When the agent wrote this report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub reported_at: Option<Time>,
    /// Digest of the RuleSet that the kernel runs now, as read back. Empty or absent: no rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub programmed_digest: Option<String>,
    /// Programmed: the kernel holds the plan's rules. Ready: and everything that they need is in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::of_plan")]
    pub conditions: Vec<Condition>,
    /// The connection table of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub conntrack: Option<ConntrackFigures>,
    /// The policies of this node, the worst first. Where there are more than fit, the best ones are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub policies: Vec<PolicyOnNode>,
}

/// How full the node's connection table is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConntrackFigures {
    /// Entries in the table now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Most entries that the table takes (`nf_conntrack_max`). Beyond it new connections are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// `entries` in per cent of `max`, rounded down. May exceed 100 when the maximum was lowered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_percent: Option<u32>,
    /// Packets dropped because the table was full, since the node started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drops: Option<u64>,
    /// Entries that could not be inserted (a clash or a full table), since the node started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insert_failed: Option<u64>,
    /// How pressing it is: Normal, Elevated, High or Full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<PressureLevel>,
    /// Where the entries are going: Falling, Steady or Rising.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trend: Option<Trend>,
}

/// How pressing the use of the connection table is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum PressureLevel {
    /// There is room.
    #[default]
    Normal,
    /// Worth a look.
    Elevated,
    /// Act now.
    High,
    /// New connections are being dropped.
    Full,
}

/// Where the number of entries is going.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Trend {
    /// Fewer than before.
    Falling,
    /// About as many as before.
    #[default]
    Steady,
    /// More than before.
    Rising,
}

/// One policy, as it stands on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyOnNode {
    /// Name of the NoTrackPolicy.
    #[schemars(length(max = 63))]
    pub name: String,
    /// UID of the NoTrackPolicy: tells it from an earlier one of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub uid: Option<String>,
    /// Generation of the policy that the node runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// How it stands, as one word. Example: `Programmed`.
    #[schemars(length(max = 24))]
    pub state: String,
    /// Why, where it is not as asked for. Example: `HostFirewallDrops`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Packets that skipped tracking (in mode Audit: that would have) because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Bytes of these packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Mode Audit: connections in the table now that mode Enforce would take out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evictable_entries: Option<u64>,
    /// The gravest hazards that only the node itself can see, at most 2, for the worst of the policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "atomic"))]
    pub hazards: Vec<HazardFound>,
}

impl JsonSchema for NodePlan {
    fn schema_name() -> Cow<'static, str> {
        "NodePlan".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let status = generator.subschema_for::<NodePlanStatus>();
        schema::root::<NodePlanSpec>(
            generator,
            "What one node is to run and what it reports. It has the node's name; the controller writes the spec, the node's agent the status.",
            Some(status),
            &[],
        )
    }
}
