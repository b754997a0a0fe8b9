//! The tables of docs/api.md are true: every field is there, none is there that is not, and bounds are right.

// clippy exempts tests, but not the functions that they call.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::Value;

/// The rows of each kind, by field.
fn rows() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = include_str!("../../../docs/api.md");
    let mut rows: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for section in text.split("\n## ").skip(1) {
        let (kind, body) = section.split_once('\n').unwrap();
        for line in body.lines() {
            let field = line.strip_prefix("| `").and_then(|rest| rest.split_once('`'));
            if let Some((field, rest)) =
                field.filter(|(field, _)| field.starts_with("spec.") || field.starts_with("status."))
            {
                let twice =
                    rows.entry(kind.to_owned()).or_default().insert(field.to_owned(), rest.to_owned());
                assert_eq!(twice, None, "{kind}: {field} is there twice");
            }
        }
    }
    rows
}

/// All fields of a schema, by path.
fn fields(schema: &Value, path: &str, into: &mut BTreeMap<String, Value>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        fields(property, &path, into);
        fields(&property["items"], &format!("{path}[]"), into);
        into.insert(path, property.clone());
    }
}

/// What a row must say of a field's value: bounds (also those of the items of a list), choices, default.
fn facts(schema: &Value) -> Vec<String> {
    let mut facts = Vec::new();
    for schema in [schema, &schema["items"], &schema["additionalProperties"]] {
        for bound in ["maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength"] {
            facts.extend(schema[bound].as_f64().map(|bound| bound.to_string()));
        }
        if schema["properties"].is_object() {
            continue;
        }
        for choice in schema["enum"].as_array().into_iter().flatten() {
            facts.push(choice.as_str().unwrap().to_owned());
        }
        match &schema["default"] {
            Value::String(text) => facts.push(format!("| {text} |")),
            Value::Number(number) => facts.push(number.to_string()),
            _ => {}
        }
    }
    facts
}

#[test]
fn tables_are_true() {
    let rows = rows();
    let mut problems = Vec::new();
    for crd in notrack_api::crds() {
        let kind = crd.spec.names.kind.clone();
        let crd = serde_json::to_value(crd).unwrap();
        let mut expected = BTreeMap::new();
        fields(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut expected);
        expected.retain(|path, _| path.contains('.'));
        let rows = &rows[&kind];
        for path in rows.keys().filter(|path| !expected.contains_key(*path)) {
            problems.push(format!("{kind}: {path} does not exist"));
        }
        for (path, schema) in &expected {
            let Some(row) = rows.get(path) else {
                problems.push(format!("{kind}: {path} is missing"));
                continue;
            };
            for fact in facts(schema).iter().filter(|fact| !row.contains(fact.as_str())) {
                problems.push(format!("{kind}: {path} does not say {fact}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
