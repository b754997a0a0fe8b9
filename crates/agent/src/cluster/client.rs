//! The API server: how it is asked, and what of the way to it stays tracked.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kube::{Client, Config};
use notrack_core::hazard::HazardKind;
use notrack_core::kept::Kept;
use notrack_core::net::{AddressRange, PortRange, Proto};
use notrack_runtime::api_server;

/// An answer to a single question takes no longer.
const ANSWER: Duration = Duration::from_secs(30);

/// The API server's addresses, as the agent has been told them.
#[derive(Clone, Debug)]
pub struct Server {
    /// Host (name or address) and port, each.
    hosts: BTreeSet<(String, u16)>,
}

/// The clients: the watch holds a connection of its own in any case, and must not time out as a question does.
/// Both honour `Retry-After`.
pub struct Clients {
    /// For the watch.
    pub watch: Client,
    /// For everything else.
    pub ask: Client,
    /// Where they go.
    pub server: Server,
}

impl Clients {
    /// From a kubeconfig or, in a pod, from its service account.
    pub async fn open() -> anyhow::Result<Clients> {
        let mut config = api_server::config().await?;
        let server = Server::of(&config);
        let watch = Client::try_from(config.clone())?;
        config.read_timeout = Some(ANSWER);
        config.reset_reader_on_write = true;
        Ok(Clients { watch, ask: Client::try_from(config)?, server })
    }
}

impl Server {
    /// What the configuration goes to, and the Service's address that every pod is told.
    fn of(config: &Config) -> Server {
        let url = &config.cluster_url;
        let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
        let mut hosts: BTreeSet<(String, u16)> =
            url.host().map(|host| (bare(host), port)).into_iter().collect();
        let variable = |name: &str| std::env::var(name).ok();
        let service = variable("KUBERNETES_SERVICE_HOST")
            .zip(variable("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse().ok()));
        hosts.extend(service.map(|(host, port): (String, u16)| (bare(&host), port)));
        Server { hosts }
    }

    /// Whether its addresses may change, because it has a name.
    pub fn has_names(&self) -> bool {
        self.hosts.iter().any(|(host, _)| host.parse::<IpAddr>().is_err())
    }

    /// What stays tracked, and whether every name was found.
    pub async fn kept(&self) -> (Vec<Kept>, bool) {
        let (mut found, mut is_complete) = (BTreeSet::new(), true);
        for (host, port) in &self.hosts {
            match host.parse::<IpAddr>() {
                Ok(address) => {
                    found.insert(SocketAddr::new(address, *port));
                }
                Err(_) => match tokio::net::lookup_host((host.as_str(), *port)).await {
                    Ok(addresses) => found.extend(addresses),
                    Err(error) => {
                        tracing::debug!("{host}: {error}");
                        is_complete = false;
                    }
                },
            }
        }
        (found.into_iter().map(kept).collect(), is_complete)
    }
}

/// An address of IPv6 without its brackets.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

fn kept(server: SocketAddr) -> Kept {
    Kept {
        hazard: HazardKind::Protected,
        protocol: Proto::Tcp,
        addresses: Some(AddressRange::one(server.ip().to_canonical())),
        ports: PortRange::one(server.port()),
        clients: None,
        spares_interfaces: false,
        evidence: "the agent's Kubernetes API server".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_way_to_the_api_server_is_kept() {
        for (url, wanted) in [
            ("https://192.0.2.1:8443", "192.0.2.1:8443"),
            ("https://[2001:db8::1]", "[2001:db8::1]:443"),
            ("http://192.0.2.1/", "192.0.2.1:80"),
        ] {
            let server = Server::of(&Config::new(url.parse().unwrap()));
            let wanted: SocketAddr = wanted.parse().unwrap();
            assert!(server.kept().await.0.contains(&kept(wanted)), "{url}");
            assert!(!server.has_names(), "{url}");
        }
    }
}
