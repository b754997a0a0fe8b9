//! What comes back from work outside the main loop.

use tokio::time::Instant;

use super::{CRDS_COMPARED_EVERY, Controller, STALE_PAUSE};
use crate::crds::Installed;
use crate::effects::Effect;
use crate::kinds::Verdict;
use crate::publish::Outcome;
use crate::world::{Change, Kind, Update};
use crate::write::{WriteError, Written};

impl Controller {
    /// Takes in an answer.
    pub fn answer(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Published(outcome) => self.published(outcome, now),
            Effect::Status(wrote) => {
                self.metrics.wrote(Written::Status, &wrote.result);
                match &wrote.result {
                    // Deleted meanwhile: the watch tells it.
                    Ok(_) | Err(WriteError::NotFound(_) | WriteError::Conflict(_)) => {}
                    Err(error) => tracing::warn!(policy = wrote.name, "status not written: {error}"),
                }
                let result = wrote.result.as_ref().map(Clone::clone);
                self.ledger.wrote(&wrote.name, result, now);
            }
            Effect::Collected(name, result) => {
                self.metrics.wrote(Written::RuleSet, &result);
                match result {
                    Ok(Some(rule_set)) => self.world.learn(Update::RuleSets(Change::Apply(name, rule_set))),
                    Ok(None) => {
                        tracing::info!(rule_set = name, "deleted: unused");
                        self.world.learn(Update::RuleSets(Change::Delete(name)));
                    }
                    // Somebody uses or changed it: it is judged again.
                    Err(WriteError::Conflict(_) | WriteError::NotFound(_)) => {}
                    Err(error) => tracing::warn!(rule_set = name, "not collected: {error}"),
                }
                self.note_stale(now);
            }
            Effect::Crds(installed) => self.found_crds(installed, now),
            Effect::CrdsLack(lacking) => {
                for field in &lacking {
                    tracing::error!("upgrade the CRDs: {field}");
                }
                self.metrics.crds_behind(lacking.len());
                self.crds_lack = lacking;
            }
        }
    }

    fn published(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Crds(installed) => {
                if let Installed::Unknown(error) = &installed {
                    self.retry(&WriteError::Unreachable(error.clone()), now);
                }
                self.found_crds(installed, now);
            }
            Outcome::RuleSet(name, result) => {
                self.metrics.wrote(Written::RuleSet, &result);
                match result {
                    Ok(rule_set) => self.world.learn(Update::RuleSets(Change::Apply(name, rule_set))),
                    Err(error) => {
                        tracing::warn!(rule_set = name, "not written: {error}");
                        self.retry(&error, now);
                    }
                }
            }
            Outcome::Plan(name, result) => {
                self.metrics.wrote(Written::Plan, &result);
                match result {
                    Ok(plan) => self.world.wrote_plan(name, plan),
                    Err(error) => {
                        if matches!(error, WriteError::Conflict(_)) {
                            tracing::debug!(plan = name, "not written: {error}");
                        } else {
                            tracing::warn!(plan = name, "not written: {error}");
                        }
                        self.retry(&error, now);
                    }
                }
            }
            Outcome::Done { left } => {
                self.publication = None;
                tracing::debug!(left, "published");
                // What was left or changed meanwhile is found by comparing again; so is what failed, but later.
                if std::mem::take(&mut self.publish_again) || left > 0 && self.retry_at.is_none() {
                    self.reconcile.touch(now);
                }
            }
        }
        self.note_stale(now);
    }

    /// Another attempt, later. What to write is found anew then, from what is known by then.
    fn retry(&mut self, error: &WriteError, now: Instant) {
        let mut after = error.retry_after(self.failures);
        self.failures = self.failures.saturating_add(1);
        match error {
            WriteError::Stale(_) => {
                // Who leads is asked of the lease, not of the plans.
                after = STALE_PAUSE;
                self.doubt.send_modify(|count| *count += 1);
                self.paused_until = Some(now + after);
            }
            WriteError::Throttled { .. } | WriteError::Unreachable(_) => {
                self.paused_until = Some(now + after)
            }
            // One object: the others do not wait for it.
            WriteError::Conflict(_)
            | WriteError::NotFound(_)
            | WriteError::Forbidden(_)
            | WriteError::Refused(_) => {}
        }
        let at = now + after;
        self.retry_at = Some(self.retry_at.map_or(at, |known| known.min(at)));
    }

    fn found_crds(&mut self, installed: Installed, now: Instant) {
        if let Installed::Unknown(error) = &installed {
            tracing::warn!("the CRDs cannot be looked up: {error}");
        }
        match self.kinds.found(installed, now) {
            Verdict::Same => {}
            Verdict::Gone => {
                self.stop_publication();
                self.look_for_crds = now;
                if let Some(reason) = self.kinds.stopped(now) {
                    tracing::error!("{reason}; install the CRDs (crds/)");
                }
            }
            Verdict::Came => {
                self.stop_publication();
                self.world.await_again(&Kind::OWN);
                self.again.send_modify(|count| *count += 1);
                self.effects.compare_crds();
                self.compare_crds = now + CRDS_COMPARED_EVERY;
                tracing::info!("the CRDs are there");
            }
        }
    }
}
