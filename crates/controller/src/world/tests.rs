use serde_json::json;

use super::*;

fn policy(name: &str, uid: &str, port: u16) -> Policy {
    Policy::of(
        serde_json::from_value(json!({
            "apiVersion": "notrack.dev/v1alpha1", "kind": "NoTrackPolicy",
            "metadata": {"name": name, "uid": uid, "generation": 1},
            "spec": {"nodeSelector": {}, "mode": "Enforce", "flows": [
                {"name": "web", "action": "NoTrack", "role": "Server", "ports": [{"protocol": "TCP", "port": port}]},
            ]},
        }))
        .unwrap(),
    )
}

fn bad(uid: &str) -> Policy {
    Policy { uid: uid.into(), generation: 2, status: None, content: Err(vec!["spec: bad".into()]) }
}

fn ports(world: &World) -> Vec<(String, u16)> {
    world.index.policies().map(|policy| (policy.name.clone(), policy.flows[0].ports[0].1.first())).collect()
}

#[test]
fn a_bad_edit_keeps_the_last_good_version_until_deletion() {
    let mut world = World::default();
    world.learn(Update::Policies(Change::Apply("a".into(), policy("a", "1", 80))));
    world.learn(Update::Policies(Change::Apply("a".into(), bad("1"))));
    assert_eq!(ports(&world), [("a".into(), 80)]);
    let listed = BTreeMap::from([("a".to_owned(), Some(bad("1")))]);
    world.learn(Update::Policies(Change::Reset(listed)));
    assert_eq!(ports(&world), [("a".into(), 80)]);
    // Another object of this name has no version that was good.
    world.learn(Update::Policies(Change::Apply("a".into(), bad("2"))));
    assert_eq!(ports(&world), []);
    world.learn(Update::Policies(Change::Apply("a".into(), policy("a", "2", 81))));
    world.learn(Update::Policies(Change::Delete("a".into())));
    assert_eq!(ports(&world), []);
}

#[test]
fn a_listing_heals_what_was_missed() {
    let mut world = World::default();
    for name in ["a", "b"] {
        world.learn(Update::Policies(Change::Apply(name.into(), policy(name, "1", 80))));
    }
    world.learn(Update::Policies(Change::Reset(BTreeMap::from([(
        "b".to_owned(),
        Some(policy("b", "1", 81)),
    )]))));
    assert_eq!(ports(&world), [("b".into(), 81)]);
    assert_eq!(world.policies.len(), 1);
}

#[test]
fn nothing_is_known_before_every_kind_was_listed() {
    let mut world = World::default();
    assert_eq!(world.awaited(), Kind::ALL);
    world.learn(Update::Policies(Change::Apply("a".into(), policy("a", "1", 80))));
    assert_eq!(world.awaited(), Kind::ALL, "one object is no listing");
    world.learn(Update::Policies(Change::Reset(BTreeMap::new())));
    world.learn(Update::Nodes(Change::Reset(BTreeMap::new())));
    world.learn(Update::Plans(Change::Reset(BTreeMap::new())));
    world.learn(Update::RuleSets(Change::Reset(BTreeMap::new())));
    world.learn(Update::Services(Change::Reset(BTreeMap::new())));
    world.learn(Update::Endpoints(Change::Reset(BTreeMap::new())));
    world.learn(Update::ServiceCidrs(Change::Reset(BTreeMap::new())));
    assert_eq!(world.awaited(), [Kind::Withdrawal]);
    world.learn(Update::Withdrawal(Change::Reset(BTreeMap::new())));
    assert_eq!(world.awaited(), []);
    world.await_again(&Kind::OWN);
    assert_eq!(world.awaited(), Kind::OWN);
}

const ORDER: &str = "ns/notrack-withdrawal";

/// Policies that are compiled one second before `end`, and then.
fn compiled(world: &World, end: Timestamp) -> (usize, usize) {
    let at = |now| world.cluster(now).policies.policies().count();
    (at(end - jiff::SignedDuration::from_secs(1)), at(end))
}

fn world_with_a_policy(orders: BTreeMap<String, Option<Timestamp>>) -> World {
    let mut world = World::default();
    world.learn(Update::Policies(Change::Apply("a".into(), policy("a", "1", 80))));
    world.learn(Update::Withdrawal(Change::Reset(orders)));
    world.take_stale();
    world
}

#[test]
fn a_withdrawal_hides_all_policies_until_it_ends() {
    let mut world = world_with_a_policy(BTreeMap::new());
    let end = Timestamp::from_second(1000).unwrap();
    world.learn(Update::Withdrawal(Change::Apply(ORDER.into(), end)));
    assert!(world.take_stale().compiled);
    assert_eq!(compiled(&world, end), (0, 1));
    // Deleted with the Deployment, while this controller has a last moment.
    world.learn(Update::Withdrawal(Change::Delete(ORDER.into())));
    world.learn(Update::Withdrawal(Change::Reset(BTreeMap::new())));
    assert_eq!(compiled(&world, end), (0, 1));
    // Somebody thinks better of it.
    world.learn(Update::Withdrawal(Change::Apply(ORDER.into(), Timestamp::UNIX_EPOCH)));
    assert!(world.take_stale().compiled);
    assert_eq!(compiled(&world, end), (1, 1));
}

#[test]
fn the_withdrawal_of_an_installation_before_goes_with_its_lease() {
    let end = Timestamp::from_second(1000).unwrap();
    let mut world = world_with_a_policy(BTreeMap::from([(ORDER.to_owned(), Some(end))]));
    assert_eq!(compiled(&world, end), (0, 1));
    world.learn(Update::Withdrawal(Change::Delete(ORDER.into())));
    assert!(world.take_stale().compiled);
    assert_eq!(compiled(&world, end), (1, 1));
    // Given again in this controller's time, it is about this one.
    let mut world = world_with_a_policy(BTreeMap::from([(ORDER.to_owned(), Some(Timestamp::UNIX_EPOCH))]));
    world.learn(Update::Withdrawal(Change::Reset(BTreeMap::from([(ORDER.to_owned(), Some(end))]))));
    world.learn(Update::Withdrawal(Change::Delete(ORDER.into())));
    assert_eq!(compiled(&world, end), (0, 1));
}

#[test]
fn what_cannot_be_read_keeps_what_was_known_of_it() {
    let mut known = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    let listed = BTreeMap::from([("a".to_owned(), None), ("c".to_owned(), Some(3))]);
    let mut changed = merge(&mut known, Change::Reset(listed));
    changed.sort();
    assert_eq!(changed, ["b", "c"]);
    assert_eq!(known, BTreeMap::from([("a".to_owned(), 1), ("c".to_owned(), 3)]));
    assert_eq!(merge(&mut known, Change::Apply("a".into(), 1)), Vec::<String>::new());
}

fn plan(version: &str, packets: u64, address: &str, epoch: i64) -> Plan {
    Plan::of(
        serde_json::from_value(json!({
            "apiVersion": "notrack.dev/v1alpha1", "kind": "NodePlan",
            "metadata": {"name": "n", "uid": "p", "resourceVersion": version},
            "spec": {"nodeUID": "u", "epoch": epoch},
            "status": {
                "nodeUID": "u", "addresses": [address], "policies": [{"name": "a", "state": "Programmed", "packets": packets}],
            },
        }))
        .unwrap(),
    )
}

#[test]
fn only_what_matters_is_compiled_or_published_again() {
    let mut world = World::default();
    let node = Node { uid: "u".into(), labels: BTreeMap::new(), created: None };
    world.learn(Update::Nodes(Change::Apply("n".into(), node)));
    assert!(world.take_stale().compiled);
    world.learn(Update::Plans(Change::Apply("n".into(), plan("10", 1, "10.0.0.1", 1))));
    assert_eq!(world.take_stale(), Stale { compiled: true, published: true, status: true });
    // Figures.
    world.learn(Update::Plans(Change::Apply("n".into(), plan("11", 2, "10.0.0.1", 1))));
    assert_eq!(world.take_stale(), Stale { compiled: false, published: false, status: true });
    // An address comes.
    world.learn(Update::Plans(Change::Apply("n".into(), plan("12", 2, "10.0.0.2", 1))));
    assert!(world.take_stale().compiled);
    // Our own write, then an older state of the plan that the watch was about to tell.
    world.wrote_plan("n".into(), plan("14", 2, "10.0.0.2", 2));
    assert!(world.take_stale().published);
    world.learn(Update::Plans(Change::Apply("n".into(), plan("13", 3, "10.0.0.2", 1))));
    assert_eq!(world.take_stale(), Stale::default());
    assert_eq!(world.plans["n"].spec.epoch, 2);
    // Somebody deletes it.
    world.learn(Update::Plans(Change::Delete("n".into())));
    assert_eq!(world.take_stale(), Stale { compiled: true, published: true, status: true });
}
