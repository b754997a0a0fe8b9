//! A rule set as the opaque payload of a RuleSet object, and back.
//!
//! Opaque on purpose: a typed one would be pruned or refused under version skew, and its digest would then no longer
//! hold. The digest is over the canonical bytes inside, so that it does not depend on who compressed them.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use notrack_api as api;
use thiserror::Error;

use crate::compile::{RuleSet, RuleSetDigest};

/// The format that this version writes and reads: base64 of zlib of JSON.
pub const FORMAT: u32 = 1;

/// Longest payload, in characters: an object of the API may have some 1.5 MB.
const LONGEST_PAYLOAD: usize = 900_000;

/// Most bytes that a payload unpacks to: a small one must not fill a node's memory.
const MOST_BYTES: u64 = 64 << 20;

/// Why a payload was not written or not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// The policies are too much for one object.
    #[error(
        "the policies of these nodes take {0} characters, more than the {LONGEST_PAYLOAD} that one RuleSet holds: \
         name ranges and prefixes rather than many single ones, or split the nodes by nodeSelector"
    )]
    TooLarge(usize),
    /// A newer or older program wrote it.
    #[error("RuleSet has format {0}, this agent reads format {FORMAT}: upgrade the agent")]
    UnsupportedFormat(u32),
    /// It is not what its name says.
    #[error("RuleSet has a payload of digest {found}, not {wanted}: it was damaged or forged")]
    DigestMismatch {
        /// Digest of what is there.
        found: String,
        /// Digest that was asked for.
        wanted: String,
    },
    /// It cannot be read.
    #[error("RuleSet has a payload that cannot be read: {0}")]
    Malformed(String),
}

impl PayloadError {
    /// The variant, as a condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            PayloadError::TooLarge(_) => "TooLarge",
            PayloadError::UnsupportedFormat(_) => "UnsupportedFormat",
            PayloadError::DigestMismatch { .. } => "DigestMismatch",
            PayloadError::Malformed(_) => "Malformed",
        }
    }
}

/// Makes the `spec` of a RuleSet object.
pub fn encode(rule_set: &RuleSet) -> Result<api::RuleSetSpec, PayloadError> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::default());
    let packed = packer.write_all(&rule_set.to_bytes()).and_then(|()| packer.finish());
    let payload = STANDARD.encode(packed.map_err(|error| PayloadError::Malformed(error.to_string()))?);
    if payload.len() > LONGEST_PAYLOAD {
        return Err(PayloadError::TooLarge(payload.len()));
    }
    Ok(api::RuleSetSpec {
        format: FORMAT,
        digest: rule_set.digest().to_string(),
        policy_count: u32::try_from(rule_set.policies().len()).ok(),
        payload,
    })
}

/// Takes a RuleSet object's `spec`, if it is the one that is `wanted` and can be read.
pub fn decode(spec: &api::RuleSetSpec, wanted: &str) -> Result<RuleSet, PayloadError> {
    if spec.format != FORMAT {
        return Err(PayloadError::UnsupportedFormat(spec.format));
    }
    let malformed = |error: &dyn std::fmt::Display| PayloadError::Malformed(error.to_string());
    let packed = STANDARD.decode(&spec.payload).map_err(|error| malformed(&error))?;
    let mut bytes = Vec::new();
    let length = ZlibDecoder::new(packed.as_slice())
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| malformed(&error))?;
    if length as u64 > MOST_BYTES {
        return Err(PayloadError::Malformed(format!("it unpacks to more than {MOST_BYTES} bytes")));
    }
    let found = RuleSetDigest::of(&bytes);
    if found.as_str() != wanted {
        return Err(PayloadError::DigestMismatch { found: found.to_string(), wanted: wanted.to_owned() });
    }
    RuleSet::from_bytes(&bytes).map_err(|error| malformed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let rule_set = RuleSet::new(Vec::new(), Vec::new());
        let spec = encode(&rule_set).unwrap();
        let digest = rule_set.digest().to_string();
        assert_eq!(decode(&spec, &digest), Ok(rule_set));
        let newer = api::RuleSetSpec { format: 2, ..spec.clone() };
        assert_eq!(decode(&newer, &digest), Err(PayloadError::UnsupportedFormat(2)));
        let other = RuleSetDigest::of(b"other").to_string();
        assert!(matches!(decode(&spec, &other), Err(PayloadError::DigestMismatch { .. })));
        for payload in ["", "!", "AAAA"] {
            let bad = api::RuleSetSpec { payload: payload.into(), ..spec.clone() };
            assert!(matches!(decode(&bad, &digest), Err(PayloadError::Malformed(_))), "{payload:?}");
        }
    }

    #[test]
    fn a_small_payload_cannot_fill_the_memory() {
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::best());
        for _ in 0..65 {
            packer.write_all(&vec![b' '; 1 << 20]).unwrap();
        }
        let payload = STANDARD.encode(packer.finish().unwrap());
        let bomb = api::RuleSetSpec { format: FORMAT, digest: String::new(), policy_count: None, payload };
        assert!(matches!(decode(&bomb, ""), Err(PayloadError::Malformed(_))));
    }
}
