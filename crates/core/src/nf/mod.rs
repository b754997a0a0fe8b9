//! A small model of nf_tables: just what our one table needs, with the kernel's own words.
//!
//! A [`Table`] is what should be in the kernel, or what was read from it; rules are lists of
//! [`Statement`]s, which [`expr`] lowers to the kernel's expressions and [`text`] writes as nft does.

pub mod eval;
pub mod expr;
mod key;
mod statement;
pub mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use key::{FieldType, Key};
pub use statement::{Direction, RawField, Statement};

/// The name of our one table, family `inet`. Not `notrack`, which is a keyword of nft: a table of that name
/// makes the host's own saved ruleset a syntax error.
pub const TABLE_NAME: &str = "notrack-dev";

/// A netfilter hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Packets that arrive, before routing.
    Prerouting,
    /// Packets for this node.
    Input,
    /// Packets that this node routes.
    Forward,
    /// Packets that this node sends.
    Output,
}

impl Hook {
    /// The kernel's number (`NF_INET_*`).
    pub fn number(self) -> u32 {
        match self {
            Hook::Prerouting => 0,
            Hook::Input => 1,
            Hook::Forward => 2,
            Hook::Output => 3,
        }
    }

    /// The hook of a number.
    pub fn from_number(number: u32) -> Option<Hook> {
        [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output]
            .into_iter()
            .find(|hook| hook.number() == number)
    }

    /// The name in nft's syntax.
    pub fn nft_name(self) -> &'static str {
        match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
        }
    }
}

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// The hook.
    pub hook: Hook,
    /// The priority: lower runs earlier.
    pub priority: i32,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Leave this base chain; later base chains still see the packet.
    Accept,
    /// Discard.
    Drop,
    /// Back to the chain that jumped here.
    Return,
    /// Evaluate a chain, then come back.
    Jump(Arc<str>),
    /// Evaluate a chain and do not come back.
    Goto(Arc<str>),
}

impl Verdict {
    /// The chain that a jump or goto leads to.
    pub fn target(&self) -> Option<&Arc<str>> {
        match self {
            Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
            Verdict::Accept | Verdict::Drop | Verdict::Return => None,
        }
    }
}

/// One rule: statements, evaluated from left to right until one does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(pub Vec<Statement>);

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Chain {
    /// `None` for a chain that is only jumped to. The policy of a base chain is accept.
    pub base: Option<Base>,
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

/// What a set is made of, apart from its elements. A set whose elements carry a verdict is a verdict map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpec {
    /// The fields of the key, concatenated.
    pub key: Vec<FieldType>,
    /// Elements are ranges in each field (pipapo where the key has several fields).
    pub interval: bool,
    /// Elements lead to a verdict.
    pub verdicts: bool,
    /// Elements may expire.
    pub timeout: bool,
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The key, or the low corner of a box.
    pub key: Key,
    /// The high corner of a box.
    pub end: Option<Key>,
    /// Where the element leads, in a verdict map.
    pub verdict: Option<Verdict>,
}

/// A set or verdict map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// What it is made of.
    pub spec: SetSpec,
    /// The elements, sorted and without duplicates.
    pub elements: Vec<Element>,
    /// How long an element lives from when it was written; `None`: for ever. Not part of what is compared
    /// with the kernel, where it only counts whether an element is still there.
    pub lifetime: Option<Duration>,
}

impl Set {
    /// A set with its elements brought into order.
    pub fn new(spec: SetSpec, mut elements: Vec<Element>) -> Set {
        elements.sort();
        elements.dedup();
        Set { spec, elements, lifetime: None }
    }
}

/// The content of our table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Table {
    /// Named counters.
    pub counters: std::collections::BTreeSet<String>,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
}

impl Table {
    /// How many set elements the table has.
    pub fn element_count(&self) -> usize {
        self.sets.values().map(|set| set.elements.len()).sum()
    }
}
