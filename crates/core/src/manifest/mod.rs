//! Text to policies, and every problem in it with its place.
//!
//! The rules are those of the custom resource's own definition: its schema, its defaults and its CEL rules. So a file
//! that passes here passes `kubectl apply`, and an agent that reads files refuses what the API server would refuse.
//!
//! ```text
//! documents, yaml, scalar ── text to trees                        kinds ── which documents are ours
//! schema, rules ── the definition, compiled                       check, containers, scalars ── tree against schema
//! ```

mod check;
mod containers;
mod diagnostic;
mod documents;
mod kinds;
mod node;
mod rules;
mod scalar;
mod scalars;
mod schema;
mod yaml;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use notrack_api::NoTrackPolicy;

pub use diagnostic::{Diagnostic, Severity, Span};

use check::Checker;
use diagnostic::{Source, quoted};
use node::{Node, Value};

/// Largest file, in bytes. An object in etcd cannot be larger either.
pub const MAX_BYTES: usize = 1 << 20;

/// Whether a file of a folder is one of policies: those that end in .yaml, .yml or .json and are not hidden. Editors and
/// ConfigMap mounts leave others.
pub fn is_file_name(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !is_hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The policies without an error, in the file's order.
    pub manifests: Vec<Manifest>,
    /// All problems, in the file's order.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether anything in the file is wrong.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// All or nothing: the policies, or what is wrong with the file (warnings included).
    pub fn into_result(self) -> Result<Vec<Manifest>, Vec<Diagnostic>> {
        if self.has_errors() { Err(self.diagnostics) } else { Ok(self.manifests) }
    }
}

/// A policy from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The policy, with its defaults.
    pub policy: NoTrackPolicy,
    /// Name of the file, as the caller gave it.
    pub file: String,
    places: BTreeMap<String, Place>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Place {
    span: Span,
    line: usize,
    column: usize,
}

impl Manifest {
    /// Where a field is written: its value where that is a scalar, its key otherwise. None where the file does not
    /// have it.
    pub fn span_of(&self, path: &str) -> Option<Span> {
        self.places.get(path).map(|place| place.span)
    }

    /// A problem that was found later, by what the policy means. Where the file does not have the field, it points to
    /// the closest one around it.
    pub fn diagnostic(
        &self,
        severity: Severity,
        path: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let Place { span, line, column } = self.closest(path);
        let (path, message, file) = (path.to_owned(), message.into(), self.file.clone());
        Diagnostic { severity, path, message, help, file, span, line, column }
    }

    fn closest(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            match (self.places.get(path), path.rfind(['.', '['])) {
                (Some(place), _) => return *place,
                (None, Some(end)) => path = &path[..end],
                (None, None) => return self.places.get("").copied().unwrap_or_default(),
            }
        }
    }
}

/// Reads a file: YAML of one or more documents, or JSON.
pub fn parse(file_name: &str, text: &str) -> Parsed {
    let source = Source::new(file_name, text);
    let mut checker = Checker::new(&source);
    let manifests = if text.len() > MAX_BYTES {
        let message = format!("larger than {MAX_BYTES} bytes");
        checker.error("", Span::default(), message, Some("write one policy a file".into()));
        Vec::new()
    } else {
        read(&mut checker)
    };
    Parsed { manifests, diagnostics: checker.finish() }
}

fn read(checker: &mut Checker) -> Vec<Manifest> {
    let (documents, broken) = documents::read(checker.source);
    for problem in broken {
        checker.error("", problem.span, problem.message, problem.help);
    }
    let policies: Vec<Node> =
        documents.into_iter().flat_map(|document| kinds::policies(checker, document)).collect();
    let mut names = HashMap::new();
    policies.into_iter().filter_map(|policy| manifest(checker, policy, &mut names)).collect()
}

fn manifest(
    checker: &mut Checker,
    mut document: Node,
    names: &mut HashMap<String, Span>,
) -> Option<Manifest> {
    let schema = match &*kinds::SCHEMA {
        Ok(schema) => schema,
        Err(problem) => {
            checker.error("", document.mark(), format!("this build's own schema is broken: {problem}"), None);
            return None;
        }
    };
    drop_what_is_not_the_users(checker, &mut document);
    let json = checker.root(schema, &document);
    let is_new = is_new_name(checker, &document, names);
    let policy: NoTrackPolicy = match serde_json::from_value(json?) {
        Ok(policy) => policy,
        // The schema lets something pass that the types do not: a mistake of ours, and no reason to go on.
        Err(error) => {
            checker.error("", document.mark(), format!("not a policy: {error}"), None);
            return None;
        }
    };
    let place = |span: Span| {
        let (line, column) = checker.source.position(span.offset);
        Place { span, line, column }
    };
    let places = node::spans(&document).into_iter().map(|(path, span)| (path, place(span))).collect();
    is_new.then(|| Manifest { policy, file: checker.source.file.to_owned(), places })
}

/// What `kubectl get -o yaml` prints and `kubectl apply` does not take from a file.
fn drop_what_is_not_the_users(checker: &mut Checker, document: &mut Node) {
    const SERVERS: [&str; 2] = ["managedFields", "ownerReferences"];
    let Value::Map(entries) = &mut document.value else {
        return;
    };
    entries.retain(|entry| {
        let is_status = entry.key == "status";
        if is_status {
            let message = "ignored: the controller writes the status";
            checker.report(Severity::Warning, "status", entry.key_span, message, None);
        }
        !is_status
    });
    let metadata = entries.iter_mut().find(|entry| entry.key == "metadata");
    let Some(Value::Map(fields)) = metadata.map(|entry| &mut entry.value.value) else {
        return;
    };
    fields.retain(|entry| {
        let is_namespace = entry.key == "namespace";
        if is_namespace {
            let message = "ignored: a policy belongs to no namespace";
            checker.report(Severity::Warning, "metadata.namespace", entry.mark(), message, None);
        }
        !is_namespace && !SERVERS.contains(&entry.key.as_str())
    });
}

/// Of two policies of one name the second would silently replace the first.
fn is_new_name(checker: &mut Checker, document: &Node, names: &mut HashMap<String, Span>) -> bool {
    let Some(entry) = document.entry("metadata").and_then(|metadata| metadata.value.entry("name")) else {
        return true;
    };
    let Value::String(name) = &entry.value.value else {
        return true;
    };
    match names.insert(name.clone(), entry.mark()) {
        None => true,
        Some(first) => {
            let (line, _) = checker.source.position(first.offset);
            let message = format!("a second policy of the name {}", quoted(name));
            checker.error(
                "metadata.name",
                entry.mark(),
                message,
                Some(format!("the first is on line {line}")),
            );
            false
        }
    }
}
