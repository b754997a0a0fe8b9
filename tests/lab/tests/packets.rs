//! Hand-made packets are judged by the kernel: a wrong checksum would be no connection, but INVALID.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use notrack_lab::{Flow, IcmpError, Namespace, Pair, fragments, icmp_error, tcp};

const SECOND: Duration = Duration::from_secs(1);

/// Counts what conntrack makes of packets, at both hooks.
const STATES: &str = "
table inet t {
  chain pre { type filter hook prerouting priority 0; iifname lo accept; jump states; }
  chain out { type filter hook output priority 0; oifname lo accept; jump states; }
  chain states {
    meta l4proto ipv6-icmp icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report } accept
    ct state new counter name fresh
    ct state related counter name related
    ct state invalid counter name invalid
  }
  counter fresh {}
  counter related {}
  counter invalid {}
}";

fn counted(host: &Namespace) -> Result<[u64; 3]> {
    let packets = |name| anyhow::Ok(host.counter("inet t", name)?.packets);
    Ok([packets("fresh")?, packets("related")?, packets("invalid")?])
}

#[test]
fn packets_from_a_tun_device_are_valid() {
    for (peer, ours, network) in
        [("10.9.0.2:40000", "10.9.0.1:80", "10.9.0.1/24"), ("[fd09::2]:40000", "[fd09::1]:80", "fd09::1/64")]
    {
        let host = Namespace::new("tun").unwrap();
        let tun = host.tun("tun0", &[network]).unwrap();
        host.nft(STATES).unwrap();
        let flow = Flow::parse(peer, ours).unwrap();
        tun.send(&flow.tcp(tcp::SYN)).unwrap();
        // Nobody listens: the answer is a reset to the peer.
        let reset = |packet: &[u8]| packet.iter().rev().nth(6).is_some_and(|f| f & tcp::RST != 0);
        assert!(tun.receive_where(SECOND, reset).unwrap().is_some(), "no reset for {ours}");
        tun.send(&flow.udp(b"odd")).unwrap();
        tun.send(&flow.sctp_init()).unwrap();
        assert_eq!(counted(&host).unwrap()[0], 3, "new ones for {ours}");
        assert_eq!(counted(&host).unwrap()[2], 0, "none invalid for {ours}");
        tun.send(&flow.tcp(tcp::SYN | tcp::FIN)).unwrap();
        // The reset that answers it belongs to no connection either.
        assert_eq!(counted(&host).unwrap()[2], 2, "SYN+FIN is invalid for {ours}");
    }
}

#[test]
fn packets_from_a_raw_socket_and_errors_about_them() {
    let cases =
        [("10.9.0.1:5000", "10.9.0.2:53", "10.9.0.1/24"), ("[fd09::1]:5000", "[fd09::2]:53", "fd09::1/64")];
    let errors = [
        IcmpError::PortUnreachable,
        IcmpError::TooBig { mtu: 1300 },
        IcmpError::TimeExceeded,
        IcmpError::ParameterProblem,
    ];
    for (ours, peer, network) in cases {
        let host = Namespace::new("raw").unwrap();
        let tun = host.tun("tun0", &[network]).unwrap();
        host.nft(STATES).unwrap();
        let flow = Flow::parse(ours, peer).unwrap();
        let asked = flow.udp(b"?");
        host.raw_socket().unwrap().send(&asked).unwrap();
        let is_udp = |packet: &[u8]| packet.ends_with(b"?");
        assert!(tun.receive_where(SECOND, is_udp).unwrap().is_some(), "not sent to {peer}");
        let router = if ours.starts_with('[') { Pair::NODE6 } else { Pair::NODE };
        for error in errors {
            tun.send(&icmp_error(router, error, &asked).unwrap()).unwrap();
        }
        assert_eq!(counted(&host).unwrap(), [1, 4, 0], "new, related, invalid for {ours}");
        let stranger = Flow::parse(&ours.replace("5000", "5001"), peer).unwrap().udp(b"never sent");
        tun.send(&icmp_error(router, IcmpError::TimeExceeded, &stranger).unwrap()).unwrap();
        assert_eq!(counted(&host).unwrap(), [1, 4, 1], "about an unknown flow of {ours}");
    }
}

#[test]
fn fragments_are_put_together_again() {
    let cases =
        [("10.9.0.2:40000", "10.9.0.1:53", "10.9.0.1/24"), ("[fd09::2]:40000", "[fd09::1]:53", "fd09::1/64")];
    for (peer, ours, network) in cases {
        let host = Namespace::new("fragments").unwrap();
        let tun = host.tun("tun0", &[network]).unwrap();
        let server = host.enter(|| UdpSocket::bind(ours).unwrap()).unwrap();
        server.set_read_timeout(Some(SECOND)).unwrap();
        let data = [7; 3000];
        let datagram = Flow::parse(peer, ours).unwrap().udp(&data);
        let pieces = fragments(&datagram, 1200).unwrap();
        assert_eq!(pieces.len(), 3);
        for piece in pieces {
            tun.send(&piece).unwrap();
        }
        let mut received = [0; 4000];
        let length = server.recv(&mut received).unwrap();
        assert_eq!(&received[..length], &data);
    }
}

#[test]
fn mistakes_are_told() {
    assert!(Flow::parse("10.0.0.1:1", "[fd00::1]:1").is_err());
    let udp = Flow::parse("10.0.0.1:1", "10.0.0.2:1").unwrap().udp(b"");
    assert!(icmp_error(Pair::NODE6, IcmpError::TimeExceeded, &udp).is_err());
    assert!(icmp_error(Ipv4Addr::LOCALHOST.into(), IcmpError::Redirect, &udp[..9]).is_err());
    assert!(fragments(&udp, 7).is_err());
    let host = Namespace::new("mistakes").unwrap();
    assert!(host.tun("a-name-that-is-far-too-long", &[]).is_err());
    assert!(host.raw_socket().unwrap().send(b"no packet").is_err());
}
