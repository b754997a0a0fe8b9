//! Bypasses that begin and end under connections that live, behind a firewall which drops what is INVALID and takes new
//! connections by their SYN alone. Each harm is shown first, with rules by hand.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;

use notrack_lab::{Namespace, Pair, run_ok, wait_until};
use notrack_netlink::conntrack::{Adopted, Conntrack, Existing, Pace};
use notrack_netns::agent::{Live, PATIENCE, Policies, command, once, policy, server};
use notrack_netns::traffic::{Connection, entries};

#[path = "handover/keep.rs"]
mod keep;

/// The node's firewall. It takes the untracked packets of the flows under test, which is an adapter's work elsewhere.
const FIREWALL: &str = "table inet site {
    chain input {
        type filter hook input priority filter; policy drop;
        iifname lo accept
        ct state untracked tcp dport { 80, 81 } accept
        ct state untracked tcp sport 8080 accept
        ct state invalid drop
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
        tcp dport { 80, 81 } tcp flags & (fin | syn | rst | ack) == syn accept
    }
}
";
const NAIVE: &str = "table inet naive {
    chain prerouting {
        type filter hook prerouting priority raw
        tcp dport 80 notrack
        tcp sport 8080 notrack
    }
    chain output {
        type filter hook output priority raw
        tcp sport 80 notrack
        tcp dport 8080 notrack
    }
}
";

/// The node's part in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

impl Role {
    fn port(self) -> u16 {
        match self {
            Role::Server => 80,
            Role::Client => 8080,
        }
    }

    fn policy(self) -> String {
        match self {
            Role::Server => server("flows", "TCP", "80"),
            Role::Client => policy(
                "flows",
                "flows:\n- {name: f, action: NoTrack, role: Client, ports: [{protocol: TCP, port: 8080}], \
                 peers: [{cidr: 10.77.0.0/24}, {cidr: \"fd77::/64\"}]}",
            ),
        }
    }
}

/// Who sends first once the rules have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Client,
    Server,
}

/// A connection whose party talks first after a change.
struct Talk {
    role: Role,
    what: String,
    first: First,
    connection: Connection,
}

struct Site {
    pair: Pair,
}

impl Site {
    fn new(loose: &str) -> Site {
        let pair = Pair::new().unwrap();
        pair.node.nft(FIREWALL).unwrap();
        pair.node.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", loose).unwrap();
        Site { pair }
    }

    fn node(&self) -> &Namespace {
        &self.pair.node
    }

    fn open(&self, role: Role, family: &str) -> Connection {
        let Pair { client, node } = &self.pair;
        let (asks, serves, end) = match role {
            Role::Server => (client, node, 1),
            Role::Client => (node, client, 2),
        };
        let address = if family == "ip6" { format!("[fd77::{end}]") } else { format!("10.77.0.{end}") };
        let to: SocketAddr = format!("{address}:{}", role.port()).parse().unwrap();
        let mut connection = Connection::open(asks, serves, to).unwrap();
        connection.talk().unwrap();
        connection.talk_back().unwrap();
        connection
    }

    /// Waits until every byte is acknowledged: an acknowledgement would be the node's first word.
    fn settle(&self) {
        let pending =
            |host: &Namespace| run_ok(host.command("ss").arg("-tnoH")).unwrap().contains("timer:(on");
        wait_until("acknowledgements", PATIENCE, || !pending(&self.pair.client) && !pending(&self.pair.node))
            .unwrap();
    }

    /// Connections of both families, one for each party that may talk first.
    fn talks(&self, role: Role) -> Vec<Talk> {
        let mut talks = Vec::new();
        for family in ["ip", "ip6"] {
            for first in [First::Client, First::Server] {
                let connection = self.open(role, family);
                let what = format!("{role:?} {family} {first:?} first");
                talks.push(Talk { role, what, first, connection });
            }
        }
        talks
    }
}

impl Talk {
    fn goes_on(&mut self) -> bool {
        let talked = match self.first {
            First::Client => self.connection.talk(),
            First::Server => self.connection.talk_back(),
        };
        talked.is_ok()
    }

    /// It goes on, in both directions and by either.
    fn must_go_on(&mut self) {
        assert!(self.goes_on(), "lost: {}", self.what);
        self.connection.talk().unwrap();
        self.connection.talk_back().unwrap();
    }

    fn entry(&self, node: &Namespace) -> Option<String> {
        let port = self.connection.client_port().unwrap();
        // Whoever asks the agent for its state may have the same port for that.
        let server = format!("dport={} ", self.role.port());
        entries(node, port).unwrap().into_iter().find(|entry| entry.contains(&server))
    }
}

#[test]
fn a_bypass_taken_away_by_hand_loses_connections() {
    for loose in ["0", "1"] {
        let site = Site::new(loose);
        site.node().nft(NAIVE).unwrap();
        let mut talks = site.talks(Role::Server);
        talks.extend(site.talks(Role::Client));
        site.settle();
        site.node().nft("delete table inet naive").unwrap();
        for talk in &mut talks {
            // With loose=1 tracking takes what the node itself sends for a new connection, and the answer for its
            // reply: only then, and only if the node talks first, goes it on.
            let node_first = (talk.role == Role::Server) == (talk.first == First::Server);
            assert_eq!(talk.goes_on(), loose == "1" && node_first, "loose={loose} {}", talk.what);
        }
    }
}

#[test]
fn a_bypass_begins_and_ends_under_live_connections() {
    for loose in ["0", "1"] {
        for role in [Role::Server, Role::Client] {
            let site = Site::new(loose);
            let node = site.node();
            let policies = Policies::new().unwrap();
            let agent = Live::start(node, &policies, &[]).unwrap();
            let mut talks = site.talks(role);
            assert!(talks.iter().all(|talk| talk.entry(node).is_some()), "nothing is tracked");

            policies.write("flows.yaml", &role.policy()).unwrap();
            wait_until("the bypass", PATIENCE, || agent.state("flows").as_deref() == Some("Programmed"))
                .unwrap();
            for talk in &mut talks {
                talk.must_go_on();
            }
            wait_until("the eviction", PATIENCE, || entries(node, role.port()).unwrap().is_empty()).unwrap();
            talks.extend(site.talks(role));
            assert!(entries(node, role.port()).unwrap().is_empty(), "the bypass does nothing");

            policies.remove("flows.yaml").unwrap();
            wait_until("the end of the bypass", PATIENCE, || {
                !node.ruleset().unwrap().contains("notrack-dev")
            })
            .unwrap();
            for talk in &mut talks {
                talk.must_go_on();
                let entry = talk.entry(node).unwrap();
                let to_server = format!(" dport={}", role.port());
                let original = entry.split(" src=").nth(1).unwrap();
                assert!(original.ends_with(&to_server), "the client asks: {entry}");
                assert!(entry.contains("ESTABLISHED") && entry.contains("[ASSURED]"), "{entry}");
            }
        }
    }
}

#[test]
fn an_exception_ends_a_part_of_a_bypass() {
    let site = Site::new("0");
    let node = site.node();
    let policies = Policies::of(&Role::Server.policy()).unwrap();
    let agent = Live::start(node, &policies, &[]).unwrap();
    let mut talks = site.talks(Role::Server);
    let exception = "flows:\n- {name: e, action: Track, role: Server, ports: [{protocol: TCP, port: 80}], \
                     peers: [{cidr: 10.77.0.0/24}]}";
    policies.write("exception.yaml", &policy("exception", exception)).unwrap();
    wait_until("the exception", PATIENCE, || agent.state("exception").as_deref() == Some("Programmed"))
        .unwrap();
    for talk in &mut talks {
        talk.must_go_on();
        assert_eq!(talk.entry(node).is_some(), talk.what.contains(" ip "), "{}", talk.what);
    }
}

#[test]
fn an_entry_that_packets_have_passed_by_is_made_good() {
    // Of two connections with stale entries one is left as it is.
    for (existing, lives) in [(Existing::Stays, false), (Existing::IsRenewed, true)] {
        let site = Site::new("1");
        let node = site.node();
        let mut connection = site.open(Role::Server, "ip");
        node.nft(NAIVE).unwrap();
        // Beyond any window that the entry knows.
        connection.pour(16 << 20).unwrap();
        site.settle();
        assert_eq!(entries(node, 80).unwrap().len(), 1, "no stale entry");
        let ends = connection.ends().unwrap();
        let adopted = node.enter(|| {
            let mut table = Conntrack::open().unwrap();
            table.adopt_tcp([ends], 1000, existing, Pace::default()).unwrap()
        });
        let wanted = Adopted { adopted: u64::from(lives), known: u64::from(!lives), full: 0 };
        assert_eq!(adopted.unwrap(), wanted);
        node.nft("delete table inet naive").unwrap();
        assert_eq!(connection.talk().is_ok(), lives, "{existing:?}");
    }
}

#[test]
fn a_new_agent_without_the_policy_and_a_removal_hand_over_too() {
    for removed in [false, true] {
        let site = Site::new("0");
        let node = site.node();
        let policies = Policies::of(&Role::Server.policy()).unwrap();
        once(node, &policies).unwrap();
        let mut talks = site.talks(Role::Server);
        if removed {
            run_ok(command(node).unwrap().arg("remove")).unwrap();
        } else {
            policies.write("policy.yaml", &server("flows", "TCP", "81")).unwrap();
            once(node, &policies).unwrap();
        }
        assert!(!node.ruleset().unwrap().contains("tcp . 80 : "));
        for talk in &mut talks {
            talk.must_go_on();
        }
    }
}
