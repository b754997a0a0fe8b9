//! Whether our own kinds are installed, and new enough.
//!
//! `kubectl delete crd` deletes every object of the kind, one by one, and the watches tell it as if users had. A CRD
//! that is going or gone therefore stops all writes: what the nodes run stays as it is (their agents keep the rules of
//! a plan that vanished). When the CRDs are back, the kinds are listed anew, and writes begin some time later, so that
//! policies can be brought back first. From then on a cluster without policies means what it says: plans without rules.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::write::{WriteError, within};

/// What was found of the CRDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// All of them, with their uids.
    All(Vec<String>),
    /// Some are missing or being deleted.
    Not(Vec<String>),
    /// The API server does not tell.
    Unknown(String),
}

impl Installed {
    /// Whether they are these, and not others of the same names.
    pub fn are(&self, known: &[String]) -> bool {
        matches!(self, Installed::All(uids) if uids == known)
    }
}

/// Looks for our CRDs.
pub async fn installed(client: &Client) -> Installed {
    let api = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client.clone());
    let ours = notrack_api::crds();
    let answers = futures::future::join_all(ours.iter().map(async |crd| {
        let name = crd.name_any();
        let found = within(api.get_opt(&name)).await;
        (name, found)
    }));
    let (mut uids, mut missing) = (Vec::new(), Vec::new());
    for (name, answer) in answers.await {
        match answer {
            Ok(Some(crd)) if crd.metadata.deletion_timestamp.is_none() => uids.extend(crd.metadata.uid),
            Ok(_) => missing.push(name),
            Err(error) => return Installed::Unknown(error.to_string()),
        }
    }
    if missing.is_empty() { Installed::All(uids) } else { Installed::Not(missing) }
}

/// What the installed CRDs lack of ours: "notrackpolicies.notrack.dev lacks spec.flows[].peers".
pub async fn behind(client: &Client) -> Result<Vec<String>, WriteError> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let mut lacking = Vec::new();
    for ours in notrack_api::crds() {
        let name = ours.name_any();
        if let Some(theirs) = within(api.get_opt(&name)).await? {
            lacking
                .extend(missing_fields(&ours, &theirs).iter().map(|field| format!("{name} lacks {field}")));
        }
    }
    Ok(lacking)
}

/// Paths of fields that the installed definition would drop from our objects.
fn missing_fields(ours: &CustomResourceDefinition, installed: &CustomResourceDefinition) -> Vec<String> {
    let mut missing = Vec::new();
    for version in &ours.spec.versions {
        let same = installed.spec.versions.iter().find(|other| other.name == version.name && other.served);
        match (schema(version), same) {
            (Some(ours), Some(theirs)) => compare("", &ours, schema(theirs).as_ref(), &mut missing),
            (_, None) => missing.push(format!("version {}", version.name)),
            (None, Some(_)) => {}
        }
    }
    missing
}

fn schema(version: &impl serde::Serialize) -> Option<Value> {
    serde_json::to_value(version).ok()?.pointer_mut("/schema/openAPIV3Schema").map(Value::take)
}

fn compare(path: &str, ours: &Value, installed: Option<&Value>, missing: &mut Vec<String>) {
    let Some(installed) = installed else { return missing.push(path.to_owned()) };
    for (field, schema) in ours.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
        compare(&path, schema, installed.get("properties").and_then(|all| all.get(field)), missing);
    }
    if let Some(schema) = ours.get("items") {
        compare(&format!("{path}[]"), schema, installed.get("items"), missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_crd_lacks_fields() {
        let [ours, ..] = notrack_api::crds();
        assert_eq!(missing_fields(&ours, &ours), Vec::<String>::new());
        let mut value = serde_json::to_value(&ours).unwrap();
        let root = "/spec/versions/0/schema/openAPIV3Schema/properties";
        let remove = |value: &mut Value, pointer: &str, field: &str| {
            let fields = value.pointer_mut(pointer).and_then(Value::as_object_mut).unwrap();
            assert!(fields.remove(field).is_some());
        };
        remove(&mut value, &format!("{root}/spec/properties"), "expireTime");
        remove(&mut value, &format!("{root}/spec/properties/flows/items/properties"), "peers");
        let older: CustomResourceDefinition = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(missing_fields(&ours, &older), ["spec.expireTime", "spec.flows[].peers"]);
        assert_eq!(missing_fields(&older, &ours), Vec::<String>::new(), "a newer one lacks nothing");
        *value.pointer_mut("/spec/versions/0/name").unwrap() = "v1".into();
        let other: CustomResourceDefinition = serde_json::from_value(value).unwrap();
        assert_eq!(missing_fields(&ours, &other), ["version v1alpha1"]);
    }

    #[test]
    fn a_crd_that_was_made_anew_is_another() {
        let known = vec!["a".to_owned(), "b".to_owned()];
        assert!(Installed::All(known.clone()).are(&known));
        assert!(!Installed::All(vec!["a".into(), "c".into()]).are(&known));
        assert!(!Installed::Not(vec!["b".into()]).are(&known));
        assert!(!Installed::Unknown(String::new()).are(&known));
    }
}
