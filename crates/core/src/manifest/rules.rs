//! The CEL rules of a schema, evaluated by kube's own implementation of the API server's functions.

use kube::core::cel::{CompiledSchema, ErrorKind, compile_schema, validate_compiled};
use serde_json::{Value as Json, json};

/// A rule, compiled.
pub(super) struct Rule {
    compiled: CompiledSchema,
    /// The field that a failure is about, below the value that the rule is on. Empty: the value itself.
    pub(super) field: String,
    /// The fields of the value that the rule looks at. None: the value as a whole.
    pub(super) looks_at: Option<Vec<String>>,
}

impl Rule {
    /// All rules that stand on a schema itself (not on those within it).
    pub(super) fn all(schema: &Json) -> Result<Vec<Self>, String> {
        let rules = schema["x-kubernetes-validations"].as_array();
        let bare = shape(schema);
        rules.into_iter().flatten().map(|rule| Self::new(&bare, rule)).collect()
    }

    fn new(bare: &Json, rule: &Json) -> Result<Self, String> {
        let mut schema = bare.clone();
        schema["x-kubernetes-validations"] = json!([rule]);
        let compiled = compile_schema(&schema);
        if let Some(error) = compiled.compilation_errors().first() {
            return Err(error.to_string());
        }
        let text = rule["rule"].as_str().unwrap_or_default();
        let field = rule["fieldPath"].as_str().unwrap_or_default().trim_start_matches('.');
        Ok(Self { compiled, field: field.to_owned(), looks_at: looks_at(bare, text) })
    }

    /// The message, where the value breaks the rule.
    pub(super) fn broken_by(&self, value: &Json) -> Option<String> {
        let errors = validate_compiled(&self.compiled, value, None).err()?;
        errors.into_iter().next().map(|error| match error.kind {
            ErrorKind::ValidationFailure => error.message,
            // Not being able to tell is a refusal.
            _ => format!("the rule {} cannot be evaluated: {}", error.rule, error.message),
        })
    }
}

/// The schema's types alone: the evaluator needs them to give values their CEL types.
fn shape(schema: &Json) -> Json {
    let mut shape = json!({ "type": schema["type"] });
    if let Some(format) = schema.get("format") {
        shape["format"] = format.clone();
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key) {
            shape[key] = self::shape(inner);
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        shape["properties"] = properties.iter().map(|(name, inner)| (name.clone(), self::shape(inner))).collect();
    }
    shape
}

/// Which fields a rule reads, so that one bad field does not keep the rules about the others from being checked.
fn looks_at(schema: &Json, rule: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    for rest in rule.split("self").skip(1) {
        let name: String = rest.strip_prefix('.')?.chars().take_while(char::is_ascii_alphanumeric).collect();
        schema["properties"].get(&name)?;
        fields.push(name);
    }
    Some(fields)
}
