//! The spec of a policy: all of it is written by the user, none of it by us.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{Flow, NoTrackPolicyStatus};
use crate::schema::{self, Rule};

/// Which traffic, on which nodes, is to skip connection tracking.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "notrack.dev",
    version = "v1alpha1",
    kind = "NoTrackPolicy",
    plural = "notrackpolicies",
    singular = "notrackpolicy",
    shortname = "ntp",
    category = "notrack",
    status = "NoTrackPolicyStatus",
    derive = "PartialEq",
    schema = "manual",
    selectable = ".spec.mode",
    doc = "Traffic that is to skip connection tracking (NOTRACK), and the nodes where it does.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Matched", type_ = "integer", json_path = ".status.nodes.matched"),
    printcolumn(name = "Programmed", type_ = "integer", json_path = ".status.nodes.programmed"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.nodes.failed"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Pressure", type_ = "string", json_path = ".status.pressure.level"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new(
        "self.flows.exists(f, f.action == 'NoTrack') || !has(self.expireTime)",
        "a policy of exceptions only (action Track) must not expire",
    ),
    Rule::new(
        "self.flows.map(f, has(f.peers) ? size(f.peers) : 0).sum() <= 256",
        "a policy may name at most 256 peers in all",
    ),
]))]
pub struct NoTrackPolicySpec {
    /// Nodes that this policy applies to. Must be given; `{}` selects every node.
    /// Example: `{matchLabels: {node-role.kubernetes.io/edge: ""}}`.
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub node_selector: NodeSelector,
    /// Enforce: the flows skip tracking. Audit: nothing changes, but what would skip it is counted.
    pub mode: Mode,
    /// The traffic, 1 to 16 flows. Each stands for both directions of a connection; they are never written twice.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub flows: Vec<Flow>,
    /// What stands in for the state that untracked packets no longer have.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub compensation: Compensation,
    /// What happens where a chain of the host's own firewall would drop untracked packets that it accepts by state.
    /// Check: the policy is blocked on that node, and says which rule is missing. Adapt: the missing rules are added to
    /// that firewall, and go with the policy.
    #[serde(default)]
    pub host_firewall: HostFirewall,
    /// What happens to connections that are in the table when the policy takes effect. Evict: they are bypassed and
    /// their entries deleted. Keep: they stay tracked until they end.
    #[serde(default)]
    pub existing_entries: ExistingEntries,
    /// When the policy ends by itself, as RFC 3339. Absent: never. The agents keep to it even without the API server.
    /// Example: `2027-01-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub expire_time: Option<Time>,
}

/// Selects nodes by their labels. All of it must hold; nothing given selects every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// Labels that a node must have, with these values (at most 16). Example: `{kubernetes.io/os: linux}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::match_labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements on labels (at most 16).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelExpression>,
}

/// One requirement on a node's labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new(
        "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
        "values must be given for In and NotIn, and only for these",
    ),
]))]
pub struct LabelExpression {
    /// Key of the label. Example: `topology.kubernetes.io/zone`.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// In: the value is one of `values`. NotIn: it is none of them, or the label is missing. Exists, DoesNotExist:
    /// the label is there, or is not, whatever its value.
    pub operator: LabelOperator,
    /// Values for In and NotIn, 1 to 32 of them; none for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63)), extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The label's value is one of the values.
    In,
    /// The label's value is none of the values, or the label is missing.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

/// Whether a policy acts or only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// The flows skip tracking.
    Enforce,
    /// Nothing changes; what would skip tracking is counted.
    Audit,
}

/// What stands in for the state that untracked packets no longer have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compensation {
    /// Strict: TCP packets whose flags belong to no connection (SYN with FIN, none at all), and those that would
    /// open one against the flow's direction, stay tracked, so that the host's firewall judges them. Disabled: no
    /// check of flags.
    #[serde(default)]
    pub tcp_flags: TcpFlags,
    /// Accept: ICMP errors about packets of the flows (path MTU among them) skip tracking too, which would call them
    /// invalid. Ignore: they are tracked.
    #[serde(default)]
    pub icmp_errors: IcmpErrors,
    /// Most new TCP connections per second that the policy's servers take, all flows together, on each node; more
    /// are dropped. 0: no limit. Example: 5000.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10000000))]
    pub new_connections_per_second: u32,
}

/// Whether a host's own firewall may be completed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum HostFirewall {
    /// No: the policy is blocked where rules are missing.
    #[default]
    Check,
    /// Yes.
    Adapt,
}

/// What happens to connections that are in the table already.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ExistingEntries {
    /// They are bypassed too.
    #[default]
    Evict,
    /// They stay tracked.
    Keep,
}

/// Whether TCP flags are checked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum TcpFlags {
    /// What cannot belong to a flow stays tracked.
    #[default]
    Strict,
    /// No check.
    Disabled,
}

/// Whether ICMP errors about untracked traffic skip tracking too.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum IcmpErrors {
    /// They skip tracking.
    #[default]
    Accept,
    /// They are tracked, as invalid ones.
    Ignore,
}

impl JsonSchema for NoTrackPolicy {
    fn schema_name() -> Cow<'static, str> {
        "NoTrackPolicy".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = Rule::new(
            "size(self.metadata.name) <= 63",
            "metadata.name must be at most 63 characters: it is used in labels, metrics and kernel object names",
        );
        let status = generator.subschema_for::<NoTrackPolicyStatus>();
        schema::root::<NoTrackPolicySpec>(
            generator,
            "Traffic that is to skip connection tracking (NOTRACK), and the nodes where it does.",
            Some(status),
            &[name],
        )
    }
}
