use serde_json::{Value, json};

use super::*;

fn service(value: Value) -> services::Service {
    serde_json::from_value::<Service>(value).unwrap().kept("default/web")
}

fn slice(value: Value) -> services::Endpoints {
    serde_json::from_value::<EndpointSlice>(value).unwrap().kept()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_service_has_its_addresses_and_ports() {
    let web = service(json!({
        "metadata": {"name": "web", "namespace": "default", "managedFields": []},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
            "externalIPs": ["192.0.2.1"], "sessionAffinity": "None",
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http", "nodePort": 30080},
                {"protocol": "UDP", "port": 53, "targetPort": 5353, "nodePort": 0},
            ],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}, {"hostname": "lb.example"}]}},
    }));
    assert_eq!(web.cluster_addresses, [address("10.96.0.7"), address("fd00::7")]);
    assert_eq!(web.outer_addresses, [address("192.0.2.1"), address("198.51.100.1")]);
    let port = |protocol, port, node_port| services::ServicePort { protocol, port, node_port };
    assert_eq!(web.ports, [port(Proto::Tcp, 80, Some(30080)), port(Proto::Udp, 53, None)]);
}

#[test]
fn nothing_is_translated_for_a_headless_service_or_a_name() {
    for spec in [
        json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}], "externalIPs": ["192.0.2.1"]}),
        json!({"type": "ExternalName", "externalName": "example.org"}),
        json!({"clusterIP": "", "ports": null}),
        json!({}),
    ] {
        let service = service(json!({"metadata": {"name": "web"}, "spec": spec}));
        assert!(!service.is_virtual(), "{service:?}");
        assert!(service.kept().is_empty());
    }
}

#[test]
fn a_slice_has_its_endpoints_ready_or_not() {
    let endpoints = slice(json!({
        "metadata": {"name": "web-x", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.1.0.1"], "nodeName": "a", "conditions": {"ready": false, "terminating": true}},
            {"addresses": ["10.1.0.2"], "conditions": {}},
        ],
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}, {"protocol": "UDP", "port": null}],
    }));
    assert_eq!(endpoints.service, "default/web");
    assert_eq!(endpoints.addresses, [(address("10.1.0.1"), Some("a".into())), (address("10.1.0.2"), None)]);
    assert_eq!(endpoints.ports, [(Proto::Tcp, PortRange::one(8080)), (Proto::Udp, PortRange::ALL)]);
}

#[test]
fn a_slice_may_lack_everything() {
    let labels = json!({"kubernetes.io/service-name": "web"});
    let empty = slice(
        json!({"metadata": {"namespace": "d", "labels": labels}, "addressType": "IPv4", "endpoints": null, "ports": null}),
    );
    assert!(empty.addresses.is_empty());
    assert_eq!(empty.ports.len(), 3, "no port named: all of them");
    let names = slice(json!({
        "metadata": {"namespace": "d", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "FQDN", "endpoints": [{"addresses": ["example.org"]}], "ports": [],
    }));
    assert!(names.addresses.is_empty());
    let foreign = slice(json!({"metadata": {"namespace": "d"}, "addressType": "IPv4", "endpoints": []}));
    assert_eq!(foreign, services::Endpoints::default());
}

fn plan(uid: &str, addresses: &[&str]) -> Plan {
    let status = api::NodePlanStatus {
        node_uid: Some(uid.into()),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..api::NodePlanStatus::default()
    };
    let spec = api::NodePlanSpec {
        node_uid: uid.into(),
        epoch: 1,
        rule_set: None,
        requires: Vec::new(),
        exclusions: Vec::new(),
        report_every_seconds: 300,
    };
    Plan {
        uid: "p".into(),
        version: "5".into(),
        generation: Some(1),
        owners: Vec::new(),
        spec: Arc::new(spec),
        status: Arc::new(status),
    }
}

#[test]
fn only_a_report_for_this_node_tells_its_addresses() {
    let node = Node { uid: "u1".into(), labels: BTreeMap::new(), created: None };
    let addresses = |plan: Option<&Plan>| node.with_addresses(plan).addresses;
    assert_eq!(addresses(None), None);
    assert_eq!(addresses(Some(&plan("u0", &["10.0.0.1"]))), None, "an earlier node of this name");
    assert_eq!(addresses(Some(&plan("u1", &[]))), None);
    let own = BTreeSet::from([address("10.0.0.1"), address("fd00::1")]);
    assert_eq!(addresses(Some(&plan("u1", &["10.0.0.1", "fd00::1", "?"]))), Some(own));
    assert_eq!(addresses(Some(&plan("u1", &["10.0.0.1"; 64]))), None, "cut off: there may be more");
}

#[test]
fn an_older_state_of_the_same_plan_is_known_as_such() {
    let newer = plan("u", &[]);
    let older = Plan { version: "4".into(), ..newer.clone() };
    assert!(older.is_older_than(&newer) && !newer.is_older_than(&older) && !newer.is_older_than(&newer));
    assert!(!Plan { uid: "other".into(), ..older }.is_older_than(&newer));
}

/// The API server takes any name in `acknowledge`: one of another version, or a slip, must not be taken for granted.
#[test]
fn a_policy_that_acknowledges_what_is_no_hazard_is_refused_with_its_place() {
    let policy = |hazard: &str| {
        let object = json!({
            "apiVersion": "notrack.dev/v1alpha1", "kind": "NoTrackPolicy",
            "metadata": {"name": "web", "uid": "u", "generation": 3},
            "spec": {
                "nodeSelector": {}, "mode": "Enforce",
                "flows": [{
                    "name": "http", "action": "NoTrack", "role": "Server",
                    "ports": [{"protocol": "TCP", "port": 80}],
                    "acknowledge": [{"hazard": hazard, "reason": "known to the site"}],
                }],
            },
        });
        Policy::of(serde_json::from_value(object).unwrap())
    };
    assert!(policy("HostFirewallDrops").content.is_ok());
    for (hazard, wanted) in [
        ("HostFirewalDrops", "\"HostFirewalDrops\" is no hazard: did you mean HostFirewallDrops?"),
        ("Protected", "NT018 Protected cannot be acknowledged"),
    ] {
        let problems = policy(hazard).content.unwrap_err();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let status = notrack_core::status::refused_status(3, &problems, None, now);
        let accepted = status.conditions.iter().find(|one| one.type_ == api::condition::ACCEPTED).unwrap();
        assert_eq!((accepted.status, &*accepted.reason), (api::ConditionStatus::False, "Invalid"));
        let message = &accepted.message;
        assert!(message.starts_with("spec.flows[0].acknowledge[0].hazard: "), "{message}");
        assert!(message.contains(wanted), "{message}");
    }
}
