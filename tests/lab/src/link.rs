//! Cables between namespaces.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::process::run_ok;

/// One end of a cable: which host, the interface's name in it, and its addresses with prefix.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    host: &'a Namespace,
    device: &'a str,
    addresses: &'a [&'a str],
}

impl<'a> End<'a> {
    /// An end at `host`; `addresses` as in `10.0.0.1/24` or `fd00::1/64`.
    pub fn new(host: &'a Namespace, device: &'a str, addresses: &'a [&'a str]) -> Self {
        Self { host, device, addresses }
    }
}

/// The kernel reports a carrier at once where a link's index differs from its peer's, else up to a
/// second later, and without a carrier IPv6 stays silent. Two fresh namespaces number their first
/// links alike, so one end gets a number that no other has.
static NEXT_INDEX: AtomicU32 = AtomicU32::new(1000);

/// Lays a cable (a veth pair) between two hosts; both ends are up, their addresses usable at once.
pub fn veth(a: End<'_>, b: End<'_>) -> Result<()> {
    let mut add = a.host.command("ip");
    // Names `a.device` in the namespace that `ip` runs in; the peer is made in its own at once.
    let index = NEXT_INDEX.fetch_add(1, Ordering::Relaxed).to_string();
    add.args(["link", "add", a.device, "index", &index, "type", "veth"]);
    add.args(["peer", "name", b.device, "netns"]);
    run_ok(add.arg(b.host.path()))
        .with_context(|| format!("cannot link {} in {} to {}", a.device, a.host.name(), b.host.name()))?;
    for end in [a, b] {
        configure(end.host, end.device, end.addresses)?;
    }
    Ok(())
}

/// Gives `device` its addresses and sets it up.
pub(crate) fn configure(host: &Namespace, device: &str, addresses: &[&str]) -> Result<()> {
    for address in addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        host.ip(&format!("address add {address} dev {device} {nodad}"))?;
    }
    host.ip(&format!("link set {device} up"))?;
    Ok(())
}
