//! What the agent knows of its plan: the last order that was complete, and what stands in the way of the next.

use std::sync::Arc;
use std::time::Duration;

use notrack_core::compile::RuleSet;
use notrack_core::kept::Kept;
use notrack_core::policy::ValidatedPolicy;

use super::Trouble;
use crate::intent::Intent;

/// A plan with everything that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// `metadata.generation` of the plan.
    pub generation: i64,
    /// The rules; `None`: run none.
    pub rule_set: Option<Arc<RuleSet>>,
    /// What stays tracked on this node besides.
    pub exclusions: Vec<Kept>,
    /// How often the figures are reported.
    pub report_every: Duration,
}

/// What the cluster's tasks tell the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A plan to follow.
    Order(Order),
    /// A plan that is not followed.
    Refused {
        /// `metadata.generation` of the plan; `None` where there is none.
        generation: Option<i64>,
        /// Why.
        trouble: Trouble,
    },
    /// The plan cannot be asked for.
    Away(Trouble),
    /// The plan is watched.
    Watching,
    /// This node's UID.
    Node(String),
    /// What the agent's way to the API server needs.
    Servers(Vec<Kept>),
}

/// How long the figures wait where no plan says it.
const REPORT_EVERY: Duration = Duration::from_secs(300);

/// The plan, as far as it is known.
#[derive(Debug, Default)]
pub struct PlanSource {
    /// This node's UID.
    pub node_uid: Option<String>,
    order: Option<Order>,
    servers: Vec<Kept>,
    /// The generation that was seen last, followed or not.
    seen: Option<i64>,
    plan: Option<Trouble>,
    api: Option<Trouble>,
}

impl PlanSource {
    /// Takes news. Returns whether what is wanted of the kernel may have changed.
    pub fn hear(&mut self, news: News) -> bool {
        match news {
            News::Order(order) => {
                self.seen = Some(order.generation);
                self.plan = None;
                let changed = self.order.as_ref() != Some(&order);
                self.order = Some(order);
                changed
            }
            News::Refused { generation, trouble } => {
                self.seen = generation;
                self.log(&trouble, &self.plan);
                self.plan = Some(trouble);
                false
            }
            News::Away(trouble) => {
                self.log(&trouble, &self.api);
                self.api = Some(trouble);
                false
            }
            News::Watching => {
                if self.api.take().is_some() {
                    tracing::info!("the plan is watched again");
                }
                false
            }
            News::Node(uid) => {
                self.node_uid = Some(uid);
                self.api = None;
                false
            }
            News::Servers(servers) => {
                let changed = self.servers != servers;
                self.servers = servers;
                changed
            }
        }
    }

    /// Once each, however often it is tried again.
    fn log(&self, trouble: &Trouble, known: &Option<Trouble>) {
        if known.as_ref() != Some(trouble) {
            tracing::warn!(reason = trouble.reason(), "{trouble}");
        }
    }

    /// What is wanted; `None` before the first complete order.
    pub fn intent(&self, now: i64) -> Option<Intent> {
        let order = self.order.as_ref()?;
        let empty = || RuleSet::new(Vec::new(), Vec::new());
        Some(Intent {
            rule_set: order.rule_set.as_ref().map_or_else(empty, |rule_set| rule_set.without_expired(now)),
            digest: order.rule_set.as_ref().map(|rule_set| rule_set.digest().to_string()),
            kept: order.exclusions.clone(),
            asked: self.servers.clone(),
        })
    }

    /// The policies of the last order.
    pub fn policies(&self) -> Vec<Arc<ValidatedPolicy>> {
        let rule_set = self.order.as_ref().and_then(|order| order.rule_set.as_ref());
        rule_set.map(|rule_set| rule_set.policies().to_vec()).unwrap_or_default()
    }

    /// Why the plan is not followed as it is now.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.plan.as_ref().or(self.api.as_ref())
    }

    /// How the plan stands, in a word.
    pub fn state(&self) -> &'static str {
        let followed = if self.followed().is_some() { "Followed" } else { "Pending" };
        self.trouble().map_or(followed, Trouble::reason)
    }

    /// The generation of the plan that was seen last.
    pub fn seen(&self) -> Option<i64> {
        self.seen
    }

    /// The generation of the plan that is followed.
    pub fn followed(&self) -> Option<i64> {
        self.order.as_ref().map(|order| order.generation)
    }

    /// Whether there is a plan of this node to write a status to.
    pub fn takes_reports(&self) -> bool {
        self.node_uid.is_some()
            && self.seen.is_some()
            && !matches!(self.plan, Some(Trouble::OtherNode { .. } | Trouble::PlanMissing(_)))
    }

    /// How often the figures are reported.
    pub fn report_every(&self) -> Duration {
        self.order.as_ref().map_or(REPORT_EVERY, |order| order.report_every)
    }
}

#[cfg(test)]
mod tests {
    use notrack_core::payload::PayloadError;

    use super::*;

    fn order(generation: i64, rule_set: Option<RuleSet>) -> Order {
        Order {
            generation,
            rule_set: rule_set.map(Arc::new),
            exclusions: Vec::new(),
            report_every: Duration::from_secs(60),
        }
    }

    #[test]
    fn nothing_is_wanted_before_the_first_complete_order() {
        let mut source = PlanSource::default();
        assert!(!source.hear(News::Watching));
        let trouble = Trouble::PlanMissing("n1".into());
        assert!(!source.hear(News::Refused { generation: None, trouble }));
        assert!(source.intent(0).is_none());
        assert_eq!(source.trouble().map(Trouble::reason), Some("PlanMissing"));
    }

    #[test]
    fn every_trouble_keeps_the_last_order() {
        let rules = RuleSet::new(Vec::new(), Vec::new());
        let troubles = [
            Trouble::PlanMissing("n1".into()),
            Trouble::OtherNode { plan: "b".into(), own: "a".into() },
            Trouble::RuleSetUnavailable { name: "rs-1".into(), cause: "not found".into() },
            PayloadError::UnsupportedFormat(2).into(),
            PayloadError::DigestMismatch { found: "1".into(), wanted: "2".into() }.into(),
            PayloadError::Malformed("no zlib".into()).into(),
        ];
        for trouble in troubles {
            let mut source = PlanSource::default();
            assert!(source.hear(News::Order(order(1, Some(rules.clone())))));
            assert!(
                !source.hear(News::Refused { generation: Some(2), trouble: trouble.clone() }),
                "{trouble}"
            );
            assert!(!source.hear(News::Away(Trouble::ApiUnavailable("timeout".into()))), "{trouble}");
            assert_eq!(source.trouble(), Some(&trouble), "what is wrong with the plan comes first");
            let intent = source.intent(0).unwrap();
            assert_eq!(intent.digest.as_deref(), Some(rules.digest().as_str()), "{trouble}");
            assert_eq!((source.seen(), source.followed()), (Some(2), Some(1)), "{trouble}");
        }
    }

    #[test]
    fn only_a_plan_without_a_rule_set_orders_no_rules() {
        let mut source = PlanSource::default();
        source.hear(News::Order(order(1, Some(RuleSet::new(Vec::new(), Vec::new())))));
        assert!(source.hear(News::Order(order(2, None))));
        let intent = source.intent(0).unwrap();
        assert_eq!((intent.digest, intent.rule_set.policies().len()), (None, 0));
        assert!(!source.hear(News::Order(order(2, None))), "the same order changes nothing");
    }

    #[test]
    fn no_report_goes_to_the_plan_of_another_node() {
        let mut source = PlanSource { node_uid: Some("a".into()), ..PlanSource::default() };
        assert!(!source.takes_reports());
        source.hear(News::Order(order(1, None)));
        assert!(source.takes_reports());
        let trouble = Trouble::OtherNode { plan: "b".into(), own: "a".into() };
        source.hear(News::Refused { generation: Some(2), trouble });
        assert!(!source.takes_reports());
    }
}
