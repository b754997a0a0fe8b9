//! The configurations that are compared, each in a namespace of its own.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;
use notrack_lab::{Namespace, run_ok_with_input};

use crate::ours::{ELSEWHERE, Ours, Size};
use crate::source::{HOST, PORT, Source, Traffic};

/// The host's own firewall: it makes the namespace track, as nearly every machine does.
const FIREWALL: &str = "
table inet site {
  chain input {
    type filter hook input priority filter
    ct state established,related accept
    udp dport 1-65535 accept
  }
}";

const NOTRACK: &str = "
table inet everything {
  chain prerouting { type filter hook prerouting priority raw; notrack; }
  chain output { type filter hook output priority raw; notrack; }
}";

/// How a host treats the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rules {
    /// No netfilter at all: what the source and the stack cost.
    Nothing,
    /// The firewall, and so tracking.
    Tracked,
    /// One rule that bypasses everything, in front of the firewall: the most that can be had.
    Notrack,
    /// As many iptables-legacy rules in the raw table; the last one bypasses the packets.
    Legacy(usize),
    /// Our table; the packets' key is one of it.
    Ours(Size),
    /// The same, and a long range beside the keys.
    OursAndRange(Size),
    /// An nft script of the user's, beside the firewall.
    Script(&'static Path),
    /// Our table, with one look-up that does not find the packets.
    Missed(Size),
    /// Our table, with every kind of look-up, and none finds the packets.
    MissedByAll,
}

impl Rules {
    /// As in the table of results.
    pub fn name(self) -> String {
        match self {
            Self::Nothing => "no netfilter".into(),
            Self::Tracked => "tracked".into(),
            Self::Notrack => "unconditional notrack".into(),
            Self::Legacy(rules) => format!("iptables-legacy raw, {rules} rules"),
            Self::Ours(Size { keys, policies: 1 }) => format!("ours, {keys} keys, 1 policy"),
            Self::Ours(Size { keys, policies }) => format!("ours, {keys} keys, {policies} policies"),
            Self::OursAndRange(size) => format!("{} + a range", Self::Ours(size).name()),
            Self::Script(file) => file.display().to_string(),
            Self::Missed(Size { keys, .. }) => format!("ours missed, one look-up, {keys} keys"),
            Self::MissedByAll => "ours missed, every kind of look-up".into(),
        }
    }

    /// Whether packets end up in the connection table; `None` where anything may be.
    pub fn tracks(self) -> Option<bool> {
        match self {
            Self::Script(_) => None,
            Self::Tracked | Self::Missed(_) | Self::MissedByAll => Some(true),
            _ => Some(false),
        }
    }
}

/// A host under one configuration, and the packets to it.
#[derive(Debug)]
pub struct Host {
    pub rules: Rules,
    pub traffic: Traffic,
    pub namespace: Namespace,
    pub source: Source,
}

impl Host {
    /// Makes the host.
    pub fn new(rules: Rules, traffic: Traffic) -> Result<Self> {
        let namespace = Namespace::new("bench")?;
        let source = Source::new(&namespace, traffic)?;
        if rules != Rules::Nothing {
            namespace.nft(FIREWALL)?;
        }
        match rules {
            Rules::Nothing | Rules::Tracked => {}
            Rules::Notrack => drop(namespace.nft(NOTRACK)?),
            Rules::Legacy(count) => legacy(&namespace, count)?,
            Rules::Ours(size) => Ours::new(size, PORT)?.program(&namespace)?,
            Rules::OursAndRange(size) => Ours::with_range(size, PORT)?.program(&namespace)?,
            Rules::Script(file) => drop(namespace.nft(&fs::read_to_string(file)?)?),
            Rules::Missed(size) => Ours::new(size, ELSEWHERE)?.program(&namespace)?,
            Rules::MissedByAll => Ours::every_kind()?.program(&namespace)?,
        }
        // Entries must live from one turn of 200,000 flows to the next.
        namespace.set_sysctl("net.netfilter.nf_conntrack_udp_timeout", "600")?;
        Ok(Self { rules, traffic, namespace, source })
    }
}

/// The rules that people write: one a port, by address, protocol and port.
fn legacy(host: &Namespace, count: usize) -> Result<()> {
    let mut script = "*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n".to_owned();
    for rule in (0..count).rev() {
        let port = usize::from(PORT) + rule;
        // Writing to a String cannot fail.
        let _ = writeln!(script, "-A PREROUTING -d {HOST}/32 -p udp --dport {port} -j CT --notrack");
    }
    script += "COMMIT\n";
    run_ok_with_input(&mut host.command("iptables-legacy-restore"), &script)?;
    Ok(())
}
