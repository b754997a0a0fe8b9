use std::sync::Mutex;

use http::{Method, Request, Response};
use kube::client::Body;
use notrack_core::compile::RuleSetDigest;
use notrack_core::hazard::HazardKind;
use notrack_core::kept::Kept;
use notrack_core::net::{PortRange, Proto};

use super::*;
use crate::objects::{Node, RuleSet as SeenRuleSet};
use crate::world::{Change, Update};

const UID: &str = "11111111-1111-1111-1111-111111111111";

fn compiled(rule_set: Option<&RuleSet>) -> ClusterPlan {
    let order = NodeOrder {
        uid: UID.into(),
        rule_set: rule_set.map(|rule_set| rule_set.digest().clone()),
        exclusions: Vec::new(),
    };
    ClusterPlan {
        rule_sets: rule_set.map(|set| (set.digest().clone(), Arc::new(set.clone()))).into_iter().collect(),
        nodes: BTreeMap::from([("a".to_owned(), order)]),
        ..ClusterPlan::default()
    }
}

fn world() -> World {
    let mut world = World::default();
    let node = Node { uid: UID.into(), labels: BTreeMap::new(), created: None };
    world.learn(Update::Nodes(Change::Apply("a".into(), node)));
    world
}

/// As if the API had taken the write.
fn accept(world: &mut World, work: &Work) {
    for plan in &work.plans {
        let mut body = plan.body.clone();
        body.metadata.resource_version = Some("7".into());
        body.metadata.uid = Some("p".into());
        world.wrote_plan(plan.name.clone(), Plan::of(body));
    }
    for rule_set in &work.rule_sets {
        if let RuleSetWork::Create(object) = rule_set {
            let name = object.metadata.name.clone().unwrap();
            world.learn(Update::RuleSets(Change::Apply(name, SeenRuleSet::of(object.metadata.clone()))));
        }
    }
}

#[test]
fn every_node_has_a_plan_even_without_rules() {
    let mut world = world();
    let work = work(&world, &compiled(None), &mut TooLarge::new(), 5);
    assert!(work.rule_sets.is_empty());
    let [plan] = work.plans.as_slice() else { panic!("{work:?}") };
    assert_eq!((plan.name.as_str(), plan.body.spec.rule_set.as_ref(), plan.body.spec.epoch), ("a", None, 5));
    assert_eq!(plan.body.metadata.resource_version, None, "it is made");
    let owner = &plan.body.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.block_owner_deletion), ("Node", UID, None));
    accept(&mut world, &work);
    // A later term alone is no reason to write.
    let again = super::work(&world, &compiled(None), &mut TooLarge::new(), 6);
    assert!(again.plans.is_empty());
}

#[test]
fn what_differs_is_written_against_the_version_seen() {
    let mut world = world();
    let first = work(&world, &compiled(None), &mut TooLarge::new(), 5);
    accept(&mut world, &first);
    let rule_set = RuleSet::new(Vec::new(), Vec::new());
    let second = work(&world, &compiled(Some(&rule_set)), &mut TooLarge::new(), 6);
    assert!(matches!(second.rule_sets.as_slice(), [RuleSetWork::Create(_)]));
    let [plan] = second.plans.as_slice() else { panic!("{second:?}") };
    assert_eq!(plan.body.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(plan.body.spec.epoch, 6);
    assert_eq!(plan.body.spec.rule_set.as_ref().unwrap().name, rule_set.digest().object_name());
    accept(&mut world, &second);
    let third = work(&world, &compiled(Some(&rule_set)), &mut TooLarge::new(), 6);
    assert!(third.plans.is_empty() && third.rule_sets.is_empty());
    // Used again before it was collected.
    let name = rule_set.digest().object_name();
    let marked = SeenRuleSet { unused_since: Some("2027-01-01T00:00:00Z".into()), ..SeenRuleSet::default() };
    world.learn(Update::RuleSets(Change::Apply(name, marked)));
    let fourth = work(&world, &compiled(Some(&rule_set)), &mut TooLarge::new(), 6);
    assert!(matches!(fourth.rule_sets.as_slice(), [RuleSetWork::Unmark(..)]));
    // Another node of this name.
    let mut other = compiled(Some(&rule_set));
    other.nodes.values_mut().for_each(|order| order.uid = "2".repeat(36));
    let fifth = work(&world, &other, &mut TooLarge::new(), 6);
    assert_eq!(fifth.plans.len(), 1);
}

#[test]
fn rules_that_do_not_fit_leave_the_old_plan() {
    let mut world = world();
    let first = work(&world, &compiled(None), &mut TooLarge::new(), 5);
    accept(&mut world, &first);
    let rule_set = RuleSet::new(Vec::new(), Vec::new());
    let mut too_large = TooLarge::from([
        (rule_set.digest().clone(), "too much".to_owned()),
        (RuleSetDigest::of(b"gone"), "too much".to_owned()),
    ]);
    let second = work(&world, &compiled(Some(&rule_set)), &mut too_large, 6);
    assert!(second.plans.is_empty() && second.rule_sets.is_empty());
    assert_eq!(too_large.len(), 1, "what is not asked for any more is forgotten");
}

#[test]
fn many_nodes_report_less_often() {
    assert_eq!([0, 5_000, 15_000, 50_000, 1_000_000].map(report_every), [300, 300, 300, 1000, 3600]);
    assert!(!differs(300, 301) && differs(300, 600) && differs(600, 300));
}

/// An API server with our CRDs that answers every write with `code`, and the paths of the writes that it was asked for.
/// `on_write` runs before each answer.
fn refusing(code: u16, on_write: impl Fn() + Send + Sync + 'static) -> (Client, Arc<Mutex<Vec<String>>>) {
    let writes = Arc::<Mutex<Vec<String>>>::default();
    let (seen, on_write) = (writes.clone(), Arc::new(on_write));
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let (code, body) = if request.method() == Method::GET {
            let name = path.rsplit('/').next().unwrap_or_default();
            (
                200,
                json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": name, "uid": name},
                }),
            )
        } else {
            seen.lock().unwrap().push(path);
            on_write();
            (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "No"}),
            )
        };
        let body = Body::from(body.to_string().into_bytes());
        async move { Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(body).unwrap()) }
    });
    (Client::new(service, "default"), writes)
}

/// Several RuleSets with a plan each, and a plan without rules.
fn several() -> Work {
    let kept = |port| Kept {
        hazard: HazardKind::Protected,
        protocol: Proto::Tcp,
        addresses: None,
        ports: PortRange::one(port),
        clients: None,
        spares_interfaces: false,
        evidence: String::new(),
    };
    let all: Vec<RuleSet> = (1..=3).map(|port| RuleSet::new(Vec::new(), vec![kept(port)])).collect();
    let order = |rule_set: Option<&RuleSet>| NodeOrder {
        uid: UID.into(),
        rule_set: rule_set.map(|rule_set| rule_set.digest().clone()),
        exclusions: Vec::new(),
    };
    let compiled = ClusterPlan {
        rule_sets: all.iter().map(|set| (set.digest().clone(), Arc::new(set.clone()))).collect(),
        nodes: all
            .iter()
            .map(Some)
            .chain([None])
            .enumerate()
            .map(|(n, set)| (format!("n{n}"), order(set)))
            .collect(),
        ..ClusterPlan::default()
    };
    work(&World::default(), &compiled, &mut TooLarge::new(), 1)
}

/// What was asked of the API server, and what was left.
async fn published(code: u16, stop: Arc<AtomicBool>, stops_at_write: bool) -> (Vec<String>, usize) {
    let raised = stop.clone();
    let (client, writes) = refusing(code, move || {
        raised.fetch_or(stops_at_write, Ordering::Relaxed);
    });
    let crds = notrack_api::crds().iter().filter_map(|crd| crd.metadata.name.clone()).collect();
    let (tell, mut outcomes) = mpsc::channel(64);
    publish(client, several(), crds, stop, tell).await;
    let mut left = None;
    while let Some(outcome) = outcomes.recv().await {
        match outcome {
            Outcome::Done { left: found } => left = Some(found),
            Outcome::Crds(installed) => panic!("{installed:?}"),
            Outcome::RuleSet(..) | Outcome::Plan(..) => {}
        }
    }
    let writes = writes.lock().unwrap().clone();
    (writes, left.unwrap())
}

#[tokio::test]
async fn nothing_more_is_written_once_one_failure_stands_for_all() {
    for code in [500, 429] {
        let (writes, left) = published(code, Arc::default(), false).await;
        assert_eq!((writes.len(), left), (1, 2 + 4), "{code}: {writes:?}");
    }
    // One object alone is refused: the others are tried, and what needs them is held.
    let (writes, left) = published(403, Arc::default(), false).await;
    assert_eq!((writes.len(), left), (4, 3), "{writes:?}");
}

#[tokio::test]
async fn a_publication_that_is_stopped_writes_nothing_more() {
    let (writes, left) = published(403, Arc::new(AtomicBool::new(true)), false).await;
    assert_eq!((writes.len(), left), (0, 3 + 4));
    let (writes, left) = published(403, Arc::default(), true).await;
    assert_eq!((writes.len(), left), (1, 2 + 4), "{writes:?}");
}
