//! Users of tracking among the rules of the legacy iptables.

use std::io;

use super::findings::{Families, Findings};
use crate::xtables::{BOTH, Iptables};

mod rules;

/// Looks through the legacy tables of both families. What cannot be read makes the findings incomplete.
pub(super) fn scan(findings: &mut Findings) {
    for iptables in &BOTH {
        match user(iptables) {
            Ok(Some(user)) => findings.foreign(Families::One(iptables.family), &user),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(program = iptables.program, %error, "cannot read legacy rules");
                findings.incomplete(Families::One(iptables.family));
            }
        }
    }
}

fn user(iptables: &Iptables) -> io::Result<Option<String>> {
    for table in iptables.tables()? {
        if let Some(user) = rules::user(&iptables.read(&table)?.bytes, iptables.layout) {
            return Ok(Some(format!("{}-legacy table {table}: {user}", iptables.program)));
        }
    }
    Ok(None)
}
