//! Conditions, and the names that this project's own objects use.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::schema;

/// The policy is well-formed and no hazard refuses it.
pub const ACCEPTED: &str = "Accepted";
/// The kernel holds what was asked for, as read back from it.
pub const PROGRAMMED: &str = "Programmed";
/// The sum of it all: what a health check looks at.
pub const READY: &str = "Ready";
/// kstatus: the object is on its way to what was asked for.
pub const RECONCILING: &str = "Reconciling";
/// kstatus: the object will not get there without a change.
pub const STALLED: &str = "Stalled";
/// `spec.expireTime` has passed: the bypass has ended by itself.
pub const EXPIRED: &str = "Expired";

/// One aspect of an object's state, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about. Example: `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(max = 316))]
    pub type_: String,
    /// Whether it holds: True, False or Unknown.
    pub status: ConditionStatus,
    /// Why, as one CamelCase word that programs can rely on. Example: `AllNodes`.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Why, in words for people. Empty where the reason says it all.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When `status` last changed.
    #[schemars(schema_with = "schema::time")]
    pub last_transition_time: Time,
    /// The `metadata.generation` that this was found for. Lower than that of the object: the condition is about an
    /// older spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

/// Whether a condition holds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody has found out yet.
    #[default]
    Unknown,
}

/// The conditions of a policy.
pub(crate) fn of_policy(generator: &mut SchemaGenerator) -> Schema {
    let mut list = list(generator, &[ACCEPTED, PROGRAMMED, READY], "Waiting for the controller");
    // The patterns are those of Kubernetes' own Condition type.
    refine(
        &mut list,
        "type",
        json!({ "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$" }),
    );
    refine(&mut list, "reason", json!({ "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$" }));
    list
}

/// The conditions of a plan: shorter texts, because there is one plan for each node.
pub(crate) fn of_plan(generator: &mut SchemaGenerator) -> Schema {
    let mut list = list(generator, &[PROGRAMMED, READY], "Waiting for the agent");
    refine(&mut list, "reason", json!({ "maxLength": 128 }));
    refine(&mut list, "message", json!({ "maxLength": 1024 }));
    list
}

/// The default makes a new object Unknown from its first moment, so that nothing takes it for healthy.
fn list(generator: &mut SchemaGenerator, types: &[&str], waiting: &str) -> Schema {
    let default: Vec<Value> = types
        .iter()
        .map(|type_| {
            json!({
                "type": type_,
                "status": "Unknown",
                "reason": "Pending",
                "message": waiting,
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            })
        })
        .collect();
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": generator.subschema_for::<Condition>(),
        "default": default,
    })
}

fn refine(list: &mut Schema, field: &str, with: Value) {
    let field = list.pointer_mut(&format!("/items/properties/{field}")).and_then(Value::as_object_mut);
    if let (Some(field), Value::Object(with)) = (field, with) {
        field.extend(with);
    }
}
