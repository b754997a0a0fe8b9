//! Hazards of programs on the node, by the sockets that they hold.

use super::{Found, some_of};
use crate::facts::NodeFacts;
use crate::hazard::HazardKind;
use crate::host::{ConntrackListener, FixedSource, Surroundings};
use crate::net::{PortRange, Proto};
use crate::policy::{Role, ValidatedFlow};

const DNS: u16 = 53;
const NTP: u16 = 123;
/// Resolvers that take their source ports at random from all that are not privileged, whatever the kernel's range is.
const RESOLVERS: [&str; 3] = ["dnsmasq", "pdns_recursor", "unbound"];
/// Serves at port 123, and asks from a port that the kernel gives.
const ASKS_FROM_EPHEMERAL: &str = "chronyd";
const REPLICATES: &str = "conntrackd";

/// H35: of a question from another port than the flow's, the rules would match the answer or neither.
pub(super) fn local_ports(flow: &ValidatedFlow, facts: &NodeFacts) -> Vec<Found> {
    if flow.role != Role::Client {
        return Vec::new();
    }
    let own = flow.local_ports.as_deref().unwrap_or(&facts.ephemeral);
    let covers = |ports: PortRange| own.iter().any(|range| range.intersection(ports) == Some(ports));
    let sources = facts.host.surroundings.fixed_sources.iter();
    let mut found: Vec<Found> = sources
        .filter(|source| source.may_ask(flow.peers.as_deref()))
        .filter_map(|source| {
            let (asked, from) = asks(source)?;
            let evidence = || Found::warning(HazardKind::LocalPorts, describe(source, asked, from));
            (flow.names_port(source.protocol, PortRange::one(asked)) && !covers(from)).then(evidence)
        })
        .collect();
    // A program has a socket for each of its addresses.
    found.dedup();
    found
}

/// The port that is asked, and the source ports that are used for it.
fn asks(source: &FixedSource) -> Option<(u16, PortRange)> {
    let FixedSource { protocol, port, remote, program } = source;
    let program = program.as_deref();
    match (remote, *port) {
        (Some(remote), port) => Some((remote.port(), PortRange::one(port))),
        (None, NTP) if *protocol == Proto::Udp && program != Some(ASKS_FROM_EPHEMERAL) => {
            Some((NTP, PortRange::one(NTP)))
        }
        (None, DNS) if *protocol == Proto::Udp && program.is_some_and(|name| RESOLVERS.contains(&name)) => {
            Some((DNS, PortRange::new(1024, u16::MAX)?))
        }
        (None, _) => None,
    }
}

fn describe(source: &FixedSource, asked: u16, from: PortRange) -> String {
    let FixedSource { protocol, port: _, remote, program } = source;
    let who = program.as_deref().unwrap_or("a program of this node");
    match remote {
        Some(remote) => format!("{who} asks {protocol} {remote} from port {from}"),
        None => format!("{who} asks {protocol} port {asked} from port {from}"),
    }
}

/// H37. Others read events to count or to log; so where the program can be seen and is not conntrackd, there is
/// nothing to say, and where it cannot, only who follows entries through all their life may copy them.
pub(super) fn replicated_table(around: &Surroundings) -> Option<Found> {
    let may_copy = |listener: &&ConntrackListener| match listener.program.as_deref() {
        Some(program) => program == REPLICATES,
        None => listener.groups & ConntrackListener::ENTRIES == ConntrackListener::ENTRIES,
    };
    let mut who: Vec<String> = around
        .conntrack_listeners
        .iter()
        .filter(may_copy)
        .map(|listener| listener.program.clone().unwrap_or_else(|| "a program".to_owned()))
        .collect();
    who.sort();
    who.dedup();
    let evidence = || format!("{} follows every change of the connection table", some_of(&who));
    (!who.is_empty()).then(|| Found::warning(HazardKind::ReplicatedTable, evidence()))
}
