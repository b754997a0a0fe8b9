//! From the index to the rule set of one class of nodes: which policies run there, in which order.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::index::Index;
use crate::policy::{Mode, ValidatedPolicy};

/// The policies of a node class, in the order in which they own what they share: enforced ones by age, then
/// audited ones, so that counting never takes a packet from bypassing. Immutable, named by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    policies: Vec<Arc<ValidatedPolicy>>,
    digest: RuleSetDigest,
}

/// SHA-256 over a rule set's canonical bytes, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RuleSetDigest(String);

impl RuleSetDigest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> RuleSetDigest {
        RuleSetDigest(hex(&Sha256::digest(bytes)))
    }
}

impl fmt::Display for RuleSetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl RuleSet {
    /// The policies, in the order of precedence.
    pub fn policies(&self) -> &[Arc<ValidatedPolicy>] {
        &self.policies
    }

    /// The digest.
    pub fn digest(&self) -> &RuleSetDigest {
        &self.digest
    }
}

/// The rule set of nodes with these labels at `now` (seconds since 1970): expired policies are left out.
/// The order of applying policies to the index makes no difference.
pub fn compile(index: &Index, labels: &BTreeMap<String, String>, now: i64) -> RuleSet {
    let mut policies: Vec<Arc<ValidatedPolicy>> = index
        .policies()
        .filter(|policy| policy.selector.matches(labels) && !policy.is_expired(now))
        .cloned()
        .collect();
    policies.sort_by(|a, b| {
        let key = |policy: &ValidatedPolicy| policy.mode == Mode::Audit;
        (key(a), a.precedence()).cmp(&(key(b), b.precedence()))
    });
    let plain: Vec<&ValidatedPolicy> = policies.iter().map(AsRef::as_ref).collect();
    // Only strings, numbers and lists: serialising them cannot fail, and an empty text would still be a digest.
    let bytes = serde_json::to_vec(&plain).unwrap_or_default();
    RuleSet { digest: RuleSetDigest::of(&bytes), policies }
}
