//! A tree against a schema: every problem of it, and the value with its defaults.

use std::collections::BTreeSet;

use kube::core::cel::cel::Context;
use serde_json::Value as Json;

use super::{
    diagnostic::{Diagnostic, Severity, Source, Span},
    node::{self, Entry, Flaw, Node, Value},
    rules, scalars,
    schema::{Kind, Schema},
};

/// Most problems that are listed for one file. Nobody reads more.
const MAX_DIAGNOSTICS: usize = 200;

/// Collects problems.
pub(super) struct Checker<'a> {
    pub(super) source: &'a Source<'a>,
    functions: Context<'static>,
    found: Vec<Diagnostic>,
    unlisted: usize,
}

/// A value after its check.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) json: Json,
    /// Whether rules may look at it: it has the right types and nothing required is missing.
    pub(super) sound: bool,
    /// The fields of an object that are not sound.
    pub(super) bad: BTreeSet<String>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self { source, functions: rules::functions(), found: Vec::new(), unlisted: 0 }
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

    pub(super) fn flaw(&mut self, path: &str, span: Span, flaw: &Flaw) {
        self.error(path, span, flaw.message.clone(), Some(flaw.help.clone()));
    }

    /// Checks a whole object. None where it has an error.
    pub(super) fn root(&mut self, schema: &Schema, node: &Node) -> Option<Json> {
        let before = self.errors();
        let checked = self.value(schema, node, node.mark(), "");
        (self.errors() == before).then_some(checked.json)
    }

    /// `mark` is the text to point at where the problem is the value as a whole.
    pub(super) fn value(&mut self, schema: &Schema, node: &Node, mark: Span, path: &str) -> Checked {
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

    /// Evaluates the rules on a value, save those that look at something which is already known to be wrong.
    fn rules(&mut self, schema: &Schema, node: &Node, mark: Span, path: &str, checked: &Checked) {
        for rule in &schema.rules {
            let sound = match &rule.looks_at {
                Some(fields) if checked.json.is_object() => {
                    fields.iter().all(|field| !checked.bad.contains(field))
                }
                _ => checked.sound,
            };
            if !sound {
                continue;
            }
            let Some(message) = rule.broken_by(&self.functions, &checked.json) else {
                continue;
            };
            if rule.field.is_empty() {
                // Where it looks at one field only, that is the place to look at.
                let only = match rule.looks_at.as_deref() {
                    Some([field]) => node.entry(field),
                    _ => None,
                };
                self.error(path, only.map_or(mark, Entry::mark), message, None);
            } else {
                let mark = node.entry(&rule.field).map_or(mark, Entry::mark);
                self.error(&node::field(path, &rule.field), mark, message, None);
            }
        }
    }

    pub(super) fn text(&self, span: Span) -> &'a str {
        self.source.text.get(span.offset..span.offset + span.len).unwrap_or_default()
    }
}
