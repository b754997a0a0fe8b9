//! A real SSH server on the node, and real logins to it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use notrack_lab::{Background, locate, run_ok};

use crate::services::{START, listens, write};
use crate::site::Site;

/// For a login or an echo, a retransmission or two included.
const ANSWER: Duration = Duration::from_secs(5);

/// sshd on port 22 of the node.
///
/// It runs in mount and PID namespaces of its own. The first because it insists on /run/sshd, and
/// on an account that is not locked, and the machine's /run and /etc are not ours to change. The
/// second because its sessions then end with it.
pub fn sshd(site: &Site, folder: &Path) -> Result<Background> {
    let shown = folder.display();
    for key in ["host", "login"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(key));
        run_ok(&mut keygen)?;
    }
    fs::copy(folder.join("login.pub"), folder.join("authorized"))?;
    let shadow = folder.join("shadow");
    write(&shadow, "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n")?;
    fs::set_permissions(&shadow, fs::Permissions::from_mode(0o600))?;
    let configuration = format!(
        "ListenAddress {}\n\
         HostKey {shown}/host\n\
         AuthorizedKeysFile {shown}/authorized\n\
         PidFile none\n\
         StrictModes no\n\
         UsePAM no\n\
         PasswordAuthentication no\n\
         PermitRootLogin prohibit-password\n\
         PrintLastLog no\n",
        Site::NODE
    );
    write(&folder.join("sshd_config"), &configuration)?;
    // sshd starts itself anew for each connection, by its full path.
    let program = locate("sshd").context("sshd is gone")?;
    let script = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd &&
        mount --bind \"$2\" /etc/shadow && exec \"$1\" -D -e -f \"$3\"";
    let mut command = site.node.command("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-c", script, "sh"]).arg(program).arg(shadow);
    command.arg(folder.join("sshd_config"));
    let mut server = Background::spawn(command)?;
    server.wait_ready("sshd to listen", START, || listens(&site.node, 22))?;
    Ok(server)
}

/// Logs in and runs a command there.
pub fn login(site: &Site, folder: &Path) -> bool {
    run_ok(client(site, folder).args(["echo", "welcome"])).is_ok_and(|said| said == "welcome\n")
}

/// A session that stays open.
#[derive(Debug)]
pub struct Session {
    child: Child,
    echoes: Receiver<String>,
}

impl Session {
    /// Logs in.
    pub fn open(site: &Site, folder: &Path) -> Result<Self> {
        let mut child = client(site, folder)
            .arg("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start ssh")?;
        let (sender, echoes) = channel();
        if let Some(output) = child.stdout.take() {
            // Ends with the child's output, or when nobody listens any more.
            thread::spawn(move || {
                let mut lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.all(|line| sender.send(line).is_ok())
            });
        }
        let mut session = Self { child, echoes };
        if !session.echoes("hello") {
            bail!("an SSH session to the node cannot be opened");
        }
        Ok(session)
    }

    /// Whether a line that is sent comes back.
    pub fn echoes(&mut self, line: &str) -> bool {
        let Some(input) = &mut self.child.stdin else {
            return false;
        };
        writeln!(input, "{line}").is_ok() && self.echoes.recv_timeout(ANSWER).is_ok_and(|echo| echo == line)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Errors mean that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(site: &Site, folder: &Path) -> Command {
    let mut command = site.client.command("ssh");
    command.args(["-F", "/dev/null", "-T", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
    command.args(["-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR"]);
    command.args(["-o", &format!("ConnectTimeout={}", ANSWER.as_secs())]);
    command.args(["-o", &format!("UserKnownHostsFile={}/known", folder.display())]);
    command.arg("-i").arg(folder.join("login")).arg(format!("root@{}", Site::NODE));
    command
}
