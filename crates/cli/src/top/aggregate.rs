//! From entries to groups: pure, and in bounded memory.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use clap::ValueEnum;
use notrack_netlink::conntrack::{Entry, KeepReason, Status, TcpState};

use super::heavy::{Heavy, Sum};

/// Groups that are remembered: with some 70 bytes each, half a megabyte for each way of grouping.
const ROOM: usize = 7000;

/// A way of grouping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum By {
    /// IP protocol.
    Protocol,
    /// Protocol and state: the TCP state, or whether a reply was seen.
    State,
    /// Port and protocol of the server: where the first packet went.
    Port,
    /// Who sent the first packet.
    Peer,
    /// Who sent the first packet to whom, and to which port.
    Pair,
}

impl By {
    /// All of them, from few groups to many.
    pub const ALL: [Self; 5] = [Self::Protocol, Self::State, Self::Port, Self::Peer, Self::Pair];

    /// The name of the argument.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::State => "state",
            Self::Port => "port",
            Self::Peer => "peer",
            Self::Pair => "pair",
        }
    }

    fn key(self, entry: &Entry) -> Key {
        let tuple = &entry.original;
        let protocol = Some(tuple.protocol);
        match self {
            Self::Protocol => Key { protocol, ..Key::default() },
            Self::State => Key { protocol, state: Some(State::of(entry)), ..Key::default() },
            Self::Port => Key { protocol, port: tuple.destination_port(), ..Key::default() },
            Self::Peer => Key { peer: Some(tuple.source), ..Key::default() },
            Self::Pair => Key {
                protocol,
                port: tuple.destination_port(),
                peer: Some(tuple.source),
                destination: Some(tuple.destination),
                ..Key::default()
            },
        }
    }
}

/// What an entry's connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Of TCP.
    Tcp(TcpState),
    /// Other protocols: no packet came back yet.
    Unreplied,
    /// Other protocols: packets went both ways.
    Replied,
    /// Other protocols: packets went both ways for a while; the kernel does not evict it early.
    Assured,
}

impl State {
    const fn of(entry: &Entry) -> Self {
        match entry.tcp_state {
            Some(state) => Self::Tcp(state),
            None if entry.status.contains(Status::ASSURED) => Self::Assured,
            None if entry.status.contains(Status::SEEN_REPLY) => Self::Replied,
            None => Self::Unreplied,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp(state) => state.as_str(),
            Self::Unreplied => "UNREPLIED",
            Self::Replied => "REPLIED",
            Self::Assured => "ASSURED",
        })
    }
}

/// What the entries of a group have in common; what does not count is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// State.
    pub state: Option<State>,
    /// Server port.
    pub port: Option<u16>,
    /// Source of the first packet.
    pub peer: Option<IpAddr>,
    /// Destination of the first packet, before translation.
    pub destination: Option<IpAddr>,
}

/// Without the words that the derived form spends on what is left out; it is what a reading does most.
impl Hash for Key {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let protocol = u64::from(self.protocol.unwrap_or(0));
        let port = u64::from(self.port.unwrap_or(0));
        hasher.write_u64(protocol << 16 | port);
        if let Some(state) = self.state {
            state.hash(hasher);
        }
        for address in [self.peer, self.destination].into_iter().flatten() {
            match address {
                IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
                IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
            }
        }
    }
}

/// The entries of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub entries: u32,
    /// Translated (NAT): these cannot be bypassed.
    pub translated: u32,
    /// That must stay tracked for another reason: a helper, a mark, a label.
    pub kept: u32,
    /// No packet came back yet.
    pub unreplied: u32,
    /// Not evicted early when the table is full.
    pub assured: u32,
}

impl Sum for Tally {
    type Of = Entry;

    fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        match entry.keep_reason() {
            Some(KeepReason::SourceNat | KeepReason::DestinationNat) => self.translated += 1,
            Some(_) => self.kept += 1,
            None => {}
        }
        self.unreplied += u32::from(!entry.status.contains(Status::SEEN_REPLY));
        self.assured += u32::from(entry.status.contains(Status::ASSURED));
    }

    fn size(&self) -> u32 {
        self.entries
    }
}

/// By which figure groups are sorted, largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// All entries.
    Entries,
    /// Translated ones.
    Nat,
    /// Those without a reply.
    Unreplied,
}

impl Sort {
    /// The one after this, round and round.
    pub const fn next(self) -> Self {
        match self {
            Self::Entries => Self::Nat,
            Self::Nat => Self::Unreplied,
            Self::Unreplied => Self::Entries,
        }
    }

    const fn rank(self, tally: &Tally) -> u32 {
        match self {
            Self::Entries => tally.entries,
            Self::Nat => tally.translated,
            Self::Unreplied => tally.unreplied,
        }
    }
}

/// The largest groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// How they are made.
    pub by: By,
    /// Largest first.
    pub rows: Vec<(Key, Tally)>,
    /// How many groups are left out; at least so many where some were forgotten.
    pub others: usize,
    /// How much too low a figure may be, because not all groups could be remembered. 0: exact.
    pub too_low_by: u32,
}

/// The entries of one reading.
#[derive(Debug)]
pub struct Aggregate {
    total: Tally,
    groups: Vec<(By, Heavy<Key, Tally>)>,
}

impl Aggregate {
    /// Nothing yet; it will know these ways of grouping.
    pub fn new(groups: &[By]) -> Self {
        let groups = groups.iter().map(|by| (*by, Heavy::new(ROOM)));
        Self { total: Tally::default(), groups: groups.collect() }
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        self.total.add(entry);
        for (by, groups) in &mut self.groups {
            groups.add(by.key(entry), entry);
        }
    }

    /// All entries.
    pub const fn total(&self) -> Tally {
        self.total
    }

    /// How many groups of one kind there are, or are remembered.
    pub fn groups(&self, by: By) -> usize {
        self.groups.iter().find(|(known, _)| *known == by).map_or(0, |(_, groups)| groups.len())
    }

    /// The largest groups of one kind, if it is known.
    pub fn largest(&self, by: By, count: usize, sort: Sort) -> Option<Groups> {
        let (_, groups) = self.groups.iter().find(|(known, _)| *known == by)?;
        let (rows, too_low_by) = groups.largest(count, |tally| sort.rank(tally));
        Some(Groups { by, others: groups.len() - rows.len(), rows, too_low_by })
    }
}

#[cfg(test)]
mod tests;
