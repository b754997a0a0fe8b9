//! A set's type and elements.

use notrack_core::host::{Field, ValueBox, interface_number, interface_prefix};
use notrack_core::net::Family;

use super::{Direction, IpSet};
use crate::attr::{Attr, AttrError, Attrs};
use crate::host::xt::address::prefix;

/// Elements more than these are not looked through.
const MOST: usize = 65_536;

/// `IPSET_ATTR_*` of a message.
const TYPENAME: u16 = 3;
const FAMILY: u16 = 5;
const DATA: u16 = 7;
const ADT: u16 = 8;
/// Of a set and its elements.
const IP: u16 = 1;
const CIDR: u16 = 3;
const PORT: u16 = 4;
const PROTO: u16 = 7;
const CADT_FLAGS: u16 = 8;
const MARK: u16 = 10;
const MARKMASK: u16 = 11;
const BITMASK: u16 = 12;
/// Of a set.
const NETMASK: u16 = 20;
/// Of an element.
const NAME: u16 = 18;
const IP2: u16 = 20;
const CIDR2: u16 = 21;
const IFACE: u16 = 23;
/// `IPSET_ATTR_IPADDR_IPV4` and `_IPV6`, in an address.
const IPV4: u16 = 1;
const IPV6: u16 = 2;
/// `IPSET_FLAG_PHYSDEV`: the port of a bridge; `IPSET_FLAG_NOMATCH`: an exception.
const PHYSDEV_OR_NOMATCH: u32 = 1 << 1 | 1 << 2;
/// `IPSET_FLAG_IFACE_WILDCARD`.
const WILDCARD: u32 = 1 << 7;

/// A dimension of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An address or a network.
    Address,
    /// A port of any protocol.
    Port,
    /// A protocol and a port.
    ProtoPort,
    /// An interface's name.
    Interface,
    /// A mark.
    Mark,
}

impl Kind {
    /// Those of a type such as `hash:ip,port`. `None` for those that are not understood.
    fn of_type(name: &str) -> Option<Vec<Self>> {
        let (method, kinds) = name.split_once(':')?;
        let kind = |kind| match (method, kind) {
            (_, "ip" | "net") => Some(Kind::Address),
            ("bitmap", "port") => Some(Kind::Port),
            (_, "port") => Some(Kind::ProtoPort),
            (_, "iface") => Some(Kind::Interface),
            (_, "mark") => Some(Kind::Mark),
            _ => None,
        };
        kinds.split(',').map(kind).collect()
    }

    /// What of a packet is looked up.
    pub(super) fn fields(self, family: Family, way: Direction) -> Vec<Field> {
        let source = way == Direction::Source;
        let pick = |from: Field, to: Field| if source { from } else { to };
        match self {
            Kind::Address => vec![pick(Field::SourceAddress(family), Field::DestinationAddress(family))],
            Kind::Port => vec![pick(Field::SourcePort, Field::DestinationPort)],
            Kind::ProtoPort => vec![Field::L4Proto, pick(Field::SourcePort, Field::DestinationPort)],
            Kind::Interface => vec![pick(Field::InInterface, Field::OutInterface)],
            Kind::Mark => vec![Field::Mark],
        }
    }
}

/// A set as its messages come: the first has its type, all of them elements.
#[derive(Debug, Default)]
pub(super) struct Reader {
    type_name: Option<String>,
    kinds: Vec<Kind>,
    family: Option<Family>,
    netmask: Option<u8>,
    boxes: Vec<ValueBox>,
    names: Vec<String>,
    /// Something is not understood, or there is too much of it.
    unknown: bool,
}

impl Reader {
    /// One message.
    pub(super) fn message(&mut self, attrs: Attrs<'_>) -> Result<(), AttrError> {
        for attr in attrs.clone() {
            let attr = attr?;
            match attr.kind {
                TYPENAME => self.type_name(attr.text()?),
                FAMILY => {
                    let v6 = i32::from(attr.u8()?) == libc::AF_INET6;
                    self.family = Some(if v6 { Family::Ipv6 } else { Family::Ipv4 });
                }
                DATA => self.header(attr.nested())?,
                ADT => self.elements(attr.nested())?,
                _ => {}
            }
        }
        Ok(())
    }

    fn type_name(&mut self, name: &str) {
        match Kind::of_type(name) {
            Some(kinds) => self.kinds = kinds,
            None => self.unknown |= name != "list:set",
        }
        self.type_name = Some(name.to_owned());
    }

    fn header(&mut self, attrs: Attrs<'_>) -> Result<(), AttrError> {
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                // Only these look a network up by one mask in the first dimension alone.
                NETMASK => match self.type_name.as_deref() {
                    Some("hash:ip" | "hash:ip,port" | "bitmap:ip") => self.netmask = Some(attr.u8()?),
                    _ => self.unknown = true,
                },
                BITMASK => self.unknown = true,
                MARKMASK => self.unknown |= attr.be32()? != u32::MAX,
                _ => {}
            }
        }
        Ok(())
    }

    fn elements(&mut self, attrs: Attrs<'_>) -> Result<(), AttrError> {
        for element in attrs {
            let element = element?.nested();
            if self.unknown {
                return Ok(());
            }
            if self.boxes.len() >= MOST {
                self.unknown = true;
            } else if let Some(name) = element.find(NAME)? {
                self.names.push(name.text()?.to_owned());
            } else {
                match self.element(&element)? {
                    Some(values) => self.boxes.push(values),
                    None => self.unknown = true,
                }
            }
        }
        Ok(())
    }

    fn element(&self, attrs: &Attrs<'_>) -> Result<Option<ValueBox>, AttrError> {
        let mark = |attr: Option<Attr<'_>>| attr.map(|attr| attr.be32()).transpose();
        let flags = mark(attrs.find(CADT_FLAGS)?)?.unwrap_or_default();
        if flags & PHYSDEV_OR_NOMATCH != 0 {
            return Ok(None);
        }
        let mut values = Vec::new();
        let mut addresses = [(IP, CIDR), (IP2, CIDR2)].into_iter();
        for kind in &self.kinds {
            match kind {
                Kind::Address => {
                    let (ip, cidr) = addresses.next().unwrap_or((IP2, CIDR2));
                    let netmask = if ip == IP { self.netmask } else { None };
                    match address(attrs, ip, cidr, netmask)? {
                        Some(range) => values.push(range),
                        None => return Ok(None),
                    }
                }
                Kind::Port | Kind::ProtoPort => {
                    let Some(port) = attrs.find(PORT)? else { return Ok(None) };
                    let port = u128::from(port.be16()?);
                    if *kind == Kind::ProtoPort {
                        let Some(proto) = attrs.find(PROTO)? else { return Ok(None) };
                        let proto = proto.u8()?;
                        // Others have a message's type or nothing in the port's place.
                        let has_ports = [libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_SCTP]
                            .contains(&i32::from(proto))
                            || i32::from(proto) == libc::IPPROTO_UDPLITE;
                        if !has_ports {
                            return Ok(None);
                        }
                        values.push((proto.into(), proto.into()));
                    }
                    values.push((port, port));
                }
                Kind::Interface => {
                    let Some(name) = attrs.find(IFACE)? else { return Ok(None) };
                    let name = name.text()?;
                    let exact = interface_number(name);
                    values.push(if flags & WILDCARD != 0 { interface_prefix(name) } else { (exact, exact) });
                }
                Kind::Mark => {
                    let Some(mark) = mark(attrs.find(MARK)?)? else { return Ok(None) };
                    values.push((mark.into(), mark.into()));
                }
            }
        }
        Ok(Some(values))
    }

    /// The set. `None` where it is not understood.
    pub(super) fn finish(self) -> Option<IpSet> {
        let Self { type_name, kinds, family, netmask: _, boxes, names, unknown } = self;
        match type_name?.as_str() {
            _ if unknown => None,
            "list:set" => Some(IpSet::List(names)),
            _ => Some(IpSet::Elements { kinds, family: family?, boxes }),
        }
    }
}

/// The addresses of an element: one, or a network.
fn address(
    attrs: &Attrs<'_>,
    ip: u16,
    cidr: u16,
    netmask: Option<u8>,
) -> Result<Option<(u128, u128)>, AttrError> {
    let Some(ip) = attrs.find(ip)? else { return Ok(None) };
    let (number, bits) = if let Some(v4) = ip.nested().find(IPV4)? {
        (u128::from(v4.be32()?), 32)
    } else if let Some(v6) = ip.nested().find(IPV6)? {
        (u128::from_be_bytes(v6.array()?), 128)
    } else {
        return Ok(None);
    };
    let len = match attrs.find(cidr)? {
        Some(len) => Some(len.u8()?),
        None => netmask,
    };
    Ok(Some(prefix(number, len.map_or(bits, u32::from), bits)))
}
