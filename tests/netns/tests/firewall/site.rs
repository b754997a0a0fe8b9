//! A host between two networks with a firewall as sites have it, and what passes it.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use notrack_core::net::Family;
use notrack_lab::{Line, Namespace, run_ok, run_ok_with_input};
use notrack_netns::agent::policy;
use notrack_netns::firewalld::Firewalld;
use notrack_netns::traffic::{self, Connection, entries};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Nft,
    IptablesNft,
    IptablesLegacy,
    Firewalld,
}

/// What the policy's host does in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    ServerTcp,
    ServerUdp,
    ClientTcp,
    ClientUdp,
    Forward,
}

impl Role {
    pub const ALL: [Role; 5] =
        [Role::ServerTcp, Role::ServerUdp, Role::ClientTcp, Role::ClientUdp, Role::Forward];
    /// Those of which firewalld's own rules accept a part by state alone.
    pub const FIREWALLD: [Role; 2] = [Role::ClientTcp, Role::ClientUdp];

    pub fn port(self) -> u16 {
        match self {
            Role::ServerTcp | Role::Forward => 80,
            Role::ServerUdp | Role::ClientUdp => 53,
            Role::ClientTcp => 8080,
        }
    }

    pub fn proto(self) -> &'static str {
        match self {
            Role::ServerTcp | Role::ClientTcp | Role::Forward => "tcp",
            Role::ServerUdp | Role::ClientUdp => "udp",
        }
    }

    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The policy; `rest` is more of its spec.
    pub fn policy(self, rest: &str) -> String {
        let ports = format!("ports: [{{protocol: {}, port: {}}}]", self.proto().to_uppercase(), self.port());
        let flow = match self {
            Role::ServerTcp | Role::ServerUdp => "role: Server",
            Role::ClientTcp | Role::ClientUdp => {
                "role: Client, peers: [{cidr: 10.88.0.2/32}, {cidr: 'fd88::2/128'}]"
            }
            Role::Forward => {
                "role: Forward, serverAddresses: [10.88.0.2/32, 'fd88::2/128'], \
                 peers: [{cidr: 10.77.0.0/24}, {cidr: 10.78.0.0/24}, {cidr: 'fd77::/64'}, {cidr: 'fd78::/64'}]"
            }
        };
        policy(&self.name(), &format!("flows:\n- {{name: f, action: NoTrack, {flow}, {ports}}}\n{rest}"))
    }
}

/// The same firewall with nft: zones in a verdict map, addresses in sets.
pub const NFT: &str = r#"table inet site {
    set lan4 {
        type ipv4_addr
        flags interval
        elements = { 10.77.0.0/24, 10.88.0.0/24 }
    }
    set lan6 {
        type ipv6_addr
        flags interval
        elements = { fd77::/64, fd88::/64 }
    }
    set bans4 {
        type ipv4_addr
        elements = { 10.77.0.66 }
    }
    set bans6 {
        type ipv6_addr
        elements = { fd77::66 }
    }
    chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        meta l4proto { icmp, ipv6-icmp } accept
        ip saddr @bans4 drop
        ip6 saddr @bans6 drop
        ct state vmap { established : accept, related : accept, invalid : drop }
        iifname vmap { "eth0" : jump outside, "eth1" : jump inside }
    }
    chain outside {
        ip saddr @lan4 goto services
        ip6 saddr @lan6 goto services
    }
    chain services {
        ct state new tcp dport { 80, 443 } accept
        ct state new udp dport 53 accept
    }
    chain inside {
        tcp dport 22 ct state new accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        meta l4proto { icmp, ipv6-icmp } accept
        ct state established,related accept
        iifname "eth0" ip saddr @lan4 oifname "eth1" tcp dport 80 ct state new accept
        iifname "eth0" ip6 saddr @lan6 oifname "eth1" tcp dport 80 ct state new accept
    }
    chain output {
        type filter hook output priority filter; policy drop;
        oifname "lo" accept
        meta l4proto { icmp, ipv6-icmp } accept
        ct state established,related accept
        meta l4proto . th dport { tcp . 8080, udp . 53 } ct state new accept
    }
}
"#;

/// And with iptables.
fn iptables(family: Family) -> String {
    let (icmp, lan0, lan1, ban) = match family {
        Family::Ipv4 => ("icmp", "10.77.0.0/24", "10.88.0.0/24", "10.77.0.66/32"),
        Family::Ipv6 => ("ipv6-icmp", "fd77::/64", "fd88::/64", "fd77::66/128"),
    };
    let new = "-m conntrack --ctstate NEW -j ACCEPT";
    let known = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    format!(
        "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\n:OUTSIDE - [0:0]\n:SERVICES - [0:0]\n\
         -A INPUT -i lo -j ACCEPT\n-A INPUT -p {icmp} -j ACCEPT\n-A INPUT -s {ban} -j DROP\n-A INPUT {known}\n\
         -A INPUT -m conntrack --ctstate INVALID -j DROP\n-A INPUT -i eth0 -j OUTSIDE\n\
         -A FORWARD -p {icmp} -j ACCEPT\n-A FORWARD {known}\n\
         -A FORWARD -s {lan0} -i eth0 -o eth1 -p tcp -m tcp --dport 80 {new}\n\
         -A OUTPUT -o lo -j ACCEPT\n-A OUTPUT -p {icmp} -j ACCEPT\n-A OUTPUT {known}\n\
         -A OUTPUT -p tcp -m tcp --dport 8080 {new}\n-A OUTPUT -p udp -m udp --dport 53 {new}\n\
         -A OUTSIDE -s {lan0} -g SERVICES\n-A OUTSIDE -s {lan1} -g SERVICES\n\
         -A SERVICES -p tcp -m multiport --dports 80,443 {new}\n-A SERVICES -p udp -m udp --dport 53 {new}\nCOMMIT\n"
    )
}

/// Counts packets that begin with "atta" as they come, and where they have passed the firewall.
const PROBE: &str = "table inet probe {
    counter came {}
    counter passed {}
    chain came {
        type filter hook prerouting priority -500
        meta l4proto tcp @th,160,32 0x61747461 counter name came
        meta l4proto udp @th,64,32 0x61747461 counter name came
    }
    chain in {
        type filter hook input priority 100
        meta l4proto tcp @th,160,32 0x61747461 counter name passed
        meta l4proto udp @th,64,32 0x61747461 counter name passed
    }
    chain through {
        type filter hook forward priority 100
        meta l4proto tcp @th,160,32 0x61747461 counter name passed
        meta l4proto udp @th,64,32 0x61747461 counter name passed
    }
}
";

pub struct Site {
    pub tool: Tool,
    pub family: Family,
    pub line: Line,
    pub firewalld: Option<Firewalld>,
}

impl Site {
    pub fn new(tool: Tool, family: Family) -> Result<Site> {
        let line = Line::new()?;
        // Which of the client's two addresses asks, is for the test to say.
        line.client.ip("-6 route replace default via fd77::1 src fd77::2")?;
        let firewalld = (tool == Tool::Firewalld).then(|| Firewalld::start(&line.node)).transpose()?;
        let site = Site { tool, family, line, firewalld };
        site.load()?;
        site.node().nft(PROBE)?;
        Ok(site)
    }

    pub fn node(&self) -> &Namespace {
        &self.line.node
    }

    /// What the site's own script or a reload does: everything anew.
    pub fn load(&self) -> Result<()> {
        match self.tool {
            Tool::Nft => {
                self.node().nft(&format!("table inet site\ndelete table inet site\n{NFT}")).map(drop)
            }
            Tool::Firewalld => {
                let mut firewalld = self.firewalld.as_ref().into_iter();
                firewalld.try_for_each(|firewalld| firewalld.say("--reload"))
            }
            Tool::IptablesNft | Tool::IptablesLegacy => {
                let mut restore = self.node().command(&self.iptables("-restore"));
                run_ok_with_input(&mut restore, &iptables(self.family)).map(drop)
            }
        }
    }

    /// iptables' program: `save`, `restore` or none behind its name.
    pub fn iptables(&self, action: &str) -> String {
        let six = if self.family == Family::Ipv6 { "6" } else { "" };
        let back_end = if self.tool == Tool::IptablesNft { "nft" } else { "legacy" };
        format!("ip{six}tables-{back_end}{action}")
    }

    /// The firewall's rules as its own tool lists them, without counters.
    pub fn rules(&self) -> Result<String> {
        match self.tool {
            Tool::Nft => run_ok(self.node().command("nft").args(["-s", "list", "table", "inet", "site"])),
            Tool::Firewalld => {
                run_ok(self.node().command("nft").args(["-s", "list", "table", "inet", "firewalld"]))
            }
            Tool::IptablesNft | Tool::IptablesLegacy => {
                let saved = run_ok(self.node().command(&self.iptables("-save")).args(["-t", "filter"]))?;
                let lines = saved.lines().filter(|line| !line.starts_with('#'));
                // Chains have counters too.
                Ok(lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned() + "\n").collect())
            }
        }
    }

    /// An address of this family: an IPv4 one, the IPv6 one that is like it.
    fn address(&self, text: &str) -> IpAddr {
        let text = match (self.family, text.rsplit_once('.')) {
            (Family::Ipv6, Some((network, host))) => {
                format!("fd{}::{host}", network.split('.').nth(1).unwrap_or_default())
            }
            _ => text.to_owned(),
        };
        text.parse().unwrap()
    }

    pub fn socket(&self, text: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(text), port)
    }

    /// Who asks in a role, and whom; the address that asks, and the one that is asked.
    fn ends(&self, role: Role) -> (&Namespace, &Namespace, SocketAddr, SocketAddr) {
        let Line { client, node, server } = &self.line;
        let (from, to, asker, address) = match role {
            Role::ServerTcp | Role::ServerUdp => (client, node, "10.77.0.2", "10.77.0.1"),
            Role::ClientTcp | Role::ClientUdp => (node, server, "10.88.0.1", "10.88.0.2"),
            Role::Forward => (client, server, "10.77.0.2", "10.88.0.2"),
        };
        (from, to, self.socket(asker, 0), self.socket(address, role.port()))
    }

    /// A connection of a role by TCP.
    pub fn open(&self, role: Role) -> Result<Connection> {
        let (from, to, _, address) = self.ends(role);
        let mut connection = Connection::open(from, to, address)?;
        connection.talk()?;
        Ok(connection)
    }

    /// A real exchange of a role; by TCP also a large one.
    pub fn talk(&self, role: Role) -> Result<()> {
        if role.proto() == "udp" {
            let (from, to, asker, address) = self.ends(role);
            return traffic::udp(from, to, &asker.to_string(), &address.to_string());
        }
        let mut connection = self.open(role)?;
        connection.pour(1 << 20)?;
        Ok(connection.talk_back()?)
    }

    /// The rules that one would write by hand; `delete table inet naive` takes them back.
    pub fn naive(&self, role: Role) -> Result<()> {
        let (proto, port) = (role.proto(), role.port());
        let rules = format!("{proto} dport {port} notrack\n{proto} sport {port} notrack\n");
        let chain =
            |hook: &str| format!("chain {hook} {{\ntype filter hook {hook} priority raw\n{rules}}}\n");
        self.node()
            .nft(&format!("table inet naive {{\n{}{}}}\n", chain("prerouting"), chain("output")))
            .map(drop)
    }

    /// The entries of a role's connections.
    pub fn entries(&self, role: Role) -> Result<Vec<String>> {
        let mut entries = entries(self.node(), role.port())?;
        entries.retain(|entry| !entry.starts_with("icmp"));
        Ok(entries)
    }
}
