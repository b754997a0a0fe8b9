//! What can go wrong between a program and netfilter.

use nix::errno::Errno;
use thiserror::Error;

use super::RECEIVE_LEN;
use crate::attr::AttrError;

/// `ERESTART` reaches user space only through netlink, and is in no libc's table.
const ERESTART: i32 = 85;

/// A failed exchange with the kernel. `what` names the operation, in words to put before a colon.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetlinkError {
    /// The capability is missing.
    #[error(
        "{what}: permission denied: this needs CAP_NET_ADMIN over the network namespace (run as root, or give \
         the container the capability NET_ADMIN)"
    )]
    PermissionDenied {
        /// The operation.
        what: &'static str,
    },
    /// What a dump reads changed on the way (`NLM_F_DUMP_INTR`).
    #[error("{what}: it changed while it was being read: read it again")]
    Interrupted {
        /// The operation.
        what: &'static str,
    },
    /// A batch was made for a generation of nf_tables that is past (`ERESTART`): nothing of it was applied.
    #[error("{what}: another program changed nf_tables at the same time; nothing was applied: read it again")]
    Restart {
        /// The operation.
        what: &'static str,
    },
    /// Answers were lost for want of receive buffer (`ENOBUFS`). The operation may have succeeded.
    #[error("{what}: the kernel lost answers for want of receive buffer; what was done must be read back")]
    NoBuffer {
        /// The operation.
        what: &'static str,
    },
    /// One message, or a batch, which the socket cannot take in one piece.
    #[error("{what}: {len} bytes do not fit the socket's buffer (with CAP_NET_ADMIN it grows by itself)")]
    MessageTooLarge {
        /// The operation.
        what: &'static str,
        /// Bytes that were to be sent.
        len: usize,
    },
    /// The kernel refused.
    #[error("{what}: {}{}", Errno::from_raw(*errno).desc(), ext_ack.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Kernel {
        /// The positive error number.
        errno: i32,
        /// The operation.
        what: &'static str,
        /// The kernel's own words, where it has any (`NLMSGERR_ATTR_MSG`).
        ext_ack: Option<String>,
    },
    /// The kernel did not answer in time.
    #[error("{what}: the kernel did not answer in time")]
    Timeout {
        /// The operation.
        what: &'static str,
    },
    /// An answer to something else.
    #[error("{what}: an answer carries the unexpected sequence number {seq}")]
    Sequence {
        /// The operation.
        what: &'static str,
        /// Number found.
        seq: u32,
    },
    /// A message that cannot be read, or written.
    #[error("{what}: {source}")]
    Malformed {
        /// The operation.
        what: &'static str,
        /// Why.
        source: AttrError,
    },
    /// A request whose answer would have no end. A mistake of the program.
    #[error("{what}: the request asks for neither an acknowledgement nor a dump")]
    NoAck {
        /// The operation.
        what: &'static str,
    },
}

impl NetlinkError {
    /// A system call that failed.
    pub(crate) fn system(what: &'static str, errno: Errno) -> Self {
        Self::from_errno(what, errno as i32, None)
    }

    /// A receive that failed.
    pub(crate) fn receive(what: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::EAGAIN => Self::Timeout { what },
            Errno::ENOBUFS => Self::NoBuffer { what },
            // Set by `Socket::receive` where the kernel cut a message.
            Errno::EMSGSIZE => Self::Malformed {
                what,
                source: AttrError::Truncated { what: "datagram", need: RECEIVE_LEN + 1, have: RECEIVE_LEN },
            },
            other => Self::system(what, other),
        }
    }

    fn from_errno(what: &'static str, errno: i32, ext_ack: Option<String>) -> Self {
        match errno {
            libc::EPERM | libc::EACCES => Self::PermissionDenied { what },
            ERESTART => Self::Restart { what },
            errno => Self::Kernel { errno, what, ext_ack },
        }
    }

    /// The kernel's error number, positive, where there is one.
    #[must_use]
    pub const fn errno(&self) -> Option<i32> {
        match self {
            Self::PermissionDenied { .. } => Some(libc::EPERM),
            Self::Restart { .. } => Some(ERESTART),
            Self::NoBuffer { .. } => Some(libc::ENOBUFS),
            Self::MessageTooLarge { .. } => Some(libc::EMSGSIZE),
            Self::Kernel { errno, .. } => Some(*errno),
            Self::Interrupted { .. }
            | Self::Timeout { .. }
            | Self::Sequence { .. }
            | Self::Malformed { .. }
            | Self::NoAck { .. } => None,
        }
    }

    /// Whether the same request may succeed when it is made again at once.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Interrupted { .. } | Self::Restart { .. } | Self::NoBuffer { .. })
    }
}

/// One message that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Sequence number of the message.
    pub seq: u32,
    /// The positive error number.
    pub errno: i32,
    /// The kernel's own words, where it has any.
    pub ext_ack: Option<String>,
    /// Where in the message the attribute lies that it refused, in bytes from the message's start.
    pub offset: Option<u32>,
}

impl Refusal {
    /// The refusal as the failure of a whole operation.
    #[must_use]
    pub fn into_error(self, what: &'static str) -> NetlinkError {
        NetlinkError::from_errno(what, self.errno, self.ext_ack)
    }
}
