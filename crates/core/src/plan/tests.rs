use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::hazard::Effect;
use crate::policy::{Compensation, Mode};
use crate::selector::{Requirement, Selector};
use crate::services::ServicePort;

fn flow(role: Role, port: u16, peers: Option<&str>, interfaces: &[&str]) -> ValidatedFlow {
    ValidatedFlow {
        name: "flow".into(),
        action: Action::NoTrack,
        role,
        ports: vec![(Proto::Tcp, PortRange::one(port))],
        peers: peers.map(|cidr| vec![AddressRange::from(cidr.parse::<ipnet::IpNet>().unwrap())]),
        server_addresses: None,
        local_ports: None,
        interfaces: interfaces.iter().map(|name| Arc::from(*name)).collect(),
        acknowledged: BTreeSet::new(),
    }
}

fn policy(name: &str, selector: Selector, flow: ValidatedFlow) -> ValidatedPolicy {
    ValidatedPolicy {
        name: name.into(),
        uid: Some(format!("uid-of-{name}")),
        generation: Some(1),
        created: None,
        selector,
        mode: Mode::Enforce,
        flows: vec![flow],
        adapts_firewall: false,
        keeps_entries: false,
        compensation: Compensation {
            strict_tcp_flags: true,
            icmp_errors: true,
            new_connections_per_second: 0,
        },
        expires: None,
    }
}

fn labelled(key: &str) -> Selector {
    Selector(vec![Requirement::Exists(key.into())])
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

#[derive(Default)]
struct World {
    policies: Index,
    nodes: BTreeMap<String, Node>,
    services: BTreeMap<String, Service>,
    endpoints: BTreeMap<String, Endpoints>,
    ranges: ServiceRanges,
}

impl World {
    /// Nodes n1, n2 ... at 10.0.0.1, 10.0.0.2 ...; the first one is labelled `edge`.
    fn with_nodes(count: u8) -> World {
        let mut world = World::default();
        for number in 1..=count {
            let labels =
                if number == 1 { [("edge".to_owned(), String::new())].into() } else { BTreeMap::new() };
            let addresses = Some([address(number)].into());
            let node = Node { uid: format!("uid-{number}"), labels, addresses };
            world.nodes.insert(format!("n{number}"), node);
        }
        world
    }

    fn service(&mut self, name: &str, node_port: Option<u16>, backends: &[(u8, &str)], port: u16) {
        let ports = vec![ServicePort { protocol: Proto::Tcp, port: 80, node_port }];
        let cluster_addresses = vec!["10.96.0.10".parse().unwrap()];
        let service = Service { name: name.into(), cluster_addresses, outer_addresses: vec![], ports };
        self.services.insert(name.into(), service);
        let addresses =
            backends.iter().map(|(last, node)| (address(*last), Some((*node).to_owned()))).collect();
        let ports = vec![(Proto::Tcp, PortRange::one(port))];
        self.endpoints.insert(format!("{name}-x"), Endpoints { service: name.into(), addresses, ports });
    }

    fn plan(&self) -> ClusterPlan {
        let World { policies, nodes, services, endpoints, ranges } = self;
        plan(Cluster { policies, nodes, services, endpoints, ranges }, 0)
    }
}

#[test]
fn a_node_that_no_policy_selects_is_told_to_run_nothing() {
    let mut world = World::with_nodes(3);
    world.policies.apply(policy("edge", labelled("edge"), flow(Role::Server, 8080, None, &[])));
    let plan = world.plan();
    assert_eq!(plan.nodes.len(), 3);
    assert!(plan.nodes["n1"].rule_set.is_some());
    assert_eq!(plan.nodes["n2"].rule_set, None);
    assert_eq!(plan.rule_sets.len(), 1);
    assert_eq!(plan.selected["edge"], ["n1"]);
}

#[test]
fn an_ended_policy_runs_nowhere_and_still_selects() {
    let mut world = World::with_nodes(1);
    let ended = ValidatedPolicy {
        expires: Some(0),
        ..policy("old", Selector::default(), flow(Role::Server, 80, None, &[]))
    };
    world.policies.apply(ended);
    let plan = world.plan();
    assert_eq!(plan.nodes["n1"].rule_set, None);
    assert_eq!(plan.selected["old"], ["n1"]);
}

#[test]
fn what_backs_a_service_is_excluded_on_its_node_alone() {
    let mut world = World::with_nodes(2);
    world.policies.apply(policy("web", Selector::default(), flow(Role::Server, 8080, None, &[])));
    // A pod of its own address on n2, and a server on the host's network of n1.
    world.service("default/web", None, &[(1, "n1"), (99, "n2")], 8080);
    let plan = world.plan();
    assert_eq!(plan.rule_sets.len(), 1, "the class shares one rule set");
    let excluded = &plan.nodes["n1"].exclusions;
    assert_eq!(excluded.len(), 1);
    assert_eq!((excluded[0].address.as_deref(), excluded[0].port), (Some("10.0.0.1"), 8080));
    assert_eq!(excluded[0].reason, "NT002");
    assert!(excluded[0].spares_interfaces);
    assert_eq!(plan.nodes["n2"].exclusions, []);
    let found = &plan.findings["web"];
    assert!(found.iter().any(|finding| finding.evidence.contains("default/web")), "{found:?}");
    assert_eq!(kept_of(excluded)[0].addresses, Some(AddressRange::one(address(1))));
}

#[test]
fn a_node_that_has_not_said_its_addresses_excludes_all_that_runs_on_it() {
    let mut world = World::with_nodes(1);
    world.nodes.get_mut("n1").unwrap().addresses = None;
    world.policies.apply(policy("web", Selector::default(), flow(Role::Server, 8080, None, &[])));
    world.service("default/web", None, &[(99, "n1"), (98, "n2")], 8080);
    assert_eq!(world.plan().nodes["n1"].exclusions.len(), 1);
}

#[test]
fn only_a_cluster_address_spares_the_uplinks() {
    let mut world = World::with_nodes(1);
    world.policies.apply(policy("web", Selector::default(), flow(Role::Server, 8080, None, &["eth0"])));
    world.service("default/web", None, &[(1, "n1")], 8080);
    let effects = |world: &World| -> Vec<Effect> {
        world.plan().findings["web"].iter().map(|finding| finding.effect).collect()
    };
    assert_eq!(effects(&world), [Effect::Warning]);
    world.service("default/web", Some(30080), &[(1, "n1")], 8080);
    assert_eq!(effects(&world), [Effect::Subtracted]);
    assert!(!world.plan().nodes["n1"].exclusions[0].spares_interfaces);
}

#[test]
fn a_clients_peers_are_asked_about_in_the_whole_cluster() {
    let mut world = World::with_nodes(2);
    world.policies.apply(policy("ask", labelled("edge"), flow(Role::Client, 8080, Some("10.0.0.0/24"), &[])));
    world.service("default/web", None, &[(99, "n2"), (200, "n9")], 8080);
    let plan = world.plan();
    let rule_set = plan.rule_sets.values().next().unwrap();
    assert_eq!(rule_set.kept().len(), 2);
    // Another port, or another network, is nobody's concern.
    world.service("default/web", None, &[(99, "n2")], 9090);
    assert!(world.plan().rule_sets.values().next().unwrap().kept().is_empty());
}

#[test]
fn services_to_come_are_kept_too() {
    let mut world = World::with_nodes(1);
    world.ranges = ServiceRanges {
        addresses: vec![AddressRange::from("10.96.0.0/12".parse::<ipnet::IpNet>().unwrap())],
        node_ports: PortRange::new(30000, 32767),
    };
    world.policies.apply(policy("game", Selector::default(), flow(Role::Server, 30001, None, &[])));
    let plan = world.plan();
    let causes: Vec<Cause> = plan.findings["game"].iter().map(|finding| finding.cause).collect();
    assert_eq!(causes, [Cause::Hazard(HazardKind::FutureService)]);
}

#[test]
fn headless_services_are_nobodys_concern() {
    let mut world = World::with_nodes(1);
    world.policies.apply(policy("web", Selector::default(), flow(Role::Server, 8080, None, &[])));
    world.service("default/web", None, &[(1, "n1")], 8080);
    world.services.get_mut("default/web").unwrap().cluster_addresses.clear();
    let plan = world.plan();
    assert_eq!(plan.nodes["n1"].exclusions, []);
    assert!(!plan.findings.contains_key("web"));
}

proptest! {
    #[test]
    fn a_plan_with_too_many_exclusions_excludes_more_never_less(
        tuples in prop::collection::vec((0u8..30, 1u16..400, 0u8..3, any::<bool>()), 0..300),
    ) {
        let kept: Vec<Kept> = tuples.iter().map(|(last, port, proto, spares)| Kept {
            hazard: HazardKind::ServiceEndpoint,
            protocol: Proto::ALL[usize::from(*proto)],
            addresses: Some(AddressRange::one(address(*last))),
            ports: PortRange::one(*port),
            clients: None,
            spares_interfaces: *spares,
            evidence: String::new(),
        }).collect();
        let excluded = kept_of(&exclusions(kept.clone()));
        prop_assert!(excluded.len() <= MOST_EXCLUSIONS);
        for tuple in kept {
            let covers = |wide: &Kept| {
                wide.protocol == tuple.protocol
                    && wide.ports.intersection(tuple.ports) == Some(tuple.ports)
                    && wide.addresses.is_none_or(|range| Some(range) == tuple.addresses)
                    && (tuple.spares_interfaces || !wide.spares_interfaces)
            };
            prop_assert!(excluded.iter().any(covers), "{:?} of {:?}", tuple, excluded);
        }
    }
}
