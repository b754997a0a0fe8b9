//! What changes how packets go on a node, apart from rules: devices, routing, balancers, listeners.

use serde::{Deserialize, Serialize};

/// What there is of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Surroundings {}

impl Surroundings {
    /// Whether routing, or its check of source addresses, goes by marks.
    pub fn routes_by_mark(&self) -> bool {
        false
    }
}
