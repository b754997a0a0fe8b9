//! `nodeSelector` as Kubernetes means it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One requirement on a node's labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Requirement {
    /// The label has one of the values.
    In(String, Vec<String>),
    /// The label is absent or has none of the values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is absent.
    DoesNotExist(String),
}

/// All of its requirements must hold; without any it selects every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector(pub Vec<Requirement>);

impl Selector {
    /// The labels that it looks at.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|requirement| match requirement {
            Requirement::In(key, _)
            | Requirement::NotIn(key, _)
            | Requirement::Exists(key)
            | Requirement::DoesNotExist(key) => key.as_str(),
        })
    }

    /// Whether the selector selects a node with these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_label_satisfies_not_in_but_not_in() {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let values = || vec!["x".to_owned()];
        assert!(Selector::default().matches(&labels));
        assert!(Selector(vec![Requirement::NotIn("rack".into(), values())]).matches(&labels));
        assert!(!Selector(vec![Requirement::In("rack".into(), values())]).matches(&labels));
        assert!(!Selector(vec![Requirement::DoesNotExist("zone".into())]).matches(&labels));
        assert!(Selector(vec![Requirement::In("zone".into(), vec!["a".into()])]).matches(&labels));
    }
}
