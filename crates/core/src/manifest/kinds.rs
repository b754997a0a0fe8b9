//! Which documents are ours, and the schema of those that are.

use std::sync::LazyLock;

use kube::CustomResourceExt;
use notrack_api::{GROUP, NoTrackPolicy, VERSION};
use serde_json::{Value as Json, json};

use super::{
    check::Checker,
    diagnostic::{Severity, quoted},
    node::{Entry, Node, Value},
    schema::Schema,
};
use crate::suggest;

const POLICY: &str = "NoTrackPolicy";
/// Kinds of our group that are written by the controller, not by people.
const INTERNAL: [&str; 2] = ["NodePlan", "RuleSet"];
/// Lists within lists. One is what `kubectl get -o yaml` writes.
const MAX_LISTS: usize = 4;

/// What a NoTrackPolicy must be: the definition that the API server gets, and what Kubernetes itself wants of metadata.
pub(super) static SCHEMA: LazyLock<Result<Schema, String>> = LazyLock::new(|| {
    let crd = serde_json::to_value(NoTrackPolicy::crd()).map_err(|error| error.to_string())?;
    let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    schema["required"] = json!(["metadata", "spec"]);
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("status");
        properties.insert("apiVersion".into(), json!({ "type": "string" }));
        properties.insert("kind".into(), json!({ "type": "string" }));
        properties.insert("metadata".into(), metadata());
    }
    Schema::new(&schema)
});

/// Metadata of a cluster-scoped object in a file.
fn metadata() -> Json {
    let string = json!({ "type": "string" });
    let time = json!({ "type": "string", "format": "date-time" });
    let integer = json!({ "type": "integer", "format": "int64" });
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "maxLength": 253,
                "x-kubernetes-validations": [{
                    // Not format.dns1123Subdomain(): kube's limits each part to 63 characters, Kubernetes does not.
                    "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
                    "message": "must be a DNS-1123 subdomain: lower-case letters, digits, - and ., a letter or a digit at both ends",
                }],
            },
            "labels": {
                "type": "object",
                "additionalProperties": {
                    "type": "string",
                    "x-kubernetes-validations": [{
                        "rule": "!format.labelValue().validate(self).hasValue()",
                        "message": "must be a label value",
                    }],
                },
                "x-kubernetes-validations": [{
                    "rule": "self.all(k, !format.qualifiedName().validate(k).hasValue())",
                    "message": "not a label key",
                }],
            },
            "annotations": {
                "type": "object",
                "additionalProperties": string,
                "x-kubernetes-validations": [{
                    "rule": "self.all(k, !format.qualifiedName().validate(k.lowerAscii()).hasValue())",
                    "message": "not an annotation key",
                }],
            },
            "finalizers": { "type": "array", "items": string },
            // What the API server fills in, and `kubectl get -o yaml` prints.
            "creationTimestamp": time,
            "deletionTimestamp": time,
            "deletionGracePeriodSeconds": integer,
            "generation": integer,
            "resourceVersion": string,
            "selfLink": string,
            "uid": string,
        },
    })
}

/// The documents that are policies; lists are taken apart, and all else is reported.
pub(super) fn policies(checker: &mut Checker, document: Node) -> Vec<Node> {
    let mut policies = Vec::new();
    sort(checker, document, 0, &mut policies);
    policies
}

fn sort(checker: &mut Checker, document: Node, lists: usize, policies: &mut Vec<Node>) {
    let mark = document.mark();
    if !matches!(document.value, Value::Map(_)) {
        if document.value != Value::Null {
            checker.error("", mark, "not a Kubernetes object", None);
        }
        return;
    }
    let (Some(kind), Some(api_version)) = (document.string("kind"), document.string("apiVersion")) else {
        for field in ["apiVersion", "kind"] {
            if document.string(field).is_none() {
                let mark = document.entry(field).map_or(mark, Entry::mark);
                checker.error(field, mark, format!("{field} is required, and must be a string"), None);
            }
        }
        return;
    };
    let (kind, api_version) = (kind.to_owned(), api_version.to_owned());
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let kind_mark = document.entry("kind").map_or(mark, Entry::mark);
    let version_mark = document.entry("apiVersion").map_or(mark, Entry::mark);
    match (group, version, kind.as_str()) {
        (GROUP, VERSION, POLICY) => policies.push(document),
        (GROUP, VERSION, "NoTrackPolicyList") | ("", "v1", "List") if lists < MAX_LISTS => {
            if let Value::Map(entries) = document.value {
                let items = entries.into_iter().find(|entry| entry.key == "items").map(|entry| entry.value);
                match items.map(|items| items.value) {
                    Some(Value::List(items)) => {
                        items.into_iter().for_each(|item| sort(checker, item, lists + 1, policies));
                    }
                    None | Some(Value::Null) => {}
                    Some(_) => checker.error("items", mark, "must be a list", None),
                }
            }
        }
        (_, _, POLICY) => {
            let message = format!("{} is not an apiVersion of {POLICY}", quoted(&api_version));
            checker.error("apiVersion", version_mark, message, Some(format!("write {GROUP}/{VERSION}")));
        }
        (GROUP, _, kind) if !INTERNAL.contains(&kind) => {
            let help = match suggest::closest(kind, [POLICY]) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("policies are of kind {POLICY}"),
            };
            checker.error("kind", kind_mark, format!("{GROUP} has no kind {}", quoted(kind)), Some(help));
        }
        (_, _, kind) => {
            checker.report(Severity::Warning, "kind", kind_mark, format!("skipped: kind {kind}"), None);
        }
    }
}
