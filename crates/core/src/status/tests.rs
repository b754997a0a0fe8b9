use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::hazard::{Effect, HazardKind};
use notrack_api::condition::{EXPIRED, RECONCILING};

const NOW: i64 = 1_800_000_000;
const GENERATION: i64 = 7;
const DIGEST: &str = "d1";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn policy() -> PolicyView<'static> {
    PolicyView {
        name: "edge",
        uid: "uid-edge",
        generation: GENERATION,
        audit: false,
        expired: false,
        findings: &[],
        previous: None,
    }
}

fn condition_of(type_: &str, holds: bool, since: i64) -> api::Condition {
    Verdict { holds, reason: "Before".to_owned(), message: String::new() }.condition(
        type_,
        GENERATION,
        None,
        at(since),
    )
}

fn entry(state: &str, reason: Option<&str>) -> api::PolicyOnNode {
    api::PolicyOnNode {
        name: "edge".to_owned(),
        uid: Some("uid-edge".to_owned()),
        generation: Some(GENERATION),
        state: state.to_owned(),
        reason: reason.map(str::to_owned),
        packets: None,
        bytes: None,
        evictable_entries: None,
        hazards: Vec::new(),
    }
}

/// A node that owns what a [`NodeView`] lends.
#[derive(Clone, Debug)]
struct Node {
    name: String,
    uid: String,
    created: Option<i64>,
    planned: Option<String>,
    status: Option<api::NodePlanStatus>,
}

impl Node {
    /// Reports just now, runs what is planned, and lists no policy.
    fn new(name: &str) -> Node {
        let status = api::NodePlanStatus {
            node_uid: Some(format!("uid-{name}")),
            reported_at: Some(api::Time(at(NOW))),
            programmed_digest: Some(DIGEST.to_owned()),
            conditions: vec![condition_of(PROGRAMMED, true, NOW - 1000)],
            ..api::NodePlanStatus::default()
        };
        Node {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            created: Some(NOW - 100_000),
            planned: Some(DIGEST.to_owned()),
            status: Some(status),
        }
    }

    fn in_state(name: &str, state: &str, reason: Option<&str>) -> Node {
        Node::new(name).with(|status| status.policies.push(entry(state, reason)))
    }

    fn good(name: &str) -> Node {
        Node::in_state(name, "Programmed", Some("Programmed"))
    }

    fn blocked(name: &str) -> Node {
        Node::in_state(name, "Refused", Some("ServiceEndpoint"))
    }

    fn pending(name: &str) -> Node {
        Node::new(name).with(|status| status.programmed_digest = None)
    }

    fn without_agent(name: &str) -> Node {
        Node { status: None, ..Node::new(name) }
    }

    fn view(&self) -> NodeView<'_> {
        NodeView {
            name: &self.name,
            uid: &self.uid,
            created: self.created,
            planned_digest: self.planned.as_deref(),
            report_every_seconds: 100,
            status: self.status.as_ref(),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut api::NodePlanStatus)) -> Node {
        change(self.status.as_mut().unwrap());
        self
    }

    fn created(self, created: i64) -> Node {
        Node { created: Some(created), ..self }
    }
}

fn aggregate(policy: &PolicyView<'_>, nodes: &[Node]) -> api::NoTrackPolicyStatus {
    aggregate_status(policy, nodes.iter().map(Node::view), at(NOW))
}

/// The condition as `status reason`; empty where it is absent.
fn told(status: &api::NoTrackPolicyStatus, type_: &str) -> String {
    find(status, type_)
        .map(|condition| format!("{:?} {}", condition.status, condition.reason))
        .unwrap_or_default()
}

fn find<'a>(status: &'a api::NoTrackPolicyStatus, type_: &str) -> Option<&'a api::Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

fn message<'a>(status: &'a api::NoTrackPolicyStatus, type_: &str) -> &'a str {
    &find(status, type_).unwrap().message
}

/// Matched, programmed, engaged, blocked, failed, unavailable.
fn counts(status: &api::NoTrackPolicyStatus) -> [u32; 6] {
    let api::NodeCounts { matched, programmed, engaged, blocked, failed, unavailable } =
        status.nodes.clone().unwrap();
    [matched, programmed, engaged, blocked, failed, unavailable]
}

/// Reasons and their counts.
fn reasons(status: &api::NoTrackPolicyStatus) -> Vec<(&str, u32)> {
    status.reasons.iter().map(|reason| (reason.reason.as_str(), reason.count)).collect()
}

fn finding(flow: &str, effect: Effect, kind: HazardKind, evidence: &str) -> Finding {
    Finding {
        policy: "edge".to_owned(),
        flow: flow.to_owned(),
        effect,
        cause: Cause::Hazard(kind),
        evidence: evidence.to_owned(),
    }
}

/// Ready since `since`, for `generation`.
fn ready_before(generation: i64, since: i64) -> api::NoTrackPolicyStatus {
    api::NoTrackPolicyStatus {
        observed_generation: Some(generation),
        conditions: vec![condition_of(READY, true, since)],
        ..api::NoTrackPolicyStatus::default()
    }
}

#[test]
fn a_policy_that_selects_no_node_says_so_and_what_to_do() {
    let status = aggregate(&policy(), &[]);
    assert_eq!(told(&status, READY), "False NoMatchingNode");
    assert_eq!(told(&status, PROGRAMMED), "False NoMatchingNode");
    assert_eq!(told(&status, ACCEPTED), "True Valid");
    assert_eq!(told(&status, RECONCILING) + &told(&status, STALLED), "");
    assert!(message(&status, READY).contains("spec.nodeSelector"));
    assert_eq!(counts(&status), [0; 6]);
    assert_eq!(status.observed_generation, Some(GENERATION));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(GENERATION)));
}

#[test]
fn a_policy_waits_while_no_agent_has_reported() {
    let status = aggregate(&policy(), &[Node::without_agent("a"), Node::without_agent("b")]);
    assert_eq!(told(&status, READY), "False AwaitingAgents");
    assert_eq!(told(&status, PROGRAMMED), "False AwaitingAgents");
    assert_eq!(told(&status, RECONCILING), "True AwaitingAgents");
    assert_eq!(told(&status, ACCEPTED), "True Valid");
    assert_eq!(told(&status, STALLED), "");
    assert_eq!(counts(&status), [2, 0, 0, 0, 0, 2]);
    assert_eq!(reasons(&status), [("NoAgent", 2)]);
    assert!(message(&status, READY).contains("(a, b)"), "{}", message(&status, READY));
}

#[test]
fn the_report_of_an_earlier_node_of_the_same_name_counts_for_nothing() {
    let another = Node::good("a").with(|status| status.node_uid = Some("uid-before".to_owned()));
    let without = Node::good("b").with(|status| status.node_uid = None);
    let never = Node::good("c").with(|status| status.reported_at = None);
    let status = aggregate(&policy(), &[another, without, never]);
    assert_eq!(counts(&status), [3, 0, 0, 0, 0, 3]);
    assert_eq!(reasons(&status), [("NoAgent", 3)]);
}

#[test]
fn an_agent_is_silent_after_three_missed_reports_and_a_minute() {
    let reported =
        |ago: i64| Node::good("a").with(|status| status.reported_at = Some(api::Time(at(NOW - ago))));
    assert_eq!(counts(&aggregate(&policy(), &[reported(360)])), [1, 1, 1, 0, 0, 0]);
    let silent = aggregate(&policy(), &[reported(361)]);
    assert_eq!(counts(&silent), [1, 0, 0, 0, 0, 1]);
    assert_eq!(reasons(&silent), [("AgentSilent", 1)]);
    // A clock that is ahead is no silence.
    assert_eq!(counts(&aggregate(&policy(), &[reported(-5000)])), [1, 1, 1, 0, 0, 0]);
}

#[test]
fn a_policy_that_is_programmed_on_all_nodes_is_ready() {
    let status = aggregate(&policy(), &[Node::good("a"), Node::good("b")]);
    let types: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(types, [ACCEPTED, PROGRAMMED, READY]);
    assert_eq!(told(&status, ACCEPTED), "True Valid");
    assert_eq!(told(&status, PROGRAMMED), "True Programmed");
    assert_eq!(told(&status, READY), "True AllNodes");
    assert_eq!(message(&status, READY), "in effect on 2 of 2 nodes");
    assert_eq!(counts(&status), [2, 2, 2, 0, 0, 0]);
    assert!(status.reasons.is_empty());
}

#[test]
fn audit_is_programmed_but_not_engaged() {
    let policy = PolicyView { audit: true, ..policy() };
    let status = aggregate(&policy, &[Node::in_state("a", "Auditing", Some("Auditing")), Node::new("b")]);
    assert_eq!(counts(&status), [2, 2, 0, 0, 0, 0]);
    assert_eq!(told(&status, READY), "True AllNodes");
    assert_eq!(message(&status, READY), "counts on 2 of 2 nodes, changes nothing");
}

#[test]
fn where_nothing_tracks_a_policy_is_programmed_without_effect() {
    let idle = Node::in_state("b", "Ineffective", Some("NotTracked"));
    let status = aggregate(&policy(), &[Node::good("a"), idle]);
    assert_eq!(counts(&status), [2, 2, 1, 0, 0, 0]);
    assert_eq!(reasons(&status), [("NotTracked", 1)]);
    assert_eq!(told(&status, READY), "True AllNodes");
    assert_eq!(message(&status, READY), "in effect on 1 of 2 nodes; not all of it: NotTracked on 1 node (b)");
}

#[test]
fn what_is_told_of_another_generation_or_another_object_is_pending() {
    let change =
        |change: fn(&mut api::PolicyOnNode)| Node::good("a").with(|status| change(&mut status.policies[0]));
    for node in [
        change(|entry| entry.generation = Some(GENERATION - 1)),
        change(|entry| entry.generation = None),
        change(|entry| entry.uid = Some("uid-before".to_owned())),
        change(|entry| entry.uid = None),
    ] {
        let status = aggregate(&policy(), std::slice::from_ref(&node));
        assert_eq!(counts(&status), [1, 0, 0, 0, 0, 0], "{node:?}");
        assert_eq!(reasons(&status), [("Pending", 1)]);
        assert_eq!(told(&status, READY), "False Progressing");
    }
}

#[test]
fn a_policy_that_a_full_list_leaves_out_is_good_where_the_plan_is_programmed() {
    let left_out = aggregate(&policy(), &[Node::new("a")]);
    assert_eq!(counts(&left_out), [1, 1, 1, 0, 0, 0]);
    let another = Node::new("a").with(|status| status.programmed_digest = Some("d0".to_owned()));
    let refused =
        Node::new("a").with(|status| status.conditions = vec![condition_of(PROGRAMMED, false, NOW)]);
    let untold = Node::new("a").with(|status| status.conditions.clear());
    for node in [Node::pending("a"), another, refused, untold] {
        assert_eq!(reasons(&aggregate(&policy(), &[node])), [("Pending", 1)]);
    }
}

#[test]
fn a_node_that_is_to_run_no_rules_holds_no_policy() {
    let node = Node { planned: None, ..Node::pending("a") };
    assert_eq!(reasons(&aggregate(&policy(), &[node])), [("Pending", 1)]);
}

#[test]
fn nodes_under_way_make_a_policy_reconciling() {
    let status = aggregate(&policy(), &[Node::good("a"), Node::pending("b")]);
    assert_eq!(told(&status, READY), "False Progressing");
    assert_eq!(told(&status, PROGRAMMED), "False Progressing");
    assert_eq!(told(&status, RECONCILING), "True Progressing");
    assert_eq!(told(&status, STALLED), "");
    assert_eq!(message(&status, READY), "programmed on 1 of 2 nodes that report; Pending on 1 node (b)");
}

#[test]
fn a_node_that_disagrees_about_labels_or_time_is_under_way() {
    for state in ["NotSelected", "Expired"] {
        let status = aggregate(&policy(), &[Node::in_state("a", state, Some(state))]);
        assert_eq!(told(&status, READY), "False Progressing");
        assert_eq!(reasons(&status), [(state, 1)]);
    }
}

#[test]
fn a_blocked_node_is_told_with_its_reason_and_what_proves_it() {
    let findings = [
        finding("http", Effect::Warning, HazardKind::ServiceEndpoint, "only a warning"),
        finding("http", Effect::Refused, HazardKind::ServiceEndpoint, "shop/web forwards to port 80"),
    ];
    let policy = PolicyView { findings: &findings, ..policy() };
    let status = aggregate(
        &policy,
        &[
            Node::good("a"),
            Node::blocked("b"),
            Node::blocked("c"),
            Node::in_state("d", "Failed", Some("Netlink")),
        ],
    );
    assert_eq!(counts(&status), [4, 1, 1, 2, 1, 0]);
    assert_eq!(told(&status, ACCEPTED), "True Valid");
    assert_eq!(told(&status, READY), "False ServiceEndpoint");
    assert_eq!(told(&status, PROGRAMMED), "False ServiceEndpoint");
    assert_eq!(told(&status, STALLED), "True ServiceEndpoint");
    assert_eq!(told(&status, RECONCILING), "");
    assert_eq!(
        message(&status, READY),
        format!(
            "blocked or failed on 3 of 4 nodes that report: ServiceEndpoint on 2 nodes (b, c), Netlink on 1 \
             node (d); flow http: shop/web forwards to port 80; {}",
            HazardKind::ServiceEndpoint.remedy()
        )
    );
}

#[test]
fn a_policy_that_is_blocked_on_every_available_node_is_not_accepted() {
    let status = aggregate(&policy(), &[Node::blocked("a"), Node::without_agent("b")]);
    assert_eq!(told(&status, ACCEPTED), "False ServiceEndpoint");
    let status = aggregate(&policy(), &[Node::blocked("a"), Node::pending("b")]);
    assert_eq!(told(&status, ACCEPTED), "True Valid");
    let status = aggregate(&policy(), &[Node::in_state("a", "Failed", Some("Netlink"))]);
    assert_eq!(told(&status, ACCEPTED), "True Valid");
}

#[test]
fn a_state_of_a_later_version_counts_as_failed() {
    let status = aggregate(&policy(), &[Node::in_state("a", "Quarantined", None)]);
    assert_eq!(counts(&status), [1, 0, 0, 0, 1, 0]);
    assert_eq!(told(&status, READY), "False Quarantined");
}

#[test]
fn a_reason_that_the_api_server_would_refuse_is_replaced() {
    let long = "x".repeat(65);
    for reason in ["", "two words", "1st", "Ends:", "Ünfit", &long] {
        let status = aggregate(&policy(), &[Node::in_state("a", "Refused", Some(reason))]);
        assert_eq!(told(&status, READY), "False Refused", "{reason}");
    }
    let status = aggregate(&policy(), &[Node::in_state("a", "not a word", None)]);
    assert_eq!(told(&status, READY), "False Failed");
}

#[test]
fn a_policy_is_not_stalled_while_nodes_are_under_way() {
    let status = aggregate(&policy(), &[Node::blocked("a"), Node::pending("b")]);
    assert_eq!(told(&status, READY), "False ServiceEndpoint");
    assert!(message(&status, READY).contains("1 pending"));
    assert_eq!(told(&status, RECONCILING), "True Progressing");
    assert_eq!(told(&status, STALLED), "");
}

#[test]
fn nodes_without_an_agent_are_told_but_do_not_unready() {
    let status = aggregate(&policy(), &[Node::good("a"), Node::without_agent("b")]);
    assert_eq!(told(&status, READY), "True ReadyWithUnavailableNodes");
    assert_eq!(told(&status, PROGRAMMED), "True Programmed");
    assert_eq!(message(&status, READY), "in effect on 1 of 2 nodes; unavailable: NoAgent on 1 node (b)");
}

#[test]
fn a_node_that_joins_a_ready_policy_has_five_minutes() {
    let previous = ready_before(GENERATION, NOW - 5000);
    let policy = PolicyView { previous: Some(&previous), ..policy() };
    let ready = |node: Node| aggregate(&policy, &[Node::good("a"), node]);
    let failed = || Node::in_state("b", "Failed", Some("Netlink"));
    for node in [failed(), Node::blocked("b"), Node::pending("b")] {
        let young = ready(node.clone().created(NOW - 299));
        assert_eq!(told(&young, READY), "True ReadyWithUnavailableNodes");
        assert_eq!(told(&young, RECONCILING) + &told(&young, STALLED), "");
        assert!(message(&young, READY).contains("joined less than five minutes ago"));
        // Counted all the same.
        assert!(told(&young, PROGRAMMED).starts_with("False"));
        assert_eq!(young.reasons.len(), 1);
        assert!(told(&ready(node.created(NOW - 300)), READY).starts_with("False"));
    }
    assert_eq!(told(&ready(Node::good("b").created(NOW - 10)), READY), "True AllNodes");
}

#[test]
fn only_a_node_that_came_after_this_generation_was_ready_has_time() {
    let node = || Node::blocked("b").created(NOW - 100);
    let ready = |previous: Option<&api::NoTrackPolicyStatus>, node: Node| {
        told(&aggregate(&PolicyView { previous, ..policy() }, &[Node::good("a"), node]), READY)
    };
    assert_eq!(ready(None, node()), "False ServiceEndpoint");
    assert_eq!(ready(Some(&ready_before(GENERATION - 1, NOW - 5000)), node()), "False ServiceEndpoint");
    assert_eq!(ready(Some(&ready_before(GENERATION, NOW - 100)), node()), "False ServiceEndpoint");
    let mut unready = ready_before(GENERATION, NOW - 5000);
    unready.conditions[0].status = api::ConditionStatus::False;
    assert_eq!(ready(Some(&unready), node()), "False ServiceEndpoint");
    let ageless = Node { created: None, ..node() };
    assert_eq!(ready(Some(&ready_before(GENERATION, NOW - 5000)), ageless), "False ServiceEndpoint");
}

#[test]
fn an_expired_policy_has_ended_and_is_not_stalled() {
    let policy = PolicyView { expired: true, ..policy() };
    let gone = [Node::in_state("a", "Expired", Some("Expired")), Node::new("b"), Node::blocked("c")];
    let status = aggregate(&policy, &gone);
    assert_eq!(told(&status, EXPIRED), "True Expired");
    assert_eq!(told(&status, READY), "False Expired");
    assert_eq!(told(&status, PROGRAMMED), "False Expired");
    assert_eq!(told(&status, ACCEPTED), "True Valid");
    assert_eq!(told(&status, STALLED) + &told(&status, RECONCILING), "");
    assert_eq!(counts(&status), [3, 0, 0, 1, 0, 0]);
    assert_eq!(reasons(&status), [("Expired", 2), ("ServiceEndpoint", 1)]);
    assert_eq!(told(&aggregate(&policy, &[]), READY), "False Expired");
}

#[test]
fn an_expired_policy_that_a_node_still_runs_is_not_hidden() {
    let policy = PolicyView { expired: true, ..policy() };
    let status = aggregate(&policy, &[Node::good("a"), Node::new("b")]);
    assert_eq!(counts(&status), [2, 1, 1, 0, 0, 0]);
    assert_eq!(told(&status, RECONCILING), "True Progressing");
    assert_eq!(
        message(&status, EXPIRED),
        "spec.expireTime has passed; 1 node still to report that it has ended"
    );
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let mut previous = ready_before(GENERATION - 1, NOW - 5000);
    previous.conditions.push(condition_of(PROGRAMMED, false, NOW - 4000));
    let policy = PolicyView { previous: Some(&previous), ..policy() };
    let status = aggregate(&policy, &[Node::good("a")]);
    let since = |type_| find(&status, type_).unwrap().last_transition_time.0.as_second();
    assert_eq!(since(READY), NOW - 5000);
    assert_eq!(since(PROGRAMMED), NOW);
    assert_eq!(since(ACCEPTED), NOW);
}

#[test]
fn reasons_come_most_frequent_first_with_ten_nodes_each() {
    let mut nodes: Vec<Node> = (0..12).rev().map(|i| Node::blocked(&format!("b{i:02}"))).collect();
    nodes.extend((0..20).map(|i| Node::in_state(&format!("f{i:02}"), "Failed", Some(&format!("Why{i:02}")))));
    let status = aggregate(&policy(), &nodes);
    assert_eq!(status.reasons.len(), 16);
    assert_eq!(reasons(&status)[..3], [("ServiceEndpoint", 12), ("Why00", 1), ("Why01", 1)]);
    let examples: Vec<String> = (0..10).map(|i| format!("b{i:02}")).collect();
    assert_eq!(status.reasons[0].examples, examples);
    assert!(message(&status, READY).contains("ServiceEndpoint on 12 nodes (b00, b01, b02, ...)"));
}

#[test]
fn hazards_are_told_once_the_gravest_first_and_no_exceptions() {
    let mut findings: Vec<Finding> = (0..40)
        .map(|i| finding("http", Effect::Warning, HazardKind::AnyPeer, &format!("peer {i:02}")))
        .collect();
    let long = "é".repeat(600);
    findings.push(finding("dns", Effect::Refused, HazardKind::ServiceAddress, &long));
    findings.push(finding("dns", Effect::Refused, HazardKind::ServiceAddress, &long));
    findings.push(Finding { policy: "other".to_owned(), ..findings[40].clone() });
    findings.push(Finding { cause: Cause::Exception, ..findings[40].clone() });
    let status = aggregate(&PolicyView { findings: &findings, ..policy() }, &[]);
    assert_eq!(status.hazards.len(), 32);
    assert_eq!(status.hazards[0].code, "NT001");
    assert_eq!(status.hazards[0].flow.as_deref(), Some("dns"));
    assert_eq!(status.hazards[0].evidence.as_ref().unwrap().chars().count(), 512);
    assert!(status.hazards[1..].iter().all(|hazard| hazard.code == "NT034"));
}

#[test]
fn traffic_is_the_sum_of_available_nodes_and_of_this_object() {
    let counted = |name: &str, packets: u64| {
        Node::good(name).with(|status| {
            status.policies[0].packets = Some(packets);
            status.policies[0].bytes = Some(packets * 10);
        })
    };
    let older = counted("c", 100).with(|status| status.policies[0].generation = Some(GENERATION - 1));
    let another = counted("d", 1000).with(|status| status.policies[0].uid = Some("uid-before".to_owned()));
    let silent = counted("e", 10_000).with(|status| status.reported_at = Some(api::Time(at(0))));
    let nodes = [counted("a", 1), counted("b", 10), older, another, silent];
    let traffic = aggregate(&policy(), &nodes).traffic;
    assert_eq!(traffic, Some(api::Traffic { packets: 111, bytes: 1110, evictable_entries: None }));
    assert_eq!(aggregate(&policy(), &[Node::good("a")]).traffic, None);
    let endless = |name| Node::good(name).with(|status| status.policies[0].packets = Some(u64::MAX));
    let traffic = aggregate(&policy(), &[endless("a"), endless("b")]).traffic.unwrap();
    assert_eq!(traffic.packets, i64::MAX.unsigned_abs());
}

#[test]
fn pressure_is_that_of_the_fullest_available_node() {
    let table = |name: &str, level, used_percent| {
        let figures = api::ConntrackFigures { level, used_percent, ..api::ConntrackFigures::default() };
        Node::good(name).with(|status| status.conntrack = Some(figures))
    };
    let high = Some(api::PressureLevel::High);
    let silent = table("z", Some(api::PressureLevel::Full), Some(99))
        .with(|status| status.reported_at = Some(api::Time(at(0))));
    // Hysteresis: a level may be higher at a lower percentage.
    let nodes = [
        table("a", Some(api::PressureLevel::Elevated), Some(79)),
        table("c", high, Some(77)),
        table("b", high, Some(77)),
        table("d", high, Some(76)),
        silent,
    ];
    let expected =
        api::HighestPressure { level: high, highest_percent: Some(77), node: Some("b".to_owned()) };
    assert_eq!(aggregate(&policy(), &nodes).pressure, Some(expected));
    assert_eq!(aggregate(&policy(), &[Node::good("a"), table("b", None, None)]).pressure, None);
}

#[test]
fn an_object_that_is_not_valid_lists_its_problems() {
    let previous = ready_before(GENERATION, NOW - 5000);
    let problems = ["spec.mode: missing".to_owned(), "spec.flows: empty".to_owned()];
    let status = refused_status(GENERATION, &problems, Some(&previous), at(NOW));
    assert_eq!(told(&status, ACCEPTED), "False Invalid");
    assert_eq!(told(&status, PROGRAMMED), "False Invalid");
    assert_eq!(told(&status, READY), "False Invalid");
    assert_eq!(told(&status, STALLED), "True Invalid");
    assert_eq!(message(&status, READY), "2 problems: spec.mode: missing; spec.flows: empty");
    assert_eq!(status.observed_generation, Some(GENERATION));
    assert_eq!(status.nodes, None);
    let again = refused_status(GENERATION, &problems, Some(&status), at(NOW + 60));
    assert_eq!(again, status);
    let endless = vec!["é".repeat(500); 50];
    let status = refused_status(GENERATION, &endless, None, at(NOW));
    assert_eq!(message(&status, READY).chars().count(), 1000);
    assert!(!message(&refused_status(GENERATION, &[], None, at(NOW)), READY).is_empty());
}

#[test]
fn the_same_reports_give_the_same_status() {
    let nodes = [Node::good("a"), Node::pending("b"), Node::blocked("c")];
    let first = aggregate(&policy(), &nodes);
    assert_eq!(aggregate(&PolicyView { previous: Some(&first), ..policy() }, &nodes), first);
}

/// A node in any condition; names are given later, so that each is there once.
fn any_node() -> impl Strategy<Value = Node> {
    let states =
        ["Programmed", "Auditing", "Ineffective", "NotSelected", "Expired", "Refused", "Failed", "Odd"];
    let listed = (
        prop::sample::select(states.to_vec()),
        prop::option::of("[A-Za-z :é]{0,70}"),
        prop::option::of(any::<u64>()),
        prop::sample::select(vec![Some(GENERATION), Some(GENERATION - 1), None]),
    );
    let listed = listed.prop_map(|(state, reason, packets, generation): (_, Option<String>, _, _)| {
        api::PolicyOnNode { packets, generation, ..entry(state, reason.as_deref()) }
    });
    let plan = (
        prop::option::of(listed),
        prop::bool::weighted(0.8),
        prop::sample::select(vec![Some(DIGEST), Some("d0"), Some(""), None]),
        -1000i64..2000,
        prop::option::of(0u32..120),
    );
    let plan = plan.prop_map(|(listed, programmed, digest, ago, used_percent)| api::NodePlanStatus {
        reported_at: Some(api::Time(at(NOW - ago))),
        programmed_digest: digest.map(str::to_owned),
        conditions: vec![condition_of(PROGRAMMED, programmed, NOW)],
        conntrack: Some(api::ConntrackFigures { used_percent, ..api::ConntrackFigures::default() }),
        policies: listed.into_iter().collect(),
        ..api::NodePlanStatus::default()
    });
    (prop::option::weighted(0.9, plan), 0i64..1000, prop::bool::weighted(0.9)).prop_map(
        |(status, age, planned)| Node {
            name: String::new(),
            uid: String::new(),
            created: Some(NOW - age),
            planned: planned.then(|| DIGEST.to_owned()),
            status,
        },
    )
}

fn any_nodes() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec(any_node(), 0..40).prop_map(|mut nodes| {
        for (i, node) in nodes.iter_mut().enumerate() {
            node.name = format!("node-{i}");
            node.uid = format!("uid-{i}");
            if let Some(status) = &mut node.status {
                status.node_uid = Some(node.uid.clone());
            }
        }
        nodes
    })
}

proptest! {
    #[test]
    fn whatever_nodes_report_the_status_adds_up_and_keeps_its_bounds(
        (nodes, shuffled) in any_nodes().prop_flat_map(|nodes| {
            (Just(nodes.clone()), Just(nodes).prop_shuffle())
        }),
        (audit, expired, was_ready) in any::<(bool, bool, bool)>(),
    ) {
        let previous = was_ready.then(|| ready_before(GENERATION, NOW - 500));
        let policy = PolicyView { audit, expired, previous: previous.as_ref(), ..policy() };
        let status = aggregate(&policy, &nodes);
        prop_assert_eq!(&aggregate(&policy, &shuffled), &status);

        let mut pending = 0;
        for node in &nodes {
            let one = counts(&aggregate(&policy, std::slice::from_ref(node)));
            pending += one[0] - one[1] - one[3] - one[4] - one[5];
        }
        let [matched, programmed, engaged, blocked, failed, unavailable] = counts(&status);
        prop_assert_eq!(programmed + blocked + failed + unavailable + pending, matched);
        prop_assert!(engaged <= programmed);
        prop_assert!(!audit || engaged == 0);
        if told(&status, READY).starts_with("True AllNodes") {
            prop_assert_eq!(programmed, matched);
        }
        prop_assert!(told(&status, STALLED).is_empty() || told(&status, RECONCILING).is_empty());

        let reason = Regex::new("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$").unwrap();
        prop_assert!(status.conditions.len() <= 8);
        for condition in &status.conditions {
            prop_assert!(reason.is_match(&condition.reason), "{}", condition.reason);
            prop_assert!(condition.message.chars().count() <= 1000);
        }
        prop_assert!(status.reasons.len() <= 16);
        prop_assert!(status.reasons.is_sorted_by_key(|reason| Reverse(reason.count)));
        for reason in &status.reasons {
            prop_assert!(reason.reason.len() <= 64);
            prop_assert!(reason.examples.len() == (reason.count as usize).min(10));
            prop_assert!(reason.examples.is_sorted());
        }
    }

    #[test]
    fn every_node_stands_in_one_way(nodes in any_nodes(), expired in any::<bool>()) {
        let policy = PolicyView { expired, ..policy() };
        let mut tally = Tally::default();
        for node in &nodes {
            tally.add(&node.name, standing(&policy, &node.view(), at(NOW)));
        }
        let counts = &tally.counts;
        let sum = counts.programmed + counts.blocked + counts.failed + counts.unavailable;
        prop_assert_eq!(sum + tally.pending + tally.ended, counts.matched);
        prop_assert!(expired || tally.ended == 0);
    }
}
