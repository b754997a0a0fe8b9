//! Why the kernel does not run what is wanted.

use notrack_core::rules::RenderError;
use notrack_netlink::adapters::AdapterError;
use notrack_netlink::nft::NftError;
use notrack_netlink::socket::NetlinkError;
use thiserror::Error;

/// Which step failed: the variant is the metric's label and the condition's reason.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The rules were not made.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// nf_tables could not be read.
    #[error(transparent)]
    Read(NftError),
    /// The kernel did not take them.
    #[error(transparent)]
    Commit(NftError),
    /// Whether the node tracks at all is not known.
    #[error(transparent)]
    Tracking(#[from] NetlinkError),
    /// Which rules other programs have is not known.
    #[error("other programs' rules cannot all be read, and so not judged: {0}")]
    Unread(String),
    /// What else decides how packets go is not known.
    #[error("this node's devices, routing and balancers cannot all be read, and so not judged: {0}")]
    Surroundings(String),
    /// The rules that other programs' firewalls need are not known.
    #[error("the rules added to other programs' firewalls are not known: {0}")]
    Adapters(#[from] AdapterError),
    /// The kernel took the rules and yet runs others.
    #[error(
        "the kernel does not run what was programmed: {differences} differences remain; does another program change table inet notrack-dev?"
    )]
    NotProgrammed {
        /// How many operations would be needed.
        differences: usize,
    },
}

impl EngineError {
    /// The name of the step.
    pub fn reason(&self) -> &'static str {
        match self {
            EngineError::Render(_) => "RenderFailed",
            EngineError::Read(_) => "ReadFailed",
            EngineError::Commit(_) => "CommitFailed",
            EngineError::Tracking(_) | EngineError::Unread(_) | EngineError::Surroundings(_) => {
                "FactsUnknown"
            }
            EngineError::Adapters(_) => "AdaptersUnknown",
            EngineError::NotProgrammed { .. } => "NotProgrammed",
        }
    }

    /// Whether other programs' changes came in between, and nothing else is wrong.
    pub fn is_transient(&self) -> bool {
        use AdapterError::{Gone, Unsteady};
        match self {
            EngineError::Tracking(error)
            | EngineError::Read(NftError::Netlink(error))
            | EngineError::Commit(NftError::Netlink(error))
            | EngineError::Adapters(AdapterError::Netlink(error)) => error.is_transient(),
            // Devices that come and go interrupt the listing of them.
            EngineError::Surroundings(_)
            | EngineError::Read(NftError::Unsteady { .. })
            | EngineError::Commit(NftError::Unsteady { .. })
            | EngineError::Adapters(Gone { .. } | Unsteady { .. }) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_step_that_failed() {
        let netlink = || NetlinkError::Timeout { what: "list" };
        for (error, reason) in [
            (EngineError::Read(netlink().into()), "ReadFailed"),
            (EngineError::Read(NftError::Unsteady { tries: 8 }), "ReadFailed"),
            (EngineError::Commit(netlink().into()), "CommitFailed"),
            (EngineError::Tracking(netlink()), "FactsUnknown"),
            (EngineError::Unread("set x".to_owned()), "FactsUnknown"),
            (EngineError::Surroundings("IPVS".to_owned()), "FactsUnknown"),
            (EngineError::NotProgrammed { differences: 1 }, "NotProgrammed"),
        ] {
            assert_eq!(error.reason(), reason, "{error}");
        }
    }
}
