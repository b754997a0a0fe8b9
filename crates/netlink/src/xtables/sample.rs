//! Rules for tests.

use super::{Extension, Layout};

/// A match or a target of revision 0.
pub(crate) fn extension(name: &str, info: &[u8]) -> Vec<u8> {
    Extension { name, revision: 0, info }.bytes()
}

/// The standard target.
pub(crate) fn jump(verdict: i32) -> Vec<u8> {
    extension("", &[verdict.to_ne_bytes(), [0; 4]].concat())
}

/// The target that heads a chain of the user's, and ends the table.
pub(crate) fn head_of(name: &str) -> Vec<u8> {
    let mut info = name.as_bytes().to_vec();
    info.resize(32, 0);
    extension(super::chains::ERROR, &info)
}

/// A rule.
pub(crate) fn rule(layout: Layout, matches: &[Vec<u8>], target: &[u8]) -> Vec<u8> {
    layout.rule(&vec![0; layout.matches], matches, target)
}
