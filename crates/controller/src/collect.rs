//! RuleSets that no plan names: marked first, deleted when they have been unused for long enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use notrack_api as api;
use serde_json::json;

use crate::objects::{RuleSet, UNUSED_SINCE};
use crate::write::{FIELD_MANAGER, WriteError, within};

/// What to do with a RuleSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody uses it: note since when.
    Mark(String, RuleSet),
    /// It is used again.
    Unmark(String, RuleSet),
    /// Nobody has used it for long enough.
    Delete(String, RuleSet),
}

impl Step {
    /// The RuleSet's name.
    pub fn name(&self) -> &str {
        match self {
            Step::Mark(name, _) | Step::Unmark(name, _) | Step::Delete(name, _) => name,
        }
    }
}

/// What to do now. An agent that restarts looks up the RuleSet of its plan, so what any plan names is in use, and what
/// the next plans name too.
pub fn steps(
    known: &BTreeMap<String, RuleSet>,
    used: &BTreeSet<String>,
    now: Timestamp,
    stay: Duration,
) -> Vec<Step> {
    let step = |(name, rule_set): (&String, &RuleSet)| {
        let (name, rule_set) = (name.clone(), rule_set.clone());
        match (&rule_set.unused_since, used.contains(&name)) {
            (None, true) => None,
            (Some(_), true) => Some(Step::Unmark(name, rule_set)),
            (None, false) => Some(Step::Mark(name, rule_set)),
            (Some(since), false) => match since.parse::<Timestamp>() {
                // A mark that cannot be read, or lies ahead of our clock, says nothing.
                Ok(since) if since <= now => {
                    let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
                    (age >= stay).then_some(Step::Delete(name, rule_set))
                }
                _ => Some(Step::Mark(name, rule_set)),
            },
        }
    };
    known.iter().filter_map(step).collect()
}

/// Does one step. `None`: the RuleSet is gone. Every write names the version that was judged, so that nothing is
/// taken from whoever began to use it meanwhile.
pub async fn take(
    api: &Api<api::RuleSet>,
    step: &Step,
    now: Timestamp,
) -> Result<Option<RuleSet>, WriteError> {
    match step {
        Step::Mark(name, known) => annotate(api, name, known, Some(now.to_string())).await.map(Some),
        Step::Unmark(name, known) => unmark(api, name, known).await.map(Some),
        Step::Delete(name, known) => {
            let preconditions =
                Preconditions { uid: Some(known.uid.clone()), resource_version: Some(known.version.clone()) };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match within(api.delete(name, &params)).await {
                Ok(_) | Err(WriteError::NotFound(_)) => Ok(None),
                Err(error) => Err(error),
            }
        }
    }
}

/// Marks a RuleSet as used.
pub async fn unmark(api: &Api<api::RuleSet>, name: &str, known: &RuleSet) -> Result<RuleSet, WriteError> {
    annotate(api, name, known, None).await
}

async fn annotate(
    api: &Api<api::RuleSet>,
    name: &str,
    known: &RuleSet,
    value: Option<String>,
) -> Result<RuleSet, WriteError> {
    let patch = json!({"metadata": {
        "uid": known.uid, "resourceVersion": known.version, "annotations": {UNUSED_SINCE: value},
    }});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let answer = within(api.patch_metadata(name, &params, &Patch::Merge(&patch))).await?;
    Ok(RuleSet::of(answer.metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule_set(unused_since: Option<&str>) -> RuleSet {
        RuleSet { unused_since: unused_since.map(Into::into), ..RuleSet::default() }
    }

    #[test]
    fn what_is_unused_is_marked_and_goes_later() {
        let now: Timestamp = "2027-01-01T12:00:00Z".parse().unwrap();
        let marks = [
            ("rs-in-use", None),
            ("rs-used-again", Some("2027-01-01T11:00:00Z")),
            ("rs-unused", None),
            ("rs-unused-since-5m", Some("2027-01-01T11:55:00Z")),
            ("rs-unused-since-10m", Some("2027-01-01T11:50:00Z")),
            ("rs-from-the-future", Some("2027-01-01T13:00:00Z")),
            ("rs-unreadable", Some("yesterday")),
        ];
        let known = marks.iter().map(|(name, mark)| ((*name).to_owned(), rule_set(*mark))).collect();
        let used = BTreeSet::from(["rs-in-use".to_owned(), "rs-used-again".to_owned()]);
        let steps = steps(&known, &used, now, Duration::from_secs(600));
        let mut named: Vec<String> = steps
            .iter()
            .map(|step| match step {
                Step::Mark(name, _) => format!("mark {name}"),
                Step::Unmark(name, _) => format!("unmark {name}"),
                Step::Delete(name, _) => format!("delete {name}"),
            })
            .collect();
        named.sort();
        assert_eq!(
            named,
            [
                "delete rs-unused-since-10m",
                "mark rs-from-the-future",
                "mark rs-unreadable",
                "mark rs-unused",
                "unmark rs-used-again",
            ]
        );
    }
}
