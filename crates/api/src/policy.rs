//! `NoTrackPolicy`: what a user writes.

mod flow;
mod spec;
mod status;

pub use flow::{Acknowledgement, Action, Flow, LocalPort, Peer, Protocol, Role, ServerPort};
pub use spec::{
    Compensation, ExistingEntries, HostFirewall, IcmpErrors, LabelExpression, LabelOperator, Mode,
    NoTrackPolicy, NoTrackPolicySpec, NodeSelector, TcpFlags,
};
pub use status::{HazardFound, HighestPressure, NoTrackPolicyStatus, NodeCounts, ReasonCount, Traffic};
