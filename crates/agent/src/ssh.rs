//! Where SSH is spoken: its port may be any, and a bypass of it could lock people out.
//!
//! Two ways: the ports of visible processes called sshd, and the greeting. A server of SSH speaks first ("SSH-2.0-..."),
//! so a port that a policy names is asked once where its holder is not to be seen (a pod sees no other processes) or is
//! an init that listens for others.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use notrack_core::compile::RuleSet;
use notrack_core::net::{PortRange, Proto};
use notrack_core::policy::{Action, Role};

use crate::listeners::{self, Listener};

/// How often it is looked up where nothing has changed.
const LOOKUP: Duration = Duration::from_secs(30);
/// A server that has said nothing in this time waits for its client to speak.
const PATIENCE: Duration = Duration::from_secs(1);
/// Ports asked at once; the others have their turn at the next look-up.
const MOST_AT_ONCE: usize = 32;
/// Programs that listen for others: socket activation.
const INITS: [&str; 2] = ["systemd", "init"];
/// Protected whoever listens.
const USUAL: u16 = 22;
const GREETING: &[u8; 4] = b"SSH-";

/// One socket of one port: another process is asked anew.
type Key = (u16, String);

/// What is known of the listeners.
#[derive(Debug)]
pub struct Ssh {
    looked_up: Option<Instant>,
    daemons: BTreeSet<u16>,
    /// Whether a socket greets as SSH does; `None` while it is asked.
    answers: BTreeMap<Key, Option<bool>>,
    tell: Sender<(Key, Option<bool>)>,
    told: Receiver<(Key, Option<bool>)>,
}

impl Default for Ssh {
    fn default() -> Ssh {
        let (tell, told) = channel();
        Ssh { looked_up: None, daemons: BTreeSet::new(), answers: BTreeMap::new(), tell, told }
    }
}

impl Ssh {
    /// The ports of SSH and how that is known. What rules that are new may name is waited for, at most a second.
    pub fn ports(&mut self, rule_set: &RuleSet, is_new: bool) -> BTreeMap<u16, &'static str> {
        if is_new || self.looked_up.is_none_or(|since| since.elapsed() > LOOKUP) {
            self.looked_up = Some(Instant::now());
            self.look_up(&named_ports(rule_set));
        }
        if is_new {
            self.wait();
        }
        while let Ok((key, greets)) = self.told.try_recv() {
            self.note(key, greets);
        }
        let greeting = self.answers.iter().filter(|(_, greets)| **greets == Some(true));
        let mut ports: BTreeMap<u16, &str> =
            greeting.map(|((port, _), _)| (*port, "SSH (answers with its greeting)")).collect();
        ports.extend(self.daemons.iter().map(|port| (*port, "SSH (sshd listens here)")));
        ports
    }

    fn look_up(&mut self, named: &[PortRange]) {
        let listeners = listeners::all();
        let daemons = listeners::holders(|comm| comm == "sshd");
        let held = listeners.iter().filter(|listener| daemons.contains_key(&listener.inode));
        self.daemons = held.map(|listener| listener.address.port()).collect();
        let known: BTreeSet<Key> = listeners.iter().map(key).collect();
        self.answers.retain(|key, _| known.contains(key));
        let unknown: Vec<&Listener> = listeners
            .iter()
            .filter(|listener| !listener.is_loopback_only() && !self.answers.contains_key(&key(listener)))
            .filter(|listener| {
                let port = listener.address.port();
                let is_protected = port == USUAL || self.daemons.contains(&port);
                !is_protected && named.iter().any(|range| range.contains(port))
            })
            .collect();
        if unknown.is_empty() {
            return;
        }
        let holders = listeners::holders(|_| true);
        for listener in unknown.into_iter().take(MOST_AT_ONCE) {
            let holder = holders.get(&listener.inode);
            let is_other =
                holder.is_some_and(|names| !names.iter().any(|name| INITS.contains(&name.as_str())));
            if is_other {
                self.answers.insert(key(listener), Some(false));
            } else if self.ask(listener) {
                self.answers.insert(key(listener), None);
            }
        }
    }

    /// Asks in the background. Returns whether there will be an answer.
    fn ask(&self, listener: &Listener) -> bool {
        let (address, key, tell) = (reachable(listener.address), key(listener), self.tell.clone());
        let asking = thread::Builder::new().name("greeting".to_owned()).spawn(move || {
            // Where nobody waits any more the agent ends.
            let _ = tell.send((key, greets(address)));
        });
        if let Err(error) = &asking {
            tracing::warn!("{address} is not asked yet whether it speaks SSH: {error}");
        }
        asking.is_ok()
    }

    fn wait(&mut self) {
        let until = Instant::now() + PATIENCE + PATIENCE / 10;
        while self.answers.values().any(Option::is_none) {
            let Ok((key, greets)) = self.told.recv_timeout(until.saturating_duration_since(Instant::now()))
            else {
                return;
            };
            self.note(key, greets);
        }
    }

    /// Who could not be asked (a full connection table lets nobody through, a full backlog neither) is asked again.
    fn note(&mut self, key: Key, greets: Option<bool>) {
        match greets {
            Some(_) => self.answers.insert(key, greets),
            None => self.answers.remove(&key),
        };
    }
}

fn key(listener: &Listener) -> Key {
    (listener.address.port(), listener.inode.clone())
}

/// TCP ports that flows would bypass at this node.
fn named_ports(rule_set: &RuleSet) -> Vec<PortRange> {
    let flows = rule_set.policies().iter().flat_map(|policy| &policy.flows);
    let served =
        flows.filter(|flow| flow.action == Action::NoTrack && matches!(flow.role, Role::Server | Role::Peer));
    let mut named: Vec<PortRange> = served
        .flat_map(|flow| {
            let ports = flow.ports.iter().filter(|(protocol, _)| *protocol == Proto::Tcp);
            ports.map(|(_, range)| *range).chain(flow.local_ports.iter().flatten().copied())
        })
        .collect();
    named.sort();
    named.dedup();
    named
}

/// Where a listener of an unspecified address is reached from the node itself.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}

/// Whether a server's first bytes are those of SSH; `None` where it could not be asked, or hung up without a word.
fn greets(address: SocketAddr) -> Option<bool> {
    let read = || -> std::io::Result<[u8; 4]> {
        let until = Instant::now() + PATIENCE;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        let rest = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(rest))?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting)?;
        Ok(greeting)
    };
    match read() {
        Ok(greeting) => Some(greeting == *GREETING),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
