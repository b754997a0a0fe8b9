//! The command line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use notrack_runtime::logging::LogArgs;

/// Programs NOTRACK rules and reports what the kernel runs: on a node of a cluster from its NodePlan (--node-name), on
/// any other machine from NoTrackPolicy files (--policies).
#[derive(Debug, Parser)]
#[command(version, about, subcommand_negates_reqs = true)]
pub struct Args {
    /// Folder of NoTrackPolicy files (*.yaml, *.yml, *.json). It is watched.
    #[arg(long, value_name = "DIR", required_unless_present = "node_name")]
    pub policies: Option<PathBuf>,

    /// Name of this node: its NodePlan is followed, its status reported there. The API server is that of the pod's
    /// service account, or of a kubeconfig. Not with --policies.
    #[arg(long, value_name = "NAME", env = NODE_NAME)]
    pub node_name: Option<String>,

    /// UID of this node, for a token that does not tell it.
    #[arg(long, value_name = "UID", hide = true, requires = "node_name", conflicts_with = "policies")]
    pub node_uid: Option<String>,

    /// With --policies: apply, read back, print a line a policy and exit: 0 only when all of them are programmed.
    #[arg(long, requires = "policies")]
    pub once: bool,

    /// How long the kernel keeps the rules when no agent renews them: 90s, 10m, 24h or forever.
    /// [default: 24h; with --once: forever]
    #[arg(long, value_name = "TIME")]
    pub keep_without_agent: Option<Keep>,

    /// Address of /status, /metrics, /healthz and /readyz.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9811")]
    pub listen: SocketAddr,

    /// With --policies: labels of this node, for spec.nodeSelector.
    #[arg(long, requires = "policies", value_name = "KEY=VALUE,...", value_delimiter = ',')]
    pub node_labels: Vec<Label>,

    #[command(flatten)]
    pub log: LogArgs,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the environment names the node.
const NODE_NAME: &str = "NODE_NAME";

/// Where the agent is told what to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In a folder.
    Folder(PathBuf),
    /// In the plan of the node of a name.
    Node(String),
}

impl Args {
    /// The mode. A folder outweighs the environment, and is refused beside a name that was given as an argument.
    pub fn mode(&self) -> anyhow::Result<Mode> {
        let of_environment = std::env::var(NODE_NAME).ok();
        match (&self.policies, &self.node_name) {
            (Some(_), Some(_)) if self.node_name != of_environment => {
                anyhow::bail!(
                    "--policies and --node-name exclude each other: a folder, or a plan of a cluster"
                )
            }
            (Some(folder), _) => Ok(Mode::Folder(folder.clone())),
            (None, Some(name)) if !name.is_empty() => Ok(Mode::Node(name.clone())),
            (None, _) => anyhow::bail!("--policies or --node-name is needed"),
        }
    }
}

/// What else the agent can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Remove every rule of ours from this network namespace. Works without any API server.
    Remove,
    /// Prove that this kernel's datapath works, with real connections. For a network namespace of its own, as a pod has.
    ///
    /// Programs a policy for a TCP port that it listens on itself, connects to that port and to another one, and looks into
    /// the connection table: the first must have no entry, the second must. The rules are removed whatever comes of it.
    /// Needs NET_ADMIN. The exit status is 0 only when everything is proved.
    Prove,
}

/// How long the kernel keeps rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So long.
    For(Duration),
    /// Until somebody removes them.
    Forever,
}

impl Keep {
    /// As a lifetime of elements.
    pub fn lifetime(self) -> Option<Duration> {
        match self {
            Keep::For(time) => Some(time),
            Keep::Forever => None,
        }
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Keep, String> {
        if text == "forever" {
            return Ok(Keep::Forever);
        }
        let help = || format!("{text:?} is not a time such as 90s, 10m or 24h, nor the word forever");
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(help)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(help()),
        };
        let number: u64 = number.parse().map_err(|_| help())?;
        let time = Duration::from_secs(number.checked_mul(seconds).ok_or_else(help)?);
        // Shorter ones end between two renewals of a busy agent; the kernel counts milliseconds in 64 bits.
        if !(Duration::from_secs(10)..=Duration::from_secs(365 * 24 * 3600)).contains(&time) {
            return Err(format!("{text} is not between 10s and 8760h"));
        }
        Ok(Keep::For(time))
    }
}

/// A label of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(String, String);

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Label, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Label(key.to_owned(), value.to_owned())),
            _ => Err(format!("{text:?} is not KEY=VALUE")),
        }
    }
}

/// The labels as a map.
pub fn labels(labels: &[Label]) -> BTreeMap<String, String> {
    labels.iter().map(|Label(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_a_time_or_forever() {
        assert_eq!("24h".parse(), Ok(Keep::For(Duration::from_secs(86_400))));
        assert_eq!("forever".parse(), Ok(Keep::Forever));
        for bad in ["", "h", "5", "9s", "1d", "-1h", "99999999999999999999h", "9000h", "24é"] {
            assert!(bad.parse::<Keep>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        assert!(Args::try_parse_from(["notrack-agent"]).is_err(), "policies or a plan are required");
        for command in ["remove", "prove"] {
            assert!(Args::try_parse_from(["notrack-agent", command]).is_ok());
        }
        let mode = |arguments: &[&str]| {
            let all = ["notrack-agent"].iter().chain(arguments);
            Args::try_parse_from(all).map_err(anyhow::Error::from).and_then(|args| args.mode()).ok()
        };
        assert_eq!(mode(&["--node-name", "n1"]), Some(Mode::Node("n1".into())));
        assert_eq!(mode(&["--policies", "p", "--once"]), Some(Mode::Folder("p".into())));
        assert_eq!(mode(&["--node-name", "n1", "--policies", "p"]), None, "one or the other");
        assert_eq!(mode(&["--node-name", "n1", "--once"]), None);
        assert_eq!(mode(&["--node-name", ""]), None);
    }
}
