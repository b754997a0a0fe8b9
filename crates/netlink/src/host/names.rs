//! nft's names for numbers.

/// A number and its name.
type Names = [(u128, &'static str)];

pub(super) const PROTOCOLS: &Names = &[
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (89, "ospf"),
    (108, "comp"),
    (112, "vrrp"),
    (132, "sctp"),
    (136, "udplite"),
];

pub(super) const FAMILIES: &Names = &[(2, "ipv4"), (10, "ipv6")];

pub(super) const ICMP_TYPES: &Names = &[
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (8, "echo-request"),
    (9, "router-advertisement"),
    (10, "router-solicitation"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
    (15, "info-request"),
    (16, "info-reply"),
    (17, "address-mask-request"),
    (18, "address-mask-reply"),
];

pub(super) const ICMPV6_TYPES: &Names = &[
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (130, "mld-listener-query"),
    (131, "mld-listener-report"),
    (132, "mld-listener-done"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
    (138, "router-renumbering"),
    (141, "ind-neighbor-solicit"),
    (142, "ind-neighbor-advert"),
    (143, "mld2-listener-report"),
];

/// Bits of TCP's flags byte.
pub(super) const TCP_FLAGS: &Names =
    &[(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ecn"), (128, "cwr")];

/// In the order in which nft lists them.
pub(super) const CT_STATES: &Names =
    &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];

pub(super) const CT_DIRECTIONS: &Names = &[(0, "original"), (1, "reply")];

/// Bits of `enum ip_conntrack_status` that nft names.
pub(super) const CT_STATUS: &Names = &[
    (1, "expected"),
    (2, "seen-reply"),
    (4, "assured"),
    (8, "confirmed"),
    (16, "snat"),
    (32, "dnat"),
    (512, "dying"),
];

/// `RTN_*` of `include/uapi/linux/rtnetlink.h`.
pub(super) const ROUTE_TYPES: &Names = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];

pub(super) const PACKET_TYPES: &Names = &[(0, "host"), (1, "broadcast"), (2, "multicast"), (3, "other")];

pub(super) const PRESENCE: &Names = &[(0, "missing"), (1, "exists")];

/// What `meta` shows, by `enum nft_meta_keys`: its name, its bytes in a register, whether they stand in the machine's
/// byte order (`net/netfilter/nft_meta.c`).
pub(super) const META: [(&str, usize, bool); 35] = [
    ("meta length", 4, true),
    ("meta protocol", 2, false),
    ("meta priority", 4, true),
    ("meta mark", 4, true),
    ("iif", 4, true),
    ("oif", 4, true),
    ("iifname", 16, false),
    ("oifname", 16, false),
    ("iiftype", 2, true),
    ("oiftype", 2, true),
    ("meta skuid", 4, true),
    ("meta skgid", 4, true),
    ("meta nftrace", 1, false),
    ("rtclassid", 4, true),
    ("meta secmark", 4, true),
    ("meta nfproto", 1, false),
    ("meta l4proto", 1, false),
    ("meta ibrname", 16, false),
    ("meta obrname", 16, false),
    ("meta pkttype", 1, false),
    ("meta cpu", 4, true),
    ("iifgroup", 4, true),
    ("oifgroup", 4, true),
    ("meta cgroup", 4, true),
    ("meta random", 4, true),
    ("meta secpath", 1, false),
    ("meta iifkind", 16, false),
    ("meta oifkind", 16, false),
    ("meta ibrpvid", 2, true),
    ("meta ibrvproto", 2, false),
    ("meta time", 8, true),
    ("meta day", 1, false),
    ("meta hour", 4, true),
    ("meta sdif", 4, true),
    ("meta sdifname", 16, false),
];

/// What `ct` shows, likewise, by `enum nft_ct_keys` (`net/netfilter/nft_ct.c`). Addresses of key 8 and 9 have 4 bytes
/// in tables of IPv4.
pub(super) const CT: [(&str, usize, bool); 24] = [
    ("state", 4, true),
    ("direction", 1, false),
    ("status", 4, true),
    ("mark", 4, true),
    ("secmark", 4, true),
    ("expiration", 4, true),
    ("helper", 16, false),
    ("l3proto", 1, false),
    ("saddr", 16, false),
    ("daddr", 16, false),
    ("protocol", 1, false),
    ("proto-src", 2, false),
    ("proto-dst", 2, false),
    ("label", 16, true),
    ("packets", 8, true),
    ("bytes", 8, true),
    ("avgpkt", 8, true),
    ("zone", 2, true),
    ("event", 4, true),
    ("ip saddr", 4, false),
    ("ip daddr", 4, false),
    ("ip6 saddr", 16, false),
    ("ip6 daddr", 16, false),
    ("id", 4, true),
];

pub(super) fn name(names: &Names, number: u128) -> Option<&'static str> {
    names.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// The names of the bits that are set; `None` where one of them has none.
pub(super) fn bits(names: &Names, number: u128) -> Option<String> {
    let known: Vec<_> = names.iter().filter(|(bit, _)| number & bit != 0).collect();
    let all = known.iter().fold(0, |bits, (bit, _)| bits | bit);
    (all == number && number != 0).then(|| known.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(","))
}
