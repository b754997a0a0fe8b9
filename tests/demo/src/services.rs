//! Real servers on the node, configured in the demo's folder and run in the foreground.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use notrack_lab::{Background, Namespace, run_ok};

use crate::site::Site;

/// For a server to listen.
pub const START: Duration = Duration::from_secs(10);

/// nginx on port 80.
pub fn nginx(site: &Site, folder: &Path) -> Result<Background> {
    let shown = folder.display();
    let node = Site::NODE;
    // One process, so that its guard ends all of it.
    let configuration = format!(
        "daemon off;
        master_process off;
        pid {shown}/nginx.pid;
        error_log stderr error;
        events {{ worker_connections 4096; multi_accept on; }}
        http {{
          access_log off;
          client_body_temp_path {shown}/body;
          proxy_temp_path {shown}/proxy;
          fastcgi_temp_path {shown}/fastcgi;
          uwsgi_temp_path {shown}/uwsgi;
          scgi_temp_path {shown}/scgi;
          server {{
            listen {node}:80 backlog=4096;
            location / {{ return 200 \"served\\n\"; }}
          }}
        }}"
    );
    let file = folder.join("nginx.conf");
    write(&file, &configuration)?;
    let mut command = site.node.command("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(file).args(["-e", "stderr"]);
    let mut server = Background::spawn(command)?;
    server.wait_ready("nginx to listen", START, || listens(&site.node, 80))?;
    Ok(server)
}

/// unbound on port 53, with names of its own and no way to anyone else's.
pub fn unbound(site: &Site, folder: &Path) -> Result<Background> {
    let configuration = format!(
        "server:
          interface: {}
          access-control: 0.0.0.0/0 allow
          do-ip6: no
          chroot: \"\"
          username: \"\"
          directory: \"{}\"
          pidfile: \"\"
          use-syslog: no
          num-threads: 1
          so-rcvbuf: 4m
          module-config: \"iterator\"
          local-zone: \"demo.test.\" static
          local-data: \"www.demo.test. A 192.0.2.80\"
        remote-control:
          control-enable: no
        ",
        Site::NODE,
        folder.display()
    );
    let file = folder.join("unbound.conf");
    write(&file, &configuration)?;
    let mut command = site.node.command("unbound");
    command.arg("-d").arg("-c").arg(file);
    let mut server = Background::spawn(command)?;
    // It listens over TCP too.
    server.wait_ready("unbound to listen", START, || listens(&site.node, 53))?;
    Ok(server)
}

/// Answers HTTP on a host's address, port 0 for any. Its threads end with the process.
pub fn answer(host: &Namespace, address: SocketAddr) -> Result<SocketAddr> {
    let listener = host.enter(|| TcpListener::bind(address))?;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr().context("a server's address")?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Each by itself: one that stays open and silent must not keep the others waiting.
            thread::spawn(move || {
                // Who hangs up early is counted as lost at the other end.
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            });
        }
    });
    Ok(address)
}

/// Whether something listens on a TCP port of the node: looked up, not tried, as an attempt would
/// be an entry in the table that the demo counts.
pub fn listens(node: &Namespace, port: u16) -> bool {
    let filter = format!("sport = :{port}");
    run_ok(node.command("ss").args(["-ltnH", &filter])).is_ok_and(|found| !found.is_empty())
}

/// Writes a file of the demo.
pub fn write(file: &Path, content: &str) -> Result<()> {
    fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))
}
