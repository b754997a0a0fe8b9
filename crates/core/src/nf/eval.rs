//! An interpreter of tables: what the kernel would do to a packet, for tests and `simulate`.

use std::net::IpAddr;

use super::{Element, Hook, Key, RawField, Rule, Set, Statement, Table, Verdict};
use crate::net::Family;
use crate::packet::{Packet, Tuple, interface_matches};

/// What a table did to a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A notrack statement was reached.
    pub untracked: bool,
    /// The chain that had this statement.
    pub notrack_in: Option<String>,
    /// The packet was discarded.
    pub dropped: bool,
    /// The counters that counted it.
    pub counted: Vec<String>,
}

/// Deeper jumps are refused by the kernel (`NFT_JUMP_STACK_SIZE`).
const DEEPEST_JUMP: usize = 16;

/// Evaluates the base chain of a hook.
pub fn evaluate(table: &Table, hook: Hook, packet: &Packet) -> Outcome {
    let mut run = Run { table, hook, packet, outcome: Outcome::default() };
    for (name, _) in table.chains.iter().filter(|(_, chain)| chain.base.is_some_and(|base| base.hook == hook))
    {
        if run.chain(name, 0) == Flow::Drop {
            run.outcome.dropped = true;
            break;
        }
    }
    run.outcome
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    Accept,
    Drop,
}

struct Run<'a> {
    table: &'a Table,
    hook: Hook,
    packet: &'a Packet,
    outcome: Outcome,
}

impl Run<'_> {
    /// The end of a chain is a return; a goto leaves its chain for good.
    fn chain(&mut self, name: &str, depth: usize) -> Flow {
        let table = self.table;
        let Some(chain) = table.chains.get(name) else { return Flow::Continue };
        if depth > DEEPEST_JUMP {
            return Flow::Drop;
        }
        for rule in &chain.rules {
            match self.rule(name, rule) {
                None => {}
                Some(Verdict::Accept) => return Flow::Accept,
                Some(Verdict::Drop) => return Flow::Drop,
                Some(Verdict::Return) => return Flow::Continue,
                Some(Verdict::Goto(target)) => return self.chain(&target, depth + 1),
                Some(Verdict::Jump(target)) => match self.chain(&target, depth + 1) {
                    Flow::Continue => {}
                    end => return end,
                },
            }
        }
        Flow::Continue
    }

    fn rule(&mut self, chain: &str, rule: &Rule) -> Option<Verdict> {
        let packet = self.packet;
        for statement in &rule.0 {
            let matched = match statement {
                Statement::Family(family) => Family::of(packet.tuple.source) == *family,
                Statement::L4Proto(number) => packet.tuple.proto == *number,
                Statement::Loopback(direction) => packet.interface(self.hook, *direction) == Some("lo"),
                Statement::InterfaceName(direction, pattern) => packet
                    .interface(self.hook, *direction)
                    .is_some_and(|name| interface_matches(pattern, name)),
                // Packets of this model embed well-formed headers or nothing; fragments are not modelled.
                Statement::TransportBits { offset: 112, bits: 8, value, .. } => {
                    packet.embedded.is_some_and(|embedded| u16::from(embedded.proto) == *value)
                }
                Statement::TransportBits { .. } => packet.embedded.is_some(),
                Statement::TcpSyn => packet.tuple.proto == 6 && packet.tcp_flags & 0x17 == 0x02,
                Statement::InSet { key, set, inverted } => match self.find(key, set) {
                    Lookup::NoKey => false,
                    Lookup::Hit(_) => !*inverted,
                    Lookup::Miss => *inverted,
                },
                Statement::VerdictMap { key, map } => match self.find(key, map) {
                    Lookup::Hit(element) => return element.verdict.clone(),
                    Lookup::Miss | Lookup::NoKey => false,
                },
                Statement::Notrack => {
                    self.outcome.untracked = true;
                    self.outcome.notrack_in = Some(chain.to_owned());
                    true
                }
                Statement::CtUntracked => self.outcome.untracked,
                Statement::Counter(name) => {
                    self.outcome.counted.push(name.to_string());
                    true
                }
                // The interpreter has no clock: a limit is never over.
                Statement::RateOver { .. } => false,
                Statement::Verdict(verdict) => return Some(verdict.clone()),
            };
            if !matched {
                return None;
            }
        }
        None
    }

    fn find(&self, fields: &[RawField], set: &str) -> Lookup<'_> {
        let (Some(set), Some(key)) = (self.table.sets.get(set), self.key(fields)) else {
            return Lookup::NoKey;
        };
        set.find(&key, fields).map_or(Lookup::Miss, Lookup::Hit)
    }

    /// The key as the packet has it; `None` where it lacks a field.
    fn key(&self, fields: &[RawField]) -> Option<Key> {
        let Packet { tuple, tcp_flags, icmp_type, embedded, .. } = self.packet;
        let of_family = |address: IpAddr, family| (Family::of(address) == family).then_some(address);
        fields.iter().try_fold(Key::EMPTY, |key, field| {
            Some(match field {
                RawField::SourceAddress(family) => key.address(of_family(tuple.source, *family)?),
                RawField::DestinationAddress(family) => key.address(of_family(tuple.destination, *family)?),
                RawField::L4Proto => key.byte(tuple.proto),
                RawField::SourcePort => key.port(tuple.source_port),
                RawField::DestinationPort => key.port(tuple.destination_port),
                RawField::NfProto => key.byte(super::expr::nfproto(Family::of(tuple.source))),
                RawField::TcpFlags if tuple.proto == 6 => {
                    key.byte(tcp_flags & super::expr::TCP_TRACKED_FLAGS)
                }
                RawField::IcmpType if tuple.proto == 1 => key.byte(*icmp_type),
                RawField::Icmpv6Type if tuple.proto == 58 => key.byte(*icmp_type),
                RawField::TcpFlags | RawField::IcmpType | RawField::Icmpv6Type => return None,
                RawField::Transport { offset, .. } => embedded_field(key, (*embedded)?, *offset)?,
            })
        })
    }
}

enum Lookup<'a> {
    Hit(&'a Element),
    Miss,
    NoKey,
}

/// The field of an embedded header at a bit offset of the ICMP message.
fn embedded_field(key: Key, embedded: Tuple, offset: u16) -> Option<Key> {
    let Tuple { source, destination, proto, source_port, destination_port } = embedded;
    let v4 = source.is_ipv4();
    Some(match (v4, offset) {
        (true, 160) | (false, 128) => key.address(source),
        (true, 192) | (false, 256) => key.address(destination),
        (true, 136) | (false, 112) => key.byte(proto),
        (true, 224) | (false, 384) => key.port(source_port),
        (true, 240) | (false, 400) => key.port(destination_port),
        _ => return None,
    })
}

impl Set {
    /// The element that has a key.
    fn find(&self, key: &Key, fields: &[RawField]) -> Option<&Element> {
        if !self.spec.interval {
            let place = self.elements.binary_search_by(|element| element.key.cmp(key)).ok()?;
            return self.elements.get(place);
        }
        self.elements.iter().find(|element| {
            let end = element.end.unwrap_or(element.key);
            let mut offset = 0;
            fields.iter().all(|field| {
                let range = offset..offset + field.field_type().padded_len();
                offset = range.end;
                let [low, part, high] = [&element.key, key, &end].map(|key| key.bytes().get(range.clone()));
                low <= part && part <= high
            })
        })
    }
}
