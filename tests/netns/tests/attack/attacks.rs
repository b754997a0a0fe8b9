//! The attacks, and for each that comes further than past tracking, why.

use std::net::{IpAddr, SocketAddr};

use notrack_lab::{Flow, IcmpError, Pair, fragments, icmp_error, ip_packet, tcp};

use super::craft::{
    PADDING, Way, fragment, icmp4_about, payload, stamp, with_extension, with_options, with_wrong_checksum,
};

/// Why more passes than past a firewall that tracks.
pub mod reason {
    pub const NO_CONNECTION: &str = "Without state nobody knows which connections there are: any segment that may \
        belong to one reaches the socket that the firewall opens to this client anyway. A socket without such a \
        connection answers with a reset. Segments that belong to no connection at all (SYN with FIN, none of SYN, RST \
        and ACK) stay tracked and are dropped as before.";
    pub const WINDOW: &str = "Tracking compares sequence numbers with the window it has seen; the socket does so itself \
        (RFC 9293, and RFC 5961 for RST and SYN), and drops or challenges what lies outside.";
    pub const CHECKSUM: &str = "Tracking compares checksums (nf_conntrack_checksum); TCP and UDP of the receiving host \
        do so themselves, before any socket sees the packet.";
    pub const SHORT: &str = "The beginning of a header has the ports, but not the flags; tracking calls it truncated. \
        Ours sees the ports alone. No socket sees it: TCP drops what is shorter than its header, IPv6 a first fragment \
        without the whole of it (RFC 8200, 4.5), ICMP an embedded packet with less than eight bytes of it.";
    pub const PEER: &str = "A Client flow trusts its peers: whatever comes from their address and port to the node's \
        ephemeral range may be an answer. A named peer, or who can send with its address, can so scan that range: \
        connected sockets drop what is not theirs, others answer with a reset or an ICMP error. Nobody else gets in, nor \
        to any other port, and nobody opens a connection that way. localPorts makes the range smaller.";
    pub const FORGED: &str = "Tracking lets an ICMP error in only where the embedded connection is in the table. Ours \
        knows just what a policy names: an error about any such tuple comes in. The socket layer looks the \
        connection up again; TCP compares the sequence number too, UDP cannot, so that a forged path MTU is believed \
        where a socket has the local port (NT026 ForgedPathMTU). icmpErrors: Ignore leaves them tracked.";
    pub const FROM_SERVED: &str = "A program on the node that has a served port as its source can send what looks like \
        an answer, which a firewall for outgoing packets does not tell from one. It cannot open a connection so: a SYN \
        stays tracked. Binding to the port takes what serving it takes.";
    pub const ROUTED: &str = "A Forward flow knows servers and peers: whatever comes from a server's address and port to \
        one of its peers may be an answer. A server, or who can send with its address, can so scan those peers, as a peer of \
        a Client flow can scan the node. Nobody opens a connection that way.";
    pub const SCTP: &str = "Tracking knows which chunks an association may have. Without it any chunk may be of one, and \
        the socket compares its verification tag (RFC 9260, 8.5).";
    pub const TO_PEER: &str = "Towards a peer that the node may ask, segments in the middle of a connection that does \
        not exist leave the node; the peer resets them.";
}

/// What happens in an attack, one after the other.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet that makes the circumstances.
    Context(Way, Vec<u8>),
    /// One packet, in one piece or in fragments, of which it counts whether it passes.
    Try { way: Way, number: u16, packets: Vec<Vec<u8>> },
}

/// One kind of attack.
#[derive(Clone, Debug)]
pub struct Attack {
    pub name: &'static str,
    /// Why ours may let in what tracking does not; `None`: it may not.
    pub wider: Option<&'static str>,
    pub steps: Vec<Step>,
}

impl Attack {
    /// The numbers of its packets.
    pub fn numbers(&self) -> Vec<u16> {
        let number = |step: &Step| match step {
            Step::Context(..) => None,
            Step::Try { number, .. } => Some(*number),
        };
        self.steps.iter().filter_map(number).collect()
    }
}

/// Makes attacks in one family. No two packets share a number, and no two flows a port, so that none depends on another.
pub struct Maker {
    pub v4: bool,
    /// The last one. 1 is that of packets nobody has stamped.
    number: u16,
    remote: u16,
    local: u16,
    steps: Vec<Step>,
    pub attacks: Vec<Attack>,
}

/// A port nobody is let in to, outside the ephemeral range.
pub const CLOSED: u16 = 9999;

/// What is tried on a node that serves and asks.
pub fn attacks(v4: bool) -> Vec<Attack> {
    let mut maker = Maker::new(v4);
    maker.segments();
    maker.replies();
    maker.local_programs();
    maker.datagrams();
    maker.tunnel();
    maker.chunks();
    maker.errors();
    maker.fragments();
    if v4 {
        maker.options()
    } else {
        maker.extensions()
    }
    maker.attacks
}

impl Maker {
    pub fn new(v4: bool) -> Maker {
        Maker { v4, number: 1, remote: 10_000, local: 33_000, steps: Vec::new(), attacks: Vec::new() }
    }

    pub fn address(&self, v4: IpAddr, v6: IpAddr, port: u16) -> SocketAddr {
        SocketAddr::new(if self.v4 { v4 } else { v6 }, port)
    }

    fn node(&self, port: u16) -> SocketAddr {
        self.address(Pair::NODE, Pair::NODE6, port)
    }

    pub fn peer(&self, port: u16) -> SocketAddr {
        self.address(Pair::CLIENT, Pair::CLIENT6, port)
    }

    pub fn stranger(&self, port: u16) -> SocketAddr {
        self.address(Pair::STRANGER, Pair::STRANGER6, port)
    }

    /// A port at the other end that nothing else has used.
    pub fn remote(&mut self) -> u16 {
        self.remote += 1;
        assert!(self.remote < 32_768);
        self.remote
    }

    /// An ephemeral port of the node that nothing else has used.
    fn local(&mut self) -> u16 {
        self.local += 1;
        assert!(self.local < 61_000);
        self.local
    }

    /// An address that no policy names, with a port that nothing else has used.
    fn someone(&mut self) -> SocketAddr {
        let port = self.remote();
        self.stranger(port)
    }

    /// Somebody asks a port of the node.
    fn question(&mut self, port: u16) -> Flow {
        let source = self.someone();
        Flow::new(source, self.node(port)).unwrap()
    }

    pub fn context(&mut self, way: Way, packet: Vec<u8>) {
        self.steps.push(Step::Context(way, packet));
    }

    pub fn attempt(&mut self, way: Way, mut packets: Vec<Vec<u8>>) {
        self.number += 1;
        packets.iter_mut().for_each(|packet| stamp(packet, self.number));
        self.steps.push(Step::Try { way, number: self.number, packets });
    }

    pub fn attack(&mut self, name: &'static str, wider: Option<&'static str>) {
        let steps = std::mem::take(&mut self.steps);
        self.attacks.push(Attack { name, wider, steps });
    }

    /// A segment with each of the 256 combinations of flags, each in a flow of its own: `ends` gets a port for the other
    /// end and an ephemeral one.
    pub fn scan(&mut self, way: Way, ends: impl Fn(&Maker, u16, u16) -> (SocketAddr, SocketAddr)) {
        for flags in 0..=255 {
            let (remote, local) = (self.remote(), self.local());
            let (source, destination) = ends(self, remote, local);
            self.attempt(way, vec![Flow::new(source, destination).unwrap().tcp(flags)]);
        }
    }

    pub fn udp(&mut self, way: Way, source: SocketAddr, destination: SocketAddr) {
        self.attempt(way, vec![Flow::new(source, destination).unwrap().udp(b"attack")]);
    }

    fn segments(&mut self) {
        use Way::In;
        use reason::{CHECKSUM, NO_CONNECTION, SHORT, WINDOW};
        self.scan(In, |m, remote, _| (m.stranger(remote), m.node(80)));
        self.attack("segments of no connection to a served port", Some(NO_CONNECTION));
        self.scan(In, |m, remote, _| (m.peer(remote), m.node(81)));
        self.attack("... to a port served to named peers, from a peer", Some(NO_CONNECTION));
        self.scan(In, |m, remote, _| (m.stranger(remote), m.node(81)));
        self.attack("... to a port served to named peers, from another", None);
        self.scan(In, |m, remote, _| (m.stranger(remote), m.node(CLOSED)));
        self.attack("... to a closed port", None);
        self.scan(In, |m, remote, _| (m.stranger(remote), m.node(22)));
        self.attack("... to a protected port", None);
        self.scan(In, |m, other, _| (m.stranger(80), m.node(other)));
        self.attack("... from a served port number to closed ports", None);
        self.scan(In, |m, _, local| (m.stranger(80), m.node(local)));
        self.attack("... from a served port number to ephemeral ports", None);
        self.scan(In, |m, remote, _| (m.node(remote), m.node(81)));
        // IPv4 throws it away before any of this.
        self.attack("... from the node's own address", (!self.v4).then_some(NO_CONNECTION));
        for flags in 0..=255 {
            let (client, server) = (self.someone(), self.node(80));
            self.handshake(client, server);
            let outside = Flow::new(client, server).unwrap().segment(flags, 0x7000_0000, 0x7000_0000, b"x");
            self.attempt(In, vec![outside]);
        }
        self.attack("segments outside the window of a connection", Some(WINDOW));
        for flags in 0..=255 {
            let flow = self.question(80);
            self.attempt(In, vec![with_wrong_checksum(flow.segment(flags, 1, 1, b"data"))]);
        }
        self.attack("segments with a wrong checksum", Some(CHECKSUM));
        for (port, length) in [(80, 4), (80, 8), (80, 19), (81, 8), (CLOSED, 8)] {
            let whole = self.question(port).tcp(tcp::SYN);
            let short = ip_packet(self.stranger(0).ip(), self.node(0).ip(), 6, &payload(&whole)[..length]);
            self.attempt(In, vec![short]);
        }
        self.attack("segments shorter than a header: 3 to a served port, 2 to others", Some(SHORT));
    }

    /// A connection from the wire's end, both ends of it by hand.
    pub fn handshake(&mut self, client: SocketAddr, server: SocketAddr) {
        let to = Flow::new(client, server).unwrap();
        self.context(Way::In, to.segment(tcp::SYN, 1000, 0, &[]));
        self.context(Way::Out, to.reversed().segment(tcp::SYN | tcp::ACK, 5000, 1001, &[]));
        self.context(Way::In, to.segment(tcp::ACK, 1001, 5001, &[]));
    }

    fn replies(&mut self) {
        use Way::In;
        use reason::PEER;
        self.scan(In, |m, _, local| (m.peer(8080), m.node(local)));
        self.attack("unasked segments from a peer's port to ephemeral ports", Some(PEER));
        self.scan(In, |m, other, _| (m.peer(8080), m.node(other)));
        self.attack("... from a peer's port to other ports", None);
        self.scan(In, |m, _, local| (m.stranger(8080), m.node(local)));
        self.attack("... from that port of another to ephemeral ports", None);
        self.scan(In, |m, remote, local| (m.peer(remote), m.node(local)));
        self.attack("... from other ports of a peer to ephemeral ports", None);
        for _ in 0..8 {
            let (local, other) = (self.local(), self.remote());
            self.udp(In, self.peer(5300), self.node(local));
            self.udp(In, self.peer(5300), self.node(other));
            self.udp(In, self.stranger(5300), self.node(local + 1));
            self.local += 1;
        }
        self.attack("unasked datagrams: 8 to ephemeral ports, 16 that no peer may send", Some(PEER));
    }

    fn local_programs(&mut self) {
        use Way::Out;
        use reason::{FROM_SERVED, TO_PEER};
        self.scan(Out, |m, remote, _| (m.node(80), m.stranger(remote)));
        self.attack("segments of a local program from a served port", Some(FROM_SERVED));
        self.scan(Out, |m, remote, _| (m.node(81), m.stranger(remote)));
        self.attack("... from a port served to named peers, to another", None);
        self.scan(Out, |m, remote, _| (m.node(CLOSED), m.stranger(remote)));
        self.attack("... from another port", None);
        self.scan(Out, |m, _, local| (m.node(local), m.stranger(80)));
        self.attack("... to a served port number elsewhere", None);
        self.scan(Out, |m, _, local| (m.node(local), m.peer(8080)));
        self.attack("... to a peer from ephemeral ports", Some(TO_PEER));
        self.scan(Out, |m, other, _| (m.node(other), m.peer(8080)));
        self.attack("... to a peer from other ports", None);
        self.scan(Out, |m, _, local| (m.node(local), m.stranger(8080)));
        self.attack("... to a peer's port number elsewhere", None);
        for _ in 0..8 {
            let remote = self.remote();
            self.udp(Out, self.node(53), self.stranger(remote));
        }
        self.attack("datagrams of a local program from a served port", Some(FROM_SERVED));
    }

    fn datagrams(&mut self) {
        use Way::In;
        for (name, server, source) in [
            ("datagrams to a served port", 53, None),
            ("... to a port served to named peers, from another", 54, None),
            ("... to a closed port", CLOSED, None),
            ("... from a served port number to closed ports", 0, Some(53)),
        ] {
            for _ in 0..8 {
                let other = self.remote();
                let (source, server) = match source {
                    Some(source) => (source, other),
                    None => (other, server),
                };
                self.udp(In, self.stranger(source), self.node(server));
            }
            self.attack(name, None);
        }
    }

    /// VXLAN: both ends send to the port, from any.
    fn tunnel(&mut self) {
        use Way::{In, Out};
        for _ in 0..8 {
            let (local, remote) = (self.local(), self.remote());
            self.udp(In, self.peer(remote), self.node(4789));
            self.udp(Out, self.node(local), self.peer(4789));
        }
        self.attack("a tunnel's datagrams from and to its peer", None);
        for _ in 0..8 {
            let (local, remote) = (self.local(), self.remote());
            self.udp(In, self.stranger(remote), self.node(4789));
            self.udp(In, self.stranger(4789), self.node(local));
            self.udp(In, self.peer(4789), self.node(remote));
            self.udp(Out, self.node(local), self.stranger(4789));
            self.udp(Out, self.node(4789), self.stranger(remote));
        }
        self.attack("... from and to another, or to other ports", None);
        for _ in 0..8 {
            let local = self.local();
            self.udp(In, self.peer(4789), self.node(local));
        }
        self.attack("... from the tunnel's port of its peer to ephemeral ports", Some(reason::PEER));
        for _ in 0..8 {
            let remote = self.remote();
            self.udp(Out, self.node(4789), self.peer(remote));
        }
        self.attack("... of a local program from the tunnel's port to its peer", Some(reason::FROM_SERVED));
    }

    fn chunks(&mut self) {
        // From DATA (0) over INIT (1) to SHUTDOWN COMPLETE (14).
        for (name, port, wider) in [
            ("chunks of no association to a served SCTP port", 9000, Some(reason::SCTP)),
            ("... to a closed port", CLOSED, None),
        ] {
            for chunk in 0..=14 {
                let flow = self.question(port);
                self.attempt(Way::In, vec![flow.sctp(chunk)]);
            }
            self.attack(name, wider);
        }
    }

    /// Errors of every kind about a packet, on their way to who may have sent it.
    pub fn all_errors(&mut self, about: &[u8]) {
        let router = self.stranger(0).ip();
        for error in [
            IcmpError::PortUnreachable,
            IcmpError::TooBig { mtu: 1300 },
            IcmpError::TimeExceeded,
            IcmpError::ParameterProblem,
        ] {
            self.attempt(Way::In, vec![icmp_error(router, error, about).unwrap()]);
        }
    }

    fn errors(&mut self) {
        use Way::{In, Out};
        use reason::FORGED;
        let flow = |source, destination| Flow::new(source, destination).unwrap();
        let (asker, answers) = (self.someone(), self.node(53));
        let query = flow(asker, answers).udp(b"?");
        let answer = flow(answers, asker).udp(b"!");
        self.context(In, query);
        self.context(Out, answer.clone());
        self.all_errors(&answer);
        self.attack("ICMP errors about a flow that there is", None);

        let client = self.someone();
        self.all_errors(&flow(self.node(53), client).udp(b"!"));
        let client = self.someone();
        self.all_errors(&flow(self.node(80), client).tcp(tcp::ACK));
        let client = self.stranger(self.remote);
        let answer = fragments(&flow(self.node(53), client).udp(&[b'!'; 3000]), 1400).unwrap();
        self.all_errors(&answer[0]);
        self.attack("forged ICMP errors about answers of a served port", Some(FORGED));
        let local = self.local();
        self.all_errors(&flow(self.node(local), self.peer(8080)).tcp(tcp::ACK));
        self.all_errors(&flow(self.node(local), self.peer(5300)).udp(b"?"));
        self.attack("... about questions to a peer", Some(FORGED));

        let (local, remote) = (self.local(), self.remote());
        for about in [
            flow(self.node(81), self.stranger(remote)).tcp(tcp::ACK),
            flow(self.node(54), self.stranger(remote)).udp(b"!"),
            flow(self.node(CLOSED), self.stranger(remote)).udp(b"!"),
            flow(self.node(22), self.stranger(remote)).tcp(tcp::ACK),
            flow(self.node(local), self.stranger(8080)).tcp(tcp::ACK),
            flow(self.node(CLOSED), self.peer(8080)).tcp(tcp::ACK),
            flow(self.node(local), self.stranger(80)).tcp(tcp::ACK),
        ] {
            self.all_errors(&about);
        }
        // A later fragment has no ports: its bytes only look like some.
        self.all_errors(&answer[1]);
        self.attack("... about packets that no policy names", None);
        let remote = self.remote();
        for about in [
            flow(self.node(80), self.stranger(remote)).tcp(tcp::ACK),
            flow(self.node(53), self.stranger(remote)).udp(b"!"),
            flow(self.node(CLOSED), self.stranger(remote)).udp(b"!"),
        ] {
            let router = self.stranger(0).ip();
            self.attempt(In, vec![icmp_error(router, IcmpError::Redirect, &about).unwrap()]);
        }
        self.attack("ICMP redirects, whatever they embed", None);
        if self.v4 {
            let answer = flow(self.node(53), self.stranger(remote)).udp(b"a longer answer!");
            let (router, node) = (self.stranger(0).ip(), self.node(0).ip());
            for embedded in [
                with_options(&answer, &[1, 1, 1, 0]),
                fragment(&answer, 8, &payload(&answer)[8..16], true),
                answer[..20].to_vec(),
                [&[0x65], &answer[1..]].concat(),
                Vec::new(),
                // One that the node cannot have sent: its client has.
                flow(self.stranger(remote), self.node(80)).tcp(tcp::SYN),
            ] {
                self.attempt(In, vec![icmp4_about(router, node, &embedded)]);
            }
            self.attack("... errors about damaged or uncommon packets of a served port", None);
            self.attempt(In, vec![icmp4_about(router, node, &answer[..22])]);
            self.attack("... an error with two bytes of a packet's header", Some(reason::SHORT));
        }
    }

    fn fragments(&mut self) {
        use Way::In;
        let syn = self.question(80).segment(tcp::SYN, 1, 0, &[b'x'; 40]);
        self.attempt(In, fragments(&syn, 24).unwrap());
        let large = self.question(53).udp(&[b'x'; 6000]);
        self.attempt(In, fragments(&large, 1400).unwrap());
        self.attack("fragments of what is let in whole", None);

        let syn = self.question(80).segment(tcp::SYN, 1, 0, &[b'x'; 40]);
        self.attempt(In, fragments(&syn, 8).unwrap());
        // IPv6's reassembly leaves a first fragment with a part of the header alone, and the stack drops it.
        let short = (!self.v4).then_some(reason::SHORT);
        self.attack("... the first of eight bytes: the flags come in the second", short);

        let mut turned = fragments(&self.question(53).udp(&[b'x'; 6000]), 1400).unwrap();
        turned.reverse();
        self.attempt(In, turned);
        self.attack("... the last one first", None);

        let closed = self.question(CLOSED).segment(tcp::SYN, 1, 0, &[b'x'; 40]);
        self.attempt(In, fragments(&closed, 8).unwrap());
        let closed = self.question(CLOSED).udp(&[b'x'; 6000]);
        self.attempt(In, fragments(&closed, 1400).unwrap());
        self.attack("fragments to a closed port", None);

        // The first says one port; another, which covers it and more, a second port.
        for (first, second) in [(80, CLOSED), (CLOSED, 80)] {
            for covered in [24, 32] {
                let one = self.question(first).segment(tcp::SYN, 1, 0, &[b'x'; 40]);
                let other = Flow::new(self.stranger(self.remote), self.node(second)).unwrap();
                let other = other.segment(tcp::SYN, 1, 0, &[b'x'; 40]);
                self.attempt(
                    In,
                    vec![
                        fragment(&one, 0, &payload(&one)[..24], true),
                        fragment(&other, 0, &payload(&other)[..covered], true),
                        fragment(&one, 24, &payload(&one)[24..], false),
                    ],
                );
            }
        }
        self.attack("overlapping fragments that change the port", None);

        let ack = self.question(80).segment(tcp::ACK, 1, 1, &[b'x'; 40]);
        self.attempt(In, vec![fragment(&ack, 24, &payload(&ack)[24..], false)]);
        self.attempt(In, vec![fragment(&ack, 24, &payload(&ack)[24..48], true)]);
        self.attempt(In, vec![fragment(&ack, 0, &payload(&ack)[..24], true)]);
        let datagram = self.question(53).udp(&[b'x'; 6000]);
        self.attempt(In, fragments(&datagram, 1400).unwrap().split_off(1));
        self.attack("fragments without the others", None);
    }

    /// What else a header may hold: everything is sent to a served and to a closed port.
    fn options(&mut self) {
        use reason::NO_CONNECTION;
        let [a, b, c, d] = [10, 77, 0, 1];
        let all: [&[u8]; 5] = [
            &[1, 1, 1, 0],
            // Record route, one place.
            &[7, 7, 4, 0, 0, 0, 0, 0],
            // Router alert.
            &[0x94, 4, 0, 0],
            // Loose and strict source routes.
            &[0x83, 7, 4, a, b, c, d, 0],
            &[0x89, 7, 4, a, b, c, d, 0],
        ];
        for options in all {
            for (port, flags) in [(80, tcp::SYN), (81, tcp::SYN), (CLOSED, tcp::SYN), (CLOSED, tcp::ACK)] {
                let flow = self.question(port);
                self.attempt(Way::In, vec![with_options(&flow.tcp(flags), options)]);
            }
        }
        self.attack("header options: SYN to open and closed ports", None);
        for options in all {
            let flow = self.question(80);
            self.attempt(Way::In, vec![with_options(&flow.tcp(tcp::ACK), options)]);
        }
        self.attack("header options: ACK to a served port", Some(NO_CONNECTION));
        for protocol in [4, 41, 47, 50, 51, 132, 253] {
            let inner = Flow::new(self.stranger(80), self.node(80)).unwrap().tcp(tcp::ACK);
            let outer = ip_packet(self.stranger(0).ip(), self.node(0).ip(), protocol, payload(&inner));
            self.attempt(Way::In, vec![outer]);
        }
        self.attack("other protocols with a served port where TCP has it", None);
    }

    fn extensions(&mut self) {
        use reason::NO_CONNECTION;
        let shapes: [&[(u8, [u8; 6])]; 6] = [
            &[(0, PADDING)],
            &[(60, PADDING)],
            // Last in the list is first in the packet.
            &[(60, PADDING), (0, PADDING)],
            &[(60, PADDING), (60, PADDING), (60, PADDING), (0, PADDING)],
            // An atomic fragment: the only one of its packet.
            &[(44, [0, 0, 0, 0, 0, 0])],
            // Routing header of an unknown type, at its end.
            &[(43, [253, 0, 0, 0, 0, 0])],
        ];
        let wrap = |packet: Vec<u8>, shape: &[(u8, [u8; 6])]| {
            shape.iter().fold(packet, |packet, (kind, body)| with_extension(&packet, *kind, *body))
        };
        for shape in shapes {
            for (port, flags) in [(80, tcp::SYN), (81, tcp::SYN), (CLOSED, tcp::SYN), (CLOSED, tcp::ACK)] {
                let flow = self.question(port);
                self.attempt(Way::In, vec![wrap(flow.tcp(flags), shape)]);
            }
        }
        self.attack("extension headers: SYN to open and closed ports", None);
        for shape in shapes {
            let flow = self.question(80);
            self.attempt(Way::In, vec![wrap(flow.tcp(tcp::ACK), shape)]);
        }
        self.attack("extension headers: ACK to a served port", Some(NO_CONNECTION));
        for protocol in [4, 41, 47, 50, 51, 59, 132, 135, 139, 253] {
            let inner = Flow::new(self.stranger(80), self.node(80)).unwrap().tcp(tcp::ACK);
            let outer = ip_packet(self.stranger(0).ip(), self.node(0).ip(), protocol, payload(&inner));
            self.attempt(Way::In, vec![outer]);
        }
        self.attack("other protocols with a served port where TCP has it", None);
    }
}
