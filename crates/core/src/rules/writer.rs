//! Writes cells into maps: server side as keys, client side in a chain of its own behind the key.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::boxes::Rectangle;
use super::cells::{Cell, Stage};
use super::clause::{Class, Outcome};
use super::render::{RenderError, bypass_chain, limit_chain};
use super::sites::{Half, View};
use crate::compile::{RuleSet, hex};
use crate::net::Family;
use crate::nf::{
    Chain, Direction, Element, FieldType, Key, RawField, Rule, Set, SetSpec, Statement, Table, Verdict,
};
use crate::policy::Mode;

/// A range of at most so many ports of one address becomes that many exact elements, so that an exact look-up is
/// often the only one: a second one costs every packet that misses some 130 ns.
const MOST_EXPANDED_PORTS: u32 = 128;

/// Where ranges are needed anyway, an exact map beside them is worth its look-up only where so many boxes share a value
/// of the first field: the kernel's pipapo goes through all of those for each packet, at some 20 ns each
/// (`pipapo_refill` in nft_set_pipapo.c).
const MOST_SHARED: usize = 8;

/// More elements than this are refused: the node would spend seconds and hundreds of megabytes on them.
pub(super) const MOST_ELEMENTS: usize = 500_000;

/// What a map is looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To bypass a packet, or the ICMP error about one.
    Bypass(View),
    /// To bypass the ICMP error about a fragment, IPv6 only: its ports lie behind a fragment header.
    BypassFragment,
    /// To limit new connections.
    Limit,
}

impl Purpose {
    fn suffix(self) -> &'static str {
        match self {
            Purpose::Bypass(View::Direct) => "",
            Purpose::Bypass(View::Embedded) => "-icmp",
            Purpose::BypassFragment => "-icmpfrag",
            Purpose::Limit => "-limit",
        }
    }

    /// The chain that a policy's packets go to; `None` where they are left alone.
    fn target(self, rule_set: &RuleSet, place: usize, half: Half) -> Option<Arc<str>> {
        let policy = rule_set.policies().get(place)?;
        match self {
            Purpose::Bypass(View::Direct) => Some(bypass_chain(policy, half)),
            Purpose::Bypass(View::Embedded) | Purpose::BypassFragment => {
                policy.compensation.icmp_errors.then(|| bypass_chain(policy, half))
            }
            Purpose::Limit => {
                // Audit changes nothing.
                let limited =
                    policy.mode == Mode::Enforce && policy.compensation.new_connections_per_second > 0;
                limited.then(|| limit_chain(policy))
            }
        }
    }
}

/// Where a tuple lies in the packet.
struct Layout {
    server: [RawField; 3],
    client: [RawField; 2],
}

impl Layout {
    fn of(purpose: Purpose, family: Family, half: Half) -> Layout {
        let transport = |offset, bits| RawField::Transport { offset, bits };
        // Behind the eight bytes of ICMP: the embedded IP header, then the first bytes of the transport header.
        let (source, destination, proto, source_port, destination_port) = match (purpose, family) {
            (Purpose::Bypass(View::Direct) | Purpose::Limit, _) => (
                RawField::SourceAddress(family),
                RawField::DestinationAddress(family),
                RawField::L4Proto,
                RawField::SourcePort,
                RawField::DestinationPort,
            ),
            (Purpose::Bypass(View::Embedded) | Purpose::BypassFragment, Family::Ipv4) => (
                transport(160, 32),
                transport(192, 32),
                transport(136, 8),
                transport(224, 16),
                transport(240, 16),
            ),
            (Purpose::Bypass(View::Embedded), Family::Ipv6) => (
                transport(128, 128),
                transport(256, 128),
                transport(112, 8),
                transport(384, 16),
                transport(400, 16),
            ),
            (Purpose::BypassFragment, Family::Ipv6) => (
                transport(128, 128),
                transport(256, 128),
                transport(384, 8),
                transport(448, 16),
                transport(464, 16),
            ),
        };
        match half {
            Half::ToServer => {
                Layout { server: [destination, proto, destination_port], client: [source, source_port] }
            }
            Half::FromServer => {
                Layout { server: [source, proto, source_port], client: [destination, destination_port] }
            }
        }
    }
}

/// Which field a map of ranges begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstField {
    Address,
    Port,
}

impl FirstField {
    /// The field of which a value is shared by fewer boxes, and by how many at most.
    fn of<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> (FirstField, usize) {
        let (mut addresses, mut ports) = (Vec::new(), Vec::new());
        for cell in cells {
            addresses.push((cell.servers.first, cell.servers.last));
            ports.push((u128::from(cell.ports.first()), u128::from(cell.ports.last())));
        }
        let (by_address, by_port) = (most_shared(&addresses), most_shared(&ports));
        if by_port < by_address { (FirstField::Port, by_port) } else { (FirstField::Address, by_address) }
    }
}

/// How many of the ranges share a point at most.
fn most_shared(ranges: &[(u128, u128)]) -> usize {
    // At a point where one range begins and another ends both hold it: beginnings first.
    let begins = ranges.iter().map(|(first, _)| (*first, false));
    let mut ends: Vec<(u128, bool)> = begins.chain(ranges.iter().map(|(_, last)| (*last, true))).collect();
    ends.sort_unstable();
    let mut open = 0_usize;
    ends.into_iter().fold(0, |most, (_, is_end)| {
        open = if is_end { open - 1 } else { open + 1 };
        most.max(open)
    })
}

/// Adds maps and cell chains to a table.
pub(super) struct Writer<'a> {
    pub table: &'a mut Table,
    pub rule_set: &'a RuleSet,
    pub purpose: Purpose,
    pub family: Family,
    pub elements: &'a mut usize,
}

impl Writer<'_> {
    /// Writes the cells of a class; returns the statements that look them up, none where there is nothing.
    pub fn write(&mut self, class: Class, half: Half, cells: &[Cell]) -> Result<Vec<Statement>, RenderError> {
        let layout = Layout::of(self.purpose, self.family, half);
        let name =
            format!("{}-{}{}{}", class.prefix(), half.suffix(), self.family.digit(), self.purpose.suffix());
        let [address, proto, port] = layout.server;
        let maps = [
            (name.clone(), layout.server),
            (format!("{name}-ranges"), layout.server),
            (format!("{name}-ports"), [port, proto, address]),
        ];
        let lookup = |(map, key): &(String, [RawField; 3])| Statement::VerdictMap {
            key: key.to_vec(),
            map: map.as_str().into(),
        };
        // Each hook asks for the maps that it looks into; those of loopback are the other hook's too.
        let written: Vec<Statement> =
            maps.iter().filter(|(map, _)| self.table.sets.contains_key(map)).map(lookup).collect();
        if !written.is_empty() {
            return Ok(written);
        }
        let mut exact = Vec::new();
        let mut ranges = Vec::new();
        let is_small = |cell: &Cell| cell.servers.is_one() && cell.ports.len() <= MOST_EXPANDED_PORTS;
        let all_small = cells.iter().all(is_small);
        let ranges_alone = !all_small && FirstField::of(cells).1 <= MOST_SHARED;
        let in_ranges = cells.iter().filter(|cell| ranges_alone || !is_small(cell));
        let (first_field, _) = FirstField::of(in_ranges);
        for cell in cells {
            let Some(target) = self.target(cell, half, &layout)? else { continue };
            let verdict = Some(Verdict::Jump(target));
            if is_small(cell) && !ranges_alone {
                let address = Key::EMPTY.address(cell.servers.first_address()).proto(cell.proto);
                exact.extend((cell.ports.first()..=cell.ports.last()).map(|port| Element {
                    key: address.port(port),
                    end: None,
                    verdict: verdict.clone(),
                }));
            } else {
                let key = |address, port| match first_field {
                    FirstField::Address => Key::EMPTY.address(address).proto(cell.proto).port(port),
                    FirstField::Port => Key::EMPTY.port(port).proto(cell.proto).address(address),
                };
                ranges.push(Element {
                    key: key(cell.servers.first_address(), cell.ports.first()),
                    end: Some(key(cell.servers.last_address(), cell.ports.last())),
                    verdict,
                });
            }
            self.within_bounds(exact.len() + ranges.len())?;
        }
        let [of_keys, of_ranges, of_ports] = &maps;
        let of_ranges = if first_field == FirstField::Port { of_ports } else { of_ranges };
        let mut lookups = Vec::new();
        for (map, interval, elements) in [(of_keys, false, exact), (of_ranges, true, ranges)] {
            if elements.is_empty() {
                continue;
            }
            self.add_map(&map.0, &map.1, interval, elements)?;
            lookups.push(lookup(map));
        }
        Ok(lookups)
    }

    fn within_bounds(&self, more: usize) -> Result<(), RenderError> {
        let elements = *self.elements + more;
        if elements > MOST_ELEMENTS { Err(RenderError::TooLarge { elements }) } else { Ok(()) }
    }

    fn add_map(
        &mut self,
        name: &str,
        key: &[RawField],
        interval: bool,
        elements: Vec<Element>,
    ) -> Result<(), RenderError> {
        self.within_bounds(elements.len())?;
        *self.elements += elements.len();
        let key: Vec<FieldType> = key.iter().map(|field| field.field_type()).collect();
        let spec = SetSpec { key, interval, verdicts: true, timeout: false };
        self.table.sets.insert(name.to_owned(), Set::new(spec, elements));
        Ok(())
    }

    /// The chain that a cell's elements lead to: a policy's own where every client is welcome.
    fn target(&mut self, cell: &Cell, half: Half, layout: &Layout) -> Result<Option<Arc<str>>, RenderError> {
        let stages = cell.stages.as_slice();
        if let [Stage { interfaces, clients }] = stages
            && let (true, [(rectangle, Outcome::Policy(place))]) = (interfaces.is_empty(), clients.as_slice())
            && *rectangle == Rectangle::all(self.family)
        {
            return Ok(self.purpose.target(self.rule_set, *place, half));
        }
        let mut entries: Vec<(&Stage, Vec<Element>)> = Vec::with_capacity(stages.len());
        let mut wanted = false;
        for stage in stages {
            let elements = stage
                .clients
                .iter()
                .map(|(clients, outcome)| {
                    let target = match outcome {
                        Outcome::Keep => None,
                        Outcome::Policy(place) => self.purpose.target(self.rule_set, *place, half),
                    };
                    wanted |= target.is_some();
                    Element {
                        key: Key::EMPTY
                            .address(clients.addresses.first_address())
                            .port(clients.ports.first()),
                        end: Some(
                            Key::EMPTY.address(clients.addresses.last_address()).port(clients.ports.last()),
                        ),
                        // Goto: a packet that does not fit goes back to the hook's next look-up, never to another
                        // stage.
                        verdict: Some(target.map_or(Verdict::Return, Verdict::Goto)),
                    }
                })
                .collect();
            entries.push((stage, elements));
        }
        if !wanted {
            return Ok(None);
        }
        self.add_cell_chain(&entries, half, layout).map(Some)
    }

    /// A chain for a set of policies that share a key; named by its content, so that equal cells share it and an
    /// unrelated change never renames it.
    fn add_cell_chain(
        &mut self,
        entries: &[(&Stage, Vec<Element>)],
        half: Half,
        layout: &Layout,
    ) -> Result<Arc<str>, RenderError> {
        let content = format!("{:?} {} {entries:?}", self.purpose, half.suffix());
        let name: String = format!("c-{}", &hex(&Sha256::digest(content.as_bytes()))[..16]);
        if self.table.chains.contains_key(&name) {
            return Ok(name.into());
        }
        let mut rules = Vec::new();
        for (number, (stage, elements)) in entries.iter().enumerate() {
            let mut map = name.clone();
            if number > 0 {
                // Writing to a String cannot fail.
                let _ = write!(map, "-{number}");
            }
            self.add_map(&map, &layout.client, true, elements.clone())?;
            let mut lookup = Vec::with_capacity(3);
            if matches!(layout.client[0], RawField::SourceAddress(_) | RawField::DestinationAddress(_)) {
                lookup.push(Statement::Family(self.family));
            }
            lookup.push(Statement::VerdictMap { key: layout.client.to_vec(), map: map.into() });
            if stage.interfaces.is_empty() {
                rules.push(Rule(lookup));
                continue;
            }
            // In prerouting a packet has no outgoing interface, in output no incoming one: one chain serves both.
            for interface in &stage.interfaces {
                for direction in [Direction::In, Direction::Out] {
                    let guard = Statement::InterfaceName(direction, interface.clone());
                    rules.push(Rule([vec![guard], lookup.clone()].concat()));
                }
            }
        }
        self.table.chains.insert(name.clone(), Chain { base: None, rules });
        Ok(name.into())
    }
}

/// The cells of every class.
pub(super) type ClassCells = BTreeMap<Class, Vec<Cell>>;

#[cfg(test)]
mod tests {
    use super::most_shared;

    #[test]
    fn ranges_that_touch_share_a_point() {
        assert_eq!(most_shared(&[]), 0);
        assert_eq!(most_shared(&[(1, 2), (2, 3), (5, 9), (6, 6), (9, u128::MAX)]), 2);
        assert_eq!(most_shared(&[(1, 9), (2, 3), (3, 4)]), 3);
    }
}
