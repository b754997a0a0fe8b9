//! Since when each condition has its status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use notrack_api as api;
use notrack_core::policy::ValidatedPolicy;

/// The custom resources take no more characters.
pub(super) const MOST_MESSAGE: usize = 1024;

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// The node.
    Node,
    /// A policy: one that is deleted and made anew is another, whatever its name. Files have neither uid nor time.
    Policy {
        /// `metadata.name`.
        name: String,
        /// `metadata.uid`.
        uid: Option<String>,
        /// `metadata.creationTimestamp`, in seconds since 1970.
        created: Option<i64>,
    },
}

impl Object {
    /// A policy.
    pub fn of(policy: &ValidatedPolicy) -> Object {
        Object::Policy { name: policy.name.clone(), uid: policy.uid.clone(), created: policy.created }
    }
}

/// The transition times of all conditions.
#[derive(Debug, Default)]
pub struct Since(BTreeMap<(Object, &'static str), (api::ConditionStatus, Timestamp)>);

impl Since {
    /// A condition at `now`; its transition time moves only when its status does.
    pub fn condition(
        &mut self,
        (object, kind): (&Object, &'static str),
        status: api::ConditionStatus,
        (reason, message): (&str, &str),
        now: Timestamp,
    ) -> api::Condition {
        let known = self.0.entry((object.clone(), kind)).or_insert((status, now));
        if known.0 != status {
            *known = (status, now);
        }
        api::Condition {
            type_: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.chars().take(MOST_MESSAGE).collect(),
            last_transition_time: api::Time(known.1),
            observed_generation: None,
        }
    }

    /// Forgets the policies that are gone.
    pub fn retain(&mut self, exists: impl Fn(&Object) -> bool) {
        self.0.retain(|(object, _), _| *object == Object::Node || exists(object));
    }
}

#[cfg(test)]
mod tests {
    use notrack_api::ConditionStatus::{False, True};
    use notrack_api::condition::READY;

    use super::*;

    fn policy(uid: Option<&str>) -> Object {
        Object::Policy { name: "p".into(), uid: uid.map(str::to_owned), created: None }
    }

    fn at(since: &mut Since, object: &Object, status: api::ConditionStatus, second: i64) -> i64 {
        let now = Timestamp::from_second(second).unwrap();
        since.condition((object, READY), status, ("R", ""), now).last_transition_time.0.as_second()
    }

    #[test]
    fn a_transition_is_a_change_of_the_status() {
        let (mut since, a) = (Since::default(), policy(Some("a")));
        assert_eq!([at(&mut since, &a, True, 1), at(&mut since, &a, True, 2)], [1, 1]);
        assert_eq!([at(&mut since, &a, False, 3), at(&mut since, &a, False, 4)], [3, 3]);
    }

    #[test]
    fn a_policy_that_is_made_anew_has_times_of_its_own() {
        let mut since = Since::default();
        at(&mut since, &policy(Some("a")), True, 1);
        assert_eq!(at(&mut since, &policy(Some("b")), True, 5), 5);
        // Files have no uid: what was away in between is another one.
        at(&mut since, &policy(None), True, 1);
        at(&mut since, &Object::Node, True, 1);
        since.retain(|object| *object == policy(Some("b")));
        assert_eq!(at(&mut since, &policy(None), True, 7), 7);
        assert_eq!(at(&mut since, &policy(Some("b")), True, 7), 5);
        assert_eq!(at(&mut since, &Object::Node, True, 7), 1, "the node stays");
        assert_eq!(since.0.len(), 3);
    }
}
