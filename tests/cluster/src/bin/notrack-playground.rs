//! `make playground`: a cluster with the operator on it, to try things on, until Ctrl-C.

use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use notrack_cluster::{Cluster, Options, serve};

/// Brings up a Kubernetes of three nodes on this machine with notrack on it; removes it on Ctrl-C.
#[derive(Debug, Parser)]
struct Arguments {
    /// kube-proxy's mode.
    #[arg(long, default_value = "iptables", value_parser = ["iptables", "nftables"])]
    proxy_mode: String,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("playground: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    // Before any thread: a signal must end the cluster in order, not this program at once.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("cannot hold signals back")?;
    let waiter = thread::spawn(move || signals.wait());

    let proxy_mode = if arguments.proxy_mode == "nftables" { "nftables" } else { "iptables" };
    eprintln!("starting Kubernetes (the first time it is built, in some 15 minutes) ...");
    let cluster = Cluster::start(&Options { proxy_mode, ..Options::default() })?;
    eprintln!("installing notrack ...");
    cluster.install()?;
    serve(&cluster, "web", "node2", 8080)?;
    print(&cluster)?;
    let _ = waiter.join();
    eprintln!("removing the cluster ...");
    Ok(())
}

fn print(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl_path().display();
    let server = cluster.node("node2")?;
    println!("\nexport KUBECONFIG={}", cluster.kubeconfig().display());
    println!("alias kubectl={kubectl}\n");
    println!("Worth trying, with a web server on node2 at {}:8080:\n", server.address);
    println!(
        "  kubectl get nodeplans                              every node's table, also without a policy"
    );
    println!("  kubectl label node node2 node-role.kubernetes.io/edge=");
    println!(
        "  kubectl apply -f tests/cluster/playground.yaml     bypass tracking of port 8080 on edge nodes"
    );
    println!("  kubectl get notrackpolicies -w");
    println!("  curl http://{}:8080/passwd", server.address);
    println!("  kubectl describe notrackpolicy edge-http           hazards, counts, pressure");
    println!("  kubectl expose deployment web --port 80 --target-port 8080");
    println!(
        "                                                     a Service on the same port: the bypass is withdrawn"
    );
    println!("  kubectl explain notrackpolicy.spec.flows\n");
    println!("Ctrl-C removes it all.");
    Ok(())
}
