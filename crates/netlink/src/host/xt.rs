//! Extensions of iptables, as both of its back ends have them: a name, a revision and a C structure.

use notrack_core::host::Step;

/// What an extension means.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// What it does in a rule.
    pub steps: Vec<Step>,
    /// As iptables writes it: `-m conntrack --ctstate RELATED,ESTABLISHED`.
    pub text: String,
    /// The text of `-m comment`.
    pub comment: Option<String>,
}

/// The ip sets of this namespace, read when a rule first names one.
#[derive(Debug, Default)]
pub(super) struct IpSets {}

/// A match.
pub(super) fn matching(name: &str, revision: u8, info: &[u8], sets: &mut IpSets) -> Part {
    let _ = (revision, info, sets);
    Part { steps: vec![Step::Opaque(name.to_owned())], text: format!("-m {name}"), comment: None }
}

/// A target.
pub(super) fn target(name: &str, revision: u8, info: &[u8]) -> Part {
    let _ = (revision, info);
    Part { steps: vec![Step::Opaque(name.to_owned())], text: format!("-j {name}"), comment: None }
}
