//! A live agent follows other programs' rules: a tuple is withdrawn when something needs its entry, and comes back.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Instant;

use notrack_core::net::Family;
use notrack_lab::{Line, Namespace, wait_until};
use notrack_netns::agent::{Live, PATIENCE, Policies};
use notrack_netns::track;
use notrack_netns::traffic::{self, entries};

use super::support::{NOTHING, Tool, flush, reaches, serves};

fn is_bypassed(node: &Namespace, port: u16) -> bool {
    node.ruleset().unwrap().contains(&format!("10.77.0.1 . tcp . {port} : "))
}

fn waits(tool: Tool, what: &str, condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    wait_until(&format!("{what} ({tool:?})"), PATIENCE, condition).unwrap();
    println!("{tool:?}: {what} after {:.2} s", begin.elapsed().as_secs_f32());
}

#[test]
fn a_port_that_is_published_later_is_withdrawn_and_comes_back() {
    const PORT: &str = "10.77.0.1:8080";
    const SERVER: &str = "10.88.0.2:80";
    for tool in Tool::ALL {
        let Line { client, node, server } = &Line::new().unwrap();
        track(node).unwrap();
        let agent = Live::start(node, &Policies::of(&serves(&[8080, 81])).unwrap(), &[]).unwrap();
        traffic::tcp(client, node, PORT).unwrap();
        assert_eq!(entries(node, 8080).unwrap(), NOTHING);
        let place = tool.hang(
            Family::Ipv4,
            node,
            "nat hook prerouting priority dstnat",
            "tcp dport 8080 dnat to 10.88.0.2:80",
            "nat PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.88.0.2:80",
        );
        waits(tool, "a published port withdrawn", || !is_bypassed(node, 8080));
        assert!(is_bypassed(node, 81), "{tool:?}");
        reaches(client, PORT, server, SERVER).unwrap();
        let told = || agent.status().unwrap()["policies"][0]["findings"].to_string();
        waits(tool, "told", || told().contains("NT004 HostPort") && told().contains(&place));
        assert_eq!(agent.state("p").as_deref(), Some("Programmed"));

        tool.empty(Family::Ipv4, node, "prerouting", "nat -F PREROUTING");
        flush(node);
        waits(tool, "the port back", || is_bypassed(node, 8080));
        traffic::tcp(client, node, PORT).unwrap();
        assert_eq!(entries(node, 8080).unwrap(), NOTHING);
    }
}

#[test]
fn a_masquerade_that_comes_later_withdraws_a_forward_flow() {
    const SERVER: &str = "10.88.0.2:80";
    for tool in Tool::ALL {
        let Line { client, node, server } = &Line::new().unwrap();
        track(node).unwrap();
        let policies = Policies::of(&super::support::routes(&[80], "10.88.0.0/24")).unwrap();
        let agent = Live::start(node, &policies, &[]).unwrap();
        traffic::tcp(client, server, SERVER).unwrap();
        assert_eq!(entries(node, 80).unwrap(), NOTHING);
        tool.hang(
            Family::Ipv4,
            node,
            "nat hook postrouting priority srcnat",
            "oifname eth1 masquerade",
            "nat POSTROUTING -o eth1 -j MASQUERADE",
        );
        waits(tool, "a forward flow refused", || agent.state("p").as_deref() == Some("Refused"));
        traffic::tcp(client, server, SERVER).unwrap();
        assert!(entries(node, 80).unwrap()[0].contains("dst=10.88.0.1"), "{tool:?}: translated");
    }
}

#[test]
fn a_helper_that_is_assigned_later_refuses_until_it_is_gone() {
    for tool in Tool::ALL {
        let Line { client, node, server: _ } = &Line::new().unwrap();
        track(node).unwrap();
        let agent = Live::start(node, &Policies::of(&serves(&[2121])).unwrap(), &[]).unwrap();
        if tool == Tool::Nft {
            node.nft("table ip site {\n ct helper files {\n type \"ftp\" protocol tcp\n }\n}\n").unwrap();
        }
        let place = tool.hang(
            Family::Ipv4,
            node,
            "filter hook prerouting priority filter",
            "tcp dport 2121 ct helper set \"files\"",
            "raw PREROUTING -p tcp --dport 2121 -j CT --helper ftp",
        );
        waits(tool, "a helper's flow refused", || agent.state("p").as_deref() == Some("Refused"));
        let told = agent.status().unwrap()["policies"][0]["findings"].to_string().replace("\\\"", "\"");
        assert!(told.contains("NT009 Helper") && told.contains(&place), "{told}");
        traffic::tcp(client, node, "10.77.0.1:2121").unwrap();
        assert_eq!(entries(node, 2121).unwrap().len(), 1);

        tool.empty(Family::Ipv4, node, "prerouting", "raw -F PREROUTING");
        waits(tool, "the flow back", || agent.state("p").as_deref() == Some("Programmed"));
        flush(node);
        traffic::tcp(client, node, "10.77.0.1:2121").unwrap();
        assert_eq!(entries(node, 2121).unwrap(), NOTHING, "{tool:?}");
    }
}
