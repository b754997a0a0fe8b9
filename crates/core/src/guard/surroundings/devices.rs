//! Hazards of network devices, and of what is attached to them.

use std::collections::BTreeMap;

use super::{Found, interface_matches, names, some_of, udp, uses};
use crate::hazard::HazardKind;
use crate::host::{Act, FlowTable, HostRules, Interface, Step, Surroundings};
use crate::policy::{Role, ValidatedFlow};

/// Devices that Cilium makes on every node that it serves.
const CILIUM: [&str; 2] = ["cilium_host", "cilium_net"];
/// The device that stands for the whole datapath of Open vSwitch; packets never come in by it.
const OVS_DATAPATH: &str = "ovs-system";
const OVS: &str = "openvswitch";

/// UDP ports of tunnels whose two ends both send to it, from any source port: VXLAN (IANA, GPE, and Linux's own
/// default), Geneve, GUE.
const TUNNELS: [u16; 5] = [4789, 4790, 8472, 6081, 6080];

/// H6: by what else an interface's packets are handled.
fn dataplane(interface: &Interface, around: &Surroundings) -> Option<String> {
    if CILIUM.contains(&interface.name.as_str()) {
        return Some("Cilium".to_owned());
    }
    let is_switched = around.master_of(interface).is_some_and(|master| master.kind == OVS)
        || (interface.kind == OVS && interface.name != OVS_DATAPATH);
    if is_switched {
        return Some("Open vSwitch".to_owned());
    }
    interface.programs.first().map(ToString::to_string)
}

/// H6: the interfaces of a flow that another program serves, by program.
pub(super) fn foreign_dataplane(flow: &ValidatedFlow, around: &Surroundings) -> Vec<Found> {
    let mut served: BTreeMap<String, Vec<&Interface>> = BTreeMap::new();
    for interface in around.interfaces.iter().filter(|interface| uses(flow, &interface.name)) {
        if let Some(program) = dataplane(interface, around) {
            served.entry(program).or_default().push(interface);
        }
    }
    let found = |(program, interfaces)| {
        let evidence = format!("{program} handles packets of {}", names::<'_>(interfaces));
        Found::warning(HazardKind::ForeignDataplane, evidence)
    };
    served.into_iter().map(found).collect()
}

/// H12: only packets that are routed get into a flow table (its rules stand in the forward hook), and only those of
/// its devices are looked up there.
pub(super) fn flow_offload(flow: &ValidatedFlow, rules: &HostRules, around: &Surroundings) -> Option<Found> {
    if flow.role != Role::Forward {
        return None;
    }
    let tables: Vec<String> = around
        .flow_tables
        .iter()
        .filter(|table| table.devices.iter().any(|device| uses(flow, device)) && is_fed(table, rules))
        .map(|FlowTable { family, table, name, devices }| {
            format!("{} {table} {name} ({})", family.nft_name(), some_of(devices))
        })
        .collect();
    let evidence = || format!("flow table {}", some_of(&tables));
    (!tables.is_empty()).then(|| Found::warning(HazardKind::FlowOffload, evidence()))
}

/// Whether a rule puts connections into a flow table. Where the table's rules are not known, one may.
fn is_fed(flow_table: &FlowTable, rules: &HostRules) -> bool {
    let table = rules
        .tables
        .iter()
        .find(|table| table.id.family == flow_table.family && table.id.name == flow_table.table);
    table.is_none_or(|table| {
        let mut steps = table.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.steps);
        steps.any(|step| matches!(step, Step::Act(Act::Offload(name)) if *name == flow_table.name))
    })
}

/// H13: what comes in by the port of a bridge has the bridge as its interface in every IP hook, routed or (with
/// br_netfilter) only forwarded by the bridge. So a name in the flow that stands for ports alone matches nothing.
pub(super) fn bridged_frames(flow: &ValidatedFlow, around: &Surroundings) -> Vec<Found> {
    let bridge_of = |interface: &Interface| {
        around.master_of(interface).filter(|master| master.kind == "bridge").map(|bridge| bridge.name.clone())
    };
    let found = |pattern: &str| {
        let mut named = around
            .interfaces
            .iter()
            .filter(|interface| interface_matches(pattern, &interface.name))
            .peekable();
        named.peek()?;
        let bridges: Option<Vec<String>> = named.clone().map(bridge_of).collect();
        let mut bridges = bridges?;
        bridges.sort();
        bridges.dedup();
        let evidence = format!("{} is a port of bridge {}", names(named), some_of(&bridges));
        Some(Found::warning(HazardKind::BridgedFrames, evidence))
    };
    flow.interfaces.iter().filter_map(|pattern| found(pattern)).collect()
}

/// H28: a tunnel that is there, or a port that is nothing but a tunnel's by convention.
pub(super) fn one_way_tunnel(flow: &ValidatedFlow, around: &Surroundings) -> Vec<Found> {
    if flow.role != Role::Server {
        return Vec::new();
    }
    let found = |evidence| Found::warning(HazardKind::OneWayTunnel, evidence);
    let devices = around.interfaces.iter().filter_map(|interface| {
        let port = interface.tunnel_port?;
        let evidence = || found(format!("UDP {port} is the port of {} ({})", interface.name, interface.kind));
        udp(flow).any(|ports| ports.contains(port)).then(evidence)
    });
    let has_device =
        |port: u16| around.interfaces.iter().any(|interface| interface.tunnel_port == Some(port));
    let conventions = udp(flow)
        .filter(|ports| ports.len() == 1 && TUNNELS.contains(&ports.first()) && !has_device(ports.first()))
        .map(|ports| found(format!("UDP {ports} is the port of a tunnel")));
    devices.chain(conventions).collect()
}

/// H32: the VRFs that a flow's packets may pass.
///
/// The kernel runs the prerouting and the output hook for the member and for the VRF (`vrf_rcv_nfhook`,
/// `vrf_output`), and takes the untracked state away in between on the way out (`vrf_nf_reset_ct`).
pub(super) fn vrf(flow: &ValidatedFlow, around: &Surroundings) -> Vec<Found> {
    let vrfs = around.interfaces.iter().filter(|interface| interface.kind == "vrf");
    vrfs.filter_map(|vrf| {
        let members: Vec<&Interface> = around.members(&vrf.name).collect();
        let passes = !members.is_empty()
            && (uses(flow, &vrf.name) || members.iter().any(|member| uses(flow, &member.name)));
        let evidence = || format!("packets of {} pass the hooks again for VRF {}", names(members), vrf.name);
        passes.then(|| Found::warning(HazardKind::VRF, evidence()))
    })
    .collect()
}
