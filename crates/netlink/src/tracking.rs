//! Whether a network namespace tracks connections at all, found out without changing that.
//!
//! Tracking is off in a namespace until something in it registers the hooks (`nf_ct_netns_get` in
//! `net/netfilter/nf_conntrack_proto.c`): an nftables expression, an object or an iptables extension that
//! looks at connections. It stays on as long as one of them exists, used or not, in a chain that is reached
//! or not, in a dormant table too. Each kind was tried on kernel 6.18; what is listed as no evidence here
//! turned no tracking on there.

use std::fs;

use crate::conntrack::{Conntrack, Family};
use crate::socket::{NetlinkError, Socket};

mod entries;
mod findings;
mod hooks;
mod legacy;
mod nft;
mod users;

use findings::{Families, Findings};

/// Whether the packets of one family are tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracked {
    /// They are, and this shows it.
    Yes(String),
    /// They are not, or would not be but for our own table.
    No,
    /// Nothing proves it, nothing excludes it.
    Unknown,
}

/// Whether a network namespace tracks, by family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// IPv4.
    pub v4: Tracked,
    /// IPv6.
    pub v6: Tracked,
}

/// Finds out whether the calling thread's namespace tracks. Everything in the nftables table
/// `inet <own_table>` is left out: our own rules must not be the reason to add more of them.
///
/// It reads the legacy iptables rules and the nftables objects, sets and rules, some 10 us each, until there is
/// evidence for both families; only where there is none, and the kernel cannot list its hooks, the
/// connection table too. For start-up and for changes of the rules (those of the legacy iptables change no
/// generation of nftables), not for every second.
///
/// # Errors
/// When the kernel refuses to show nftables or the connection table (CAP_NET_ADMIN).
pub fn tracking(own_table: &str) -> Result<Tracking, NetlinkError> {
    let mut findings = Findings::default();
    legacy::scan(&mut findings);
    nft::scan(own_table, &mut findings)?;
    if has_ipvs_services() {
        findings.incomplete(Families::Both);
    }
    let mut socket = Socket::open()?;
    Ok(Tracking {
        v4: conclude(&mut socket, &findings, Family::V4)?,
        v6: conclude(&mut socket, &findings, Family::V6)?,
    })
}

/// IPVS registers the hooks for some of its services only (FTP with NAT, `ip_vs_register_conntrack`), and does not
/// tell for which: with services nothing is excluded.
fn has_ipvs_services() -> bool {
    const HEADER_LINES: usize = 3;
    fs::read_to_string("/proc/thread-self/net/ip_vs").is_ok_and(|table| table.lines().count() > HEADER_LINES)
}

fn conclude(socket: &mut Socket, findings: &Findings, family: Family) -> Result<Tracked, NetlinkError> {
    let found = findings.of(family);
    if let Some(evidence) = &found.foreign {
        return Ok(Tracked::Yes(evidence.clone()));
    }
    if found.own {
        // Hooks and entries would show no more than what our own table asks for.
        return Ok(if found.incomplete { Tracked::Unknown } else { Tracked::No });
    }
    if let Some(hooked) = hooks::registered(socket, family)? {
        return Ok(match hooked {
            Some(function) => Tracked::Yes(format!("the kernel's hook {function} is registered")),
            None => Tracked::No,
        });
    }
    Ok(match entries::judge(&mut Conntrack::open()?, family)? {
        entries::Verdict::None if !found.incomplete => Tracked::No,
        entries::Verdict::None | entries::Verdict::Old => Tracked::Unknown,
        entries::Verdict::Fresh(entry) => Tracked::Yes(entry),
    })
}
