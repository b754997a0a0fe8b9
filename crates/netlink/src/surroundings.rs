//! What changes how packets go on this node, apart from rules, read into [`Surroundings`].
//!
//! Everything is read in the network namespace of the calling thread: by netlink where the kernel answers in one
//! exchange, else from `/proc/thread-self/net`. Some 4 ms on a host with two hundred interfaces, not optimised.

mod flow_tables;
mod interfaces;
mod ipvs;
mod programs;
mod routing;
mod sockets;

use std::fmt::Display;
use std::fs;
use std::io::{self, ErrorKind};

pub use notrack_core::host::Surroundings;

use crate::socket::{NetlinkError, Socket};

/// Objects that change while they are dumped: so often it is tried.
const TRIES: usize = 3;

/// Reads what there is. What cannot be read is left out, and named in [`Surroundings::unknown`].
pub fn read() -> Surroundings {
    let mut around = Surroundings::default();
    let mut unknown = Unknown(Vec::new());
    if let Some(mut route) = unknown.without("routing netlink", Socket::open_route()) {
        let links = again(|| interfaces::read(&mut route));
        let indexes;
        (around.interfaces, indexes) = unknown.without("network interfaces", links).unwrap_or_default();
        programs::attach(&mut route, &indexes, &mut around.interfaces, &mut unknown);
        let rules = again(|| routing::mark_rules(&mut route));
        around.mark_rules = unknown.without("routing rules", rules).unwrap_or_default();
        let networks = again(|| routing::pod_networks(&mut route, &indexes, &around.interfaces));
        around.pod_networks = unknown.without("routes to pods", networks).unwrap_or_default();
    }
    let tables = again(flow_tables::read);
    around.flow_tables = unknown.without("flow tables", tables).unwrap_or_default();
    let services = file("ip_vs").map(|table| ipvs::services(&table));
    around.ipvs = unknown.without("IPVS", services).unwrap_or_default();
    let listeners = sockets::conntrack_listeners();
    around.conntrack_listeners = unknown.without("listeners of conntrack", listeners).unwrap_or_default();
    around.fixed_sources = sockets::fixed_sources(&mut unknown);

    around.interfaces.sort();
    around.ipvs.sort();
    around.flow_tables.sort();
    around.mark_rules.sort();
    around.conntrack_listeners.sort();
    around.fixed_sources.sort();
    around.fixed_sources.dedup();
    around.unknown = unknown.0;
    around
}

/// What could not be read, in words.
struct Unknown(Vec<String>);

impl Unknown {
    fn without<T, E: Display>(&mut self, what: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.0.push(format!("{what}: {error}"))).ok()
    }
}

/// Reads again what changed on the way.
fn again<T>(mut read: impl FnMut() -> Result<T, NetlinkError>) -> Result<T, NetlinkError> {
    for _ in 1..TRIES {
        match read() {
            Err(error) if error.is_transient() => {}
            other => return other,
        }
    }
    read()
}

/// A file of this thread's namespace; empty where the kernel has no such part.
fn file(name: &str) -> io::Result<String> {
    match fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}
