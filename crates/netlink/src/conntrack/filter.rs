//! Which entries a dump gives, decided in the kernel as far as it can be trusted.

use std::net::IpAddr;

use super::{CT_GET, Entry, Tuple, cta, write};
use crate::attr::Writer;
use crate::socket::{NetlinkError, Socket, flags};

/// `IPPROTO_TCP` and `IPPROTO_UDP`: the only ones whose ports the kernel compares
/// (`ctnetlink_filter_match_tuple`).
const WITH_PORTS: [u8; 2] = [6, 17];

/// Address family of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The number of netfilter and of sockets: 2 or 10.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }
}

/// Bits that must have a value: `bits & mask == value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masked {
    /// The bits that count; not 0.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
}

impl Masked {
    const fn matches(self, bits: u32) -> bool {
        bits & self.mask == self.value
    }
}

/// What one direction must be. Nothing matches everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TupleFilter {
    /// Source address.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
}

/// Which entries are wanted. Nothing matches everything.
///
/// With `protocol` and a port or an IPv4 address the kernel leaves most of the others out, which saves
/// about 1 us for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Address family.
    pub family: Option<Family>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// The original direction: its destination port is the server's.
    pub original: TupleFilter,
    /// The reply direction: its source is the server after translation.
    pub reply: TupleFilter,
    /// Status bits.
    pub status: Option<Masked>,
    /// Mark.
    pub mark: Option<Masked>,
}

impl Filter {
    /// Whether an entry is wanted.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        self.family.is_none_or(|family| family == Family::of(entry.original.source))
            && self.protocol.is_none_or(|protocol| protocol == entry.original.protocol)
            && self.original.matches(&entry.original)
            && self.reply.matches(&entry.reply)
            && self.status.is_none_or(|status| status.matches(entry.status.0))
            && self.mark.is_none_or(|mark| mark.matches(entry.mark))
    }

    /// Whether no entry can match: addresses of two families, or of another than the one asked for.
    pub(super) fn is_contradictory(&self) -> bool {
        let mut named = self.named_families();
        named.next().is_some_and(|first| named.any(|family| family != first))
    }

    /// Every family that the filter names.
    fn named_families(&self) -> impl Iterator<Item = Family> {
        let addresses =
            [self.original.source, self.original.destination, self.reply.source, self.reply.destination];
        self.family.into_iter().chain(addresses.into_iter().flatten().map(Family::of))
    }

    /// The families to ask the kernel for, as numbers; 0 is all of them. The kernel compares tuples of one
    /// family only, and asking twice costs a walk over the table, not the sending of it.
    pub(super) fn families(&self, support: Support) -> Vec<u8> {
        match self.named_families().next() {
            Some(family) => vec![family.number()],
            None if support.flags(self) == (0, 0) => vec![0],
            None => vec![Family::V4.number(), Family::V6.number()],
        }
    }

    /// Writes what this kernel is to filter.
    pub(super) fn write(&self, support: Support, writer: &mut Writer<'_>) {
        // Older kernels ignore the mark without its mask, and status bits altogether.
        if let Some(mark) = self.mark {
            writer.be32(cta::MARK, mark.value);
            writer.be32(cta::MARK_MASK, mark.mask);
        }
        if let Some(status) = self.status {
            writer.be32(cta::STATUS, status.value);
            writer.be32(cta::STATUS_MASK, status.mask);
        }
        let (original, reply) = support.flags(self);
        if (original, reply) == (0, 0) {
            return;
        }
        if original != 0 {
            self.original.write(writer, cta::TUPLE_ORIG, original, self.protocol);
        }
        if reply != 0 {
            self.reply.write(writer, cta::TUPLE_REPLY, reply, self.protocol);
        }
        // Alone among ctnetlink's integers these are in the machine's byte order.
        writer.nested(cta::FILTER, |writer| {
            writer.ne32(cta::FILTER_ORIG_FLAGS, original);
            writer.ne32(cta::FILTER_REPLY_FLAGS, reply);
        });
    }
}

/// Bits of the two `CTA_FILTER_*_FLAGS` (`net/netfilter/nf_internals.h`).
mod bit {
    pub const IP_SRC: u32 = 1;
    pub const IP_DST: u32 = 1 << 1;
    pub const PROTO_NUM: u32 = 1 << 3;
    pub const SRC_PORT: u32 = 1 << 4;
    pub const DST_PORT: u32 = 1 << 5;
}

impl TupleFilter {
    fn matches(&self, tuple: &Tuple) -> bool {
        self.source.is_none_or(|address| address == tuple.source)
            && self.destination.is_none_or(|address| address == tuple.destination)
            && self.source_port.is_none_or(|port| tuple.source_port() == Some(port))
            && self.destination_port.is_none_or(|port| tuple.destination_port() == Some(port))
    }

    /// What of it the kernel can be asked to compare.
    ///
    /// Never IPv6 addresses: `ctnetlink_filter_match_tuple` takes the result of `ipv6_addr_cmp` the wrong
    /// way round, and leaves out exactly the entries that match.
    fn flags(&self, protocol: Option<u8>) -> u32 {
        let v4 = |address: Option<IpAddr>| address.is_some_and(|address| address.is_ipv4());
        let ports = protocol.is_some_and(|protocol| WITH_PORTS.contains(&protocol));
        let mut flags = 0;
        for (wanted, bit) in [
            (v4(self.source), bit::IP_SRC),
            (v4(self.destination), bit::IP_DST),
            (ports && self.source_port.is_some(), bit::SRC_PORT),
            (ports && self.destination_port.is_some(), bit::DST_PORT),
        ] {
            flags |= if wanted { bit } else { 0 };
        }
        // The kernel compares ports only together with the protocol.
        if flags & (bit::SRC_PORT | bit::DST_PORT) != 0 {
            flags |= bit::PROTO_NUM;
        }
        flags
    }

    fn write(&self, writer: &mut Writer<'_>, kind: u16, flags: u32, protocol: Option<u8>) {
        writer.nested(kind, |writer| {
            writer.nested(cta::TUPLE_IP, |writer| {
                if let Some(source) = self.source {
                    write::address(writer, source, cta::IP_V4_SRC, cta::IP_V6_SRC);
                }
                if let Some(destination) = self.destination {
                    write::address(writer, destination, cta::IP_V4_DST, cta::IP_V6_DST);
                }
            });
            let Some(protocol) = protocol.filter(|_| flags & bit::PROTO_NUM != 0) else {
                return;
            };
            writer.nested(cta::TUPLE_PROTO, |writer| {
                writer.u8(cta::PROTO_NUM, protocol);
                if let Some(port) = self.source_port {
                    writer.be16(cta::PROTO_SRC_PORT, port);
                }
                if let Some(port) = self.destination_port {
                    writer.be16(cta::PROTO_DST_PORT, port);
                }
            });
        });
    }
}

/// What this kernel's dumps can filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Support {
    /// `CTA_FILTER` for the original tuple (kernel 5.8).
    original: bool,
    /// For the reply tuple too: before 5.15 the kernel reads it by the flags of the original.
    reply: bool,
}

impl Support {
    /// Asks the kernel questions that only a kernel with the feature refuses. The others ignore the unknown
    /// attribute and walk the table for a family, or an address, that no entry has.
    pub(super) fn probe(socket: &mut Socket) -> Result<Self, NetlinkError> {
        const BRIDGE: u8 = 7;
        // The flags promise an original tuple that is not there.
        let original = refused(socket, BRIDGE, |writer| {
            writer.nested(cta::FILTER, |writer| writer.ne32(cta::FILTER_ORIG_FLAGS, bit::IP_SRC));
        })?;
        // The reply tuple lacks the address that its own flags promise.
        let reply = original
            && refused(socket, Family::V4.number(), |writer| {
                writer.nested(cta::TUPLE_REPLY, |writer| writer.nested(cta::TUPLE_IP, |_| {}));
                writer.nested(cta::FILTER, |writer| {
                    writer.ne32(cta::FILTER_REPLY_FLAGS, bit::IP_SRC);
                });
            })?;
        Ok(Self { original, reply })
    }

    /// The flags for both tuples.
    fn flags(self, filter: &Filter) -> (u32, u32) {
        let mut original = if self.original { filter.original.flags(filter.protocol) } else { 0 };
        let reply = if self.reply { filter.reply.flags(filter.protocol) } else { 0 };
        // A protocol alone is worth a filter; both tuples of an entry have the same.
        if self.original && filter.protocol.is_some() {
            original |= bit::PROTO_NUM;
        }
        (original, reply)
    }
}

fn refused(
    socket: &mut Socket,
    family: u8,
    fill: impl FnOnce(&mut Writer<'_>),
) -> Result<bool, NetlinkError> {
    let what = "ask which filters the connection table has";
    match socket.request(what, (CT_GET, flags::DUMP, family), fill, |_| Ok(())) {
        Ok(()) => Ok(false),
        Err(NetlinkError::Kernel { errno: libc::EINVAL | libc::EOPNOTSUPP, .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
