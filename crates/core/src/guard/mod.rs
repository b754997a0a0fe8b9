//! What a node's own facts say against a flow: other programs' rules, translated connections, and what else changes how
//! packets go. Each part finds; what a finding does to the flow is decided in one place, by its effect and by what the
//! user has acknowledged.

mod firewall;
mod helpers;
mod live;
mod nat;
mod rules;
mod surroundings;
mod travel;
mod widen;

pub(crate) use firewall::{Firewall, Halted, firewall};
pub(crate) use helpers::{helper_ports, ports};
pub use live::{Concern, concerns};
pub(crate) use nat::{masqueraded_ports, translated};
pub(crate) use rules::{encounters, let_in};
pub(crate) use surroundings::{kept_by_surroundings, surroundings};
pub(crate) use travel::{beside, elsewhere, travels, without};

use crate::hazard::{Effect, HazardKind};
use crate::policy::ValidatedFlow;

/// Something that speaks against a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// What it does to the flow unless it is acknowledged.
    pub effect: Effect,
    /// What it is.
    pub kind: HazardKind,
    /// What was found.
    pub evidence: String,
}

impl Found {
    fn warning(kind: HazardKind, evidence: String) -> Found {
        Found { effect: Effect::Warning, kind, evidence }
    }

    /// As the flow's user takes it: what is acknowledged is no more than a warning.
    pub fn taken_by(self, flow: &ValidatedFlow) -> Found {
        if !self.kind.is_acknowledgeable() || !flow.acknowledged.contains(&self.kind) {
            return self;
        }
        Found { effect: Effect::Warning, evidence: format!("acknowledged: {}", self.evidence), ..self }
    }
}
