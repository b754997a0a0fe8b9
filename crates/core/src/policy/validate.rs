//! The edge: from an object as a user wrote it to a policy that later code can rely on.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;
use notrack_api as api;
use thiserror::Error;

use super::{Action, Compensation, Mode, Role, ValidatedFlow, ValidatedPolicy};
use crate::hazard::HazardKind;
use crate::net::{AddressRange, PortRange, Proto, merge_addresses, merge_ports, subtract_addresses};
use crate::selector::{Requirement, Selector};
use crate::suggest;

/// One thing that is wrong with a policy, and where.
///
/// The API server and [`crate::manifest`] refuse all of these before, but for the names of hazards, which the
/// definition does not list (another version may have more). They are checked again because a rule must never be
/// built from what nobody checked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {message}")]
pub struct Invalid {
    /// The field: `spec.flows[0].ports[1].endPort`.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// Longest name: it becomes a part of names of chains, counters and labels.
const LONGEST_NAME: usize = 63;

/// Longest name of an interface (`IFNAMSIZ`, less the zero at its end). A longer one would be cut, and match another.
const LONGEST_INTERFACE: usize = 15;

/// Checks a policy and brings it into its canonical form.
pub fn validate(object: &api::NoTrackPolicy) -> Result<ValidatedPolicy, Vec<Invalid>> {
    let mut problems = Problems::default();
    let api::NoTrackPolicySpec {
        node_selector,
        mode,
        flows,
        compensation,
        host_firewall,
        existing_entries,
        expire_time,
    } = &object.spec;
    let name = object.metadata.name.clone().unwrap_or_default();
    problems.check_name(&name);
    let mut seen = BTreeSet::new();
    let mut validated = Vec::with_capacity(flows.len());
    for (number, flow) in flows.iter().enumerate() {
        let path = format!("spec.flows[{number}]");
        if !seen.insert(&flow.name) {
            problems.add(format!("{path}.name"), format!("{:?} is the name of an earlier flow", flow.name));
        }
        validated.push(problems.flow(&path, flow));
    }
    validated.sort_by(|a, b| a.name.cmp(&b.name));
    if validated.is_empty() {
        problems.add("spec.flows".into(), "a policy needs at least one flow".into());
    }
    let api::Compensation { tcp_flags, icmp_errors, new_connections_per_second } = compensation;
    let policy = ValidatedPolicy {
        name,
        uid: object.metadata.uid.clone(),
        generation: object.metadata.generation,
        created: object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        selector: selector(node_selector),
        mode: match mode {
            api::Mode::Enforce => Mode::Enforce,
            api::Mode::Audit => Mode::Audit,
        },
        flows: validated,
        compensation: Compensation {
            strict_tcp_flags: *tcp_flags == api::TcpFlags::Strict,
            icmp_errors: *icmp_errors == api::IcmpErrors::Accept,
            new_connections_per_second: *new_connections_per_second,
        },
        adapts_firewall: *host_firewall == api::HostFirewall::Adapt,
        keeps_entries: *existing_entries == api::ExistingEntries::Keep,
        expires: expire_time.as_ref().map(|time| time.0.as_second()),
    };
    if problems.0.is_empty() { Ok(policy) } else { Err(problems.0) }
}

#[derive(Default)]
struct Problems(Vec<Invalid>);

impl Problems {
    fn add(&mut self, path: String, message: String) {
        self.0.push(Invalid { path, message });
    }

    fn check_name(&mut self, name: &str) {
        let letters = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        if name.len() > LONGEST_NAME || !letters || !ends(name.bytes().next()) || !ends(name.bytes().last()) {
            self.add(
                "metadata.name".into(),
                format!("{name:?} must be 1 to {LONGEST_NAME} characters of a-z, 0-9, '-' and '.', such as edge-http"),
            );
        }
    }

    fn flow(&mut self, path: &str, flow: &api::Flow) -> ValidatedFlow {
        let api::Flow {
            name,
            action,
            role,
            ports,
            peers,
            server_addresses,
            local_ports,
            interfaces,
            acknowledge,
        } = flow;
        let mut by_proto: Vec<(Proto, PortRange)> = Vec::with_capacity(ports.len());
        for (number, port) in ports.iter().enumerate() {
            let proto = Proto::from(port.protocol);
            let range = self.ports(&format!("{path}.ports[{number}]"), port.port, port.end_port);
            by_proto.extend(range.map(|range| (proto, range)));
        }
        let merged = Proto::ALL.into_iter().flat_map(|proto| {
            let own = by_proto.iter().filter(|(of, _)| *of == proto).map(|(_, range)| *range);
            merge_ports(own.collect()).into_iter().map(move |range| (proto, range)).collect::<Vec<_>>()
        });
        let mut locals = Vec::new();
        for (number, port) in local_ports.iter().enumerate() {
            locals.extend(self.ports(&format!("{path}.localPorts[{number}]"), port.port, port.end_port));
        }
        let role = role_of(*role);
        let flow = ValidatedFlow {
            name: name.clone(),
            action: match action {
                api::Action::NoTrack => Action::NoTrack,
                api::Action::Track => Action::Track,
            },
            role,
            ports: merged.collect(),
            peers: self.peers(path, peers),
            server_addresses: self.addresses(&format!("{path}.serverAddresses"), server_addresses),
            local_ports: (!locals.is_empty()).then(|| merge_ports(locals)),
            interfaces: self.interfaces(path, interfaces),
            acknowledged: self.acknowledged(path, acknowledge),
        };
        self.check_role(path, &flow);
        flow
    }

    /// `*` alone means every interface, which is what no name at all means.
    fn interfaces(&mut self, path: &str, names: &[String]) -> Vec<Arc<str>> {
        for (number, name) in names.iter().enumerate() {
            let beginning = name.strip_suffix('*').unwrap_or(name);
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@:-".contains(&byte);
            if name.is_empty() || beginning.len() > LONGEST_INTERFACE || !beginning.bytes().all(letter) {
                self.add(
                    format!("{path}.interfaces[{number}]"),
                    format!("{name:?} is no name of an interface, such as eth0 or bond*"),
                );
            }
        }
        if names.iter().any(|name| name == "*") {
            return Vec::new();
        }
        let names: BTreeSet<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
        names.into_iter().collect()
    }

    fn acknowledged(&mut self, path: &str, known: &[api::Acknowledgement]) -> BTreeSet<HazardKind> {
        let mut kinds = BTreeSet::new();
        for (number, api::Acknowledgement { hazard, reason: _ }) in known.iter().enumerate() {
            let path = format!("{path}.acknowledge[{number}].hazard");
            match HazardKind::from_name(hazard) {
                Some(kind) if kind.is_acknowledgeable() => {
                    kinds.insert(kind);
                }
                Some(kind) => self.add(path, format!("{kind} cannot be acknowledged: {}", kind.remedy())),
                None => self.add(path, format!("{hazard:?} is no hazard: {}", hazard_meant_by(hazard))),
            }
        }
        kinds
    }

    fn check_role(&mut self, path: &str, flow: &ValidatedFlow) {
        if flow.ports.is_empty() {
            self.add(format!("{path}.ports"), "a flow needs at least one port".into());
        }
        if matches!(flow.role, Role::Client | Role::Peer) && flow.peers.is_none() {
            self.add(format!("{path}.peers"), "roles Client and Peer need peers".into());
        }
        if flow.role == Role::Forward && flow.server_addresses.is_none() {
            self.add(format!("{path}.serverAddresses"), "role Forward needs serverAddresses".into());
        }
        if flow.role == Role::Client && flow.server_addresses.is_some() {
            self.add(format!("{path}.serverAddresses"), "role Client names its servers in peers".into());
        }
        if flow.role != Role::Client && flow.local_ports.is_some() {
            self.add(format!("{path}.localPorts"), "localPorts belongs to role Client".into());
        }
    }

    fn ports(&mut self, path: &str, first: u16, last: Option<u16>) -> Option<PortRange> {
        let range = PortRange::new(first, last.unwrap_or(first)).filter(|range| range.first() > 0);
        if range.is_none() {
            self.add(path.to_owned(), "ports are 1 to 65535, and endPort is not below port".into());
        }
        range
    }

    fn peers(&mut self, path: &str, peers: &[api::Peer]) -> Option<Vec<AddressRange>> {
        if peers.is_empty() {
            return None;
        }
        let mut ranges = Vec::new();
        for (number, peer) in peers.iter().enumerate() {
            let path = format!("{path}.peers[{number}]");
            let whole = self.addresses(&format!("{path}.cidr"), std::slice::from_ref(&peer.cidr));
            let holes = self.addresses(&format!("{path}.except"), &peer.except).unwrap_or_default();
            ranges.extend(subtract_addresses(&whole.unwrap_or_default(), &holes));
        }
        Some(merge_addresses(ranges))
    }

    fn addresses(&mut self, path: &str, cidrs: &[String]) -> Option<Vec<AddressRange>> {
        let mut ranges = Vec::with_capacity(cidrs.len());
        for cidr in cidrs {
            match cidr.parse::<IpNet>() {
                Ok(net) if net.trunc() == net => ranges.push(AddressRange::from(net)),
                Ok(net) => {
                    self.add(path.to_owned(), format!("{cidr:?} has host bits set: write {}", net.trunc()))
                }
                Err(_) => self.add(path.to_owned(), format!("{cidr:?} is not a CIDR such as 10.0.0.0/8")),
            }
        }
        (!cidrs.is_empty()).then(|| merge_addresses(ranges))
    }
}

/// What to write in the place of a word that is no hazard's name.
fn hazard_meant_by(word: &str) -> String {
    let names = HazardKind::ALL.iter().filter(|kind| kind.is_acknowledgeable()).map(|kind| kind.name());
    let of_code = HazardKind::from_code(word).map(HazardKind::name);
    match of_code.or_else(|| suggest::closest(word, names)) {
        Some(name) => format!("did you mean {name}?"),
        None => "write its name as the status has it".to_owned(),
    }
}

fn role_of(role: api::Role) -> Role {
    match role {
        api::Role::Server => Role::Server,
        api::Role::Client => Role::Client,
        api::Role::Peer => Role::Peer,
        api::Role::Forward => Role::Forward,
    }
}

fn selector(selector: &api::NodeSelector) -> Selector {
    let labels =
        selector.match_labels.iter().map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()]));
    let expressions = selector.match_expressions.iter().map(|expression| {
        let api::LabelExpression { key, operator, values } = expression.clone();
        match operator {
            api::LabelOperator::In => Requirement::In(key, values),
            api::LabelOperator::NotIn => Requirement::NotIn(key, values),
            api::LabelOperator::Exists => Requirement::Exists(key),
            api::LabelOperator::DoesNotExist => Requirement::DoesNotExist(key),
        }
    });
    let mut requirements: Vec<Requirement> = labels.chain(expressions).collect();
    requirements.sort();
    requirements.dedup();
    Selector(requirements)
}
