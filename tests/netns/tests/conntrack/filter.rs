//! Filters: what matches, and what the kernel sends for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use notrack_netlink::conntrack::{Family, Filter, Masked, Status};

use super::support::{V4, V6, tcp, tracked, udp, wait_for};

const ELSEWHERE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const ELSEWHERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// What is asked for; how many entries match; how many the kernel sends.
type Case = (&'static str, fn(&mut Filter), u64, u64);

const CASES: [Case; 15] = [
    ("everything", |_| {}, 6, 6),
    ("family", |f| f.family = Some(Family::V6), 2, 2),
    ("protocol", |f| f.protocol = Some(17), 5, 5),
    ("protocol and port", |f| set_port(f, Some(17)), 2, 2),
    ("address", |f| f.original.destination = Some(V4), 4, 4),
    ("another address", |f| f.original.source = Some(ELSEWHERE_V4), 0, 0),
    ("reply's source", |f| f.reply.source = Some(V4), 4, 4),
    ("another reply", |f| f.reply.destination = Some(ELSEWHERE_V4), 0, 0),
    ("assured", |f| f.status = masked(Status::ASSURED.0, Status::ASSURED.0), 1, 1),
    ("no mark", |f| f.mark = masked(u32::MAX, 0), 6, 6),
    ("a mark", |f| f.mark = masked(1, 1), 0, 0),
    // The kernel wants the protocol with a port: it sends all, and they are left out here.
    ("port alone", |f| set_port(f, None), 2, 6),
    // The kernel compares IPv6 addresses the wrong way round: only the family is asked of it.
    ("IPv6 address", |f| f.original.destination = Some(V6), 2, 2),
    ("another IPv6 address", |f| f.original.destination = Some(ELSEWHERE_V6), 0, 2),
    ("two families", |f| (f.family, f.reply.source) = (Some(Family::V6), Some(V4)), 0, 0),
];

fn set_port(filter: &mut Filter, protocol: Option<u8>) {
    filter.protocol = protocol;
    filter.original.destination_port = Some(5301);
}

const fn masked(mask: u32, value: u32) -> Option<Masked> {
    Some(Masked { mask, value })
}

#[test]
fn the_kernel_leaves_out_what_is_not_wanted() {
    let (namespace, mut table) = tracked("filter", "");
    let _udp = (udp(&namespace, V4, &[5301, 5302, 5303]), udp(&namespace, V6, &[5301, 5302]));
    let _tcp = tcp(&namespace, V4, 0);
    wait_for(&namespace, 6);
    for (name, set, matched, sent) in CASES {
        let mut filter = Filter::default();
        set(&mut filter);
        let dumped = table.dump(&filter, |_| {}).unwrap();
        assert_eq!((dumped.matched, dumped.sent), (matched, sent), "{name}");
    }
}
