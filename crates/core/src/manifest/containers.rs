//! Objects, maps and lists against their schemas.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value as Json;

use super::{
    check::{Checked, Checker},
    diagnostic::{Span, quoted},
    node::{self, Entry, Node, Value},
    schema::{Kind, Schema, Unique},
};
use crate::suggest;

impl Checker<'_> {
    pub(super) fn object(
        &mut self,
        properties: &BTreeMap<String, Schema>,
        required: &[String],
        entries: &[Entry],
        mark: Span,
        path: &str,
    ) -> Checked {
        let mut fields = serde_json::Map::new();
        let mut bad = BTreeSet::new();
        let names = || properties.keys().map(String::as_str);
        for entry in self.usable(entries, path) {
            let path = node::field(path, &entry.key);
            let Some(schema) = properties.get(&entry.key) else {
                let help = match suggest::closest(&entry.key, names()) {
                    Some(meant) => format!("did you mean {meant}?"),
                    None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
                };
                self.error(
                    &path,
                    entry.key_span,
                    format!("unknown field {}", quoted(&entry.key)),
                    Some(help),
                );
                continue;
            };
            // Null is the same as absent: so the API server treats a field that is not nullable.
            if entry.value.value != Value::Null {
                let checked = self.value(schema, &entry.value, entry.mark(), &path);
                if !checked.sound {
                    bad.insert(entry.key.clone());
                }
                fields.insert(entry.key.clone(), checked.json);
            }
        }
        for (name, schema) in properties {
            if !fields.contains_key(name)
                && let Some(default) = schema.filled_default()
            {
                fields.insert(name.clone(), default);
            }
        }
        for name in required.iter().filter(|name| !fields.contains_key(*name)) {
            let empty = entries.iter().find(|entry| entry.key == *name).map(|entry| entry.key_span);
            let choices = match properties.get(name).map(|schema| &schema.kind) {
                Some(Kind::String(text)) if !text.choices.is_empty() => {
                    Some(format!("one of {}", text.choices.join(", ")))
                }
                _ => None,
            };
            self.error(
                &node::field(path, name),
                empty.unwrap_or(mark),
                format!("{name} is required"),
                choices,
            );
            bad.insert(name.clone());
        }
        Checked { json: Json::Object(fields), sound: bad.is_empty(), bad }
    }

    pub(super) fn map(
        &mut self,
        values: &Schema,
        max: usize,
        entries: &[Entry],
        mark: Span,
        path: &str,
    ) -> Checked {
        let mut sound = true;
        if entries.len() > max {
            self.error(path, mark, format!("must have at most {max} fields, not {}", entries.len()), None);
            sound = false;
        }
        let mut fields = serde_json::Map::new();
        for entry in self.usable(entries, path).into_iter().take(max) {
            let checked = self.value(values, &entry.value, entry.mark(), &node::field(path, &entry.key));
            sound &= checked.sound;
            fields.insert(entry.key.clone(), checked.json);
        }
        Checked { json: Json::Object(fields), sound, bad: BTreeSet::new() }
    }

    pub(super) fn list(
        &mut self,
        schema: &Schema,
        (min, max): (usize, usize),
        unique: &Unique,
        nodes: &[Node],
        mark: Span,
        path: &str,
    ) -> Checked {
        let mut sound = true;
        if nodes.len() < min {
            self.error(path, mark, format!("must have at least {min} item"), None);
            sound = false;
        }
        if nodes.len() > max {
            self.error(path, mark, format!("must have at most {max} items, not {}", nodes.len()), None);
            sound = false;
        }
        let mut items = Vec::new();
        let mut seen = HashMap::new();
        for (index, node) in nodes.iter().enumerate().take(max) {
            let path = node::item(path, index);
            let checked = self.value(schema, node, node.mark(), &path);
            sound &= checked.sound;
            self.unique(unique, &checked.json, node, &path, &mut seen);
            items.push(checked.json);
        }
        Checked { json: Json::Array(items), sound, bad: BTreeSet::new() }
    }

    /// Two items of a list must not be the same.
    fn unique(
        &mut self,
        unique: &Unique,
        item: &Json,
        node: &Node,
        path: &str,
        seen: &mut HashMap<String, Span>,
    ) {
        let (identity, path, mark) = match unique {
            Unique::No => return,
            Unique::Whole => (item.clone(), path.to_owned(), node.mark()),
            Unique::Keys(keys) => {
                let identity: Json = keys.iter().map(|key| item[key].clone()).collect();
                let Some((key, entry)) = keys.first().and_then(|key| Some((key, node.entry(key)?))) else {
                    return;
                };
                (identity, node::field(path, key), entry.mark())
            }
        };
        // What is not sound was reported as such.
        if identity.is_null() || identity.as_array().is_some_and(|keys| keys.contains(&Json::Null)) {
            return;
        }
        if let Some(first) = seen.insert(identity.to_string(), mark) {
            let (line, _) = self.source.position(first.offset);
            let message = format!("duplicate value {}", quoted(self.text(mark).trim_matches(['"', '\''])));
            self.error(&path, mark, message, Some(format!("first given on line {line}")));
        }
    }

    /// The fields that may be used; the others are reported.
    fn usable<'e>(&mut self, entries: &'e [Entry], path: &str) -> Vec<&'e Entry> {
        let mut seen: HashMap<&str, Span> = HashMap::new();
        let mut usable = Vec::new();
        for entry in entries {
            let path = node::field(path, &entry.key);
            if let Some(flaw) = &entry.flaw {
                self.flaw(&path, entry.key_span, flaw);
            } else if let Some(first) = seen.get(entry.key.as_str()) {
                let (line, _) = self.source.position(first.offset);
                let message = format!("{} is given twice", quoted(&entry.key));
                self.error(&path, entry.key_span, message, Some(format!("first given on line {line}")));
            } else {
                seen.insert(&entry.key, entry.key_span);
                usable.push(entry);
            }
        }
        usable
    }
}
