//! The kernel's expressions: what a statement becomes on the wire, and what a dump of the kernel gives back.
//! Desired and observed rules are compared here, because this is what the kernel really runs.

use super::{Direction, RawField, Rule, Statement, Verdict};
use crate::net::Family;

/// Which header a payload expression reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadBase {
    /// `NFT_PAYLOAD_NETWORK_HEADER`
    Network,
    /// `NFT_PAYLOAD_TRANSPORT_HEADER`
    Transport,
}

/// What a meta expression reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// `NFT_META_IIF`: index of the incoming interface, in host byte order.
    Iif,
    /// `NFT_META_OIF`: index of the outgoing interface, in host byte order.
    Oif,
    /// `NFT_META_IIFNAME`
    IifName,
    /// `NFT_META_OIFNAME`
    OifName,
    /// `NFT_META_NFPROTO`
    NfProto,
    /// `NFT_META_L4PROTO`
    L4Proto,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmpOp {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
}

/// One expression, with register numbers as the kernel reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Load bytes of the packet.
    Payload {
        /// Which header.
        base: PayloadBase,
        /// Offset in bytes.
        offset: u32,
        /// Length in bytes.
        len: u32,
        /// Destination register.
        register: u32,
    },
    /// Load what is known beside the packet.
    Meta {
        /// What.
        key: MetaKey,
        /// Destination register.
        register: u32,
    },
    /// Load conntrack's state (`NFT_CT_STATE`) into register 1.
    CtState,
    /// Compare register 1.
    Cmp {
        /// How.
        op: CmpOp,
        /// With what.
        data: Vec<u8>,
    },
    /// Mask register 1.
    Mask {
        /// The bits to keep.
        mask: Vec<u8>,
    },
    /// Look the registers from 1 on up in a set.
    Lookup {
        /// The set's name.
        set: String,
        /// Match where it is not found.
        inverted: bool,
        /// Take the verdict found.
        verdict_map: bool,
    },
    /// A verdict.
    Immediate(Verdict),
    /// Do not track.
    Notrack,
    /// Count in a named counter.
    Counter(String),
    /// Limit by packets.
    RateOver {
        /// Packets a second.
        per_second: u32,
    },
    /// Nothing that we write: somebody else's, by the kernel's name.
    Foreign(String),
}

/// `NF_CT_STATE_BIT(IP_CT_UNTRACKED)`: bit 6 of nf_tables' state word, in host byte order.
pub const CT_STATE_UNTRACKED: u32 = 64;

/// The flags that conntrack's table of valid combinations looks at (`tcp_valid_flags` in
/// nf_conntrack_proto_tcp.c ignores PSH, ECE and CWR).
pub const TCP_TRACKED_FLAGS: u8 = 0x37;

/// FIN, SYN, RST, ACK.
const TCP_OPENING_FLAGS: u8 = 0x17;
const TCP_SYN: u8 = 0x02;
const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// `IFNAMSIZ`
const INTERFACE_NAME_LEN: usize = 16;

/// The register of the `word`-th four bytes: the kernel reports every fourth one as one of the old
/// 16-byte registers (`nft_dump_register`).
fn register(word: usize) -> u32 {
    match word as u32 {
        word if word % 4 == 0 => 1 + word / 4,
        word => 8 + word,
    }
}

impl Rule {
    /// The rule as the kernel's expressions.
    pub fn lower(&self) -> Vec<Expr> {
        let mut out = Vec::with_capacity(self.0.len() * 3);
        for statement in &self.0 {
            lower(statement, &mut out);
        }
        out
    }
}

fn lower(statement: &Statement, out: &mut Vec<Expr>) {
    match statement {
        Statement::Family(family) => {
            out.push(Expr::Meta { key: MetaKey::NfProto, register: 1 });
            out.push(equal(vec![nfproto(*family)]));
        }
        Statement::L4Proto(number) => {
            out.push(Expr::Meta { key: MetaKey::L4Proto, register: 1 });
            out.push(equal(vec![*number]));
        }
        Statement::Loopback(direction) => {
            let key = match direction {
                Direction::In => MetaKey::Iif,
                Direction::Out => MetaKey::Oif,
            };
            out.push(Expr::Meta { key, register: 1 });
            out.push(equal(1u32.to_ne_bytes().to_vec()));
        }
        Statement::InterfaceName(direction, pattern) => {
            let key = match direction {
                Direction::In => MetaKey::IifName,
                Direction::Out => MetaKey::OifName,
            };
            out.push(Expr::Meta { key, register: 1 });
            out.push(equal(match pattern.strip_suffix('*') {
                Some(beginning) => beginning.as_bytes().to_vec(),
                None => {
                    let mut name = pattern.as_bytes().to_vec();
                    name.resize(INTERFACE_NAME_LEN, 0);
                    name
                }
            }));
        }
        Statement::TransportBits { offset, bits, mask, value } => {
            let len = u32::from(*bits) / 8;
            out.push(Expr::Payload {
                base: PayloadBase::Transport,
                offset: u32::from(*offset) / 8,
                len,
                register: 1,
            });
            let bytes = |number: u16| number.to_be_bytes()[2 - len as usize..].to_vec();
            if u32::from(*mask) != (1u32 << *bits) - 1 {
                out.push(Expr::Mask { mask: bytes(*mask) });
            }
            out.push(equal(bytes(*value)));
        }
        Statement::TcpSyn => {
            out.push(Expr::Meta { key: MetaKey::L4Proto, register: 1 });
            out.push(equal(vec![TCP]));
            out.push(tcp_flags());
            out.push(Expr::Mask { mask: vec![TCP_OPENING_FLAGS] });
            out.push(equal(vec![TCP_SYN]));
        }
        Statement::InSet { key, set, inverted } => {
            load(key, out);
            out.push(Expr::Lookup { set: set.to_string(), inverted: *inverted, verdict_map: false });
        }
        Statement::VerdictMap { key, map } => {
            load(key, out);
            out.push(Expr::Lookup { set: map.to_string(), inverted: false, verdict_map: true });
        }
        Statement::Notrack => out.push(Expr::Notrack),
        Statement::CtUntracked => {
            out.push(Expr::CtState);
            out.push(Expr::Mask { mask: CT_STATE_UNTRACKED.to_ne_bytes().to_vec() });
            out.push(Expr::Cmp { op: CmpOp::Neq, data: vec![0; 4] });
        }
        Statement::Counter(name) => out.push(Expr::Counter(name.to_string())),
        Statement::RateOver { per_second } => out.push(Expr::RateOver { per_second: *per_second }),
        Statement::Verdict(verdict) => out.push(Expr::Immediate(verdict.clone())),
    }
}

/// Loads the fields of a key into consecutive registers.
fn load(key: &[RawField], out: &mut Vec<Expr>) {
    // nft shows `tcp flags`, `icmp type` only behind a check of the protocol, and would otherwise print raw bits.
    match key.first() {
        Some(RawField::TcpFlags) => protocol_is(TCP, out),
        Some(RawField::IcmpType) => protocol_is(ICMP, out),
        Some(RawField::Icmpv6Type) => protocol_is(ICMPV6, out),
        _ => {}
    }
    let mut word = 0;
    for field in key {
        let register = register(word);
        word += field.field_type().padded_len() / 4;
        let payload = |base, offset, len| Expr::Payload { base, offset, len, register };
        use PayloadBase::{Network, Transport};
        match field {
            RawField::SourceAddress(Family::Ipv4) => out.push(payload(Network, 12, 4)),
            RawField::DestinationAddress(Family::Ipv4) => out.push(payload(Network, 16, 4)),
            RawField::SourceAddress(Family::Ipv6) => out.push(payload(Network, 8, 16)),
            RawField::DestinationAddress(Family::Ipv6) => out.push(payload(Network, 24, 16)),
            RawField::L4Proto => out.push(Expr::Meta { key: MetaKey::L4Proto, register }),
            RawField::NfProto => out.push(Expr::Meta { key: MetaKey::NfProto, register }),
            RawField::SourcePort => out.push(payload(Transport, 0, 2)),
            RawField::DestinationPort => out.push(payload(Transport, 2, 2)),
            RawField::TcpFlags => {
                out.push(tcp_flags());
                out.push(Expr::Mask { mask: vec![TCP_TRACKED_FLAGS] });
            }
            RawField::IcmpType | RawField::Icmpv6Type => out.push(payload(Transport, 0, 1)),
            RawField::Transport { offset, bits } => {
                out.push(payload(Transport, u32::from(*offset) / 8, u32::from(*bits) / 8));
            }
        }
    }
}

fn protocol_is(number: u8, out: &mut Vec<Expr>) {
    out.push(Expr::Meta { key: MetaKey::L4Proto, register: 1 });
    out.push(equal(vec![number]));
}

fn tcp_flags() -> Expr {
    Expr::Payload { base: PayloadBase::Transport, offset: 13, len: 1, register: 1 }
}

fn equal(data: Vec<u8>) -> Expr {
    Expr::Cmp { op: CmpOp::Eq, data }
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub fn nfproto(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 10,
    }
}
