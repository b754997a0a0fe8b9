//! Three nodes that serve the same: one that tracks, one with NOTRACK rules by hand, one with ours.

use std::collections::BTreeSet;

use notrack_lab::{Namespace, RAW_MARK, RawSocket, Tun, run_ok};
use notrack_netns::agent::{Policies, once, policy};
use serde_json::Value;

use super::attacks::Step;
use super::craft::Way;

/// The nodes, in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The stateful firewall alone.
    Tracked,
    /// NOTRACK by port in both hooks, and `ct state untracked accept` by port.
    Naive,
    /// The agent, and the firewall completed by exactly the tuples of the policy.
    Ours,
}

/// What NOTRACK by hand needs to work.
const NAIVE: &str = "
    ct state untracked tcp dport { 22, 80, 81, 8080 } accept
    ct state untracked tcp sport { 22, 80, 81, 8080 } accept
    ct state untracked udp dport { 53, 54, 4789, 5300 } accept
    ct state untracked udp sport { 53, 54, 4789, 5300 } accept
    ct state untracked sctp dport 9000 accept
    ct state untracked sctp sport 9000 accept";

const NAIVE_RAW: &str = "
    tcp dport { 22, 80, 81, 8080 } notrack
    tcp sport { 22, 80, 81, 8080 } notrack
    udp dport { 53, 54, 4789, 5300 } notrack
    udp sport { 53, 54, 4789, 5300 } notrack
    sctp dport 9000 notrack
    sctp sport 9000 notrack";

/// The policy's tuples, as hostFirewall: Adapt would have them; port 22 too, though the agent leaves it tracked.
const OURS_IN: &str = "
    ip daddr 10.77.0.1 tcp dport { 22, 80 } ct state untracked accept
    ip6 daddr fd77::1 tcp dport { 22, 80 } ct state untracked accept
    ip saddr 10.77.0.0/24 ip daddr 10.77.0.1 tcp dport 81 ct state untracked accept
    ip6 saddr fd77::/64 ip6 daddr fd77::1 tcp dport 81 ct state untracked accept
    ip daddr 10.77.0.1 udp dport 53 ct state untracked accept
    ip6 daddr fd77::1 udp dport 53 ct state untracked accept
    ip saddr 10.77.0.2 ip daddr 10.77.0.1 udp dport 4789 ct state untracked accept
    ip6 saddr fd77::2 ip6 daddr fd77::1 udp dport 4789 ct state untracked accept
    ip saddr 10.77.0.2 udp sport 4789 udp dport 32768-60999 ct state untracked accept
    ip6 saddr fd77::2 udp sport 4789 udp dport 32768-60999 ct state untracked accept
    ip daddr 10.77.0.1 sctp dport 9000 ct state untracked accept
    ip6 daddr fd77::1 sctp dport 9000 ct state untracked accept
    ip saddr 10.77.0.0/24 ip daddr 10.77.0.1 udp dport 54 ct state untracked accept
    ip6 saddr fd77::/64 ip6 daddr fd77::1 udp dport 54 ct state untracked accept
    ip saddr 10.77.0.2 tcp flags & (fin | syn | rst | ack) != syn tcp sport 8080 tcp dport 32768-60999 ct state untracked accept
    ip6 saddr fd77::2 tcp flags & (fin | syn | rst | ack) != syn tcp sport 8080 tcp dport 32768-60999 ct state untracked accept
    ip saddr 10.77.0.2 udp sport 5300 udp dport 32768-60999 ct state untracked accept
    ip6 saddr fd77::2 udp sport 5300 udp dport 32768-60999 ct state untracked accept
    icmp type { destination-unreachable, time-exceeded, parameter-problem } ct state untracked accept
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } ct state untracked accept";

const OURS_OUT: &str = "
    ip saddr 10.77.0.1 tcp flags & (fin | syn | rst | ack) != syn tcp sport { 22, 80 } ct state untracked accept
    ip6 saddr fd77::1 tcp flags & (fin | syn | rst | ack) != syn tcp sport { 22, 80 } ct state untracked accept
    ip saddr 10.77.0.1 ip daddr 10.77.0.0/24 tcp flags & (fin | syn | rst | ack) != syn tcp sport 81 ct state untracked accept
    ip6 saddr fd77::1 ip6 daddr fd77::/64 tcp flags & (fin | syn | rst | ack) != syn tcp sport 81 ct state untracked accept
    ip saddr 10.77.0.1 udp sport 53 ct state untracked accept
    ip6 saddr fd77::1 udp sport 53 ct state untracked accept
    ip saddr 10.77.0.1 ip daddr 10.77.0.2 udp dport 4789 ct state untracked accept
    ip6 saddr fd77::1 ip6 daddr fd77::2 udp dport 4789 ct state untracked accept
    ip saddr 10.77.0.1 ip daddr 10.77.0.2 udp sport 4789 ct state untracked accept
    ip6 saddr fd77::1 ip6 daddr fd77::2 udp sport 4789 ct state untracked accept
    ip saddr 10.77.0.1 sctp sport 9000 ct state untracked accept
    ip6 saddr fd77::1 sctp sport 9000 ct state untracked accept
    ip saddr 10.77.0.1 ip daddr 10.77.0.0/24 udp sport 54 ct state untracked accept
    ip6 saddr fd77::1 ip6 daddr fd77::/64 udp sport 54 ct state untracked accept
    ip daddr 10.77.0.2 tcp sport 32768-60999 tcp dport 8080 ct state untracked accept
    ip6 daddr fd77::2 tcp sport 32768-60999 tcp dport 8080 ct state untracked accept
    ip daddr 10.77.0.2 udp sport 32768-60999 udp dport 5300 ct state untracked accept
    ip6 daddr fd77::2 udp sport 32768-60999 udp dport 5300 ct state untracked accept
    icmp type { destination-unreachable, time-exceeded, parameter-problem } ct state untracked accept
    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } ct state untracked accept";

const POLICY: &str = "
flows:
- name: open
  action: NoTrack
  role: Server
  ports: [{protocol: TCP, port: 80}, {protocol: TCP, port: 22}, {protocol: UDP, port: 53}, {protocol: SCTP, port: 9000}]
- name: named
  action: NoTrack
  role: Server
  ports: [{protocol: TCP, port: 81}, {protocol: UDP, port: 54}]
  peers: [{cidr: 10.77.0.0/24}, {cidr: 'fd77::/64'}]
- name: tunnel
  action: NoTrack
  role: Peer
  ports: [{protocol: UDP, port: 4789}]
  peers: [{cidr: 10.77.0.2/32}, {cidr: 'fd77::2/128'}]
- name: asks
  action: NoTrack
  role: Client
  ports: [{protocol: TCP, port: 8080}, {protocol: UDP, port: 5300}]
  peers: [{cidr: 10.77.0.2/32}, {cidr: 'fd77::2/128'}]
";

/// The site's firewall. A connection begins with a SYN; what the node itself may open is named too.
fn firewall(untracked_in: &str, untracked_out: &str) -> String {
    format!(
        "table inet site {{
    chain input {{
        type filter hook input priority filter; policy drop;
        iifname lo accept
        ct state established,related accept
        ct state invalid drop
        {untracked_in}
        icmp type echo-request accept
        icmpv6 type {{ echo-request, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} accept
        ct state new tcp flags & (fin | syn | rst | ack) == syn tcp dport {{ 22, 80 }} accept
        ct state new tcp flags & (fin | syn | rst | ack) == syn ip saddr 10.77.0.0/24 tcp dport 81 accept
        ct state new tcp flags & (fin | syn | rst | ack) == syn ip6 saddr fd77::/64 tcp dport 81 accept
        ct state new udp dport 53 accept
        ct state new sctp dport 9000 accept
        ct state new ip saddr 10.77.0.2 udp dport 4789 accept
        ct state new ip6 saddr fd77::2 udp dport 4789 accept
        ct state new ip saddr 10.77.0.0/24 udp dport 54 accept
        ct state new ip6 saddr fd77::/64 udp dport 54 accept
    }}
    chain output {{
        type filter hook output priority filter; policy drop;
        oifname lo accept
        ct state established,related accept
        ct state invalid drop
        {untracked_out}
        ct state new tcp flags & (fin | syn | rst | ack) == syn ip daddr 10.77.0.2 tcp dport 8080 accept
        ct state new tcp flags & (fin | syn | rst | ack) == syn ip6 daddr fd77::2 tcp dport 8080 accept
        ct state new ip daddr 10.77.0.2 udp dport {{ 4789, 5300 }} accept
        ct state new ip6 daddr fd77::2 udp dport {{ 4789, 5300 }} accept
    }}
}}
"
    )
}

/// The same for a router between the wires: clients of 10.77.0.0/24 may ask one server of 10.88.0.0/24.
mod routed {
    pub const NAIVE: &str = "
        ct state untracked tcp dport 80 accept
        ct state untracked tcp sport 80 accept
        ct state untracked udp dport 53 accept
        ct state untracked udp sport 53 accept";

    pub const NAIVE_RAW: &str = "
        tcp dport 80 notrack
        tcp sport 80 notrack
        udp dport 53 notrack
        udp sport 53 notrack";

    pub const OURS: &str = "
        ip saddr 10.77.0.0/24 ip daddr 10.88.0.2 tcp dport 80 ct state untracked accept
        ip6 saddr fd77::/64 ip6 daddr fd88::2 tcp dport 80 ct state untracked accept
        ip saddr 10.88.0.2 ip daddr 10.77.0.0/24 tcp flags & (fin | syn | rst | ack) != syn tcp sport 80 ct state untracked accept
        ip6 saddr fd88::2 ip6 daddr fd77::/64 tcp flags & (fin | syn | rst | ack) != syn tcp sport 80 ct state untracked accept
        ip saddr 10.77.0.0/24 ip daddr 10.88.0.2 udp dport 53 ct state untracked accept
        ip6 saddr fd77::/64 ip6 daddr fd88::2 udp dport 53 ct state untracked accept
        ip saddr 10.88.0.2 ip daddr 10.77.0.0/24 udp sport 53 ct state untracked accept
        ip6 saddr fd88::2 ip6 daddr fd77::/64 udp sport 53 ct state untracked accept
        icmp type { destination-unreachable, time-exceeded, parameter-problem } ct state untracked accept
        icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } ct state untracked accept";

    pub const POLICY: &str = "
flows:
- name: routed
  action: NoTrack
  role: Forward
  ports: [{protocol: TCP, port: 80}, {protocol: UDP, port: 53}]
  serverAddresses: [10.88.0.2/32, 'fd88::2/128']
  peers: [{cidr: 10.77.0.0/24}, {cidr: 'fd77::/64'}]
";

    pub fn firewall(untracked: &str) -> String {
        format!(
            "table inet site {{
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct state invalid drop
        {untracked}
        ct state new tcp flags & (fin | syn | rst | ack) == syn ip saddr 10.77.0.0/24 ip daddr 10.88.0.2 tcp dport 80 accept
        ct state new tcp flags & (fin | syn | rst | ack) == syn ip6 saddr fd77::/64 ip6 daddr fd88::2 tcp dport 80 accept
        ct state new ip saddr 10.77.0.0/24 ip daddr 10.88.0.2 udp dport 53 accept
        ct state new ip6 saddr fd77::/64 ip6 daddr fd88::2 udp dport 53 accept
    }}
}}
"
        )
    }
}

/// Notes who came past the firewall, by the number in the packet.
fn behind() -> String {
    let note = "add @seen4 { ip id }";
    let note6 = "add @seen6 { @nh,16,16 }";
    format!(
        "table inet behind {{
    set seen4 {{ typeof ip id; size 65535; flags dynamic; }}
    set seen6 {{ typeof @nh,16,16; size 65535; flags dynamic; }}
    chain input {{
        type filter hook input priority filter + 10; policy accept;
        iifname nt0 {note}
        iifname nt0 meta nfproto ipv6 {note6}
    }}
    chain forward {{
        type filter hook forward priority filter + 10; policy accept;
        {note}
        meta nfproto ipv6 {note6}
    }}
    chain output {{
        type filter hook output priority filter + 10; policy accept;
        meta mark {RAW_MARK} {note}
        meta mark {RAW_MARK} meta nfproto ipv6 {note6}
    }}
}}
"
    )
}

/// Who sends what does not come by the first wire.
enum Other {
    Program(RawSocket),
    Wire(Tun),
}

/// A node at a wire, or between two.
pub struct Site {
    node: Namespace,
    wire: Tun,
    other: Other,
}

impl Site {
    /// One that serves and asks.
    pub fn new(kind: Kind) -> Site {
        let (node, wire) = wired();
        let (untracked_in, untracked_out) = match kind {
            Kind::Tracked => ("", ""),
            Kind::Naive => (NAIVE, NAIVE),
            Kind::Ours => (OURS_IN, OURS_OUT),
        };
        node.nft(&firewall(untracked_in, untracked_out)).unwrap();
        bypass(&node, kind, NAIVE_RAW, POLICY);
        let other = Other::Program(node.raw_socket().unwrap());
        Site { node, wire, other }
    }

    /// One that routes to servers on a second wire.
    pub fn routed(kind: Kind) -> Site {
        let (node, wire) = wired();
        let other = node.tun("nt1", &["10.88.0.1/24", "fd88::1/64"]).unwrap();
        node.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
        node.set_sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
        let untracked = match kind {
            Kind::Tracked => "",
            Kind::Naive => routed::NAIVE,
            Kind::Ours => routed::OURS,
        };
        node.nft(&routed::firewall(untracked)).unwrap();
        bypass(&node, kind, routed::NAIVE_RAW, routed::POLICY);
        Site { node, wire, other: Other::Wire(other) }
    }

    /// Keeps the node's own answers from the hooks: a reset would end the connections that an attack is about.
    pub fn silenced(self) -> Site {
        let rule = format!("meta mark != {RAW_MARK} drop");
        let chain = format!("chain output {{\n type filter hook output priority -1000;\n {rule}\n }}\n");
        self.node.nft(&format!("table inet silence {{\n{chain}}}\n")).unwrap();
        self
    }

    /// The wire.
    pub fn wire(&self) -> &Tun {
        &self.wire
    }

    /// Takes one step of an attack. What comes in by the wire is worked through before this returns.
    pub fn take(&self, step: &Step) {
        match step {
            Step::Context(way, packet) => self.send(*way, packet),
            Step::Try { way, packets, .. } => packets.iter().for_each(|packet| self.send(*way, packet)),
        }
    }

    fn send(&self, way: Way, packet: &[u8]) {
        match way {
            Way::In => self.wire.send(packet).unwrap(),
            // The filter's drop is an error of the sender; anything else would show as a packet missing everywhere.
            Way::Out => match &self.other {
                Other::Program(program) => drop(program.send(packet)),
                Other::Wire(wire) => wire.send(packet).unwrap(),
            },
        }
    }

    /// The numbers of the packets that came past the firewall.
    pub fn seen(&self, v4: bool) -> BTreeSet<u16> {
        let set = if v4 { "seen4" } else { "seen6" };
        let mut nft = self.node.command("nft");
        nft.args(["--json", "list", "set", "inet", "behind", set]);
        let listed: Value = serde_json::from_str(&run_ok(&mut nft).unwrap()).unwrap();
        let objects = listed["nftables"].as_array().into_iter().flatten();
        let elements = objects.filter_map(|object| object["set"]["elem"].as_array()).flatten();
        elements.map(|element| u16::try_from(element.as_u64().unwrap()).unwrap()).collect()
    }
}

/// A node at a wire behind which everybody is.
fn wired() -> (Namespace, Tun) {
    let node = Namespace::new("attacked").unwrap();
    let wire = node.tun("nt0", &["10.77.0.1/24", "fd77::1/64"]).unwrap();
    node.ip("route add default dev nt0").unwrap();
    node.ip("-6 route add default dev nt0").unwrap();
    (node, wire)
}

/// What makes a kind of node, and who looks what it lets pass.
fn bypass(node: &Namespace, kind: Kind, naive: &str, ours: &str) {
    match kind {
        Kind::Tracked => {}
        Kind::Naive => {
            let chain = |hook: &str| {
                format!("chain {hook} {{\n type filter hook {hook} priority raw;\n {naive}\n }}\n")
            };
            let chains = chain("prerouting") + &chain("output");
            node.nft(&format!("table inet naive {{\n{chains}}}\n")).unwrap();
        }
        Kind::Ours => {
            once(node, &Policies::of(&policy("site", ours)).unwrap()).unwrap();
        }
    }
    node.nft(&behind()).unwrap();
}
