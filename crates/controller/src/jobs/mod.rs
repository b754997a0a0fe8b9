//! What is done around an installation, each as a program of its own that ends: Helm and Argo CD run them as hooks.

mod install_crds;
mod withdraw;

use std::time::Duration;

use anyhow::Context;
use kube::Client;
use notrack_runtime::api_server::config;

use crate::args::Command;

/// How often a job looks again at what it waits for.
const LOOK: Duration = Duration::from_millis(500);

/// Does a job.
pub async fn run(command: &Command, namespace: &str) -> anyhow::Result<()> {
    let config = config().await.context("no access to a cluster: neither in a pod nor KUBECONFIG")?;
    let client = Client::try_from(config)?;
    match command {
        Command::InstallCrds { within_seconds } => {
            install_crds::run(&client, Duration::from_secs(*within_seconds)).await
        }
        Command::Withdraw { deployment, within_seconds, delete_crds } => {
            let within = Duration::from_secs(*within_seconds);
            let order = withdraw::Order { namespace, deployment, within, policies_stay: !delete_crds };
            withdraw::run(&client, order).await;
            if *delete_crds { install_crds::delete(&client).await } else { Ok(()) }
        }
    }
}
