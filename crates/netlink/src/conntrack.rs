//! The kernel's table of connections, over ctnetlink (`net/netfilter/nf_conntrack_netlink.c`).
//!
//! Everything here belongs to one network namespace, that of the thread which called [`Conntrack::open`]:
//! the count, the statistics and the entries. Only `nf_conntrack_max` and the hash table are the whole
//! machine's, so that a dump walks the entries of every namespace to find those of one.

use crate::attr::{AttrError, Message, nfnl_type};
use crate::socket::{NetlinkError, Socket, flags};

mod create;
mod delete;
mod entry;
mod filter;
mod parse;
#[cfg(test)]
mod recorded;
mod stats;
mod status;
pub mod sysctl;
mod write;

pub use create::{Adopted, Existing};
pub use delete::{Deleted, Pace};
pub use entry::{Entry, KeepReason, L4, Tuple, Zone};
pub use filter::{Family, Filter, Masked, TupleFilter};
pub use stats::{CpuStats, Stats};
pub use status::{Status, TcpState};

const NFNL_SUBSYS_CTNETLINK: u8 = 1;
const CT_NEW: u16 = nfnl_type(NFNL_SUBSYS_CTNETLINK, 0);
const CT_GET: u16 = nfnl_type(NFNL_SUBSYS_CTNETLINK, 1);
const CT_DELETE: u16 = nfnl_type(NFNL_SUBSYS_CTNETLINK, 2);
const CT_GET_STATS_CPU: u16 = nfnl_type(NFNL_SUBSYS_CTNETLINK, 4);
const CT_GET_STATS: u16 = nfnl_type(NFNL_SUBSYS_CTNETLINK, 5);

/// Attributes of an entry (`enum ctattr_type`).
mod cta {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const PROTOINFO: u16 = 4;
    pub const HELP: u16 = 5;
    pub const TIMEOUT: u16 = 7;
    pub const MARK: u16 = 8;
    pub const ID: u16 = 12;
    pub const ZONE: u16 = 18;
    pub const MARK_MASK: u16 = 21;
    pub const LABELS: u16 = 22;
    pub const FILTER: u16 = 25;
    pub const STATUS_MASK: u16 = 26;
    /// Inside a tuple.
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTO: u16 = 2;
    pub const TUPLE_ZONE: u16 = 3;
    pub const IP_V4_SRC: u16 = 1;
    pub const IP_V4_DST: u16 = 2;
    pub const IP_V6_SRC: u16 = 3;
    pub const IP_V6_DST: u16 = 4;
    pub const PROTO_NUM: u16 = 1;
    pub const PROTO_SRC_PORT: u16 = 2;
    pub const PROTO_DST_PORT: u16 = 3;
    pub const PROTO_ICMP_ID: u16 = 4;
    pub const PROTO_ICMP_TYPE: u16 = 5;
    pub const PROTO_ICMP_CODE: u16 = 6;
    pub const PROTO_ICMPV6_ID: u16 = 7;
    pub const PROTO_ICMPV6_TYPE: u16 = 8;
    pub const PROTO_ICMPV6_CODE: u16 = 9;
    /// Inside the protocol's information.
    pub const PROTOINFO_TCP: u16 = 1;
    pub const PROTOINFO_TCP_STATE: u16 = 1;
    pub const PROTOINFO_TCP_FLAGS_ORIGINAL: u16 = 4;
    pub const PROTOINFO_TCP_FLAGS_REPLY: u16 = 5;
    /// Inside the filter of a dump.
    pub const FILTER_ORIG_FLAGS: u16 = 1;
    pub const FILTER_REPLY_FLAGS: u16 = 2;
}

/// The connection table of one network namespace.
///
/// ```no_run
/// use notrack_netlink::conntrack::{Conntrack, Filter};
///
/// let mut table = Conntrack::open()?;
/// let udp = Filter { protocol: Some(17), ..Filter::default() };
/// let mut entries = 0;
/// table.dump(&udp, |_| entries += 1)?;
/// # Ok::<(), notrack_netlink::socket::NetlinkError>(())
/// ```
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    /// Asked once: it does not change while the machine runs.
    kernel_filter: Option<filter::Support>,
}

/// What a dump came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Entries that the kernel sent: what the dump cost.
    pub sent: u64,
    /// Entries that passed the filter.
    pub matched: u64,
}

impl Conntrack {
    /// Opens the table of the calling thread's network namespace. Opening turns no tracking on.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink. A missing capability shows with the first question only.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open()?, kernel_filter: None })
    }

    /// Hands over every entry that passes the filter, as the kernel walks its hash table.
    ///
    /// The kernel filters as far as it can, and every entry is checked here again. It costs about 1 us an
    /// entry that the kernel sends, and doubles the cost of new flows while it runs. The table lives on
    /// meanwhile: entries made or ended during a dump may be missing, and one may come twice.
    ///
    /// # Errors
    /// When the kernel refuses, or sends what cannot be read.
    pub fn dump(&mut self, filter: &Filter, mut each: impl FnMut(&Entry)) -> Result<Dumped, NetlinkError> {
        let mut dumped = Dumped::default();
        if filter.is_contradictory() {
            return Ok(dumped);
        }
        let support = self.filter_support()?;
        for family in filter.families(support) {
            self.dump_family(filter, support, family, |entry| {
                dumped.sent += 1;
                if filter.matches(entry) {
                    dumped.matched += 1;
                    each(entry);
                }
            })?;
        }
        Ok(dumped)
    }

    fn dump_family(
        &mut self,
        filter: &Filter,
        support: filter::Support,
        family: u8,
        mut each: impl FnMut(&Entry),
    ) -> Result<(), NetlinkError> {
        let what = "read the connection table";
        let kind = (CT_GET, flags::DUMP, family);
        let mut read = |message: Message<'_>| -> Result<(), AttrError> {
            each(&parse::entry(message.attrs()?)?);
            Ok(())
        };
        let asked = self.socket.request(what, kind, |m| filter.write(support, m), &mut read);
        match asked {
            // A filter that this kernel does not take after all is refused before the first entry.
            Err(NetlinkError::Kernel { errno: libc::EOPNOTSUPP | libc::EINVAL, .. }) => {
                self.socket.request(what, kind, |_| {}, &mut read)
            }
            other => other,
        }
    }

    /// What the kernel filters, asked once.
    fn filter_support(&mut self) -> Result<filter::Support, NetlinkError> {
        if let Some(support) = self.kernel_filter {
            return Ok(support);
        }
        let support = filter::Support::probe(&mut self.socket)?;
        Ok(*self.kernel_filter.insert(support))
    }
}
