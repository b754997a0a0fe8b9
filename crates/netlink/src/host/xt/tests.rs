use notrack_core::host::Members;

use super::*;

const MATCHES: [&str; 24] = [
    "tcp",
    "udp",
    "udplite",
    "sctp",
    "dccp",
    "multiport",
    "icmp",
    "icmp6",
    "conntrack",
    "state",
    "helper",
    "connlabel",
    "connmark",
    "connbytes",
    "connlimit",
    "addrtype",
    "iprange",
    "mark",
    "limit",
    "hashlimit",
    "quota",
    "comment",
    "owner",
    "",
];

const TARGETS: [&str; 20] = [
    "REJECT",
    "NFQUEUE",
    "MARK",
    "CONNMARK",
    "CT",
    "NOTRACK",
    "DNAT",
    "SNAT",
    "REDIRECT",
    "MASQUERADE",
    "NETMAP",
    "SYNPROXY",
    "TPROXY",
    "SET",
    "LOG",
    "NFLOG",
    "TCPMSS",
    "TRACE",
    "RAWDNAT",
    "",
];

fn read_all(family: Option<Family>, info: &[u8]) {
    let mut sets = IpSets::default();
    for revision in 0..5 {
        for name in MATCHES {
            let _ = matching(family, name, revision, info, &mut sets);
        }
        for name in TARGETS {
            let _ = target(family, name, revision, info);
        }
    }
}

#[test]
fn no_length_and_no_bit_panics_or_hangs() {
    for fill in [0, 1, 0x7f, u8::MAX] {
        for len in (0..=70).chain([124, 150, 151, 152, 155, 156, 163, 164, 255, 256, 300]) {
            for family in [None, Some(Family::Ipv4), Some(Family::Ipv6)] {
                read_all(family, &vec![fill; len]);
            }
        }
    }
    for bit in 0..300 * 8 {
        let mut info = vec![0; 300];
        info[bit / 8] ^= 1 << (bit % 8);
        read_all(None, &info);
    }
}

#[test]
fn what_is_not_understood_may_match_and_may_do_anything() {
    let mut sets = IpSets::default();
    let part = matching(None, "tcp", 0, &[0; 11], &mut sets);
    assert_eq!(part.steps, [Step::Opaque("tcp".to_owned())], "cut short");
    assert_eq!(part.text, "-m tcp");
    let part = matching(None, "conntrack", 9, &[0; 300], &mut sets);
    assert_eq!(part.steps, [Step::Opaque("conntrack".to_owned())], "a revision of the future");
    let part = target(None, "RAWDNAT", 0, &[0; 48]);
    assert_eq!((part.steps, part.text.as_str()), (vec![Step::Opaque("RAWDNAT".into())], "-j RAWDNAT"));
}

#[test]
fn flags_of_tcp_are_every_byte_that_fits() {
    let mut info = [0; 12];
    info[2..4].copy_from_slice(&u16::MAX.to_ne_bytes());
    info[6..8].copy_from_slice(&u16::MAX.to_ne_bytes());
    // --syn: of FIN, SYN, RST and ACK exactly SYN.
    (info[9], info[10]) = (0x17, 0x02);
    let part = matching(None, "tcp", 0, &info, &mut IpSets::default());
    assert_eq!(part.text, "-m tcp --tcp-flags FIN,SYN,RST,ACK SYN");
    let [Step::Match(Match { fields, inverted: false, of: Members::Boxes(boxes) })] = &part.steps[..] else {
        panic!("{part:?}")
    };
    assert_eq!(fields, &[Field::TcpFlags]);
    for flags in 0..=u128::from(u8::MAX) {
        let inside = boxes.iter().any(|ranges| (ranges[0].0..=ranges[0].1).contains(&flags));
        assert_eq!(inside, flags & 0x17 == 0x02, "{flags:#x}");
    }
}

#[test]
fn marks_are_compared_under_their_mask() {
    let marks = |mark: u32, mask: u32| {
        let info = [mark.to_ne_bytes(), mask.to_ne_bytes(), [0; 4]].concat();
        let part = matching(None, "mark", 1, &info, &mut IpSets::default());
        let [Step::Match(Match { of, .. })] = &part.steps[..] else { panic!("{part:?}") };
        of.clone()
    };
    assert_eq!(marks(5, u32::MAX), Members::Boxes(vec![vec![(5, 5)]]));
    assert_eq!(marks(0x4000, 0x4000), Members::Masked { mask: 0x4000, values: vec![0x4000] });
}

#[test]
fn an_address_of_a_family_that_is_not_told_is_read_by_its_length() {
    let mut v4 = vec![0; 65];
    v4[..4].copy_from_slice(&[10, 0, 0, 1]);
    v4[16..20].copy_from_slice(&[10, 0, 0, 9]);
    v4[64] = 1;
    let mut sets = IpSets::default();
    assert_eq!(matching(None, "iprange", 1, &v4, &mut sets).text, "-m iprange --src-range 10.0.0.1-10.0.0.9");
    let told = matching(Some(Family::Ipv6), "iprange", 1, &v4, &mut sets);
    assert_eq!(told.text, "-m iprange --src-range a00:1::-a00:9::");
}
