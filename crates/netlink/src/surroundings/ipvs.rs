//! What IPVS balances, from `/proc/net/ip_vs`.
//!
//! `ip_vs_info_seq_show` (net/netfilter/ipvs/ip_vs_ctl.c): after three lines of headings one for each service, by
//! protocol and address or by mark, and below it one for each server, with an arrow. IPv4 addresses are eight
//! hexadecimal digits, IPv6 ones stand in brackets; ports are hexadecimal.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use notrack_core::host::{Balanced, IpvsService};
use notrack_core::net::Proto;

/// How a server gets its packets when they have a new destination.
const TRANSLATES: &str = "Masq";

/// The services of the table; what is not understood of it is left out.
pub(super) fn services(table: &str) -> Vec<IpvsService> {
    let mut services: Vec<IpvsService> = Vec::new();
    for line in table.lines() {
        let mut words = line.split_whitespace();
        let (first, second, third) = (words.next(), words.next(), words.next());
        match (first, second) {
            (Some("->"), Some(server)) if third == Some(TRANSLATES) => {
                if let (Some(service), Some(server)) = (services.last_mut(), address(server)) {
                    service.translated_to.push(server);
                    service.translated_to.sort();
                }
            }
            (Some(kind), Some(what)) => {
                let balanced = balanced(kind, what);
                services.extend(balanced.map(|balanced| IpvsService { balanced, translated_to: Vec::new() }));
            }
            _ => {}
        }
    }
    services
}

fn balanced(kind: &str, what: &str) -> Option<Balanced> {
    let protocol = match kind {
        "FWM" => return Some(Balanced::Mark(u32::from_str_radix(what, 16).ok()?)),
        "TCP" => Proto::Tcp,
        "UDP" => Proto::Udp,
        "SCTP" => Proto::Sctp,
        _ => return None,
    };
    Some(Balanced::Server(protocol, address(what)?))
}

fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(v6) => IpAddr::V6(v6.parse().ok()?),
        None => IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?)),
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr persistent 10800
  -> 0A4D0002:192B      Masq    1      1          0
  -> 0A4D0001:192B      Masq    1      1          0
UDP  [fd96:0000:0000:0000:0000:0000:0000:000a]:0035 rr
  -> [fd77:0000:0000:0000:0000:0000:0000:0001]:0035      Masq    1      0          0
TCP  C6336401:0050 wlc
  -> 0A4D0003:0050      Route   1      0          0
  -> 0A4D0004:0050      Tunnel  1      0          0
FWM  00000005 wlc
  -> 0A4D0009:0000      Masq    1      0          0
";

    #[test]
    fn services_and_the_servers_that_are_translated_to() {
        let shown: Vec<String> = services(TABLE)
            .into_iter()
            .map(|IpvsService { balanced, translated_to }| {
                let balanced = match balanced {
                    Balanced::Server(protocol, address) => format!("{protocol} {address}"),
                    Balanced::Mark(mark) => format!("mark {mark}"),
                };
                format!("{balanced} -> {translated_to:?}")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "TCP 10.96.0.1:443 -> [10.77.0.1:6443, 10.77.0.2:6443]",
                "UDP [fd96::a]:53 -> [[fd77::1]:53]",
                "TCP 198.51.100.1:80 -> []",
                "mark 5 -> [10.77.0.9:0]",
            ]
        );
    }

    #[test]
    fn nothing_but_headings_and_nonsense_give_nothing() {
        let headings: String = TABLE.lines().take(3).map(|line| format!("{line}\n")).collect();
        assert_eq!(services(&headings), []);
        assert_eq!(services(""), []);
        assert_eq!(services("TCP nonsense\n  -> x Masq\nTCP\nTCP 0A6:1:2\nTCP [::1:0050\n"), []);
    }
}
