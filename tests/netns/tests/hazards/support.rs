//! Rules of other programs by each tool, rules by hand, and what the agent says.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use ipnet::Ipv4Net;
use notrack_core::net::Family;
use notrack_lab::{Namespace, run_ok};
use notrack_netns::agent::{Policies, once_command, policy};
use notrack_netns::traffic::Connection;

pub const NOTHING: [&str; 0] = [];

/// Who keeps a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Nft,
    IptablesNft,
    IptablesLegacy,
}

impl Tool {
    pub const ALL: [Tool; 3] = [Tool::Nft, Tool::IptablesNft, Tool::IptablesLegacy];
    pub const IPTABLES: [Tool; 2] = [Tool::IptablesNft, Tool::IptablesLegacy];

    /// Each with each family.
    pub fn each(tools: &[Tool]) -> Vec<(Tool, Family)> {
        let both = |tool: &Tool| Family::ALL.map(|family| (*tool, family));
        tools.iter().flat_map(both).collect()
    }

    /// The program; `action` as in `-restore`.
    pub fn program(self, family: Family, action: &str) -> String {
        let six = if family == Family::Ipv6 { "6" } else { "" };
        match self {
            Tool::Nft => "nft".to_owned(),
            Tool::IptablesNft => format!("ip{six}tables-nft{action}"),
            Tool::IptablesLegacy => format!("ip{six}tables-legacy{action}"),
        }
    }

    /// Runs iptables with the words of `arguments`.
    pub fn iptables(self, family: Family, host: &Namespace, arguments: &str) -> Result<String> {
        run_ok(host.command(&self.program(family, "")).args(arguments.split_whitespace()))
    }

    /// Adds a rule: `base` and `rule` as nft writes them, `iptables` as table, chain and the rest; IPv4 addresses in them
    /// become those of the family. Returns how evidence names the rule. The chain of nft is called as its hook, its table is
    /// `ip site` or `ip6 site`.
    pub fn hang(self, family: Family, host: &Namespace, base: &str, rule: &str, iptables: &str) -> String {
        let ip = like(family, "ip");
        if self == Tool::Nft {
            let hook = base.split(' ').nth(2).unwrap();
            let rule = like(family, rule);
            host.nft(&format!("table {ip} site {{\n chain {hook} {{\n type {base}\n {rule}\n }}\n}}\n"))
                .unwrap();
            return place(host, &format!("{ip} site"), hook);
        }
        let (table, rest) = iptables.split_once(' ').unwrap();
        let (chain, rest) = (rest.split(' ').next().unwrap(), like(family, rest));
        self.iptables(family, host, &format!("-w -t {table} -A {rest}")).unwrap();
        match self {
            Tool::IptablesNft => {
                place(host, &format!("{ip} {table}"), chain).replacen(&ip, &format!("{ip}tables"), 1)
            }
            _ => {
                let rules = self.iptables(family, host, &format!("-t {table} -S {chain}")).unwrap();
                let number = rules.lines().filter(|line| line.starts_with("-A ")).count();
                format!("{ip}tables-legacy {table}, chain {chain}, rule {number}: ")
            }
        }
    }

    /// Takes the rules of a chain away again.
    pub fn empty(self, family: Family, host: &Namespace, hook: &str, iptables: &str) {
        match self {
            Tool::Nft => {
                let ip = like(family, "ip");
                drop(host.nft(&format!("flush chain {ip} site {hook}")).unwrap());
            }
            _ => drop(self.iptables(family, host, &format!("-w -t {iptables}")).unwrap()),
        }
    }
}

/// A text about IPv4 in the words of a family: `10.77.0.1:80` as `[fd77::1]:80`, `10.77.0.0/24` as `fd77::/64`, `ip saddr`
/// as `ip6 saddr`.
pub fn like(family: Family, text: &str) -> String {
    const AROUND: [char; 7] = [' ', ',', ';', '\n', '\'', '[', ']'];
    let of_six = |address: Ipv4Addr| {
        let [_, network, _, host] = address.octets();
        match (network, host) {
            (0, 0) => "::".to_owned(),
            (_, 0) => format!("fd{network}::"),
            _ => format!("fd{network}::{host}"),
        }
    };
    let word = |word: &str| {
        if let Ok(end) = word.parse::<SocketAddrV4>() {
            return format!("[{}]:{}", of_six(*end.ip()), end.port());
        }
        if let Ok(network) = word.parse::<Ipv4Net>() {
            let length = match network.prefix_len() {
                24 => 64,
                other => u32::from(other) * 4,
            };
            return format!("{}/{length}", of_six(network.addr()));
        }
        word.parse().map_or_else(|_| word.replace("ip", "ip6"), of_six)
    };
    match family {
        Family::Ipv4 => text.to_owned(),
        Family::Ipv6 => text
            .split_inclusive(AROUND)
            .map(|piece| {
                let bare = piece.trim_end_matches(AROUND);
                let changes = bare == "ip" || bare.starts_with(|c: char| c.is_ascii_digit());
                if changes { word(bare) + &piece[bare.len()..] } else { piece.to_owned() }
            })
            .collect(),
    }
}

/// Runs `ip` about IPv4, or the like of it about IPv6.
pub fn ip(family: Family, host: &Namespace, words: &str) {
    let flag = if family == Family::Ipv6 { "-6 " } else { "" };
    host.ip(&format!("{flag}{}", like(family, words))).unwrap();
}

/// How evidence names the last rule of a chain of nf_tables.
pub fn place(host: &Namespace, table: &str, chain: &str) -> String {
    let words = format!("-a list chain {table} {chain}");
    let listed = run_ok(host.command("nft").args(words.split(' '))).unwrap();
    let handles = listed.lines().filter(|line| !line.contains('{') || line.contains("} "));
    let last = handles.filter_map(|line| line.split_once("# handle ")).next_back().unwrap();
    format!("{table}, chain {chain}, handle {}: ", last.1)
}

/// Rules by hand in front of connection tracking, separated by semicolons.
pub fn naive(host: &Namespace, prerouting: &str, output: &str) {
    let chain = |hook: &str, rules: &str| {
        let rules = rules.replace("; ", "\n");
        format!("chain {hook} {{\n type filter hook {hook} priority -310\n {rules}\n}}\n")
    };
    let chains = chain("prerouting", prerouting) + &chain("output", output);
    host.nft(&format!("table inet naive {{\n{chains}\n}}\n")).unwrap();
}

/// Takes them away again, and what became of the connections under them.
pub fn without_naive(host: &Namespace) {
    host.nft("delete table inet naive").unwrap();
    flush(host);
}

/// Empties the connection table.
pub fn flush(host: &Namespace) {
    run_ok(host.command("conntrack").arg("-F")).unwrap();
}

/// What the agent says of policy `p`.
#[derive(Debug)]
pub struct Judged {
    pub state: String,
    pub message: String,
}

impl Judged {
    /// Fails unless the state is this one.
    #[track_caller]
    pub fn is(&self, state: &str) -> &Judged {
        assert_eq!(self.state, state, "{}", self.message);
        self
    }

    /// Fails unless all of these are in one of the findings.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) -> &Judged {
        let mut findings = self.message.split("; p/");
        assert!(
            findings.any(|finding| parts.iter().all(|part| finding.contains(part))),
            "{parts:?}\nis not in\n{}",
            self.message.replace("; p/", "\np/")
        );
        self
    }

    /// Fails unless the whole policy is in effect and there is nothing to say.
    #[track_caller]
    pub fn is_clean(&self) {
        self.is("Programmed");
        assert_eq!(self.message, "all of its flows are in the kernel, read back");
    }
}

/// Applies a policy and hears what the agent says.
pub fn judge(host: &Namespace, policy: &str) -> Judged {
    let output = once_command(host, &Policies::of(policy).unwrap()).unwrap().output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let line = printed.lines().find(|line| line.starts_with("p "));
    let line = line.unwrap_or_else(|| panic!("{printed}{}", String::from_utf8_lossy(&output.stderr)));
    let (state, message) = line[2..].trim_start().split_once(' ').unwrap();
    Judged { state: state.to_owned(), message: message.trim_start().to_owned() }
}

fn flow(role: &str, ports: &[u16], more: &str) -> String {
    let ports: Vec<String> = ports.iter().map(|port| format!("{{protocol: TCP, port: {port}}}")).collect();
    let ports = ports.join(", ");
    policy("p", &format!("flows:\n- {{name: f, action: NoTrack, role: {role}, ports: [{ports}]{more}}}"))
}

/// This node serves TCP ports.
pub fn serves(ports: &[u16]) -> String {
    flow("Server", ports, "")
}

/// This node serves TCP ports on some of its addresses.
pub fn serves_at(ports: &[u16], addresses: &str) -> String {
    flow("Server", ports, &format!(", serverAddresses: ['{addresses}']"))
}

/// This node asks TCP ports of a network.
pub fn asks(ports: &[u16], network: &str) -> String {
    flow("Client", ports, &format!(", peers: [{{cidr: '{network}'}}]"))
}

/// This node routes to TCP ports of a network.
pub fn routes(ports: &[u16], network: &str) -> String {
    flow("Forward", ports, &format!(", serverAddresses: ['{network}']"))
}

/// Whether data go both ways over a new connection to an address that another host's listener is behind.
pub fn reaches(client: &Namespace, to: &str, server: &Namespace, at: &str) -> Result<()> {
    Ok(Connection::translated(client, to.parse()?, server, at.parse()?)?.talk()?)
}
