//! Extensions of iptables, as both of its back ends have them: a name, a revision and a C structure
//! (`include/uapi/linux/netfilter/xt_*.h`, `netfilter_ipv4`, `netfilter_ipv6`).
//!
//! What each means for a packet without an entry is what the match function of the kernel's `net/netfilter/xt_*.c`
//! returns then.

use notrack_core::host::{Field, Match, Members, Step, ValueBox};
use notrack_core::net::Family;

mod address;
mod bytes;
mod conntrack;
mod ipset;
mod kinds;
mod nat;
mod ports;
mod sets;
mod target;
#[cfg(test)]
mod tests;
mod text;

pub(super) use address::{Inet, compare};
pub(super) use sets::IpSets;
use text::quoted;

/// What an extension means.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// What it does in a rule.
    pub steps: Vec<Step>,
    /// As iptables writes it: `-m conntrack --ctstate RELATED,ESTABLISHED`.
    pub text: String,
    /// The text of `-m comment`.
    pub comment: Option<String>,
}

impl Part {
    fn new(steps: Vec<Step>, text: String) -> Self {
        Self { steps, text, comment: None }
    }
}

/// A match. What is not understood may or may not match. Without the family it is told from the bytes, where they differ.
pub(super) fn matching(
    family: Option<Family>,
    name: &str,
    revision: u8,
    info: &[u8],
    sets: &mut IpSets,
) -> Part {
    let part = match name {
        "tcp" => ports::tcp(info),
        "udp" | "udplite" => ports::udp(info),
        "sctp" => ports::sctp(info),
        "dccp" => ports::dccp(info),
        "multiport" => ports::multiport(revision, info),
        "icmp" | "icmp6" => ports::icmp(name, info),
        "conntrack" => conntrack::conntrack(family, revision, info),
        "state" => conntrack::state(info),
        "helper" => conntrack::helper(info),
        "connlabel" => conntrack::connlabel(info),
        "connmark" => conntrack::connmark(info),
        "connbytes" => conntrack::connbytes(),
        "connlimit" => Some(Part::new(vec![Step::CountConnections], String::new())),
        "addrtype" => address::kind(family, revision, info),
        "iprange" => address::range(family, info),
        "set" => ipset::matching(revision, info, sets),
        "mark" => kinds::mark(info),
        "limit" => kinds::limit(info),
        "hashlimit" | "quota" => Some(Part::new(vec![Step::Limit], String::new())),
        "comment" => kinds::comment(info),
        _ => None,
    };
    let mut part = part.unwrap_or_else(|| Part::new(vec![Step::Opaque(name.to_owned())], String::new()));
    // `-m conntrack --ctstate` may have been written, and is shown, as `-m state --state`.
    if !part.text.starts_with("-m ") {
        part.text = joined(&format!("-m {name}"), &part.text);
    }
    part
}

/// A target. What is not understood may do anything.
pub(super) fn target(family: Option<Family>, name: &str, revision: u8, info: &[u8]) -> Part {
    let mut part = target::read(family, name, revision, info)
        .unwrap_or_else(|| Part::new(vec![Step::Opaque(name.to_owned())], String::new()));
    if !part.text.starts_with("-j ") {
        part.text = joined(&format!("-j {name}"), &part.text);
    }
    part
}

/// Two texts with a space between, where both have something.
pub(super) fn joined(left: &str, right: &str) -> String {
    [left, right].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

/// One field within ranges.
fn within(field: Field, inverted: bool, ranges: impl IntoIterator<Item = (u128, u128)>) -> Step {
    let boxes = ranges.into_iter().map(|range| vec![range]).collect();
    among(vec![field], inverted, boxes)
}

/// Fields among boxes.
fn among(fields: Vec<Field>, inverted: bool, boxes: Vec<ValueBox>) -> Step {
    Step::Match(Match { fields, inverted, of: Members::Boxes(boxes) })
}

/// A comparison of which the field is known and the values are not.
fn unknown(field: Field) -> Step {
    Step::Match(Match { fields: vec![field], inverted: false, of: Members::Unknown })
}
