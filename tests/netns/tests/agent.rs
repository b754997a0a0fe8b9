//! The agent as a user runs it: files in, kernel programmed, told what became of it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use notrack_lab::{Background, Fill, Flow, Namespace, Pair, fill_conntrack, run_ok, wait_until};
use notrack_netlink::nft::Nft;
use notrack_netns::agent::{Live, PATIENCE, Policies, command, once, once_command, server};
use notrack_netns::track;
use notrack_netns::traffic::{self, Connection, entries};

/// Applies that are killed on their way.
const APPLIES: usize = 1000;

/// What a rule set says of our table without counters, in an order of its own: nft lists objects in the order in
/// which they were made.
fn our_table(host: &Namespace) -> Option<Vec<String>> {
    let listed =
        run_ok(host.command("nft").args(["--stateless", "list", "table", "inet", "notrack-dev"])).ok()?;
    let mut blocks: Vec<String> = listed
        .split("\n\n")
        .map(|block| {
            // Elements of a hash come in any order and are broken into lines: as sorted words.
            let mut words: Vec<&str> = block.split(|c: char| c.is_whitespace() || c == ',').collect();
            if block.contains("elements = ") {
                words.sort_unstable();
            }
            words.retain(|word| !matches!(*word, "" | "}" | "table" | "inet" | "notrack-dev" | "{"));
            words.join(" ")
        })
        .collect();
    blocks.sort();
    Some(blocks)
}

fn tracking_host(label: &str) -> Namespace {
    let host = Namespace::new(label).unwrap();
    track(&host).unwrap();
    host
}

fn serves(host: &Namespace, port: u16) -> bool {
    host.ruleset().unwrap().contains(&format!("tcp . {port} : "))
}

fn generation(host: &Namespace) -> u32 {
    host.enter(|| Nft::open_without_owning().unwrap().generation().unwrap()).unwrap()
}

#[test]
fn once_programs_and_prints_a_line_a_policy() {
    let host = tracking_host("once");
    let policies = Policies::of(&server("web", "TCP", "80")).unwrap();
    policies.write("dns.yaml", &server("dns", "UDP", "53")).unwrap();
    let printed = once(&host, &policies).unwrap();
    let states: Vec<Vec<&str>> =
        printed.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(states, [["POLICY", "STATE"], ["dns", "Programmed"], ["web", "Programmed"]], "{printed}");
    assert!(serves(&host, 80));
}

#[test]
fn a_bad_file_is_named_and_the_others_take_effect() {
    let host = tracking_host("bad");
    let policies = Policies::of(&server("web", "TCP", "80")).unwrap();
    let bad = server("oops", "TCP", "81").replace("role: Server", "role: Serfer");
    let line = bad.lines().position(|line| line.contains("Serfer")).unwrap() + 1;
    policies.write("bad.yaml", &bad).unwrap();
    let mut agent = Background::spawn(once_command(&host, &policies).unwrap()).unwrap();
    assert_eq!(agent.wait(PATIENCE).unwrap().code(), Some(1), "{}", agent.output());
    assert!(agent.output().contains(&format!("bad.yaml:{line}:")), "{}", agent.output());
    assert!(serves(&host, 80) && !serves(&host, 81));
}

#[test]
fn a_live_agent_follows_its_folder_and_keeps_the_last_good_version() {
    let host = tracking_host("live");
    let policies = Policies::new().unwrap();
    let mut agent = Live::start(&host, &policies, &[]).unwrap();
    assert_eq!(our_table(&host), None, "a table without a policy");

    policies.write("web.yaml", &server("web", "TCP", "80")).unwrap();
    wait_until("the new file's policy", PATIENCE, || agent.state("web").as_deref() == Some("Programmed"))
        .unwrap();
    assert!(serves(&host, 80));
    policies.write("web.yaml", &server("web", "TCP", "81")).unwrap();
    wait_until("the changed port", PATIENCE, || serves(&host, 81)).unwrap();
    assert!(!serves(&host, 80));

    let before = our_table(&host);
    policies.write("web.yaml", "kind: Nonsense\n").unwrap();
    wait_until("the broken version's mention", PATIENCE, || {
        agent.status().unwrap()["problems"][0].as_str().is_some_and(|problem| problem.contains("web.yaml"))
    })
    .unwrap();
    assert_eq!(our_table(&host), before);
    assert_eq!(agent.state("web").as_deref(), Some("Programmed"));
    assert!(agent.get("/metrics").unwrap().1.contains("notrack_bad_policy_files 1"));

    policies.remove("web.yaml").unwrap();
    wait_until("the end of the table", PATIENCE, || our_table(&host).is_none()).unwrap();
    assert!(agent.process.is_running());
}

#[test]
fn a_restart_with_the_same_policies_commits_nothing_and_counts_on() {
    let pair = Pair::new().unwrap();
    track(&pair.node).unwrap();
    let policies = Policies::of(&server("web", "TCP", "80")).unwrap();
    // A lease is renewed at once after a restart, and that is a commit: without one nothing is to be written.
    let forever = ["--keep-without-agent", "forever"];
    let mut agent = Live::start(&pair.node, &policies, &forever).unwrap();
    traffic::tcp(&pair.client, &pair.node, "10.77.0.1:80").unwrap();
    assert!(agent.process.stop().unwrap().success(), "{}", agent.process.output());

    let table = our_table(&pair.node);
    assert!(table.is_some(), "SIGTERM took the rules away");
    let counted = pair.node.counter("inet notrack-dev", "p-web").unwrap();
    assert!(counted.packets > 0);
    let before = generation(&pair.node);
    let agent = Live::start(&pair.node, &policies, &forever).unwrap();
    // The agent has read the table back and sampled twice: it had every chance to write.
    for _ in 0..2 {
        let reported = agent.status().unwrap()["node"]["reportedAt"].clone();
        wait_until("another report", PATIENCE, || agent.status().unwrap()["node"]["reportedAt"] != reported)
            .unwrap();
    }
    assert_eq!(generation(&pair.node), before);
    assert_eq!(our_table(&pair.node), table);
    assert_eq!(pair.node.counter("inet notrack-dev", "p-web").unwrap(), counted);
}

#[test]
fn a_second_agent_is_refused_by_name_and_remove_leaves_nothing() {
    let host = tracking_host("second");
    let policies = Policies::of(&server("web", "TCP", "80")).unwrap();
    let mut first = Live::start(&host, &policies, &[]).unwrap();
    for second in [once_command(&host, &policies).unwrap(), {
        let mut live = command(&host).unwrap();
        live.arg("--policies").arg(policies.path());
        live
    }] {
        let mut second = Background::spawn(second).unwrap();
        assert_eq!(second.wait(PATIENCE).unwrap().code(), Some(1));
        let pid = format!("process id {}", first.process.pid());
        assert!(second.output().contains(&pid), "{}", second.output());
    }
    assert!(serves(&host, 80));

    first.process.stop().unwrap();
    let remove = || run_ok(command(&host).unwrap().arg("remove")).unwrap();
    assert!(remove().contains("removed table"));
    assert_eq!(our_table(&host), None);
    assert!(remove().contains("no table"));
}

#[test]
fn status_metrics_and_readiness_are_served() {
    let host = tracking_host("http");
    let policies = Policies::of(&server("web", "TCP", "80-81")).unwrap();
    let agent = Live::start(&host, &policies, &[]).unwrap();
    for path in ["/readyz", "/healthz"] {
        assert_eq!(agent.get(path).unwrap(), (200, "ok\n".into()), "{path}");
    }
    traffic::tcp(&host, &host, "127.0.0.1:80").unwrap();
    let packets = || {
        let status = agent.status().unwrap();
        status["policies"][0]["status"]["traffic"]["packets"].as_u64().unwrap()
    };
    wait_until("counted packets", PATIENCE, || packets() > 0).unwrap();
    let status = agent.status().unwrap();
    assert_eq!(status["policies"][0]["name"], "web");
    assert!(status["node"]["programmedDigest"].is_string(), "{status}");
    assert!(status["node"]["conntrack"]["max"].as_u64().unwrap() > 0, "{status}");
    let metrics = agent.get("/metrics").unwrap().1;
    for metric in [
        r#"notrack_policy_state{policy="web",state="Programmed"} 1"#,
        r#"notrack_applies_total{result="ok"}"#,
        r#"notrack_policy_bypassed_packets_total{policy="web"}"#,
    ] {
        assert!(metrics.contains(metric), "{metric} is not in\n{metrics}");
    }
    assert_eq!(agent.get("/nothing").unwrap().0, 404);
}

#[test]
fn an_idle_agent_applies_nothing() {
    let host = tracking_host("idle");
    let policies = Policies::of(&server("web", "TCP", "80")).unwrap();
    let agent = Live::start(&host, &policies, &[]).unwrap();
    let reported = || agent.status().unwrap()["node"]["reportedAt"].as_str().unwrap().to_owned();
    let applies = || {
        let metrics = agent.get("/metrics").unwrap().1;
        let of_ok = r#"notrack_applies_total{result="ok"} "#;
        metrics.lines().find_map(|line| line.strip_prefix(of_ok)).unwrap().parse::<u64>().unwrap()
    };
    let next_report = || {
        let before = reported();
        wait_until("the next report", PATIENCE, || reported() != before).unwrap();
    };
    // The first steps adopt the table and renew its lease, which is a commit and is looked at once more.
    for _ in 0..3 {
        next_report();
    }
    let before = applies();
    for _ in 0..4 {
        next_report();
    }
    assert_eq!(applies(), before, "reading the folder must not be taken for a change of it");
}

#[test]
fn open_flows_of_a_new_policy_leave_the_table_and_live_on() {
    let pair = Pair::new().unwrap();
    track(&pair.node).unwrap();
    let open = |port| {
        let to = format!("10.77.0.1:{port}").parse().unwrap();
        let mut connection = Connection::open(&pair.client, &pair.node, to).unwrap();
        connection.talk().unwrap();
        connection
    };
    let (mut chosen, mut other) = (open(80), open(81));
    assert_eq!(entries(&pair.node, 80).unwrap().len(), 1);
    let policies = Policies::of(&server("web", "TCP", "80")).unwrap();
    once(&pair.node, &policies).unwrap();
    assert_eq!(entries(&pair.node, 80).unwrap(), [""; 0]);
    assert_eq!(entries(&pair.node, 81).unwrap().len(), 1);
    chosen.talk().unwrap();
    other.talk().unwrap();
    assert_eq!(entries(&pair.node, 80).unwrap(), [""; 0]);
}

#[test]
fn a_large_table_is_swept_and_counted_whatever_changes_meanwhile() {
    const ENTRIES: usize = 20_000;
    let pair = Pair::new().unwrap();
    track(&pair.node).unwrap();
    for port in [80, 81] {
        let server = (Ipv4Addr::new(10, 77, 0, 1), port);
        let fill = Fill { entries: ENTRIES, server, lifetime: Duration::from_secs(600) };
        assert_eq!(fill_conntrack(&pair.node, fill).unwrap(), ENTRIES);
    }
    let audited = server("audited", "TCP", "80").replace("mode: Enforce", "mode: Audit");
    let policies = Policies::of(&audited).unwrap();
    policies.write("swept.yaml", &server("swept", "TCP", "81")).unwrap();
    let agent = Live::start(&pair.node, &policies, &[]).unwrap();
    // Each commit ends what is under way for the table of before, and has it begun anew.
    for port in ["90", "91", "92"] {
        policies.write("another.yaml", &server("another", "TCP", port)).unwrap();
        let port = port.parse().unwrap();
        wait_until("the change", PATIENCE, || serves(&pair.node, port)).unwrap();
    }
    // A debug build takes half a millisecond for an entry.
    let patience = 10 * PATIENCE;
    let left = || entries(&pair.node, 81).unwrap().len();
    wait_until("no entry of what is bypassed", patience, || left() == 0).unwrap();
    let counted = || {
        let status = agent.status().unwrap();
        let policies = status["policies"].as_array().unwrap().clone();
        let audited = policies.into_iter().find(|policy| policy["name"] == "audited").unwrap();
        audited["status"]["traffic"]["evictableEntries"].as_u64()
    };
    wait_until("the count", patience, || counted() == Some(ENTRIES as u64)).unwrap();
    assert_eq!(entries(&pair.node, 80).unwrap().len(), ENTRIES, "what is audited is deleted");
}

#[test]
fn where_nothing_tracks_the_agent_does_not_start_it() {
    let host = Namespace::new("untracked").unwrap();
    let policies = Policies::of(&server("web", "TCP", "80")).unwrap();
    let agent = Live::start(&host, &policies, &[]).unwrap();
    assert_eq!(agent.state("web").as_deref(), Some("Ineffective"));
    let table = host.ruleset().unwrap();
    assert!(!table.contains("ct state"), "{table}");
    // Not the policy's port: an entry would show that tracking is on.
    traffic::tcp(&host, &host, "127.0.0.1:81").unwrap();
    assert_eq!(entries(&host, 81).unwrap(), [""; 0]);

    track(&host).unwrap();
    wait_until("an effect", PATIENCE, || agent.state("web").as_deref() == Some("Programmed")).unwrap();
    traffic::tcp(&host, &host, "127.0.0.1:81").unwrap();
    assert_eq!(entries(&host, 81).unwrap().len(), 1, "this host tracks now");
    traffic::tcp(&host, &host, "127.0.0.1:80").unwrap();
    assert_eq!(entries(&host, 80).unwrap(), [""; 0]);
}

#[test]
fn one_capability_is_enough_and_its_lack_is_named() {
    let host = tracking_host("caps");
    let policies = Policies::of(&server("web", "TCP", "80")).unwrap();
    let with = |sets: &str| {
        let once = once_command(&host, &policies).unwrap();
        let mut command = host.command("setpriv");
        command.args(["--bounding-set", sets, "--inh-caps", sets, "--no-new-privs"]);
        command.arg(once.get_program()).args(once.get_args());
        let mut agent = Background::spawn(command).unwrap();
        (agent.wait(PATIENCE).unwrap().code(), agent.output())
    };
    let (code, output) = with("-all");
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("CAP_NET_ADMIN"), "{output}");
    assert_eq!(our_table(&host), None);
    let (code, output) = with("-all,+net_admin");
    assert_eq!(code, Some(0), "{output}");
    assert!(serves(&host, 80));
}

/// A small generator (xorshift), so that a failure can be repeated from its number.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_or_the_new_table() {
    let pair = Pair::new().unwrap();
    let node = &pair.node;
    track(node).unwrap();
    node.nft(
        "table inet watch {\n counter gap {}\n chain input {\n type filter hook input priority 0\n \
         udp dport 7 ct state != untracked counter name gap\n }\n}\n",
    )
    .unwrap();
    // They share a policy, have one each, and one that differs: all kinds of change in both directions.
    let sides =
        [("80", server("dns", "UDP", "53")), ("8000", server("web2", "TCP", "81-90"))].map(|(port, own)| {
            let policies = Policies::of(&server("web", "TCP", port)).unwrap();
            policies.write("both.yaml", &server("both", "UDP", "7")).unwrap();
            policies.write("own.yaml", &own).unwrap();
            policies
        });
    let known = [0, 1].map(|side: usize| {
        once(node, &sides[side]).unwrap();
        our_table(node).unwrap()
    });
    assert_ne!(known[0], known[1]);
    let mut current = 1;
    let raw = pair.client.raw_socket().unwrap();
    let datagram = Flow::parse("10.77.0.2:40000", "10.77.0.1:7").unwrap().udp(b"x");
    let (mut state, mut kept, mut changed) = (0x9e37_79b9_7f4a_7c15, 0, 0);
    // Microseconds in which the kill comes; follows the machine, so that half of the kills come before the commit.
    let mut window = 50_000;
    for number in 0..APPLIES {
        let mut agent = Background::spawn(once_command(node, &sides[1 - current]).unwrap()).unwrap();
        let wait = Duration::from_micros(random(&mut state) % window);
        let kill_at = Instant::now() + wait;
        while Instant::now() < kill_at {
            raw.send(&datagram).unwrap();
            std::thread::sleep(Duration::from_micros(100));
        }
        agent.kill();
        let table = our_table(node).unwrap();
        let found = known.iter().position(|known| *known == table);
        let found = found.unwrap_or_else(|| {
            unreachable!("apply {number}, killed after {wait:?}: neither table: {table:#?}")
        });
        if found == current {
            kept += 1;
            window += window / 20;
        } else {
            changed += 1;
            window -= window / 20;
        }
        current = found;
    }
    println!("{kept} kills came before the commit and {changed} after it, of {APPLIES}");
    // Kills on one side only would prove nothing.
    assert!(kept > 20 && changed > 20, "{kept} before, {changed} after");
    // What both tables bypass was bypassed all the time.
    assert!(node.counter("inet notrack-dev", "p-both").unwrap().packets > 1000);
    assert_eq!(node.counter("inet watch", "gap").unwrap().packets, 0);
}
