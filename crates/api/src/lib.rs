//! The custom resources of `notrack.dev`: types only, no client.
//!
//! [`NoTrackPolicy`] is what a user writes. [`NodePlan`] and [`RuleSet`] carry it from the controller to the agents.
//! The doc comments of the fields are what `kubectl explain` prints; the files in `crds/` are generated from here.

#![forbid(unsafe_code)]
// The arguments of several `printcolumn`s look alike, and are meant to.
#![allow(clippy::duplicated_attributes)]

pub mod condition;
pub mod nodeplan;
pub mod policy;
pub mod ruleset;
mod schema;

pub use condition::{Condition, ConditionStatus};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
pub use nodeplan::{
    ConntrackFigures, Exclusion, MOST_ADDRESSES, NodePlan, NodePlanSpec, NodePlanStatus, PolicyOnNode,
    PressureLevel, RuleSetRef, Trend,
};
pub use policy::{
    Acknowledgement, Action, Compensation, ExistingEntries, Flow, HazardFound, HighestPressure, HostFirewall,
    IcmpErrors, LabelExpression, LabelOperator, LocalPort, Mode, NoTrackPolicy, NoTrackPolicySpec,
    NoTrackPolicyStatus, NodeCounts, NodeSelector, Peer, Protocol, ReasonCount, Role, ServerPort, TcpFlags,
    Traffic,
};
pub use ruleset::{RuleSet, RuleSetSpec};

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of all kinds.
pub const GROUP: &str = "notrack.dev";
/// The only version so far.
pub const VERSION: &str = "v1alpha1";

/// The label of a definition that says of which version of this project it is.
pub const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// The definitions of all kinds, in the order in which they are installed.
pub fn crds() -> [CustomResourceDefinition; 3] {
    [NoTrackPolicy::crd(), NodePlan::crd(), RuleSet::crd()].map(|mut crd| {
        crd.metadata.labels = Some(BTreeMap::from([
            ("app.kubernetes.io/name".to_owned(), "notrack".to_owned()),
            (VERSION_LABEL.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ]));
        crd
    })
}
