//! The index: every valid policy by name, fed by `apply`, `delete` and `reset`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::policy::ValidatedPolicy;

/// The policies that are known.
#[derive(Clone, Debug, Default)]
pub struct Index {
    policies: BTreeMap<String, Arc<ValidatedPolicy>>,
}

impl Index {
    /// Adds or replaces a policy. Returns whether anything changed.
    pub fn apply(&mut self, policy: ValidatedPolicy) -> bool {
        match self.policies.get(&policy.name) {
            Some(known) if **known == policy => false,
            _ => {
                self.policies.insert(policy.name.clone(), Arc::new(policy));
                true
            }
        }
    }

    /// Removes a policy. Returns whether it was known.
    pub fn delete(&mut self, name: &str) -> bool {
        self.policies.remove(name).is_some()
    }

    /// Keeps only the policies that a complete listing named. Returns those removed: a listing so heals deletes that
    /// were missed.
    pub fn reset(&mut self, present: &BTreeSet<String>) -> Vec<String> {
        let gone: Vec<String> =
            self.policies.keys().filter(|name| !present.contains(*name)).cloned().collect();
        for name in &gone {
            self.policies.remove(name);
        }
        gone
    }

    /// The policies, by name.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<ValidatedPolicy>> {
        self.policies.values()
    }

    /// A policy by name.
    pub fn get(&self, name: &str) -> Option<&Arc<ValidatedPolicy>> {
        self.policies.get(name)
    }
}
