//! firewalld itself, with a message bus of its own.

use notrack_netns::firewalld::Firewalld;

use super::*;

#[test]
fn firewalld_takes_them_and_a_reload_removes_them() {
    let Pair { client, node } = Pair::new().unwrap();
    let host = Firewalld::start(&node).unwrap();
    let node = &node;
    host.say("--add-service=http").unwrap();
    traffic::tcp(&client, node, "10.77.0.1:80").unwrap();
    bypass(node);
    // firewalld's zones accept new connections and untracked packets alike; on the way out nothing is dropped. What
    // it refuses untracked is the answer to a connection of the node's own.
    let asks = || traffic::tcp(node, &client, "10.77.0.2:80");
    assert!(asks().is_err(), "an untracked answer passed firewalld");

    let table = TableId { backend: Backend::Nft, family: TableFamily::Inet, name: "firewalld".to_owned() };
    let answers = |before| Adapter {
        policy: "upstream".to_owned(),
        table: table.clone(),
        chain: "filter_INPUT".to_owned(),
        before: Some(before),
        packets: Untracked {
            carried: Carried::Transport(Proto::Tcp),
            sources: range("10.77.0.0/24"),
            source_ports: PortRange::one(80),
            destinations: AddressRange::all(Family::Ipv4),
            destination_ports: PortRange::ALL,
            in_interface: Some("eth0".to_owned()),
            out_interface: None,
            opens: Some(false),
        },
    };
    let place = || {
        let listed =
            run_ok(node.command("nft").args(["-a", "list", "chain", "inet", "firewalld", "filter_INPUT"]));
        let listed = listed.unwrap();
        let line = listed.lines().find(|line| line.contains("ct state") && line.contains("invalid")).unwrap();
        line.split("# handle ").nth(1).unwrap().trim().parse().unwrap()
    };
    apply(node, &[answers(place())], &BTreeSet::new()).unwrap();
    asks().unwrap();
    let with = node.ruleset().unwrap();
    Namespace::new("check").unwrap().nft_check(&with).unwrap();

    host.say("--reload").unwrap();
    assert_eq!(present(node), BTreeSet::new(), "a reload makes the table anew");
    assert!(asks().is_err());
    let before = node.ruleset().unwrap();
    apply(node, &[answers(place())], &BTreeSet::new()).unwrap();
    asks().unwrap();
    apply(node, &[], &present(node)).unwrap();
    assert_eq!(node.ruleset().unwrap(), before);
}
