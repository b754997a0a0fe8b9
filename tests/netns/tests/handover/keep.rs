//! `existingEntries: Keep`: connections of before stay tracked, whatever becomes of the agent and of the policy.

use notrack_lab::{Namespace, run_ok, wait_until};
use notrack_netns::agent::{Live, PATIENCE, Policies, server};
use notrack_netns::traffic::entries;

use super::{Role, Site, Talk};

fn kept(role: Role) -> String {
    format!("{}\n  existingEntries: Keep\n", role.policy().trim_end())
}

/// Of what comes in and goes out by one interface: an entry does not tell by which.
fn by_interface(role: Role) -> String {
    role.policy().replace("action: NoTrack,", "action: NoTrack, interfaces: [\"eth*\"],")
}

/// How many connections the kernel's rules keep tracked.
fn lasting(node: &Namespace) -> usize {
    let Ok(listed) = run_ok(node.command("nft").args(["list", "table", "inet", "notrack-dev"])) else {
        return 0;
    };
    let sets = listed
        .split("set lasting")
        .skip(1)
        .filter_map(|set| set.split_once("elements = {")?.1.split_once('}'));
    sets.map(|(elements, _)| elements.split(',').count()).sum()
}

#[test]
fn kept_connections_stay_tracked_until_they_end() {
    for role in [Role::Server, Role::Client] {
        let site = Site::new("0");
        let node = site.node();
        let mut talks = site.talks(role);
        let policies = Policies::of(&kept(role)).unwrap();
        let mut agent = Live::start(node, &policies, &[]).unwrap();
        assert_eq!(lasting(node), talks.len(), "{}", node.ruleset().unwrap());
        let mut new = site.talks(role);
        for talk in talks.iter_mut().chain(&mut new) {
            talk.must_go_on();
        }
        let tracked = |talks: &[Talk]| talks.iter().filter(|talk| talk.entry(node).is_some()).count();
        assert_eq!((tracked(&talks), tracked(&new)), (4, 0));
        // Packets refresh them, with the timeouts of now.
        for name in ["established", "unacknowledged"] {
            node.set_sysctl(&format!("net.netfilter.nf_conntrack_tcp_timeout_{name}"), "500000").unwrap();
        }
        talks[0].must_go_on();
        let seconds =
            |talk: &Talk| talk.entry(node).unwrap().split_whitespace().nth(2).unwrap().parse::<u32>();
        assert!(seconds(&talks[0]).unwrap() > 432_000 && seconds(&talks[1]).unwrap() <= 432_000);

        assert!(agent.process.stop().unwrap().success());
        let _second = Live::start(node, &policies, &[]).unwrap();
        assert_eq!(lasting(node), 4, "a restart forgets nothing");
        for talk in talks.iter_mut().chain(&mut new) {
            talk.must_go_on();
        }
        assert_eq!((tracked(&talks), tracked(&new)), (4, 0));

        let ended = talks.pop().unwrap();
        let port = ended.connection.client_port().unwrap().to_string();
        drop(ended);
        // In place of two minutes in TIME_WAIT.
        wait_until("the end of an entry", PATIENCE, || {
            let delete = ["-D", "-p", "tcp", "--sport", port.as_str()];
            let _ = node.command("conntrack").args(delete).output();
            entries(node, port.parse().unwrap()).unwrap().is_empty()
        })
        .unwrap();
        policies.write("other.yaml", &server("other", "TCP", "81")).unwrap();
        wait_until("its end in the set", PATIENCE, || lasting(node) == 3).unwrap();
        for talk in talks.iter_mut().chain(&mut new) {
            talk.must_go_on();
        }
    }
}

#[test]
fn kept_connections_outlive_their_policy_and_so_do_the_others() {
    for (role, policy) in
        [Role::Server, Role::Client].map(|role| [(role, kept(role)), (role, by_interface(role))]).concat()
    {
        let site = Site::new("0");
        let node = site.node();
        let mut talks = site.talks(role);
        let policies = Policies::of(&policy).unwrap();
        let _agent = Live::start(node, &policies, &[]).unwrap();
        let mut bypassed = site.talks(role);
        assert_eq!(lasting(node), talks.len());
        assert!(bypassed.iter().all(|talk| talk.entry(node).is_none()), "{policy}");
        talks.iter_mut().for_each(Talk::must_go_on);
        assert!(talks.iter().all(|talk| talk.entry(node).is_some()), "{policy}");

        policies.remove("policy.yaml").unwrap();
        wait_until("the end of the bypass", PATIENCE, || !node.ruleset().unwrap().contains("notrack-dev"))
            .unwrap();
        for talk in talks.iter_mut().chain(&mut bypassed) {
            talk.must_go_on();
            assert!(talk.entry(node).is_some_and(|entry| entry.contains("ESTABLISHED")), "{}", talk.what);
        }
    }
}
