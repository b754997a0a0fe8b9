//! The command line.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use ipnet::IpNet;
use notrack_core::net::PortRange;
use notrack_runtime::logging::LogArgs;

/// Compiles NoTrackPolicies into a plan for every node and adds up what the nodes report.
#[derive(Clone, Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// Namespace of the lease by which one controller leads.
    #[arg(long, env = "POD_NAMESPACE", default_value = "notrack-system", value_name = "NAME")]
    pub namespace: String,

    /// Name of that lease.
    #[arg(long, default_value = "notrack-controller", value_name = "NAME")]
    pub lease_name: String,

    /// Who this controller is in the lease: different for each one that runs. [default: a random one]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,

    /// Address of /metrics, /healthz, /readyz and /status.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9812")]
    pub listen: SocketAddr,

    /// Where Services get their cluster addresses from. [default: the cluster's ServiceCIDR objects (Kubernetes 1.33)]
    #[arg(long, env = "NOTRACK_SERVICE_CIDRS", value_name = "CIDR,...", value_delimiter = ',')]
    pub service_cidrs: Vec<IpNet>,

    /// Where Services get their node ports from, as the API server's flag of this name has it; or none.
    #[arg(long, env = "NOTRACK_NODE_PORT_RANGE", value_name = "FIRST-LAST", default_value = "30000-32767")]
    pub node_port_range: NodePorts,

    /// How long a RuleSet stays that nobody uses: for tests.
    #[arg(long, env = "NOTRACK_RULE_SETS_STAY_SECONDS", default_value_t = 600, hide = true)]
    pub rule_sets_stay_seconds: u64,

    #[command(flatten)]
    pub log: LogArgs,

    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Jobs around an installation.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Install the CustomResourceDefinitions of this version, or bring those up that are older. Newer ones stay.
    InstallCrds {
        /// Give up after so many seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        within_seconds: u64,
    },
    /// Before an uninstall: have every node remove its rules, and name those that did not confirm it. Ends well either way.
    Withdraw {
        /// The controllers' Deployment: the order ends with it.
        #[arg(long, value_name = "NAME", default_value = "notrack-controller")]
        deployment: String,
        /// Wait no longer than this.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        within_seconds: u64,
        /// Delete the CustomResourceDefinitions afterwards, and with them all policies.
        #[arg(long)]
        delete_crds: bool,
    },
}

impl Args {
    /// How long a RuleSet stays that nobody uses.
    pub fn rule_sets_stay(&self) -> Duration {
        Duration::from_secs(self.rule_sets_stay_seconds)
    }
}

/// The range of node ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePorts(pub Option<PortRange>);

impl FromStr for NodePorts {
    type Err = String;

    fn from_str(text: &str) -> Result<NodePorts, String> {
        if text == "none" {
            return Ok(NodePorts(None));
        }
        let range = || {
            let (first, last) = text.split_once('-')?;
            PortRange::new(first.parse().ok()?, last.parse().ok()?).filter(|range| range.first() > 0)
        };
        let range = range()
            .ok_or_else(|| format!("{text:?} is not a range such as 30000-32767, nor the word none"))?;
        Ok(NodePorts(Some(range)))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn node_ports_are_a_range_or_none() {
        assert_eq!("none".parse(), Ok(NodePorts(None)));
        assert_eq!("30000-32767".parse(), Ok(NodePorts(PortRange::new(30000, 32767))));
        for bad in ["", "30000", "32767-30000", "0-5", "1-70000", "a-b"] {
            assert!(bad.parse::<NodePorts>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        let args =
            Args::try_parse_from(["notrack-controller", "--service-cidrs=10.96.0.0/16,fd00::/108"]).unwrap();
        assert_eq!(args.service_cidrs.len(), 2);
    }
}
