//! A web server on a node's network, and clients that ask it.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use notrack_lab::run_ok;

use crate::cluster::{Cluster, PATIENCE};

/// Starts a web server on the network of a node, as a Deployment with the label `app: NAME`, and waits until it answers.
pub fn serve(cluster: &Cluster, name: &str, node: &str, port: u16) -> Result<()> {
    cluster.apply(&format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: default}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  strategy: {{type: Recreate}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      nodeName: {node}
      hostNetwork: true
      terminationGracePeriodSeconds: 0
      tolerations: [{{operator: Exists}}]
      containers:
      - name: httpd
        image: busybox:test
        imagePullPolicy: Never
        command: [/bin/busybox, httpd, -f, -p, '{port}', -h, /etc]
        ports: [{{containerPort: {port}, protocol: TCP}}]
        readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}
"
    ))?;
    let timeout = PATIENCE.as_secs();
    cluster.kubectl(&format!("rollout status --timeout={timeout}s deployment/{name}"))?;
    Ok(())
}

/// Asks for a file that every server of [`serve`] has; returns whether the answer came in time.
pub fn fetch(mut from: Command, address: &str, port: u16, timeout: Duration) -> bool {
    let seconds = timeout.as_secs().max(1).to_string();
    let url = format!("http://{address}:{port}/passwd");
    run_ok(from.args(["--silent", "--fail", "--max-time", &seconds, "--output", "/dev/null", &url])).is_ok()
}
