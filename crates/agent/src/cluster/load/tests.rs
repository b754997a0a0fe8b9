//! Against an API server of a few lines.

use std::collections::BTreeMap;
use std::sync::Mutex;

use http::{Request, Response};
use kube::client::Body;
use notrack_api::{NodePlan, NodePlanSpec, RuleSetSpec};
use notrack_core::hazard::HazardKind;
use notrack_core::kept::Kept;
use notrack_core::net::{PortRange, Proto};
use notrack_core::payload::encode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;

type Objects = Arc<Mutex<BTreeMap<String, Value>>>;

/// Gives the objects of a map by name, and 404 for all others.
fn client(objects: Objects) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let found = objects.lock().unwrap().get(&name).cloned();
        let (code, body) = match found {
            Some(object) => (200, object),
            None => (
                404,
                json!({"kind": "Status", "status": "Failure", "code": 404, "message": "not found", "reason": "NotFound"}),
            ),
        };
        let body = Body::from(body.to_string().into_bytes());
        async move { Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(body).unwrap()) }
    });
    Client::new(service, "default")
}

fn plan(generation: i64, rule_set: Option<RuleSetRef>) -> Sight {
    let spec = NodePlanSpec {
        node_uid: "u1".into(),
        epoch: 1,
        rule_set,
        requires: Vec::new(),
        exclusions: Vec::new(),
        report_every_seconds: 300,
    };
    let mut plan = NodePlan::new("n1", spec);
    plan.metadata.generation = Some(generation);
    Sight::Plan(Box::new(plan))
}

fn reference(spec: &RuleSetSpec) -> RuleSetRef {
    RuleSetRef { name: format!("rs-{}", &spec.digest[..40]), digest: spec.digest.clone() }
}

fn object(name: &str, spec: &RuleSetSpec) -> Value {
    serde_json::to_value(Object::new(name, spec.clone())).unwrap()
}

fn other() -> RuleSet {
    let kept = Kept {
        hazard: HazardKind::Protected,
        protocol: Proto::Tcp,
        addresses: None,
        ports: PortRange::one(1),
        clients: None,
        spares_interfaces: false,
        evidence: String::new(),
    };
    RuleSet::new(Vec::new(), vec![kept])
}

struct Bed {
    objects: Objects,
    see: Sender<Sight>,
    news: Receiver<News>,
}

impl Bed {
    fn new() -> Bed {
        let objects = Objects::default();
        let (see, sights) = mpsc::channel(4);
        let (tell, news) = mpsc::channel(4);
        let loader = Loader::new(client(objects.clone()), "n1".into(), "u1".into(), tell);
        tokio::spawn(loader.run(sights));
        Bed { objects, see, news }
    }

    async fn hear(&mut self) -> News {
        timeout(Duration::from_secs(60), self.news.recv()).await.unwrap().unwrap()
    }

    async fn refusal(&mut self) -> &'static str {
        match self.hear().await {
            News::Refused { trouble, .. } => trouble.reason(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_set_is_waited_for_and_read_once() {
    let spec = encode(&RuleSet::new(Vec::new(), Vec::new())).unwrap();
    let wanted = reference(&spec);
    let mut bed = Bed::new();
    bed.see.send(plan(1, Some(wanted.clone()))).await.unwrap();
    assert_eq!(bed.refusal().await, "RuleSetUnavailable");
    bed.objects.lock().unwrap().insert(wanted.name.clone(), object(&wanted.name, &spec));
    let order = loop {
        match bed.hear().await {
            News::Order(order) => break order,
            News::Refused { trouble, .. } => assert_eq!(trouble.reason(), "RuleSetUnavailable"),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(order.rule_set.unwrap().digest().as_str(), wanted.digest);
    bed.objects.lock().unwrap().clear();
    bed.see.send(plan(1, Some(wanted.clone()))).await.unwrap();
    bed.see.send(plan(2, Some(wanted))).await.unwrap();
    let News::Order(order) = bed.hear().await else { panic!("its own reports are no news") };
    assert_eq!((order.generation, order.rule_set.is_some()), (2, true), "not read again");
    bed.see.send(plan(3, None)).await.unwrap();
    let News::Order(order) = bed.hear().await else { panic!("an order to run no rules") };
    assert_eq!((order.generation, order.rule_set), (3, None));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_as_it_should_be_is_no_order() {
    let good = encode(&RuleSet::new(Vec::new(), Vec::new())).unwrap();
    let name = reference(&good).name;
    let mut bed = Bed::new();
    let newer = RuleSetSpec { format: 2, ..good.clone() };
    let forged = RuleSetSpec { payload: encode(&other()).unwrap().payload, ..good.clone() };
    let broken = RuleSetSpec { payload: "AAAA".into(), ..good.clone() };
    let mut generation = 0;
    for (spec, reason) in [(newer, "UnsupportedFormat"), (forged, "DigestMismatch"), (broken, "Malformed")] {
        generation += 1;
        bed.objects.lock().unwrap().insert(name.clone(), object(&name, &spec));
        bed.see.send(plan(generation, Some(reference(&good)))).await.unwrap();
        assert_eq!(bed.refusal().await, reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_comes_back_is_followed_again() {
    let mut bed = Bed::new();
    for _ in 0..2 {
        bed.see.send(plan(1, None)).await.unwrap();
        assert!(matches!(bed.hear().await, News::Order(_)));
        bed.see.send(Sight::Missing).await.unwrap();
        assert_eq!(bed.refusal().await, "PlanMissing");
    }
}
