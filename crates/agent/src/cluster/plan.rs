//! Whether a plan is to be followed: pure.

use std::time::Duration;

use notrack_api::{NodePlan, NodePlanSpec, RuleSetRef};
use notrack_core::kept::Kept;
use notrack_core::plan::kept_of;

use super::trouble::Trouble;

/// What this agent can do beyond what every agent can.
const SUPPORTED: [&str; 0] = [];

/// A plan that is for this node and that this agent can follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// `metadata.generation`.
    pub generation: i64,
    /// The rules to run; `None`: none at all.
    pub rule_set: Option<RuleSetRef>,
    /// What stays tracked.
    pub exclusions: Vec<Kept>,
    /// How often the figures are reported.
    pub report_every: Duration,
}

/// The generation of a plan; 0 where it has none.
pub fn generation(plan: &NodePlan) -> i64 {
    plan.metadata.generation.unwrap_or_default()
}

/// Takes a plan that is for the node of UID `own`.
pub fn accept(plan: &NodePlan, own: &str) -> Result<Accepted, Trouble> {
    // The epoch is the API server's affair: it has refused a lower one.
    let NodePlanSpec { node_uid, epoch: _, rule_set, requires, exclusions, report_every_seconds } =
        &plan.spec;
    if node_uid != own {
        return Err(Trouble::OtherNode { plan: node_uid.clone(), own: own.to_owned() });
    }
    if let Some(unknown) = requires.iter().find(|wanted| !SUPPORTED.contains(&wanted.as_str())) {
        return Err(Trouble::UnsupportedRequirement(unknown.clone()));
    }
    Ok(Accepted {
        generation: generation(plan),
        rule_set: rule_set.clone(),
        exclusions: kept_of(exclusions),
        report_every: Duration::from_secs(u64::from(*report_every_seconds)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(uid: &str) -> NodePlan {
        let spec = NodePlanSpec {
            node_uid: uid.to_owned(),
            epoch: 1,
            rule_set: None,
            requires: Vec::new(),
            exclusions: Vec::new(),
            report_every_seconds: 300,
        };
        let mut plan = NodePlan::new("n1", spec);
        plan.metadata.generation = Some(7);
        plan
    }

    #[test]
    fn only_a_plan_for_this_very_node_is_followed() {
        let accepted = accept(&plan("a"), "a").unwrap();
        assert_eq!((accepted.generation, accepted.rule_set), (7, None), "no rule set: no rules");
        assert_eq!(accept(&plan("b"), "a").unwrap_err().reason(), "OtherNode");
    }

    #[test]
    fn a_plan_that_requires_more_than_this_agent_can_is_not_followed() {
        let mut newer = plan("a");
        newer.spec.requires = vec!["Forward".into()];
        assert_eq!(accept(&newer, "a").unwrap_err().reason(), "UnsupportedRequirement");
    }
}
