//! The rules of the kinds that only our own programs write. (Those of policies are tried in notrack-core.)

// clippy exempts tests, but not the functions that they call.
#![allow(clippy::unwrap_used)]

use kube::core::cel::{validate_cel, validate_cel_update};
use notrack_api::{NodePlan, NodePlanSpec, RuleSet, RuleSetRef, RuleSetSpec};

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NAME: &str = "rs-0123456789abcdef0123456789abcdef01234567";

fn rule_set(name: &str) -> RuleSet {
    let (digest, payload) = (DIGEST.to_owned(), "AAAA".to_owned());
    RuleSet::new(name, RuleSetSpec { format: 1, digest, policy_count: None, payload })
}

fn plan(epoch: i64, rule_set: Option<&str>) -> NodePlan {
    let rule_set = rule_set.map(|name| RuleSetRef { name: name.to_owned(), digest: DIGEST.to_owned() });
    let mut spec: NodePlanSpec =
        serde_json::from_value(serde_json::json!({ "nodeUID": "u", "epoch": epoch })).unwrap();
    spec.rule_set = rule_set;
    NodePlan::new("node", spec)
}

fn message<T>(result: Result<T, kube::core::cel::ValidationErrors>) -> String {
    result.err().map(|errors| errors[0].to_string()).unwrap_or_default()
}

#[test]
fn a_rule_set_is_named_by_its_digest_and_never_changes() {
    assert_eq!(message(validate_cel(&rule_set(NAME))), "");
    assert!(message(validate_cel(&rule_set("rs-other"))).contains("first 40 characters of spec.digest"));

    let old = rule_set(NAME);
    let mut new = old.clone();
    assert_eq!(message(validate_cel_update(&new, &old)), "");
    new.spec.payload = "AAAB".into();
    assert_eq!(message(validate_cel_update(&new, &old)), "spec: a RuleSet never changes; write a new one");
}

#[test]
fn a_plan_names_its_rule_set_by_digest() {
    assert_eq!(message(validate_cel(&plan(1, None))), "");
    assert_eq!(message(validate_cel(&plan(1, Some(NAME)))), "");
    assert!(message(validate_cel(&plan(1, Some("rs-other")))).contains("first characters of its digest"));
}

#[test]
fn a_stale_controller_cannot_write_a_plan() {
    assert_eq!(message(validate_cel_update(&plan(2, None), &plan(2, None))), "");
    assert_eq!(message(validate_cel_update(&plan(3, None), &plan(2, None))), "");
    let stale = message(validate_cel_update(&plan(1, None), &plan(2, None)));
    assert_eq!(stale, "spec.epoch: stale controller: epoch must not decrease");
}
