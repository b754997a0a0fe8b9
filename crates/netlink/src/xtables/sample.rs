//! Rules for tests.

use super::Layout;
use super::rules::HEAD_LEN;

/// A match or a target of revision 0.
pub(crate) fn extension(name: &str, info: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_LEN];
    bytes[..2].copy_from_slice(&((HEAD_LEN + info.len()) as u16).to_ne_bytes());
    bytes[2..2 + name.len()].copy_from_slice(name.as_bytes());
    bytes.extend(info);
    bytes
}

/// A rule.
pub(crate) fn rule(layout: Layout, matches: &[Vec<u8>], target: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; layout.matches];
    let matches = matches.concat();
    let target_at = layout.matches + matches.len();
    let next = target_at + target.len();
    bytes[layout.offsets..][..2].copy_from_slice(&(target_at as u16).to_ne_bytes());
    bytes[layout.offsets + 2..][..2].copy_from_slice(&(next as u16).to_ne_bytes());
    bytes.extend(matches);
    bytes.extend(target);
    bytes
}
