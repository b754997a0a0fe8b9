//! Where each half of a flow passes: which hook looks for which class, in which direction.

use super::clause::Class;
use crate::nf::Hook;

/// The direction of a packet within its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Half {
    /// To the server: the destination is the server.
    ToServer,
    /// From the server: the source is.
    FromServer,
}

impl Half {
    /// Both halves.
    pub const ALL: [Half; 2] = [Half::ToServer, Half::FromServer];

    /// The ending of names of maps and chains.
    pub fn suffix(self) -> &'static str {
        match self {
            Half::ToServer => "to",
            Half::FromServer => "from",
        }
    }
}

/// Which tuple of a packet is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// The packet's own.
    Direct,
    /// That of the packet which an ICMP error embeds.
    Embedded,
}

/// On which interfaces a look-up is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// All.
    All,
    /// The loopback device, where both halves of a flow pass both hooks.
    Loopback,
}

/// One kind of look-up at one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Which end is this node.
    pub class: Class,
    /// Which end the packet goes to.
    pub half: Half,
    /// Where it is needed.
    pub interfaces: Interfaces,
}

/// The look-ups of a raw hook, in order.
pub fn sites(hook: Hook, view: View) -> Vec<Site> {
    use Half::{FromServer, ToServer};
    use Interfaces::{All, Loopback};
    let site = |class, half, interfaces| Site { class, half, interfaces };
    // An ICMP error travels against the packet that it embeds.
    let incoming = match (hook, view) {
        (Hook::Prerouting, View::Direct) | (Hook::Output, View::Embedded) => true,
        (Hook::Output, View::Direct) | (Hook::Prerouting, View::Embedded) => false,
        (Hook::Input | Hook::Forward, _) => return Vec::new(),
    };
    let mut sites = if incoming {
        vec![
            site(Class::Own, ToServer, All),
            site(Class::Own, FromServer, Loopback),
            site(Class::Peer, FromServer, All),
            site(Class::Peer, ToServer, Loopback),
        ]
    } else {
        vec![
            site(Class::Own, FromServer, All),
            site(Class::Own, ToServer, Loopback),
            site(Class::Peer, ToServer, All),
            site(Class::Peer, FromServer, Loopback),
        ]
    };
    // What a router routes it meets before that; errors about it come from the router itself too.
    if hook == Hook::Prerouting || view == View::Embedded {
        sites.push(site(Class::Forward, ToServer, All));
        sites.push(site(Class::Forward, FromServer, All));
    }
    sites
}
