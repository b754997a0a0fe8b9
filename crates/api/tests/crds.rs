//! The committed definitions are those of the types, and they keep the rules that hold for all of them.

// clippy exempts tests, but not the functions that they call.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use notrack_api::{Compensation, NoTrackPolicySpec, NodePlanSpec};
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds");

#[test]
fn committed_crds_do_not_drift() {
    let output = Command::new(env!("CARGO_BIN_EXE_notrack-crds")).args(["--check", FOLDER]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn drift_is_noticed() {
    let output = Command::new(env!("CARGO_BIN_EXE_notrack-crds"))
        .args(["--check", "no/such/folder"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("make generate"));
}

/// Calls `visit` with the path of every schema, and whether it lies within a list's items.
fn walk(schema: &Value, path: &str, in_items: bool, visit: &mut impl FnMut(&str, bool, &Value)) {
    visit(path, in_items, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), in_items, visit);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), true, visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], &format!("{path}{{}}"), true, visit);
    }
}

fn problems(mut problem: impl FnMut(&str, bool, &Value) -> Option<&'static str>) -> Vec<String> {
    let mut found = Vec::new();
    for crd in notrack_api::crds() {
        let kind = crd.spec.names.kind.clone();
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        walk(schema, &kind, false, &mut |path, in_items, schema| {
            found.extend(problem(path, in_items, schema).map(|problem| format!("{path}: {problem}")));
        });
    }
    found
}

#[test]
fn every_size_is_bounded() {
    let unbounded = problems(|_, _, schema| match schema["type"].as_str() {
        Some("string") if schema["enum"].is_array() || schema["format"] == "date-time" => None,
        Some("string") => schema["maxLength"].is_null().then_some("string without maxLength"),
        Some("array") => schema["maxItems"].is_null().then_some("array without maxItems"),
        Some("object") if schema["additionalProperties"].is_object() => {
            schema["maxProperties"].is_null().then_some("map without maxProperties")
        }
        Some("integer") => schema["format"].is_null().then_some("integer without format"),
        Some("object" | "boolean") => None,
        _ => Some("not a structural type"),
    });
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn every_field_is_described_in_kubectl_explain() {
    let silent = problems(|path, _, schema| {
        let is_field = !path.ends_with("[]") && !path.ends_with("{}");
        (is_field && schema["description"].as_str().unwrap_or_default().len() < 10)
            .then_some("no description")
    });
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn no_field_takes_null() {
    let nullable = problems(|_, _, schema| {
        let null_in = |key: &str| schema[key].as_array().is_some_and(|values| values.contains(&Value::Null));
        (schema.get("nullable").is_some() || null_in("enum")).then_some("nullable")
    });
    assert_eq!(nullable, Vec::<String>::new());
}

/// A default within a list makes GitOps tools see a difference that nobody wrote.
#[test]
fn list_items_have_no_defaults() {
    let defaults =
        problems(|_, in_items, schema| (in_items && schema.get("default").is_some()).then_some("default"));
    assert_eq!(defaults, Vec::<String>::new());
}

/// Only lists whose order and keys the API server understands merge well.
#[test]
fn every_list_says_how_it_merges() {
    let silent = problems(|_, _, schema| {
        (schema["type"] == "array" && schema["x-kubernetes-list-type"].is_null()).then_some("no list type")
    });
    assert_eq!(silent, Vec::<String>::new());
}

/// The API server fills in defaults from the schema, an agent with a folder of files from the types.
#[test]
fn defaults_of_schema_and_types_agree() {
    let [policy, plan, _] = notrack_api::crds().map(|crd| serde_json::to_value(crd).unwrap());
    let spec = |crd: &Value, field: &str| {
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][field]
            .clone()
    };

    let compensation = spec(&policy, "compensation");
    assert_eq!(compensation["default"], json!({}));
    let by_type = serde_json::to_value(Compensation::default()).unwrap();
    for (field, schema) in compensation["properties"].as_object().unwrap() {
        assert_eq!(schema["default"], by_type[field], "{field}");
    }
    let minimal: NoTrackPolicySpec =
        serde_json::from_value(json!({"nodeSelector": {}, "mode": "Audit", "flows": []})).unwrap();
    assert_eq!(minimal.compensation, Compensation::default());
    assert_eq!(
        serde_json::to_value(&minimal).unwrap(),
        json!({
            "nodeSelector": {}, "mode": "Audit", "flows": [], "compensation": by_type,
            "hostFirewall": spec(&policy, "hostFirewall")["default"],
            "existingEntries": spec(&policy, "existingEntries")["default"],
        }),
        "absent fields stay absent, but for those with a default"
    );
    assert_eq!(spec(&policy, "hostFirewall")["default"], "Check", "nobody's firewall is touched unasked");
    assert_eq!(spec(&policy, "existingEntries")["default"], "Evict");

    let minimal: NodePlanSpec = serde_json::from_value(json!({"nodeUID": "u", "epoch": 1})).unwrap();
    assert_eq!(spec(&plan, "reportEverySeconds")["default"], minimal.report_every_seconds);
}

/// A new object must be Unknown from its first moment: a health check must not take it for healthy.
#[test]
fn a_new_object_is_unknown() {
    let [policy, plan, _] = notrack_api::crds().map(|crd| serde_json::to_value(crd).unwrap());
    for crd in [policy, plan] {
        let status = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        assert_eq!(status["default"], json!({}), "without it the API server does not look inside");
        let conditions = status["properties"]["conditions"]["default"].as_array().unwrap();
        assert!(conditions.iter().any(|c| c["type"] == "Ready"));
        assert!(conditions.iter().all(|c| c["status"] == "Unknown"), "{conditions:?}");
        let typed: Vec<notrack_api::Condition> = serde_json::from_value(json!(conditions)).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), json!(conditions));
    }
}
