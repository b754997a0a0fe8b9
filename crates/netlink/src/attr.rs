//! Netlink messages as bytes: a reader that never panics and a builder.
//!
//! Layout (kernel `include/uapi/linux/netlink.h`, `nfnetlink.h`): a 16-byte `nlmsghdr` in native byte
//! order, for nfnetlink a 4-byte `nfgenmsg`, then attributes: a 4-byte `nlattr` (length with header, type;
//! native order) and its payload, all of it padded to 4 bytes. Netfilter's own integers are big-endian by
//! convention; `nla_len` is 16 bits wide, so that nothing nested exceeds 65,535 bytes.
//!
//! Integers are copied out of the bytes, so that no alignment is asked of the caller.

use thiserror::Error;

mod build;
mod read;

pub use build::{Buffer, Writer};
pub use read::{Attr, Attrs, Message, Messages};

/// Length of `nlmsghdr` in bytes.
pub const HEADER_LEN: usize = 16;
/// Length of `nfgenmsg` in bytes.
pub const NFGENMSG_LEN: usize = 4;
/// Length of `nlattr` in bytes.
const ATTR_LEN: usize = 4;

/// Bytes that do not form a netlink message or attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AttrError {
    /// Fewer bytes than the structure needs, or than its own length field promises.
    #[error("netlink {what} is cut short: needs {need} bytes, {have} are there")]
    Truncated {
        /// The structure that was read.
        what: &'static str,
        /// Bytes it needs.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// A length field smaller than the header which it belongs to.
    #[error("netlink {what} states an impossible length of {len} bytes")]
    Length {
        /// The structure that was read.
        what: &'static str,
        /// What its length field says.
        len: usize,
    },
    /// An attribute whose payload does not have the size of its type.
    #[error("netlink attribute {kind} has {have} bytes of payload, expected {want}")]
    Payload {
        /// Attribute type.
        kind: u16,
        /// Bytes of payload that its type has.
        want: usize,
        /// Bytes of payload found.
        have: usize,
    },
    /// A string attribute that is not UTF-8.
    #[error("netlink attribute {kind} is not text")]
    Text {
        /// Attribute type.
        kind: u16,
    },
    /// An attribute that the message cannot do without.
    #[error("netlink message lacks {what}")]
    Missing {
        /// What is missing, in the kernel's words.
        what: &'static str,
    },
    /// An attribute to be written that does not fit into the 16 bits of `nla_len`.
    #[error("netlink attribute {kind} of {len} bytes exceeds the 65535 of its length field")]
    TooLong {
        /// Attribute type.
        kind: u16,
        /// Bytes with header.
        len: usize,
    },
}

/// Rounds up to the 4 bytes that netlink aligns everything to.
const fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// The message type of an nfnetlink subsystem: `NFNL_SUBSYS_*` in the high byte, the message in the low.
#[must_use]
pub const fn nfnl_type(subsystem: u8, message: u8) -> u16 {
    (subsystem as u16) << 8 | message as u16
}

#[cfg(test)]
mod tests;
