//! The policies' status: what it is, and when it is written.

mod ledger;

use std::collections::BTreeSet;

use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use notrack_api as api;
use notrack_core::plan::ClusterPlan;
use notrack_core::policy::Mode;
use notrack_core::status::{NodeView, PolicyView, aggregate_status, refuse, refused_status};
use serde_json::json;
use tokio::sync::mpsc;

pub use ledger::{Due, Ledger};

use crate::objects::{Plan, Policy};
use crate::publish::TooLarge;
use crate::withdrawal;
use crate::world::World;
use crate::write::{FIELD_MANAGER, WriteError, within};

/// Writes in flight at once.
const AT_ONCE: usize = 8;

/// A policy's status as it ought to be. `previous` is the one that was written last: what does not change keeps its
/// times.
pub fn wanted(
    world: &World,
    compiled: &ClusterPlan,
    too_large: &TooLarge,
    (name, policy): (&str, &Policy),
    previous: Option<&api::NoTrackPolicyStatus>,
    now: Timestamp,
) -> api::NoTrackPolicyStatus {
    let content = match &policy.content {
        Ok(content) => content,
        Err(problems) => return refused_status(policy.generation, problems, previous, now),
    };
    let selected = compiled.selected.get(name).map(Vec::as_slice).unwrap_or_default();
    let nodes = selected.iter().filter_map(|node| node_view(world, compiled, node));
    let view = PolicyView {
        name,
        uid: &policy.uid,
        generation: policy.generation,
        audit: content.mode == Mode::Audit,
        expired: content.is_expired(now.as_second()),
        findings: compiled.findings.get(name).map(Vec::as_slice).unwrap_or_default(),
        previous,
    };
    let mut status = aggregate_status(&view, nodes, now);
    if world.is_withdrawn(now) {
        let message = withdrawn(world);
        refuse(&mut status, withdrawal::REASON, &message, previous, now);
        // Nothing is compiled, so none of its nodes was found: that says nothing of its selector.
        for condition in &mut status.conditions {
            if condition.type_ == api::condition::PROGRAMMED {
                condition.reason = withdrawal::REASON.to_owned();
                condition.message.clone_from(&message);
            }
        }
    } else if let Some(message) = does_not_fit(compiled, too_large, name) {
        refuse(&mut status, "TooLarge", message, previous, now);
    }
    status
}

fn withdrawn(world: &World) -> String {
    let confirmed = |plan: &Plan| withdrawal::is_confirmed(&plan.spec, &plan.status, plan.generation);
    let unconfirmed = world.plans.iter().filter(|(_, plan)| !confirmed(plan));
    withdrawal::message(world.plans.len(), unconfirmed.map(|(name, _)| name.as_str()).collect())
}

fn node_view<'a>(world: &'a World, compiled: &'a ClusterPlan, name: &'a str) -> Option<NodeView<'a>> {
    let node = world.nodes.get(name)?;
    let order = compiled.nodes.get(name)?;
    let plan = world.plans.get(name);
    Some(NodeView {
        name,
        uid: &node.uid,
        created: node.created,
        planned_digest: order.rule_set.as_ref().map(|digest| digest.as_str()),
        report_every_seconds: plan.map_or(300, |plan| plan.spec.report_every_seconds),
        status: plan.map(|plan| &*plan.status),
    })
}

/// Why the policy is on none of some of its nodes, if their rules do not fit into an object.
fn does_not_fit<'a>(compiled: &ClusterPlan, too_large: &'a TooLarge, policy: &str) -> Option<&'a str> {
    too_large.iter().find_map(|(digest, message)| {
        let rule_set = compiled.rule_sets.get(digest)?;
        let named = rule_set.policies().iter().any(|one| one.name == policy);
        named.then_some(message.as_str())
    })
}

/// How a write of a status ended.
#[derive(Debug)]
pub struct Wrote {
    /// The policy's name.
    pub name: String,
    /// What was written, or why not.
    pub result: Result<api::NoTrackPolicyStatus, WriteError>,
}

/// Writes what is due.
pub async fn write(client: Client, due: Vec<Due>, wrote: mpsc::Sender<Wrote>) {
    // The answer holds the whole policy, which may be the one that cannot be read.
    let api = Api::<DeserializeGuard<api::NoTrackPolicy>>::all(client);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    futures::stream::iter(due)
        .for_each_concurrent(AT_ONCE, async |Due { name, uid, status }| {
            let body = json!({
                "apiVersion": format!("{}/{}", api::GROUP, api::VERSION),
                "kind": "NoTrackPolicy",
                // The uid: another policy of this name must not get it.
                "metadata": {"name": name, "uid": uid},
                // Always all of it: what an apply leaves out is dropped.
                "status": status,
            });
            let answer = within(api.patch_status(&name, &params, &Patch::Apply(&body))).await;
            let result = answer.map(|_| status);
            // A receiver that is gone means that the program ends.
            drop(wrote.send(Wrote { name, result }).await);
        })
        .await;
}

/// How many nodes run what they are to run, run something else, or are silent.
pub fn node_states(world: &World, compiled: &ClusterPlan, now: Timestamp) -> (usize, usize, usize) {
    let (mut programmed, mut behind, mut silent) = (0, 0, 0);
    for (name, order) in &compiled.nodes {
        let plan = world.plans.get(name);
        let every = plan.map_or(300, |plan| i64::from(plan.spec.report_every_seconds));
        let reported = plan.map(|plan| &plan.status).filter(|status| {
            status.node_uid.as_ref() == Some(&order.uid)
                && status
                    .reported_at
                    .as_ref()
                    .is_some_and(|at| now.as_second() - at.0.as_second() <= 3 * every)
        });
        let wanted = order.rule_set.as_ref().map(|digest| digest.as_str()).unwrap_or_default();
        match reported {
            None => silent += 1,
            Some(status) if status.programmed_digest.as_deref().unwrap_or_default() == wanted => {
                programmed += 1
            }
            Some(_) => behind += 1,
        }
    }
    (programmed, behind, silent)
}

/// How many policies are ready, are not, or did not say yet.
pub fn ready_counts<'a>(
    statuses: impl Iterator<Item = &'a api::NoTrackPolicyStatus>,
) -> (usize, usize, usize) {
    let (mut ready, mut not_ready, mut unknown) = (0, 0, 0);
    for status in statuses {
        let found = status.conditions.iter().find(|known| known.type_ == api::condition::READY);
        match found.map(|condition| condition.status) {
            Some(api::ConditionStatus::True) => ready += 1,
            Some(api::ConditionStatus::False) => not_ready += 1,
            Some(api::ConditionStatus::Unknown) | None => unknown += 1,
        }
    }
    (ready, not_ready, unknown)
}

/// Names of the RuleSets that plans name, or are about to.
pub fn used_rule_sets(world: &World, compiled: &ClusterPlan) -> BTreeSet<String> {
    let named =
        world.plans.values().filter_map(|plan| plan.spec.rule_set.as_ref().map(|set| set.name.clone()));
    named.chain(compiled.rule_sets.keys().map(|digest| digest.object_name())).collect()
}
