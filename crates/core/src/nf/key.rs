//! Keys of sets: fields one after the other, each padded to four bytes, as nf_tables lays them in registers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{Family, Proto};

/// The type of one field of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// An IPv4 address.
    Ipv4Addr,
    /// An IPv6 address.
    Ipv6Addr,
    /// A transport protocol number.
    InetProto,
    /// A port.
    InetService,
    /// A family (`NFPROTO_IPV4`, `NFPROTO_IPV6`).
    NfProto,
    /// TCP flags.
    TcpFlag,
    /// An ICMP type.
    IcmpType,
    /// An ICMPv6 type.
    Icmpv6Type,
    /// Bits of the transport header, in a `typeof` set: nft refuses raw keys in sets with typed fields.
    Raw {
        /// Offset from the start of the transport header, in bits.
        offset: u16,
        /// Length in bits.
        bits: u16,
    },
}

impl FieldType {
    /// The bytes of a value, without padding.
    pub fn len(self) -> usize {
        match self {
            FieldType::Ipv4Addr => 4,
            FieldType::Ipv6Addr => 16,
            FieldType::InetService => 2,
            FieldType::InetProto
            | FieldType::NfProto
            | FieldType::TcpFlag
            | FieldType::IcmpType
            | FieldType::Icmpv6Type => 1,
            FieldType::Raw { bits, .. } => usize::from(bits).div_ceil(8),
        }
    }

    /// Never: a field has at least one byte.
    pub fn is_empty(self) -> bool {
        false
    }

    /// The bytes that the value takes in a key: padded to four.
    pub fn padded_len(self) -> usize {
        self.len().next_multiple_of(4)
    }

    /// The number of nft's data type (`enum datatypes` in nftables' datatype.h), which it expects in the
    /// set's key type.
    pub fn nft_type(self) -> u32 {
        match self {
            FieldType::NfProto => 2,
            FieldType::Ipv4Addr => 7,
            FieldType::Ipv6Addr => 8,
            FieldType::InetProto => 12,
            FieldType::InetService => 13,
            FieldType::IcmpType => 14,
            FieldType::TcpFlag => 15,
            FieldType::Icmpv6Type => 29,
            FieldType::Raw { .. } => 4,
        }
    }

    /// The name of nft's data type.
    pub fn nft_name(self) -> String {
        match self {
            FieldType::NfProto => "nf_proto".into(),
            FieldType::Ipv4Addr => "ipv4_addr".into(),
            FieldType::Ipv6Addr => "ipv6_addr".into(),
            FieldType::InetProto => "inet_proto".into(),
            FieldType::InetService => "inet_service".into(),
            FieldType::IcmpType => "icmp_type".into(),
            FieldType::TcpFlag => "tcp_flag".into(),
            FieldType::Icmpv6Type => "icmpv6_type".into(),
            FieldType::Raw { offset, bits } => format!("@th,{offset},{bits}"),
        }
    }

    /// The address field of a family.
    pub fn address(family: Family) -> FieldType {
        match family {
            Family::Ipv4 => FieldType::Ipv4Addr,
            Family::Ipv6 => FieldType::Ipv6Addr,
        }
    }
}

/// The longest key: two IPv6 addresses, two ports, a protocol, each padded.
const MAX_LEN: usize = 44;

/// A key of at most 44 bytes, without an allocation of its own: a node may have 100,000 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Key {
    /// An empty key, to append fields to.
    pub const EMPTY: Key = Key { bytes: [0; MAX_LEN], len: 0 };

    /// The key of raw bytes as the kernel gives them; `None` where they are too long.
    pub fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let mut key = Key::EMPTY;
        key.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        key.len = u8::try_from(bytes.len()).ok()?;
        Some(key)
    }

    /// The padded bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn push(mut self, value: &[u8]) -> Key {
        let start = usize::from(self.len);
        let padded = value.len().next_multiple_of(4);
        if let Some(place) = self.bytes.get_mut(start..start + value.len()) {
            place.copy_from_slice(value);
            self.len += padded as u8;
        }
        self
    }

    /// Appends an address.
    pub fn address(self, address: IpAddr) -> Key {
        match address {
            IpAddr::V4(v4) => self.push(&v4.octets()),
            IpAddr::V6(v6) => self.push(&v6.octets()),
        }
    }

    /// Appends a protocol number.
    pub fn proto(self, proto: Proto) -> Key {
        self.byte(proto.number())
    }

    /// Appends a port.
    pub fn port(self, port: u16) -> Key {
        self.push(&port.to_be_bytes())
    }

    /// Appends one byte.
    pub fn byte(self, byte: u8) -> Key {
        self.push(&[byte])
    }

    /// The fields as nft writes them.
    pub fn fields(&self, types: &[FieldType]) -> Vec<String> {
        let mut rest = self.bytes();
        let mut fields = Vec::with_capacity(types.len());
        for field in types {
            if rest.len() < field.padded_len() {
                break;
            }
            let (value, tail) = rest.split_at(field.padded_len());
            rest = tail;
            fields.push(show(*field, &value[..field.len()]));
        }
        fields
    }
}

fn show(field: FieldType, value: &[u8]) -> String {
    let number = value.iter().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
    match field {
        FieldType::Ipv4Addr => Ipv4Addr::from(number as u32).to_string(),
        FieldType::Ipv6Addr => Ipv6Addr::from(number).to_string(),
        FieldType::InetProto => match Proto::from_number(number as u8) {
            Some(proto) => proto.nft_name().into(),
            None => number.to_string(),
        },
        FieldType::InetService => number.to_string(),
        FieldType::NfProto => match number {
            2 => "ipv4".into(),
            10 => "ipv6".into(),
            other => other.to_string(),
        },
        FieldType::TcpFlag => show_tcp_flags(number as u8),
        FieldType::IcmpType => match number {
            3 => "destination-unreachable".into(),
            11 => "time-exceeded".into(),
            12 => "parameter-problem".into(),
            other => other.to_string(),
        },
        FieldType::Icmpv6Type => match number {
            1 => "destination-unreachable".into(),
            2 => "packet-too-big".into(),
            3 => "time-exceeded".into(),
            4 => "parameter-problem".into(),
            other => other.to_string(),
        },
        FieldType::Raw { .. } => format!("{number:#x}"),
    }
}

/// TCP flags as nft writes them: `syn | ack`.
fn show_tcp_flags(flags: u8) -> String {
    const NAMES: [(u8, &str); 6] =
        [(0x01, "fin"), (0x02, "syn"), (0x04, "rst"), (0x08, "psh"), (0x10, "ack"), (0x20, "urg")];
    let set: Vec<&str> = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "0x0".into() } else { set.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_padded_to_a_register() {
        let key = Key::EMPTY.address([10, 0, 0, 1].into()).proto(Proto::Tcp).port(80);
        assert_eq!(key.bytes(), [10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0]);
        let types = [FieldType::Ipv4Addr, FieldType::InetProto, FieldType::InetService];
        assert_eq!(key.fields(&types), ["10.0.0.1", "tcp", "80"]);
    }
}
