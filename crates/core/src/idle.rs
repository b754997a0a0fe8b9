//! Policies that no packet matches: they do nothing, and would look as if they did. Hazard 19.

use std::collections::{BTreeMap, BTreeSet};

use crate::hazard::{Cause, Effect, Finding, HazardKind};

/// A policy that has matched nothing for so long is told of, in seconds.
pub const IDLE_AFTER: i64 = 600;

/// Since when each policy that is in force has matched nothing.
#[derive(Clone, Debug, Default)]
pub struct Idle(BTreeMap<String, i64>);

impl Idle {
    /// Notes the policies in force and how many packets each has matched since it was, at `now` (seconds since 1970).
    pub fn observe(&mut self, in_force: &BTreeSet<String>, packets: impl Fn(&str) -> u64, now: i64) {
        let idle = in_force.iter().filter(|policy| packets(policy) == 0);
        let since = |policy: &String| self.0.get(policy).copied().unwrap_or(now);
        self.0 = idle.map(|policy| (policy.clone(), since(policy))).collect();
    }

    /// What there is to say of a policy at `now`.
    pub fn finding(&self, policy: &str, now: i64) -> Option<Finding> {
        let since = self.0.get(policy).filter(|since| now - **since >= IDLE_AFTER)?;
        Some(Finding {
            policy: policy.to_owned(),
            flow: String::new(),
            effect: Effect::Warning,
            cause: Cause::Hazard(HazardKind::NothingMatches),
            evidence: format!("no packet has matched in {} minutes", (now - since) / 60),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_that_matches_nothing_for_long_is_told_of() {
        let in_force: BTreeSet<String> = ["busy".to_owned(), "idle".to_owned()].into();
        let packets = |policy: &str| u64::from(policy == "busy");
        let mut idle = Idle::default();
        idle.observe(&in_force, packets, 1000);
        idle.observe(&in_force, packets, 1300);
        assert_eq!(idle.finding("idle", 1599), None);
        assert_eq!(idle.finding("idle", 1660).unwrap().evidence, "no packet has matched in 11 minutes");
        assert_eq!(idle.finding("busy", 9999), None);
        // One packet is enough, and a policy that comes back begins anew.
        idle.observe(&in_force, |_| 1, 1700);
        assert_eq!(idle.finding("idle", 9999), None);
        idle.observe(&in_force, packets, 1700);
        idle.observe(&BTreeSet::new(), packets, 1800);
        idle.observe(&in_force, packets, 1900);
        assert_eq!(idle.finding("idle", 2400), None);
    }
}
