//! Orders to the nodes: the RuleSets first, then the NodePlans that differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use notrack_api as api;
use notrack_core::compile::{RuleSet, RuleSetDigest};
use notrack_core::payload::{self, PayloadError};
use notrack_core::plan::{ClusterPlan, NodeOrder};
use serde_json::json;
use tokio::sync::mpsc;

use crate::collect;
use crate::crds::{self, Installed};
use crate::objects::{self, Plan};
use crate::world::World;
use crate::write::{FIELD_MANAGER, NO_BACKUP, WriteError, within};

/// Writes in flight at once.
const AT_ONCE: usize = 16;
/// Nodes report no more often than this, and 50 of them a second at most.
const REPORT_EVERY: u32 = 300;
const REPORTS_A_SECOND: usize = 50;

/// Everything there is to write.
#[derive(Debug, Default)]
pub struct Work {
    /// RuleSets that must be there before plans name them.
    pub rule_sets: Vec<RuleSetWork>,
    /// Plans.
    pub plans: Vec<PlanWork>,
}

/// What a RuleSet needs.
#[derive(Clone, Debug)]
pub enum RuleSetWork {
    /// To be made.
    Create(Box<api::RuleSet>),
    /// To be marked as used again.
    Unmark(String, objects::RuleSet),
}

impl RuleSetWork {
    fn name(&self) -> String {
        match self {
            RuleSetWork::Create(object) => object.metadata.name.clone().unwrap_or_default(),
            RuleSetWork::Unmark(name, _) => name.clone(),
        }
    }
}

/// A plan to write.
#[derive(Clone, Debug)]
pub struct PlanWork {
    /// The node's name, and the plan's.
    pub name: String,
    /// The object to apply.
    pub body: api::NodePlan,
}

/// Rule sets that do not fit into an object, and how they were told so.
pub type TooLarge = BTreeMap<RuleSetDigest, String>;

/// How often nodes report, in seconds.
pub fn report_every(nodes: usize) -> u32 {
    u32::try_from(nodes / REPORTS_A_SECOND).unwrap_or(u32::MAX).clamp(REPORT_EVERY, 3600)
}

/// What must be written so that the API holds what was compiled. Rule sets that are found to be too large go into
/// `too_large`; their nodes keep the plans that they have.
pub fn work(world: &World, compiled: &ClusterPlan, too_large: &mut TooLarge, epoch: i64) -> Work {
    too_large.retain(|digest, _| compiled.rule_sets.contains_key(digest));
    let mut rule_sets = Vec::new();
    let mut failed = BTreeSet::new();
    for (digest, rule_set) in &compiled.rule_sets {
        let name = digest.object_name();
        match world.rule_sets.get(&name) {
            Some(known) if known.unused_since.is_none() => {}
            Some(known) => rule_sets.push(RuleSetWork::Unmark(name, known.clone())),
            None if too_large.contains_key(digest) => {}
            None => match object(rule_set) {
                Ok(object) => rule_sets.push(RuleSetWork::Create(Box::new(object))),
                Err(error @ PayloadError::TooLarge(_)) => {
                    tracing::error!(rule_set = name, policies = rule_set.policies().len(), "{error}");
                    too_large.insert(digest.clone(), error.to_string());
                }
                Err(error) => {
                    tracing::error!(rule_set = name, "{error}");
                    failed.insert(digest);
                }
            },
        }
    }
    let every = report_every(world.nodes.len());
    let orders = compiled.nodes.iter().filter(|(_, order)| {
        order.rule_set.as_ref().is_none_or(|set| !too_large.contains_key(set) && !failed.contains(set))
    });
    let plans = orders.filter_map(|(name, order)| plan(world.plans.get(name), name, order, every, epoch));
    let plans = plans.collect();
    Work { rule_sets, plans }
}

/// The plan to write, if that which is there differs. The term alone is no difference: a change of leader must not
/// write to every node.
fn plan(known: Option<&Plan>, name: &str, order: &NodeOrder, every: u32, epoch: i64) -> Option<PlanWork> {
    let NodeOrder { uid, rule_set, exclusions } = order;
    let rule_set = rule_set
        .as_ref()
        .map(|digest| api::RuleSetRef { name: digest.object_name(), digest: digest.to_string() });
    if let Some(Plan { spec, owners, .. }) = known {
        let same = spec.node_uid == *uid
            && spec.rule_set == rule_set
            && spec.exclusions == *exclusions
            && spec.requires.is_empty()
            && owners.contains(uid)
            && !differs(spec.report_every_seconds, every);
        if same {
            return None;
        }
    }
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        // The server refuses the write if the plan is not the one that was compared.
        resource_version: known.map(|plan| plan.version.clone()),
        labels: Some(no_backup()),
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.to_owned(),
            uid: uid.clone(),
            controller: Some(false),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    };
    let spec = api::NodePlanSpec {
        node_uid: uid.clone(),
        epoch,
        rule_set,
        requires: Vec::new(),
        exclusions: exclusions.clone(),
        report_every_seconds: every,
    };
    Some(PlanWork { name: name.to_owned(), body: api::NodePlan { metadata, spec, status: None } })
}

/// A node more or less must not change every plan.
fn differs(known: u32, wanted: u32) -> bool {
    known.abs_diff(wanted) > wanted / 5
}

fn object(rule_set: &RuleSet) -> Result<api::RuleSet, PayloadError> {
    let mut object = api::RuleSet::new(&rule_set.digest().object_name(), payload::encode(rule_set)?);
    object.metadata.labels = Some(no_backup());
    Ok(object)
}

fn no_backup() -> BTreeMap<String, String> {
    BTreeMap::from([(NO_BACKUP.0.to_owned(), NO_BACKUP.1.to_owned())])
}

/// What a publication tells while it works.
#[derive(Debug)]
pub enum Outcome {
    /// What was found of the CRDs. Nothing is written where they are not those that are known.
    Crds(Installed),
    /// A RuleSet was written.
    RuleSet(String, Result<objects::RuleSet, WriteError>),
    /// A plan was written.
    Plan(String, Result<Plan, WriteError>),
    /// All was tried, or the publication was told to stop.
    Done {
        /// What was left when it was told to stop, or gave up.
        left: usize,
    },
}

/// Does the work. It stops before its next write once `stop` is set: what is newer is published then.
pub async fn publish(
    client: Client,
    work: Work,
    known_crds: Vec<String>,
    stop: Arc<AtomicBool>,
    outcomes: mpsc::Sender<Outcome>,
) {
    // A receiver that is gone means that the program ends.
    let tell = async |outcome| drop(outcomes.send(outcome).await);
    // Deleting a CRD deletes its objects one by one, as if a user had: that must not reach the nodes.
    let installed = crds::installed(&client).await;
    if !installed.are(&known_crds) {
        let left = work.rule_sets.len() + work.plans.len();
        tell(Outcome::Crds(installed)).await;
        return tell(Outcome::Done { left }).await;
    }
    let rule_sets = Api::<api::RuleSet>::all(client.clone());
    let (mut missing, mut skipped) = (BTreeSet::new(), 0);
    for piece in work.rule_sets {
        let name = piece.name();
        if stop.load(Ordering::Relaxed) {
            missing.insert(name);
            skipped += 1;
            continue;
        }
        let result = prepare(&rule_sets, piece).await;
        if let Err(error) = &result {
            missing.insert(name.clone());
            stop.fetch_or(stands_for_all(error), Ordering::Relaxed);
        }
        tell(Outcome::RuleSet(name, result)).await;
    }
    let plans = Api::<api::NodePlan>::all(client);
    let names_missing = |plan: &PlanWork| {
        plan.body.spec.rule_set.as_ref().is_some_and(|rule_set| missing.contains(&rule_set.name))
    };
    let (ready, held): (Vec<_>, Vec<_>) = work.plans.into_iter().partition(|plan| !names_missing(plan));
    let left = futures::stream::iter(ready)
        .map(|plan| {
            let (plans, stop, tell) = (&plans, &stop, &tell);
            async move {
                if stop.load(Ordering::Relaxed) {
                    return 1;
                }
                let result = apply(plans, &plan).await;
                if let Err(error) = &result {
                    stop.fetch_or(stands_for_all(error), Ordering::Relaxed);
                }
                tell(Outcome::Plan(plan.name, result)).await;
                0
            }
        })
        .buffer_unordered(AT_ONCE)
        .fold(skipped + held.len(), async |left, one| left + one)
        .await;
    tell(Outcome::Done { left }).await;
}

/// Whether one failure of this kind stands for all writes that would follow.
fn stands_for_all(error: &WriteError) -> bool {
    matches!(error, WriteError::Stale(_) | WriteError::Throttled { .. } | WriteError::Unreachable(_))
}

async fn prepare(api: &Api<api::RuleSet>, work: RuleSetWork) -> Result<objects::RuleSet, WriteError> {
    match work {
        RuleSetWork::Create(object) => {
            let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
            match within(api.create(&params, &object)).await {
                Ok(made) => Ok(objects::RuleSet::of(made.metadata)),
                // Of this name there is only one content.
                Err(WriteError::Conflict(_)) => {
                    let name = object.metadata.name.unwrap_or_default();
                    let there = objects::RuleSet::of(within(api.get_metadata(&name)).await?.metadata);
                    match there.unused_since {
                        Some(_) => collect::unmark(api, &name, &there).await,
                        None => Ok(there),
                    }
                }
                Err(error) => Err(error),
            }
        }
        RuleSetWork::Unmark(name, known) => collect::unmark(api, &name, &known).await,
    }
}

async fn apply(api: &Api<api::NodePlan>, plan: &PlanWork) -> Result<Plan, WriteError> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let api::NodePlan { metadata, spec, status: _ } = &plan.body;
    // Nothing of the status: it is the agent's.
    let body = json!({
        "apiVersion": format!("{}/{}", api::GROUP, api::VERSION),
        "kind": "NodePlan",
        "metadata": metadata,
        "spec": spec,
    });
    Ok(Plan::of(within(api.patch(&plan.name, &params, &Patch::Apply(&body))).await?))
}

#[cfg(test)]
mod tests;
