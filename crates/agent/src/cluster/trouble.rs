//! What keeps an agent from following its plan. The variant is the condition's reason; what is programmed stays.

use notrack_core::payload::PayloadError;
use notrack_runtime::api_server::causes;
use thiserror::Error;

/// Why the plan is not followed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// No answer, or one that makes no sense.
    #[error("the API server cannot be asked: {0}; what is programmed stays")]
    ApiUnavailable(String),
    /// The agent may not read what it must.
    #[error("the API server refuses the agent: {0}; what is programmed stays")]
    Forbidden(String),
    /// The kind is not there: the CRD is not installed, or gone.
    #[error(
        "the API server does not know NodePlan: {0}; install the CRDs of notrack.dev; what is programmed stays"
    )]
    KindMissing(String),
    /// The token belongs to no node, so that no plan can be checked.
    #[error(
        "the agent's token names no node: it must be bound to a pod (Kubernetes 1.32 or later); what is programmed stays"
    )]
    IdentityUnknown,
    /// The token belongs to another node.
    #[error("the agent's token belongs to node {token:?}, --node-name is {own:?}; what is programmed stays")]
    IdentityMismatch {
        /// The node of the token.
        token: String,
        /// The node of the arguments.
        own: String,
    },
    /// There is no plan, or not any more.
    #[error(
        "there is no NodePlan {0:?}: the controller has not written it, or somebody deleted it; what is programmed stays"
    )]
    PlanMissing(String),
    /// The plan is for another node of the same name than the agent's token.
    #[error(
        "the plan is for the node of UID {plan}, this agent's token for {own}; what is programmed stays; where the Node \
         object was deleted and came back, delete this agent's pod: the next one gets a token of the new node"
    )]
    OtherNode {
        /// The node of the plan.
        plan: String,
        /// This node.
        own: String,
    },
    /// The plan needs a newer agent.
    #[error("the plan requires {0:?}, which this agent cannot do: upgrade it; what is programmed stays")]
    UnsupportedRequirement(String),
    /// The plan's rule set was not got.
    #[error("RuleSet {name} cannot be read: {cause}; what is programmed stays")]
    RuleSetUnavailable {
        /// Its name.
        name: String,
        /// Why.
        cause: String,
    },
    /// The plan's rule set is not what it should be.
    #[error("{0}; what is programmed stays")]
    Payload(#[from] PayloadError),
}

impl Trouble {
    /// The variant, as a condition's reason and a metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Trouble::ApiUnavailable(_) => "ApiUnavailable",
            Trouble::Forbidden(_) => "Forbidden",
            Trouble::KindMissing(_) => "KindMissing",
            Trouble::IdentityUnknown => "IdentityUnknown",
            Trouble::IdentityMismatch { .. } => "IdentityMismatch",
            Trouble::PlanMissing(_) => "PlanMissing",
            Trouble::OtherNode { .. } => "OtherNode",
            Trouble::UnsupportedRequirement(_) => "UnsupportedRequirement",
            Trouble::RuleSetUnavailable { .. } => "RuleSetUnavailable",
            Trouble::Payload(error) => error.reason(),
        }
    }

    /// What an answer, or the lack of one, means while the plan is asked for.
    pub fn of(error: &kube::Error) -> Trouble {
        match error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                Trouble::Forbidden(status.message.clone())
            }
            kube::Error::Api(status) if status.code == 404 => Trouble::KindMissing(status.message.clone()),
            error => Trouble::ApiUnavailable(causes(error)),
        }
    }
}
