//! A YAML document as a tree, every node with its place in the text.

use std::collections::BTreeMap;

use super::diagnostic::Span;

/// A node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Something that we read, but that must not be used. Reported only where a schema asks for it: a document of
    /// another kind may hold what it likes.
    Bad(Flaw),
}

/// A field of a mapping. The same key may come twice: the one who walks reports it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) flaw: Option<Flaw>,
    pub(super) value: Node,
}

/// Why something must not be used, and what to write instead.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Flaw {
    pub(super) message: String,
    pub(super) help: String,
}

impl Node {
    /// The first field of this name.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The string in the field of this name.
    pub(super) fn string(&self, key: &str) -> Option<&str> {
        match &self.entry(key)?.value.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A short piece of text that stands for the node: itself where it is a scalar, its first key or item otherwise.
    pub(super) fn mark(&self) -> Span {
        match &self.value {
            Value::Map(entries) => entries.first().map_or(self.span, |entry| entry.key_span),
            Value::List(items) => items.first().map_or(self.span, Node::mark),
            _ => self.span,
        }
    }

    /// How many nodes it is made of, keys among them.
    pub(super) fn size(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|entry| 1 + entry.value.size()).sum::<usize>(),
            _ => 1,
        }
    }

    /// For people.
    pub(super) fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::String(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "an object",
            Value::Bad(_) => "unreadable",
        }
    }
}

impl Entry {
    /// A short piece of text that stands for the field: its value where that is a scalar, its key otherwise.
    pub(super) fn mark(&self) -> Span {
        match &self.value.value {
            Value::List(_) | Value::Map(_) => self.key_span,
            _ if self.value.span.len == 0 => self.key_span,
            _ => self.value.span,
        }
    }
}

/// Puts together the path of a field.
pub(super) fn field(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Puts together the path of a list's item.
pub(super) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// The place of every field, by its path.
pub(super) fn spans(root: &Node) -> BTreeMap<String, Span> {
    fn collect(path: &str, mark: Span, node: &Node, spans: &mut BTreeMap<String, Span>) {
        spans.entry(path.to_owned()).or_insert(mark);
        match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    collect(&field(path, &entry.key), entry.mark(), &entry.value, spans);
                }
            }
            Value::List(items) => {
                for (index, node) in items.iter().enumerate() {
                    collect(&item(path, index), node.mark(), node, spans);
                }
            }
            _ => {}
        }
    }
    let mut spans = BTreeMap::new();
    collect("", root.mark(), root, &mut spans);
    spans
}
