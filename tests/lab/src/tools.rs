//! What the machine must have, and what to install where it has not.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Tools by the Debian package that brings them; `tests/tools/install.sh` installs these.
const PACKAGES: &[(&str, &[&str])] = &[
    ("binutils", &["strip"]),
    ("conntrack", &["conntrack"]),
    ("curl", &["curl"]),
    ("dbus-daemon", &["dbus-daemon"]),
    ("dnsperf", &["dnsperf"]),
    ("ethtool", &["ethtool"]),
    ("firewalld", &["firewalld", "firewall-cmd"]),
    ("iproute2", &["ip", "ss", "tc"]),
    ("git", &["git"]),
    ("ipset", &["ipset"]),
    (
        "iptables",
        &["iptables", "ip6tables-legacy", "iptables-legacy", "iptables-legacy-restore", "iptables-nft"],
    ),
    ("nftables", &["nft"]),
    ("nginx-light", &["nginx"]),
    ("openssh-client", &["ssh", "ssh-keygen", "ssh-keyscan"]),
    ("openssh-server", &["sshd"]),
    ("prometheus", &["prometheus", "promtool"]),
    ("redis-server", &["redis-server"]),
    ("tcpdump", &["tcpdump"]),
    ("unbound", &["unbound"]),
    ("wrk", &["wrk"]),
];

/// Where `program` is. The administrator's folders are searched too: they are missing from the
/// PATH of a root shell opened with plain `su`.
pub fn locate(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Fails with what to install, unless every one of `programs` is here.
pub fn require_tools(programs: &[&str]) -> Result<()> {
    let missing: Vec<&str> = programs.iter().copied().filter(|p| locate(p).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|program| package_of(program)).collect();
    packages.sort_unstable();
    packages.dedup();
    bail!(
        "this machine lacks {}: run tests/tools/install.sh, or apt-get install {}",
        missing.join(", "),
        packages.join(" ")
    );
}

/// Fails unless this process is root, the only one that may make network namespaces.
pub fn require_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("making network namespaces needs root: run this as root (sudo)");
    }
    Ok(())
}

fn package_of(program: &str) -> &str {
    PACKAGES.iter().find(|(_, programs)| programs.contains(&program)).map_or(program, |(package, _)| package)
}

/// A program that cargo built beside this one.
pub fn built(program: &str) -> Result<PathBuf> {
    // target/debug/deps/<test> lies two levels below target/debug/<program>, a program one.
    let own = env::current_exe()?;
    let mut folders = own.ancestors().skip(1).take(2);
    let found = folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()));
    found.with_context(|| format!("{program} is missing: run cargo build --workspace first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_names_its_package() {
        assert!(require_tools(&["sh"]).is_ok());
        let error = require_tools(&["sh", "no-such-tool"]).unwrap_err().to_string();
        assert!(error.contains("lacks no-such-tool: "), "{error}");
        assert_eq!(package_of("iptables-legacy"), "iptables");
    }
}
