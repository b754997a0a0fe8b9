//! Rules in other programs' chains: what they mend, and that nothing else changes. For each back end and family.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use notrack_core::host::{Adapter, Backend, Carried, TableFamily, TableId, Untracked};
use notrack_core::net::{AddressRange, Family, PortRange, Proto};
use notrack_lab::{Flow, Namespace, Pair, run_ok, run_ok_with_input, tcp, wait_until};
use notrack_netlink::adapters::{self, AdapterError, Present};
use notrack_netns::agent::PATIENCE;
use notrack_netns::traffic;

#[path = "adapters/firewalld.rs"]
mod firewalld;
#[path = "adapters/forms.rs"]
mod forms;
#[path = "adapters/others.rs"]
mod others;

/// A firewall of one kind for one family.
#[derive(Clone, Copy, Debug)]
struct Kind {
    backend: Backend,
    family: Family,
}

impl Kind {
    fn all() -> impl Iterator<Item = Kind> {
        [Backend::Nft, Backend::IptablesNft, Backend::IptablesLegacy]
            .into_iter()
            .flat_map(|backend| Family::ALL.map(|family| Kind { backend, family }))
    }

    fn table(self) -> TableId {
        let (family, name) = match (self.backend, self.family) {
            (Backend::Nft, _) => (TableFamily::Inet, "site"),
            (_, Family::Ipv4) => (TableFamily::Ip, "filter"),
            (_, Family::Ipv6) => (TableFamily::Ip6, "filter"),
        };
        TableId { backend: self.backend, family, name: name.to_owned() }
    }

    fn chain(self, name: &str) -> String {
        if self.backend == Backend::Nft { name.to_owned() } else { name.to_uppercase() }
    }

    /// iptables' program: `save`, `restore` or none behind its name.
    fn tool(self, action: &str) -> String {
        let six = if self.family == Family::Ipv6 { "6" } else { "" };
        let back_end = if self.backend == Backend::IptablesNft { "nft" } else { "legacy" };
        format!("ip{six}tables-{back_end}{action}")
    }

    /// Drops what it does not know: new connections to two ports, and what belongs to them, are accepted. Its last
    /// rule counts what is left.
    fn load(self, node: &Namespace) {
        if self.backend == Backend::Nft {
            node.nft(
                "table inet site {
                    chain input {
                        type filter hook input priority filter; policy drop;
                        meta l4proto { icmp, ipv6-icmp } accept
                        ct state established,related counter accept
                        tcp dport { 80, 81 } ct state new counter jump user
                        counter comment \"end\"
                    }
                    chain forward {
                        type filter hook forward priority filter; policy drop;
                        ct state established accept
                    }
                    chain user {
                        tcp dport 80 accept
                        accept
                    }
                }",
            )
            .unwrap();
            return;
        }
        let icmp = if self.family == Family::Ipv4 { "icmp" } else { "ipv6-icmp" };
        let rules = format!(
            "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:EMPTY - [0:0]\n:USER - [0:0]\n\
             -A INPUT -p {icmp} -j ACCEPT\n\
             -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -A INPUT -p tcp -m multiport --dports 80,81 -m conntrack --ctstate NEW -j USER\n\
             -A INPUT -m comment --comment end\n\
             -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n\
             -A FORWARD -g EMPTY\n\
             -A USER -p tcp -m tcp --dport 80 -j ACCEPT\n-A USER -j ACCEPT\nCOMMIT\n"
        );
        run_ok_with_input(&mut node.command(&self.tool("-restore")), &rules).unwrap();
    }

    /// What the table's own tool prints, counters included.
    fn listing(self, node: &Namespace) -> String {
        if self.backend == Backend::Nft {
            return run_ok(node.command("nft").args(["list", "table", "inet", "site"])).unwrap();
        }
        let saved = run_ok(node.command(&self.tool("-save")).args(["-c", "-t", "filter"])).unwrap();
        // The time of day.
        saved.lines().filter(|line| !line.starts_with('#')).map(|line| line.to_owned() + "\n").collect()
    }

    /// The same without counters.
    fn rules(self, node: &Namespace) -> String {
        let listing = self.listing(node);
        listing.lines().map(|line| without_counters(line) + "\n").collect()
    }

    /// The handle of the first rule that contains a text.
    fn handle(self, node: &Namespace, chain: &str, text: &str) -> u64 {
        if self.backend == Backend::IptablesLegacy {
            let rules = self.rules(node);
            let mut of_chain = rules.lines().filter(|line| line.contains(&format!("-A {chain} ")));
            return 1 + of_chain.position(|line| line.contains(text)).unwrap() as u64;
        }
        let TableId { family, name, .. } = self.table();
        // iptables-nft's rules have handles in nft's listing alone.
        let text = if text == "--ctstate NEW" { "ct state new" } else { text };
        let mut list = node.command("nft");
        list.args(["-a", "list", "chain", family.nft_name(), &name, chain]);
        let listed = run_ok(&mut list).unwrap();
        let line = listed.lines().find(|line| line.contains(text)).unwrap();
        line.split("# handle ").nth(1).unwrap().trim().parse().unwrap()
    }

    /// Packets that a rule of the firewall has seen.
    fn count(self, node: &Namespace, text: &str) -> u64 {
        let listing = self.listing(node);
        let line = listing.lines().find(|line| line.contains(text)).unwrap();
        let figure = line.split(['[', ':']).nth(1).filter(|_| line.starts_with('['));
        let figure = figure.or_else(|| line.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()));
        figure.unwrap().parse().unwrap()
    }

    /// Everything of a TCP port, from the client's network to the node.
    fn server(self, port: u16) -> Untracked {
        let (sources, node) = match self.family {
            Family::Ipv4 => ("10.77.0.0/24", Pair::NODE),
            Family::Ipv6 => ("fd77::/64", Pair::NODE6),
        };
        Untracked {
            carried: Carried::Transport(Proto::Tcp),
            sources: range(sources),
            source_ports: PortRange::new(1024, 65535).unwrap(),
            destinations: AddressRange::one(node),
            destination_ports: PortRange::one(port),
            in_interface: Some("eth0".to_owned()),
            out_interface: None,
            opens: None,
        }
    }

    fn adapter(self, chain: &str, before: Option<u64>, packets: Untracked) -> Adapter {
        let policy = "edge-http".to_owned();
        Adapter { policy, table: self.table(), chain: self.chain(chain), before, packets }
    }
}

fn range(text: &str) -> AddressRange {
    AddressRange::from(text.parse::<ipnet::IpNet>().unwrap())
}

fn without_counters(line: &str) -> String {
    if let Some((chain, _)) = line.split_once(" [").filter(|_| line.starts_with(':')) {
        return chain.to_owned();
    }
    if let Some((_, rule)) = line.split_once("] ").filter(|_| line.starts_with('[')) {
        return rule.to_owned();
    }
    match line.split_once("counter packets ") {
        None => line.to_owned(),
        Some((before, figures)) => {
            let rest = figures.splitn(4, ' ').nth(3).map(|rest| format!(" {rest}")).unwrap_or_default();
            format!("{before}counter{rest}")
        }
    }
}

fn present(node: &Namespace) -> BTreeSet<Present> {
    node.enter(adapters::present).unwrap().unwrap()
}

fn apply(node: &Namespace, add: &[Adapter], remove: &BTreeSet<Present>) -> Result<(), AdapterError> {
    node.enter(|| adapters::apply(add, remove)).unwrap()
}

/// A pair of rules as one would write it by hand, for both ports; also on the loopback device.
fn bypass(node: &Namespace) {
    let rules = "tcp dport { 80, 81 } notrack\n tcp sport { 80, 81 } notrack\n";
    let chain = |hook: &str| format!("chain {hook} {{\n type filter hook {hook} priority raw\n {rules} }}\n");
    node.nft(&format!("table inet naive {{\n{}{}}}\n", chain("prerouting"), chain("output"))).unwrap();
}

/// The rules of [`Kind::load`] that the test looks at, as their tool lists them.
struct Texts {
    new: &'static str,
    established: &'static str,
    end: &'static str,
    user: &'static str,
}

impl Kind {
    fn texts(self) -> Texts {
        match self.backend {
            Backend::Nft => Texts {
                new: "ct state new",
                established: "ct state established,related",
                end: "comment \"end\"",
                user: "dport 80 accept",
            },
            Backend::IptablesNft | Backend::IptablesLegacy => Texts {
                new: "--ctstate NEW",
                established: "--ctstate RELATED,ESTABLISHED",
                end: "--comment end",
                user: "dport 80",
            },
        }
    }
}

fn mends_and_leaves_no_trace(kind: Kind) {
    let Pair { client, node } = Pair::new().unwrap();
    let (to, stranger) = match kind.family {
        Family::Ipv4 => (Pair::NODE, Pair::STRANGER),
        Family::Ipv6 => (Pair::NODE6, Pair::STRANGER6),
    };
    let socket = |port| SocketAddr::new(to, port);
    let talk = || traffic::tcp(&client, &node, &socket(80).to_string());
    kind.load(&node);
    talk().unwrap();
    bypass(&node);
    assert!(talk().is_err(), "untracked passed {kind:?}");

    let before = kind.rules(&node);
    let Texts { new, established, end, user } = kind.texts();
    let counted = |text: &str| kind.count(&node, text);
    let (connections, answers, rest) = (counted(new), counted(established), counted(end));
    assert!(connections == 1 && answers > 0 && rest > 0, "{}", kind.listing(&node));

    let place = |chain: &str, text| Some(kind.handle(&node, &kind.chain(chain), text));
    let web = kind.adapter("input", place("input", new), kind.server(80));
    let all = [
        web.clone(),
        kind.adapter("user", place("user", user), kind.server(80)),
        kind.adapter("forward", None, kind.server(80)),
    ];
    apply(&node, &all, &BTreeSet::new()).unwrap();

    let found = present(&node);
    let wanted = all.iter().map(|adapter| (adapter.table.clone(), adapter.chain.clone(), adapter.comment()));
    let named = found.iter().cloned().map(|rule| (rule.table, rule.chain, rule.comment));
    assert_eq!(named.collect::<BTreeSet<_>>(), wanted.collect());
    assert_eq!(counted(new), connections, "the host's counters go on");
    assert!(counted(established) >= answers && counted(end) >= rest);
    let listed = kind.rules(&node);
    let (ours, others): (Vec<&str>, Vec<&str>) =
        listed.lines().partition(|line| line.contains("notrack-dev:"));
    assert_eq!(ours.len(), all.len());
    assert_eq!(others, before.lines().collect::<Vec<_>>(), "the host's rules stay");
    let mut from_ours = listed.lines().skip_while(|line| !line.contains(&web.comment()));
    assert!(from_ours.nth(1).unwrap().contains(new), "before its place: {listed}");

    apply(&node, &all, &BTreeSet::new()).unwrap();
    assert_eq!(present(&node), found, "added twice");
    assert_eq!(kind.rules(&node), listed);

    talk().unwrap();
    assert!(counted(&web.comment()) > 2, "our own rule counts");
    let dropped = |what: &str, send: &dyn Fn()| {
        let before = counted(end);
        send();
        wait_until(what, PATIENCE, || counted(end) > before).unwrap();
    };
    let knock = |from: &Namespace, port: u16| {
        let timeout = Duration::from_millis(50);
        assert!(from.enter(|| TcpStream::connect_timeout(&socket(port), timeout)).unwrap().is_err());
    };
    let forged = Flow::parse(&SocketAddr::new(stranger, 40000).to_string(), &socket(80).to_string()).unwrap();
    let raw = client.raw_socket().unwrap();
    dropped("a packet to another port", &|| knock(&client, 81));
    dropped("a packet of another interface", &|| knock(&node, 80));
    dropped("a packet of another source", &|| raw.send(&forged.tcp(tcp::SYN)).unwrap());

    apply(&node, &[], &found).unwrap();
    assert_eq!(kind.rules(&node), before, "removed");
    assert_eq!(present(&node), BTreeSet::new());
    apply(&node, &[], &found).unwrap();
    assert_eq!(kind.rules(&node), before, "removed twice");
}

macro_rules! each_kind {
    ($($test:ident: $backend:ident $family:ident,)*) => { $(
        #[test]
        fn $test() {
            mends_and_leaves_no_trace(Kind { backend: Backend::$backend, family: Family::$family });
        }
    )* };
}

each_kind! {
    nft_accepts_untracked_over_ipv4: Nft Ipv4,
    nft_accepts_untracked_over_ipv6: Nft Ipv6,
    iptables_nft_accepts_untracked_over_ipv4: IptablesNft Ipv4,
    iptables_nft_accepts_untracked_over_ipv6: IptablesNft Ipv6,
    iptables_legacy_accepts_untracked_over_ipv4: IptablesLegacy Ipv4,
    iptables_legacy_accepts_untracked_over_ipv6: IptablesLegacy Ipv6,
}

/// Any address of the family of an example.
fn addresses(family: Family, texts: [&str; 2]) -> AddressRange {
    let text = texts[usize::from(family == Family::Ipv6)];
    match text.split_once('-') {
        Some((first, last)) => {
            let [first, last] = [first, last].map(|end| AddressRange::one(end.parse::<IpAddr>().unwrap()));
            AddressRange { last: last.last, ..first }
        }
        None => range(text),
    }
}
