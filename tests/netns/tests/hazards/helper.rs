//! Hazard 9: connections that a helper expects by what it reads in another one.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, ensure};
use notrack_core::net::Family;
use notrack_lab::{Namespace, Pair};
use notrack_netns::agent::PATIENCE;
use notrack_netns::traffic::{self, bind, entries};

use super::support::{NOTHING, Tool, judge, naive, place, serves, without_naive};

/// An FTP server's firewall: the port of the data connection is known by the helper alone.
const FIREWALL: &str = "table inet firewall {
    chain input {
        type filter hook input priority filter; policy drop;
        iifname lo accept
        meta l4proto { icmp, ipv6-icmp } accept
        ct state established,related accept
        tcp dport { 21, 81, 2121 } accept
    }
}
";

fn site() -> Pair {
    let pair = Pair::new().unwrap();
    pair.node.nft(FIREWALL).unwrap();
    pair
}

/// A control connection in which the server names a port, and the data connection to that port.
fn transfer(client: &Namespace, node: &Namespace, control_port: u16) -> Result<()> {
    let at = |port: u16| SocketAddr::from(([10, 77, 0, 1], port));
    let listener = bind(node, || TcpListener::bind(at(control_port)))?;
    let mut asks = client.enter(|| TcpStream::connect_timeout(&at(control_port), PATIENCE))??;
    let (mut answers, _) = listener.accept()?;
    let mut says = |line: &str| -> Result<()> {
        answers.write_all(line.as_bytes())?;
        let mut heard = vec![0; line.len()];
        asks.read_exact(&mut heard)?;
        ensure!(heard == line.as_bytes(), "{line} arrived as {heard:?}");
        Ok(())
    };
    let data = bind(node, || TcpListener::bind(at(20_021)))?;
    // A helper reads whole lines, and knows where one begins by the end of another.
    says("220 ready\r\n")?;
    says(&format!("227 Entering Passive Mode (10,77,0,1,{},{})\r\n", 20_021 / 256, 20_021 % 256))?;
    client.enter(|| TcpStream::connect_timeout(&at(20_021), PATIENCE / 8))??;
    data.accept()?;
    Ok(())
}

/// Assigns the helper of FTP to a port that is not its own.
fn assign(tool: Tool, node: &Namespace) -> String {
    if tool != Tool::Nft {
        let rule = "raw PREROUTING -p tcp --dport 2121 -j CT --helper ftp";
        return tool.hang(Family::Ipv4, node, "", "", rule);
    }
    node.nft(
        "table ip site {
            ct helper files {
                type \"ftp\" protocol tcp
            }
            chain helpers {
                type filter hook prerouting priority filter
                tcp dport 2121 ct helper set \"files\"
            }
        }",
    )
    .unwrap();
    place(node, "ip site", "helpers")
}

#[test]
fn a_flow_with_a_helper_is_refused_and_its_data_connections_come_in() {
    for tool in Tool::ALL {
        let Pair { client, node } = &site();
        // The kernel of the tests has FTP's, and all three can assign it.
        let place = assign(tool, node);
        transfer(client, node, 2121).unwrap();
        naive(node, "tcp dport 2121 notrack", "tcp sport 2121 notrack");
        let harmed = transfer(client, node, 2121).unwrap_err();
        assert!(harmed.to_string().contains("timed out"), "{tool:?}: {harmed:#}");
        without_naive(node);

        judge(node, &serves(&[2121])).is("Refused").says(&["NT009 Helper: assigns a helper", &place]);
        transfer(client, node, 2121).unwrap();
        let acknowledged = serves(&[2121]).replace(
            "port: 2121}]",
            "port: 2121}], acknowledge: [{hazard: Helper, reason: nobody transfers files}]",
        );
        judge(node, &acknowledged).is("Programmed").says(&["warning: NT009 Helper: acknowledged", &place]);
    }
}

#[test]
fn the_port_of_ftp_stays_tracked_by_itself() {
    let Pair { client, node } = &site();
    judge(node, &serves(&[21, 81])).is("Programmed").says(&["stays tracked: NT009 Helper: TCP 21 is FTP"]);
    traffic::tcp(client, node, "10.77.0.1:21").unwrap();
    traffic::tcp(client, node, "10.77.0.1:81").unwrap();
    assert_eq!(entries(node, 21).unwrap().len(), 1);
    assert_eq!(entries(node, 81).unwrap(), NOTHING);
    judge(node, &serves(&[21])).is("Refused").says(&["NT009 Helper"]);
}
