//! The ip sets of a namespace, read over netlink (`include/uapi/linux/netfilter/ipset/ip_set.h`).

use std::collections::BTreeMap;

use notrack_core::host::{Field, Members, ValueBox};
use notrack_core::net::Family;

use crate::attr::nfnl_type;
use crate::socket::{NetlinkError, Socket, flags};

mod element;
#[cfg(test)]
mod tests;

use element::{Kind, Reader};

/// `NFNL_SUBSYS_IPSET`.
const SUBSYSTEM: u8 = 6;
/// `IPSET_CMD_LIST`.
const LIST: u8 = 7;
/// `IPSET_CMD_GET_BYINDEX`, of protocol 7 (kernel 4.20).
const GET_BY_INDEX: u8 = 15;
const PROTOCOL: u8 = 7;

/// `IPSET_ATTR_*` of a message.
mod attr {
    pub(super) const PROTOCOL: u16 = 1;
    pub(super) const SETNAME: u16 = 2;
    pub(super) const INDEX: u16 = 11;
}

/// A dump is repeated when the set has changed under it.
const TRIES: usize = 3;

/// Whose address, port or interface of a packet is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Its source's.
    Source,
    /// Its destination's.
    Destination,
}

impl Direction {
    /// As iptables writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Direction::Source => "src",
            Direction::Destination => "dst",
        }
    }
}

/// The ip sets of this namespace, read when a rule first names one.
#[derive(Debug, Default)]
pub(in crate::host) struct IpSets {
    socket: Option<Socket>,
    names: BTreeMap<u16, Option<String>>,
    sets: BTreeMap<String, Option<IpSet>>,
}

/// A set.
#[derive(Debug, Clone, PartialEq, Eq)]
enum IpSet {
    /// The names of others.
    List(Vec<String>),
    /// What its elements consist of, and they themselves.
    Elements { kinds: Vec<Kind>, family: Family, boxes: Vec<ValueBox> },
}

impl IpSets {
    /// The name of the set that a rule knows by its number. `None` where the kernel does not tell.
    pub(super) fn name(&mut self, index: u16) -> Option<String> {
        if let Some(name) = self.names.get(&index) {
            return name.clone();
        }
        let name = self.ask_name(index);
        if let Err(error) = &name {
            tracing::debug!(index, %error, "cannot name an ip set");
        }
        let name = name.ok().flatten();
        self.names.insert(index, name.clone());
        name
    }

    /// What a rule finds in a set that looks up these of a packet, dimension by dimension. `None` where the set
    /// cannot be read or is not understood.
    pub(super) fn contents(&mut self, name: &str, looked_up: &[Direction]) -> Option<(Vec<Field>, Members)> {
        let names = match self.set(name)? {
            IpSet::Elements { .. } => vec![name.to_owned()],
            IpSet::List(names) => names,
        };
        let mut all: Option<(Vec<Field>, Vec<ValueBox>)> = None;
        for name in names {
            let IpSet::Elements { kinds, family, boxes } = self.set(&name)? else { return None };
            // `ip_set_test`: a set of more dimensions than are looked up holds nothing.
            if kinds.len() > looked_up.len() {
                continue;
            }
            let found: Vec<_> =
                kinds.iter().zip(looked_up).flat_map(|(kind, way)| kind.fields(family, *way)).collect();
            match &mut all {
                None => all = Some((found, boxes)),
                Some((fields, all)) if *fields == found => all.extend(boxes),
                // Sets of different fields in one list.
                Some(_) => return None,
            }
        }
        let (fields, boxes) = all.unwrap_or_default();
        Some((fields, Members::Boxes(boxes)))
    }

    fn set(&mut self, name: &str) -> Option<IpSet> {
        if let Some(set) = self.sets.get(name) {
            return set.clone();
        }
        let set = self.ask_set(name);
        if let Err(error) = &set {
            tracing::debug!(name, %error, "cannot read an ip set");
        }
        let set = set.ok().flatten();
        self.sets.insert(name.to_owned(), set.clone());
        set
    }

    fn socket(&mut self) -> Result<&mut Socket, NetlinkError> {
        match &mut self.socket {
            Some(socket) => Ok(socket),
            none => Ok(none.insert(Socket::open()?)),
        }
    }

    fn ask_name(&mut self, index: u16) -> Result<Option<String>, NetlinkError> {
        let mut name = None;
        self.socket()?.request(
            "name an ip set",
            (nfnl_type(SUBSYSTEM, GET_BY_INDEX), 0, libc::AF_INET as u8),
            |message| {
                message.u8(attr::PROTOCOL, PROTOCOL);
                message.be16(attr::INDEX, index);
            },
            |message| {
                if let Some(found) = message.attrs()?.find(attr::SETNAME)? {
                    name = Some(found.text()?.to_owned());
                }
                Ok(())
            },
        )?;
        Ok(name)
    }

    fn ask_set(&mut self, name: &str) -> Result<Option<IpSet>, NetlinkError> {
        let socket = self.socket()?;
        let mut tries = 0;
        loop {
            let mut reader = Reader::default();
            let asked = socket.request(
                "list an ip set",
                (nfnl_type(SUBSYSTEM, LIST), flags::DUMP, libc::AF_INET as u8),
                |message| {
                    message.u8(attr::PROTOCOL, PROTOCOL);
                    message.text(attr::SETNAME, name);
                },
                |message| reader.message(message.attrs()?),
            );
            match asked {
                Err(NetlinkError::Interrupted { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(reader.finish()),
            }
        }
    }
}
