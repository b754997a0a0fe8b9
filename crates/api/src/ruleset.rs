//! `RuleSet`: the compiled rules of one class of nodes.

use std::borrow::Cow;

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::schema::{self, Rule};

/// Compiled rules: written by the controller, read by the agents.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "notrack.dev",
    version = "v1alpha1",
    kind = "RuleSet",
    category = "notrack",
    derive = "PartialEq",
    schema = "manual",
    doc = "The compiled rules of one class of nodes. The controller writes it; it never changes, and its name says what is in it.",
    printcolumn(name = "Format", type_ = "integer", json_path = ".spec.format"),
    printcolumn(name = "Policies", type_ = "integer", json_path = ".spec.policyCount"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("self == oldSelf", "a RuleSet never changes; write a new one"),
]))]
pub struct RuleSetSpec {
    /// Format of the payload. An agent that does not know it keeps its last rules and reports `UnsupportedFormat`.
    /// Example: 1.
    #[schemars(range(min = 1, max = 2147483647))]
    pub format: u32,
    /// SHA-256 of the rules' bytes (after base64 and decompression), in 64 lower-case hexadecimal digits.
    #[schemars(length(max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub digest: String,
    /// How many policies went into these rules. For people only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2147483647))]
    pub policy_count: Option<u32>,
    /// The rules: compressed, in base64, at most 900000 characters. `kubectl notrack render` shows them.
    #[schemars(length(min = 1, max = 900000), regex(pattern = "^[A-Za-z0-9+/=]+$"))]
    pub payload: String,
}

impl JsonSchema for RuleSet {
    fn schema_name() -> Cow<'static, str> {
        "RuleSet".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = Rule::new(
            "self.metadata.name == 'rs-' + self.spec.digest.substring(0, 40)",
            "metadata.name must be rs- and the first 40 characters of spec.digest",
        );
        schema::root::<RuleSetSpec>(
            generator,
            "The compiled rules of one class of nodes. The controller writes it; it never changes, and its name says what is in it.",
            None,
            &[name],
        )
    }
}
