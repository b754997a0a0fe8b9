//! What is kept of each object: only what is used, never managedFields.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::{core::v1 as corev1, discovery::v1 as discoveryv1, networking::v1 as networkingv1};
use kube::api::{ObjectMeta, PartialObjectMeta};
use notrack_api as api;
use notrack_core::net::{AddressRange, PortRange, Proto};
use notrack_core::plan;
use notrack_core::policy::{ValidatedPolicy, validate};
use notrack_core::services;
use serde::Deserialize;

/// Service through which an EndpointSlice says whom it backs.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Since when a RuleSet is named by no plan.
pub const UNUSED_SINCE: &str = "notrack.dev/unused-since";

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// The status as it is.
    pub status: Option<Box<api::NoTrackPolicyStatus>>,
    /// The policy, or what is wrong with it.
    pub content: Result<Box<ValidatedPolicy>, Vec<String>>,
}

impl Policy {
    /// Of an object that could be read.
    pub fn of(object: api::NoTrackPolicy) -> Policy {
        let content = validate(&object)
            .map(Box::new)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect());
        Policy {
            uid: object.metadata.uid.unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            status: object.status.map(Box::new),
            content,
        }
    }

    /// Of one that could not.
    pub fn unreadable(metadata: &ObjectMeta, error: &str) -> Policy {
        Policy {
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            status: None,
            content: Err(vec![format!("{error} (written for another version of notrack?)")]),
        }
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub created: Option<i64>,
}

impl Node {
    /// Of a Node object's metadata.
    pub fn of(node: PartialObjectMeta<corev1::Node>) -> Node {
        Node {
            uid: node.metadata.uid.unwrap_or_default(),
            labels: node.metadata.labels.unwrap_or_default(),
            created: node.metadata.creation_timestamp.map(|time| time.0.as_second()),
        }
    }

    /// With the addresses that its agent reports for this uid.
    pub fn with_addresses(&self, plan: Option<&Plan>) -> plan::Node {
        let status = plan.map(|plan| &*plan.status).filter(|status| {
            status.node_uid.as_deref() == Some(self.uid.as_str())
                && status.addresses.len() < api::MOST_ADDRESSES
        });
        let addresses = status.map(|status| status.addresses.iter().filter_map(|text| text.parse().ok()));
        plan::Node {
            uid: self.uid.clone(),
            labels: self.labels.clone(),
            // An agent that reports no address has not looked yet: no node is without.
            addresses: addresses.map(Iterator::collect).filter(|all: &BTreeSet<IpAddr>| !all.is_empty()),
        }
    }
}

/// A NodePlan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// `metadata.ownerReferences[].uid`.
    pub owners: Vec<String>,
    /// What the node is to run.
    pub spec: Arc<api::NodePlanSpec>,
    /// What it reports.
    pub status: Arc<api::NodePlanStatus>,
}

impl Plan {
    /// Of a NodePlan object.
    pub fn of(plan: api::NodePlan) -> Plan {
        Plan {
            uid: plan.metadata.uid.unwrap_or_default(),
            version: plan.metadata.resource_version.unwrap_or_default(),
            generation: plan.metadata.generation,
            owners: plan.metadata.owner_references.into_iter().flatten().map(|owner| owner.uid).collect(),
            spec: Arc::new(plan.spec),
            status: Arc::new(plan.status.unwrap_or_default()),
        }
    }

    /// Whether this is an earlier state of the same object than the other.
    pub fn is_older_than(&self, other: &Plan) -> bool {
        let number = |plan: &Plan| plan.version.parse::<u64>().ok();
        self.uid == other.uid && number(self).zip(number(other)).is_some_and(|(own, other)| own < other)
    }
}

/// A RuleSet, without its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// Since when nobody uses it, as written there.
    pub unused_since: Option<String>,
}

impl RuleSet {
    /// Of a RuleSet object's metadata.
    pub fn of(metadata: ObjectMeta) -> RuleSet {
        RuleSet {
            uid: metadata.uid.unwrap_or_default(),
            version: metadata.resource_version.unwrap_or_default(),
            unused_since: metadata.annotations.and_then(|mut all| all.remove(UNUSED_SINCE)),
        }
    }
}

/// The ranges of a ServiceCIDR object.
pub fn service_ranges(object: networkingv1::ServiceCIDR) -> Vec<AddressRange> {
    let cidrs = object.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
    cidrs.iter().filter_map(|cidr| cidr.parse::<ipnet::IpNet>().ok()).map(AddressRange::from).collect()
}

/// A Service, as far as it is read.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = "corev1::Service")]
pub struct Service {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<ServiceSpec>,
    #[serde(default)]
    status: Option<ServiceStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "type")]
    type_: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    protocol: Option<String>,
    port: Option<u16>,
    node_port: Option<u16>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Ingress {
    ip: Option<String>,
}

impl Service {
    /// What must be known of it. Of one that the kernel translates nothing for: the name alone.
    pub fn kept(self, name: &str) -> services::Service {
        let spec = self.spec.unwrap_or_default();
        // "None" and "" are no addresses.
        let addresses = |texts: &mut dyn Iterator<Item = String>| -> Vec<IpAddr> {
            let mut all: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
            all.sort();
            all.dedup();
            all
        };
        let cluster_addresses =
            addresses(&mut spec.cluster_ip.into_iter().chain(spec.cluster_ips.into_iter().flatten()));
        if cluster_addresses.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
            return services::Service { name: name.to_owned(), ..services::Service::default() };
        }
        let ingress = self.status.and_then(|status| status.load_balancer).and_then(|given| given.ingress);
        let outer_addresses = addresses(
            &mut spec
                .external_ips
                .into_iter()
                .flatten()
                .chain(ingress.into_iter().flatten().filter_map(|one| one.ip)),
        );
        let ports = spec.ports.into_iter().flatten().filter_map(|port| {
            Some(services::ServicePort {
                protocol: protocol(port.protocol.as_deref())?,
                port: port.port?,
                node_port: port.node_port.filter(|port| *port > 0),
            })
        });
        services::Service {
            name: name.to_owned(),
            cluster_addresses,
            outer_addresses,
            ports: ports.collect(),
        }
    }
}

/// An EndpointSlice, as far as it is read.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = "discoveryv1::EndpointSlice")]
pub struct EndpointSlice {
    metadata: ObjectMeta,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    addresses: Option<Vec<String>>,
    node_name: Option<String>,
}

impl EndpointSlice {
    /// What must be known of it: nothing where it backs no Service.
    pub fn kept(self) -> services::Endpoints {
        let namespace = self.metadata.namespace.unwrap_or_default();
        let service = self.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        let Some(service) = service else { return services::Endpoints::default() };
        let addresses = self.endpoints.into_iter().flatten().flat_map(|endpoint| {
            let node = endpoint.node_name;
            let addresses = endpoint.addresses.into_iter().flatten();
            // Names, where the slice is of those, are no addresses.
            addresses.filter_map(move |text| Some((text.parse().ok()?, node.clone())))
        });
        let ports = self.ports.unwrap_or_default();
        // A port without a number means all of its protocol; a slice without ports, all there are.
        let ports = if ports.is_empty() {
            Proto::ALL.into_iter().map(|proto| (proto, PortRange::ALL)).collect()
        } else {
            let all = ports.into_iter();
            all.filter_map(|port| {
                Some((protocol(port.protocol.as_deref())?, port.port.map_or(PortRange::ALL, PortRange::one)))
            })
            .collect()
        };
        services::Endpoints {
            service: format!("{namespace}/{service}"),
            addresses: addresses.collect(),
            ports,
        }
    }
}

fn protocol(name: Option<&str>) -> Option<Proto> {
    match name {
        None | Some("TCP") => Some(Proto::Tcp),
        Some("UDP") => Some(Proto::Udp),
        Some("SCTP") => Some(Proto::Sctp),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
