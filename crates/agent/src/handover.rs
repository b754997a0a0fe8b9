//! The end of a bypass: connections that live are made known to connection tracking before their packets meet it.
//!
//! To tracking such a connection is one that it never saw. With `net.netfilter.nf_conntrack_tcp_loose=0`, or behind a
//! firewall that takes new connections by their SYN alone, it would be cut off. So each gets an entry ahead of the
//! change, and again after it for those that came in between; then it goes on as if it had always been tracked.
//!
//! Only TCP connections of this network namespace's own sockets can be found. What this node merely forwards (role
//! Forward), other protocols, and sockets of other namespaces behind the same hooks are tracked from their next packet
//! on, as is everything where the kernel ends the rules by itself, its lease being over.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use notrack_core::facts::Tracked;
use notrack_core::net::{Family, PortRange};
use notrack_core::nf::eval::evaluate;
use notrack_core::nf::{Hook, Statement, Table};
use notrack_core::packet::{Packet, Tuple};
use notrack_core::rules::{Half, half_of_chain};
use notrack_netlink::conntrack::{Adopted, Conntrack, Existing, Pace, sysctl};
use notrack_netlink::socket::NetlinkError;
use notrack_netlink::sockets::{TcpSocket, living_tcp};

/// IPPROTO_TCP
const TCP: u8 = 6;
/// The kernel's default for `nf_conntrack_tcp_timeout_established`: five days.
const DEFAULT_TIMEOUT: u32 = 5 * 24 * 3600;

/// What is bypassed until the change.
#[derive(Clone, Copy, Debug)]
pub enum Before<'a> {
    /// Nothing: no table of ours is there.
    Nothing,
    /// What this table says.
    Table(&'a Table),
    /// What an earlier agent's table says, which is not understood in full: any connection without an entry may be.
    Unknown,
}

/// A change of what is bypassed.
#[derive(Clone, Copy, Debug)]
pub struct Handover<'a> {
    /// What is bypassed before.
    pub before: Before<'a>,
    /// The table from then on.
    pub next: &'a Table,
    /// Which families are tracked: elsewhere there is nobody to hand over to.
    pub tracked: Tracked,
    /// Ports from which this node asks: they tell the client where no table does.
    pub ephemeral: &'a [PortRange],
}

impl Handover<'_> {
    /// Ahead of the change: entries that packets have passed by until now are made good.
    pub fn ahead(&self) {
        let existing = match self.before {
            Before::Table(_) => Existing::IsRenewed,
            Before::Nothing | Before::Unknown => Existing::Stays,
        };
        self.run(existing);
    }

    /// Behind it: for connections that began in between. Those that tracking has seen since it knows better.
    pub fn behind(&self) {
        self.run(Existing::Stays);
    }

    fn run(&self, existing: Existing) {
        match self.try_run(existing) {
            Ok(Adopted { full: 0, adopted: 0, .. }) => {}
            Ok(Adopted { full: 0, adopted, .. }) => {
                tracing::info!(connections = adopted, "tracking takes over connections that were bypassed");
            }
            Ok(Adopted { full, .. }) => tracing::warn!(
                connections = full,
                "the connection table is full: these are bypassed no longer, and not tracked either"
            ),
            Err(error) => tracing::warn!("bypassed connections were not handed over to tracking: {error}"),
        }
    }

    fn try_run(&self, existing: Existing) -> Result<Adopted, NetlinkError> {
        if matches!(self.before, Before::Nothing) || !self.tracked.any() {
            return Ok(Adopted::default());
        }
        let interfaces = self.interfaces();
        let is_tracked = |socket: &TcpSocket| self.tracked.family(Family::of(socket.local.ip()));
        let ending: BTreeSet<(SocketAddr, SocketAddr)> = living_tcp()?
            .iter()
            .filter(|socket| is_tracked(socket))
            .filter_map(|socket| interfaces.iter().find_map(|interface| self.ending(socket, interface)))
            .collect();
        if ending.is_empty() {
            return Ok(Adopted::default());
        }
        let timeout = sysctl::read(sysctl::TCP_ESTABLISHED).unwrap_or(DEFAULT_TIMEOUT);
        Conntrack::open()?.adopt_tcp(ending, timeout, existing, Pace::default())
    }

    /// Names that stand for all interfaces which the tables tell apart: a socket does not tell its own.
    fn interfaces(&self) -> BTreeSet<String> {
        let before = match self.before {
            Before::Table(table) => Some(table),
            Before::Nothing | Before::Unknown => None,
        };
        let tables = before.into_iter().chain([self.next]);
        let rules = tables.flat_map(|table| table.chains.values()).flat_map(|chain| &chain.rules);
        let named = rules.flat_map(|rule| &rule.0).filter_map(|statement| match statement {
            Statement::InterfaceName(_, pattern) => Some(pattern.trim_end_matches('*').to_owned()),
            _ => None,
        });
        named.chain([String::new()]).collect()
    }

    /// Client and server of a connection that is bypassed now and will not be.
    fn ending(&self, socket: &TcpSocket, interface: &str) -> Option<(SocketAddr, SocketAddr)> {
        let tuple = Tuple {
            source: socket.local.ip(),
            destination: socket.remote.ip(),
            proto: TCP,
            source_port: socket.local.port(),
            destination_port: socket.remote.port(),
        };
        let packet = Packet::amid(tuple, interface);
        if evaluate(self.next, Hook::Output, &packet).untracked {
            return None;
        }
        let is_client = match self.before {
            Before::Nothing => return None,
            Before::Table(table) => {
                let half = half_of_chain(&evaluate(table, Hook::Output, &packet).notrack_in?)?;
                half == Half::ToServer
            }
            Before::Unknown => self.ephemeral.iter().any(|range| range.contains(socket.local.port())),
        };
        Some(if is_client { (socket.local, socket.remote) } else { (socket.remote, socket.local) })
    }
}
