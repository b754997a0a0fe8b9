//! A transaction: the kernel takes all of it or nothing.

use std::fmt;
use std::time::Duration;

use crate::nf::expr::Expr;
use crate::nf::{Base, Element, SetSpec};

/// One message of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make our table.
    AddTable,
    /// Delete our table and all in it.
    DeleteTable,
    /// Make a chain.
    AddChain {
        /// Its name.
        name: String,
        /// Where it hangs.
        base: Option<Base>,
    },
    /// Delete the rules of a chain.
    FlushChain(String),
    /// Delete a chain that has no rules and that nothing refers to.
    DeleteChain(String),
    /// Append a rule.
    AddRule {
        /// The chain.
        chain: String,
        /// The rule's expressions.
        rule: Vec<Expr>,
    },
    /// Make a set.
    AddSet {
        /// Its name.
        name: String,
        /// What it is made of.
        spec: SetSpec,
        /// The most elements that it can take.
        size: Option<u32>,
    },
    /// Delete a set with its elements.
    DeleteSet(String),
    /// Delete every element of a set.
    FlushSet(String),
    /// Add elements.
    AddElements {
        /// The set's name.
        set: String,
        /// What the set is made of.
        spec: SetSpec,
        /// The elements.
        elements: Vec<Element>,
        /// How long they live.
        lifetime: Option<Duration>,
    },
    /// Delete elements.
    DeleteElements {
        /// The set's name.
        set: String,
        /// What the set is made of.
        spec: SetSpec,
        /// The elements.
        elements: Vec<Element>,
    },
    /// Make a counter.
    AddCounter(String),
    /// Delete a counter that no rule refers to.
    DeleteCounter(String),
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::AddTable => f.write_str("add the table"),
            Op::DeleteTable => f.write_str("delete the table"),
            Op::AddChain { name, .. } => write!(f, "add chain {name}"),
            Op::FlushChain(name) => write!(f, "flush chain {name}"),
            Op::DeleteChain(name) => write!(f, "delete chain {name}"),
            Op::AddRule { chain, .. } => write!(f, "add a rule to chain {chain}"),
            Op::AddSet { name, .. } => write!(f, "add set {name}"),
            Op::DeleteSet(name) => write!(f, "delete set {name}"),
            Op::FlushSet(name) => write!(f, "flush set {name}"),
            Op::AddElements { set, elements, .. } => {
                write!(f, "add {} elements to set {set}", elements.len())
            }
            Op::DeleteElements { set, elements, .. } => {
                write!(f, "delete {} elements from set {set}", elements.len())
            }
            Op::AddCounter(name) => write!(f, "add counter {name}"),
            Op::DeleteCounter(name) => write!(f, "delete counter {name}"),
        }
    }
}

/// Messages that take effect together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// In the order in which the kernel is to take them.
    pub ops: Vec<Op>,
}

impl Transaction {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}
