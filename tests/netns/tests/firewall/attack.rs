//! Packets that a firewall is to refuse, with a bypass as without one.

use anyhow::Result;
use notrack_lab::{Flow, tcp, wait_until};
use notrack_netns::agent::PATIENCE;

use super::site::{Role, Site};

impl Site {
    /// Sends what the firewall is to refuse, and one packet that it is to accept where the role has one (so that a
    /// closed path does not pass for a refusal). Returns what passed beyond that one.
    pub fn attack(&self, role: Role) -> Result<u64> {
        let port = role.port();
        let node_port: u16 =
            self.node().sysctl("net.ipv4.ip_local_port_range")?.split_whitespace().next().unwrap().parse()?;
        let (ack, syn) = (tcp::ACK, tcp::SYN);
        // From, its port, to, its port, TCP's flags.
        let mut refused: Vec<(&str, u16, &str, u16, u8)> = Vec::new();
        let mut accepted = None;
        match role {
            Role::ServerTcp | Role::ServerUdp => {
                accepted = Some(("10.77.0.2", 41000, "10.77.0.1", port, syn));
                for flags in [syn, ack, tcp::RST | ack, tcp::FIN | ack] {
                    refused.push(("10.78.0.2", 41001, "10.77.0.1", port, flags));
                    refused.push(("10.77.0.66", 41002, "10.77.0.1", port, flags));
                    refused.push(("10.77.0.2", port, "10.77.0.1", 8081, flags));
                }
                refused.push(("10.77.0.2", 41003, "10.77.0.1", 22, syn));
                refused.push(("10.77.0.2", 41003, "10.77.0.1", 8080, syn));
            }
            Role::ClientTcp | Role::ClientUdp => {
                refused.push(("10.78.0.2", port, "10.77.0.1", node_port, ack));
                refused.push(("10.77.0.2", port, "10.77.0.1", node_port, ack));
                refused.push(("10.77.0.2", 41001, "10.77.0.1", node_port, syn));
                refused.push(("10.77.0.2", port, "10.77.0.1", 8443, ack));
            }
            Role::Forward => {
                accepted = Some(("10.77.0.2", 41000, "10.88.0.2", port, syn));
                for flags in [syn, ack, tcp::FIN | ack] {
                    refused.push(("10.78.0.2", 41001, "10.88.0.2", port, flags));
                }
                refused.push(("10.77.0.2", 41001, "10.88.0.2", 81, syn));
                refused.push(("10.77.0.2", port, "10.88.0.2", 40000, syn));
            }
        }
        let packet = |(from, from_port, to, to_port, flags): (&str, u16, &str, u16, u8)| -> Result<Vec<u8>> {
            let flow = Flow::new(self.socket(from, from_port), self.socket(to, to_port))?;
            Ok(match role.proto() {
                "udp" => flow.udp(b"attack"),
                _ => flow.segment(flags, 1000, if flags & ack == 0 { 0 } else { 7 }, b"attack"),
            })
        };
        let raw = self.line.client.raw_socket()?;
        let count = |name| Ok::<u64, anyhow::Error>(self.node().counter("inet probe", name)?.packets);
        let (came, passed) = (count("came")?, count("passed")?);
        for one in &refused {
            raw.send(&packet(*one)?)?;
        }
        if let Some(one) = accepted {
            raw.send(&packet(one)?)?;
            wait_until("the packet to be accepted", PATIENCE, || {
                count("passed").is_ok_and(|now| now > passed)
            })?;
        }
        let all = refused.len() as u64 + u64::from(accepted.is_some());
        wait_until("every packet", PATIENCE, || count("came").is_ok_and(|now| now - came >= all))?;
        // The peer of a Client policy, which an adapter lets answer: not beyond the policy's tuples.
        if matches!(role, Role::ClientTcp | Role::ClientUdp) {
            let raw = self.line.server.raw_socket()?;
            let others = [
                ("10.88.0.2", port + 1, "10.88.0.1", node_port + 10, ack),
                ("10.88.0.2", port, "10.88.0.1", 111, ack),
                ("10.88.0.2", 41001, "10.88.0.1", node_port + 10, syn),
                ("10.88.0.3", port, "10.88.0.1", node_port + 10, ack),
            ];
            for one in others {
                raw.send(&packet(one)?)?;
            }
            if role == Role::ClientTcp {
                raw.send(&packet(("10.88.0.2", port, "10.88.0.1", node_port + 10, syn))?)?;
            }
            let more = others.len() as u64 + u64::from(role == Role::ClientTcp);
            wait_until("the peer's too", PATIENCE, || {
                count("came").is_ok_and(|now| now - came >= all + more)
            })?;
        }
        Ok(count("passed")? - passed - u64::from(accepted.is_some()))
    }
}
