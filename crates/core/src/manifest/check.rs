//! A tree against a schema: every problem of it, and the value with its defaults.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value as Json;

use super::{
    diagnostic::{Diagnostic, Severity, Source, Span, quoted},
    node::{self, Entry, Flaw, Node, Value},
    scalars,
    schema::{Kind, Schema, Unique},
    suggest,
};

/// Most problems that are listed for one file. Nobody reads more.
const MAX_DIAGNOSTICS: usize = 200;

/// Collects problems.
pub(super) struct Checker<'a> {
    pub(super) source: &'a Source<'a>,
    found: Vec<Diagnostic>,
    unlisted: usize,
}

/// A value after its check.
#[derive(Default)]
struct Checked {
    json: Json,
    /// Whether rules may look at it: it has the right types and nothing required is missing.
    sound: bool,
    /// The fields of an object that are not sound.
    bad: BTreeSet<String>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self { source, found: Vec::new(), unlisted: 0 }
    }

    /// All that was found, in the order of the text.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| diagnostic.span.offset);
        if self.unlisted > 0 {
            let message = format!("and {} more problems, not listed", self.unlisted);
            let last = self.found.last().map(|diagnostic| diagnostic.span).unwrap_or_default();
            self.found.push(self.source.diagnostic(Severity::Error, "", last, message, None));
        }
        self.found
    }

    pub(super) fn errors(&self) -> usize {
        self.unlisted + self.found.iter().filter(|found| found.severity == Severity::Error).count()
    }

    pub(super) fn report(
        &mut self,
        severity: Severity,
        path: &str,
        span: Span,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        if self.found.len() < MAX_DIAGNOSTICS {
            self.found.push(self.source.diagnostic(severity, path, span, message, help));
        } else if severity == Severity::Error {
            self.unlisted += 1;
        }
    }

    pub(super) fn error(&mut self, path: &str, span: Span, message: impl Into<String>, help: Option<String>) {
        self.report(Severity::Error, path, span, message, help);
    }

    fn flaw(&mut self, path: &str, span: Span, flaw: &Flaw) {
        self.error(path, span, flaw.message.clone(), Some(flaw.help.clone()));
    }

    /// Checks a whole object. None where it has an error.
    pub(super) fn root(&mut self, schema: &Schema, node: &Node) -> Option<Json> {
        let before = self.errors();
        let checked = self.value(schema, node, node.mark(), "");
        (self.errors() == before).then_some(checked.json)
    }

    /// `mark` is the text to point at where the problem is the value as a whole.
    fn value(&mut self, schema: &Schema, node: &Node, mark: Span, path: &str) -> Checked {
        let checked = match (&schema.kind, &node.value) {
            (_, Value::Bad(flaw)) => {
                self.flaw(path, mark, flaw);
                Checked::default()
            }
            (Kind::Object { properties, required }, Value::Map(entries)) => {
                self.object(properties, required, entries, mark, path)
            }
            (Kind::Map { values, max }, Value::Map(entries)) => self.map(values, *max, entries, mark, path),
            (Kind::List { items, min, max, unique }, Value::List(nodes)) => {
                self.list(items, (*min, *max), unique, nodes, mark, path)
            }
            (kind, value) => match scalars::check(kind, value) {
                Ok(json) => Checked { json, sound: true, bad: BTreeSet::new() },
                Err(problem) => {
                    let found = node.type_name();
                    let (message, help) = problem.describe(kind, found, self.text(node.span));
                    self.error(path, mark, message, help);
                    Checked::default()
                }
            },
        };
        self.rules(schema, node, mark, path, &checked);
        checked
    }

    fn object(
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
                self.error(&path, entry.key_span, format!("unknown field {}", quoted(&entry.key)), Some(help));
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
            self.error(&node::field(path, name), empty.unwrap_or(mark), format!("{name} is required"), choices);
            bad.insert(name.clone());
        }
        Checked { json: Json::Object(fields), sound: bad.is_empty(), bad }
    }

    fn map(&mut self, values: &Schema, max: usize, entries: &[Entry], mark: Span, path: &str) -> Checked {
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

    fn list(
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
                let Some((key, entry)) = keys.first().and_then(|key| Some((key, node.entry(key)?))) else { return };
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

    /// Evaluates the rules on a value, save those that look at something which is already known to be wrong.
    fn rules(&mut self, schema: &Schema, node: &Node, mark: Span, path: &str, checked: &Checked) {
        for rule in &schema.rules {
            let sound = match &rule.looks_at {
                Some(fields) if checked.json.is_object() => fields.iter().all(|field| !checked.bad.contains(field)),
                _ => checked.sound,
            };
            if !sound {
                continue;
            }
            let Some(message) = rule.broken_by(&checked.json) else { continue };
            if rule.field.is_empty() {
                self.error(path, mark, message, None);
            } else {
                let mark = node.entry(&rule.field).map_or(mark, Entry::mark);
                self.error(&node::field(path, &rule.field), mark, message, None);
            }
        }
    }

    fn text(&self, span: Span) -> &'a str {
        self.source.text.get(span.offset..span.offset + span.len).unwrap_or_default()
    }
}
