//! Socket options of netlink that nix does not know.

use nix::{libc, setsockopt_impl, sockopt_impl};

sockopt_impl!(
    /// Errors carry a text and the place in the request (`NETLINK_EXT_ACK`).
    ExtAck,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_EXT_ACK,
    bool
);

sockopt_impl!(
    /// Errors do not repeat the request, which may be megabytes long (`NETLINK_CAP_ACK`).
    CapAck,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_CAP_ACK,
    bool
);

sockopt_impl!(
    /// Receive the notifications of a group (`NETLINK_ADD_MEMBERSHIP`).
    AddMembership,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_ADD_MEMBERSHIP,
    u32
);
