//! What is tried on a router, from both sides.

use std::net::{IpAddr, SocketAddr};

use notrack_lab::{Flow, Line, tcp};

use super::attacks::reason::{CHECKSUM, FORGED, NO_CONNECTION, ROUTED, WINDOW};
use super::attacks::{Attack, CLOSED, Maker};
use super::craft::{Way, with_wrong_checksum};

/// Beside the server, and not named.
const NEIGHBOUR: [&str; 2] = ["10.88.0.3", "fd88::3"];

/// The attacks of one family.
pub fn attacks(v4: bool) -> Vec<Attack> {
    let mut maker = Maker::new(v4);
    maker.routed_segments();
    maker.routed_datagrams();
    maker.routed_errors();
    maker.attacks
}

impl Maker {
    fn server(&self, port: u16) -> SocketAddr {
        self.address(Line::SERVER, Line::SERVER6, port)
    }

    fn neighbour(&self, port: u16) -> SocketAddr {
        let [v4, v6] = NEIGHBOUR.map(|address| address.parse::<IpAddr>().unwrap());
        self.address(v4, v6, port)
    }

    fn routed_segments(&mut self) {
        use Way::{In, Out};
        self.scan(In, |m, remote, _| (m.peer(remote), m.server(80)));
        self.attack("routed: segments of no connection from a peer to a server", Some(NO_CONNECTION));
        self.scan(In, |m, remote, _| (m.stranger(remote), m.server(80)));
        self.attack("... from another", None);
        self.scan(In, |m, remote, _| (m.peer(remote), m.server(CLOSED)));
        self.attack("... to another port of the server", None);
        self.scan(In, |m, remote, _| (m.peer(remote), m.neighbour(80)));
        self.attack("... to the same port of its neighbour", None);
        self.scan(In, |m, other, _| (m.peer(80), m.server(other)));
        self.attack("... from a served port number", None);
        self.scan(Out, |m, remote, _| (m.server(80), m.peer(remote)));
        self.attack("routed: unasked segments from a server's port to a peer", Some(ROUTED));
        self.scan(Out, |m, remote, _| (m.server(80), m.stranger(remote)));
        self.attack("... to another", None);
        self.scan(Out, |m, remote, _| (m.server(CLOSED), m.peer(remote)));
        self.attack("... from another port of the server", None);
        self.scan(Out, |m, remote, _| (m.neighbour(80), m.peer(remote)));
        self.attack("... from the same port of its neighbour", None);
        for flags in 0..=255 {
            let port = self.remote();
            let (client, server) = (self.peer(port), self.server(80));
            self.handshake(client, server);
            let outside = Flow::new(client, server).unwrap().segment(flags, 0x7000_0000, 0x7000_0000, b"x");
            self.attempt(In, vec![outside]);
        }
        self.attack("routed: segments outside the window of a connection", Some(WINDOW));
        for flags in 0..=255 {
            let port = self.remote();
            let segment = Flow::new(self.peer(port), self.server(80)).unwrap().segment(flags, 1, 1, b"data");
            self.attempt(In, vec![with_wrong_checksum(segment)]);
        }
        self.attack("routed: segments with a wrong checksum", Some(CHECKSUM));
    }

    fn routed_datagrams(&mut self) {
        use Way::{In, Out};
        for _ in 0..8 {
            let port = self.remote();
            self.udp(In, self.peer(port), self.server(53));
        }
        self.attack("routed: datagrams from a peer to a server", None);
        for _ in 0..8 {
            let port = self.remote();
            self.udp(In, self.stranger(port), self.server(53));
            self.udp(In, self.peer(port), self.server(CLOSED));
            self.udp(In, self.peer(port), self.neighbour(53));
            self.udp(In, self.peer(53), self.server(port));
        }
        self.attack("... that no policy names", None);
        for _ in 0..8 {
            let port = self.remote();
            self.udp(Out, self.server(53), self.peer(port));
        }
        self.attack("routed: unasked datagrams from a server's port to a peer", Some(ROUTED));
        for _ in 0..8 {
            let port = self.remote();
            self.udp(Out, self.server(53), self.stranger(port));
            self.udp(Out, self.server(CLOSED), self.peer(port));
            self.udp(Out, self.neighbour(53), self.peer(port));
        }
        self.attack("... from no server, or to no peer", None);
    }

    fn routed_errors(&mut self) {
        let flow = |source, destination| Flow::new(source, destination).unwrap();
        let port = self.remote();
        let (asker, server) = (self.peer(port), self.server(53));
        let answer = flow(server, asker).udp(b"!");
        self.context(Way::In, flow(asker, server).udp(b"?"));
        self.context(Way::Out, answer.clone());
        self.all_errors(&answer);
        self.attack("routed: ICMP errors about a flow that there is", None);
        let port = self.remote();
        self.all_errors(&flow(self.server(53), self.peer(port)).udp(b"!"));
        self.all_errors(&flow(self.server(80), self.peer(port)).tcp(tcp::ACK));
        self.attack("routed: forged ICMP errors about answers of a server", Some(FORGED));
        for about in [
            flow(self.server(80), self.stranger(port)).tcp(tcp::ACK),
            flow(self.server(CLOSED), self.peer(port)).udp(b"!"),
            flow(self.neighbour(80), self.peer(port)).tcp(tcp::ACK),
        ] {
            self.all_errors(&about);
        }
        self.attack("... about packets that no policy names", None);
    }
}
