//! From the index to the rule set of one class of nodes: which policies run there, in which order.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::index::Index;
use crate::kept::Kept;
use crate::policy::{Mode, ValidatedPolicy};

/// The policies of a node class, in the order in which they own what they share: enforced ones by age, then
/// audited ones, so that counting never takes a packet from bypassing. Immutable, named by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    contents: Contents,
    digest: RuleSetDigest,
}

/// What a rule set's digest is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    policies: Vec<Arc<ValidatedPolicy>>,
    /// Sorted.
    kept: Vec<Kept>,
}

/// SHA-256 over a rule set's canonical bytes, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RuleSetDigest(String);

impl RuleSetDigest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> RuleSetDigest {
        RuleSetDigest(hex(&Sha256::digest(bytes)))
    }

    /// In hexadecimal: 64 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the object that carries the rule set: `rs-` and the first 40 characters.
    pub fn object_name(&self) -> String {
        format!("rs-{}", self.0.get(..40).unwrap_or(&self.0))
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
    /// Puts policies into their order. `kept` stays tracked whatever they say.
    pub fn new(mut policies: Vec<Arc<ValidatedPolicy>>, mut kept: Vec<Kept>) -> RuleSet {
        policies.sort_by(|a, b| {
            let key = |policy: &ValidatedPolicy| policy.mode == Mode::Audit;
            (key(a), a.precedence()).cmp(&(key(b), b.precedence()))
        });
        kept.sort();
        kept.dedup();
        let contents = Contents { policies, kept };
        RuleSet { digest: RuleSetDigest::of(&contents.to_bytes()), contents }
    }

    /// The policies, in the order of precedence.
    pub fn policies(&self) -> &[Arc<ValidatedPolicy>] {
        &self.contents.policies
    }

    /// What stays tracked on every node of the class.
    pub fn kept(&self) -> &[Kept] {
        &self.contents.kept
    }

    /// The digest.
    pub fn digest(&self) -> &RuleSetDigest {
        &self.digest
    }

    /// The canonical bytes that the digest is over.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.contents.to_bytes()
    }

    /// From canonical bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<RuleSet, serde_json::Error> {
        let contents: Contents = serde_json::from_slice(bytes)?;
        Ok(RuleSet { contents, digest: RuleSetDigest::of(bytes) })
    }

    /// The same without the policies that have ended at `now` (seconds since 1970).
    pub fn without_expired(&self, now: i64) -> RuleSet {
        let alive = self.policies().iter().filter(|policy| !policy.is_expired(now)).cloned().collect();
        RuleSet::new(alive, self.kept().to_vec())
    }
}

impl Contents {
    fn to_bytes(&self) -> Vec<u8> {
        // Only strings, numbers and lists: serialising them cannot fail, and an empty text would still be a digest.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The rule set of nodes with these labels at `now` (seconds since 1970): expired policies are left out.
/// The order of applying policies to the index makes no difference.
pub fn compile(index: &Index, labels: &BTreeMap<String, String>, now: i64) -> RuleSet {
    let policies = index.policies();
    let own = policies.filter(|policy| policy.selector.matches(labels) && !policy.is_expired(now));
    RuleSet::new(own.cloned().collect(), Vec::new())
}
