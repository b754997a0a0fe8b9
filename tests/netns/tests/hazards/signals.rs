//! Hazards 21 and 23: rules that take UNTRACKED for a signal, and limits that count what tracking knows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::time::Duration;

use notrack_core::net::Family;
use notrack_lab::{Namespace, Pair, wait_until};
use notrack_netns::agent::{Live, PATIENCE, Policies};
use notrack_netns::traffic::{Connection, entries};

use super::support::{NOTHING, Tool, judge, naive, reaches, serves, without_naive};

const PORT: &str = "10.77.0.1:80";

/// The usual rules: a SYN is not tracked, SYNPROXY answers it, and only who answers in turn is let to the server.
fn synproxy(tool: Tool, node: &Namespace) -> String {
    node.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", "0").unwrap();
    let raw = "filter hook prerouting priority raw";
    tool.hang(
        Family::Ipv4,
        node,
        raw,
        "tcp dport 80 tcp flags syn / fin,syn,rst,ack notrack",
        "raw PREROUTING -p tcp --dport 80 --syn -j CT --notrack",
    );
    let input = "filter hook input priority filter";
    let place = tool.hang(Family::Ipv4,
        node,
        input,
        "tcp dport 80 ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm",
        "filter INPUT -p tcp --dport 80 -m conntrack --ctstate INVALID,UNTRACKED -j SYNPROXY --sack-perm --timestamp \
         --wscale 7 --mss 1460",
    );
    let invalid = "filter INPUT -m conntrack --ctstate INVALID -j DROP";
    tool.hang(Family::Ipv4, node, input, "ct state invalid drop", invalid);
    place
}

#[test]
fn no_connection_comes_about_behind_synproxy_and_ours_is_refused() {
    for tool in Tool::ALL {
        let Pair { client, node } = &Pair::new().unwrap();
        let place = synproxy(tool, node);
        let reach = || reaches(client, PORT, node, PORT);
        for _ in 0..4 {
            reach().unwrap();
        }
        naive(node, "tcp dport 80 notrack", "tcp sport 80 notrack");
        for _ in 0..2 {
            assert!(reach().is_err(), "{tool:?}: through SYNPROXY untracked");
        }
        without_naive(node);

        judge(node, &serves(&[80])).is("Refused").says(&["refused: NT021 UntrackedAsSignal", &place]);
        for _ in 0..4 {
            reach().unwrap();
        }
    }
}

#[test]
fn untracked_packets_that_are_diverted_refuse() {
    for tool in Tool::ALL {
        let Pair { client, node } = &Pair::new().unwrap();
        // Routing looks at the mark first, as policy routing by VPNs has it.
        node.ip("rule add lookup local priority 20").unwrap();
        node.ip("rule add fwmark 7 blackhole priority 10").unwrap();
        node.ip("rule delete priority 0").unwrap();
        let place = tool.hang(
            Family::Ipv4,
            node,
            "filter hook prerouting priority mangle",
            "ct state untracked meta mark set 7",
            "mangle PREROUTING -m conntrack --ctstate UNTRACKED -j MARK --set-mark 7",
        );
        reaches(client, PORT, node, PORT).unwrap();
        naive(node, "tcp dport 80 notrack", "tcp sport 80 notrack");
        assert!(reaches(client, PORT, node, PORT).is_err(), "{tool:?}");
        without_naive(node);
        judge(node, &serves(&[80])).is("Refused").says(&["NT021 UntrackedAsSignal", &place]);
        reaches(client, PORT, node, PORT).unwrap();
    }
}

#[test]
fn untracked_packets_that_are_only_logged_are_no_finding() {
    for tool in Tool::ALL {
        let Pair { client, node } = &Pair::new().unwrap();
        tool.hang(
            Family::Ipv4,
            node,
            "filter hook input priority filter",
            "ct state untracked counter log prefix \"untracked \"",
            "filter INPUT -m conntrack --ctstate UNTRACKED -j LOG --log-prefix untracked",
        );
        naive(node, "tcp dport 80 notrack", "tcp sport 80 notrack");
        reaches(client, PORT, node, PORT).unwrap();
        without_naive(node);
        judge(node, &serves(&[80])).is_clean();
        reaches(client, PORT, node, PORT).unwrap();
        assert_eq!(entries(node, 80).unwrap(), NOTHING, "{tool:?}");
    }
}

fn limit(tool: Tool, node: &Namespace) -> String {
    tool.hang(Family::Ipv4,
        node,
        "filter hook input priority filter",
        "tcp dport 80 tcp flags syn / fin,syn,rst,ack ct count over 3 reject with tcp reset",
        "filter INPUT -p tcp --dport 80 --syn -m connlimit --connlimit-above 3 -j REJECT --reject-with tcp-reset",
    )
}

/// How many of eight connections stand at once.
fn of_eight(client: &Namespace, node: &Namespace) -> usize {
    let open = |_| {
        // Limits forget what is not in the table when it is older than two ticks of the kernel, some 20 ms.
        std::thread::sleep(Duration::from_millis(30));
        Connection::open(client, node, PORT.parse().unwrap()).ok()
    };
    let mut open: Vec<Connection> = (0..8).filter_map(open).collect();
    open.iter_mut().filter_map(|connection| connection.talk().ok()).count()
}

#[test]
fn a_limit_of_connections_fails_open_and_blocks_until_acknowledged() {
    for tool in Tool::ALL {
        let Pair { client, node } = &Pair::new().unwrap();
        let place = limit(tool, node);
        assert_eq!(of_eight(client, node), 3, "{tool:?} tracked");
        super::support::flush(node);
        naive(node, "tcp dport 80 notrack", "tcp sport 80 notrack");
        assert_eq!(of_eight(client, node), 8, "{tool:?} untracked");
        without_naive(node);

        judge(node, &serves(&[80])).is("Blocked").says(&["blocked: NT023 StatefulLimits: counts", &place]);
        assert_eq!(of_eight(client, node), 3, "{tool:?} blocked");
        let acknowledged = serves(&[80])
            .replace("80}]", "80}], acknowledge: [{hazard: StatefulLimits, reason: another limit is set}]");
        judge(node, &acknowledged).is("Programmed").says(&["warning: NT023", "acknowledged", &place]);
        assert_eq!(of_eight(client, node), 8, "{tool:?} acknowledged");
    }
}

#[test]
fn an_audited_policy_counts_and_tells_and_changes_nothing() {
    for tool in Tool::ALL {
        let Pair { client, node } = &Pair::new().unwrap();
        let place = limit(tool, node);
        let policies = Policies::of(&serves(&[80]).replace("mode: Enforce", "mode: Audit")).unwrap();
        let mut agent = Live::start(node, &policies, &[]).unwrap();
        let report = || agent.status().unwrap()["policies"][0].clone();
        assert_eq!(report()["state"], "Auditing");
        let said = report()["findings"].to_string();
        assert!(said.contains("blocked: NT023 StatefulLimits") && said.contains(&place), "{said}");
        assert_eq!(of_eight(client, node), 3, "{tool:?}");
        assert_ne!(entries(node, 80).unwrap(), NOTHING);
        let packets = || report()["status"]["traffic"]["packets"].as_u64().unwrap();
        wait_until("counted packets", PATIENCE, || packets() >= 8).unwrap();
        agent.process.stop().unwrap();

        let said = judge(node, &serves(&[80]).replace("mode: Enforce", "mode: Audit"));
        said.is("Auditing").says(&["NT023 StatefulLimits", &place]);
    }
}

#[test]
fn what_a_firewall_refuses_by_the_state_alone_does_not_come_in() {
    for tool in Tool::ALL {
        let Pair { client, node } = &Pair::new().unwrap();
        let input = "filter hook input priority filter";
        let place = tool.hang(
            Family::Ipv4,
            node,
            input,
            "tcp dport 80 ct state new drop",
            "filter INPUT -p tcp --dport 80 -m conntrack --ctstate NEW -j DROP",
        );
        let reach = |address| reaches(client, address, node, address);
        assert!(reach(PORT).is_err(), "{tool:?}: it refuses");
        naive(node, "tcp dport 80 notrack", "tcp sport 80 notrack");
        reach(PORT).unwrap_or_else(|error| panic!("{tool:?}: the harm is not there: {error}"));
        without_naive(node);

        judge(node, &serves(&[80]))
            .is("Blocked")
            .says(&["blocked: NT023 StatefulLimits: drops by the state", &place]);
        assert!(reach(PORT).is_err(), "{tool:?}: ours let it in");
        judge(node, &serves(&[81])).is("Programmed");
        reach("10.77.0.1:81").unwrap();
    }
}
