//! Which TCP ports the processes of a name listen on, from /proc: a service may listen anywhere.

use std::collections::BTreeSet;
use std::fs;

/// The state `TCP_LISTEN` in /proc/net/tcp.
const LISTEN: &str = "0A";

/// Ports of this network namespace on which a process called `name` listens. Without the right to look into
/// other processes (it needs CAP_SYS_PTRACE or their user) it finds none.
pub fn of(name: &str) -> BTreeSet<u16> {
    let sockets = sockets_of(name);
    if sockets.is_empty() {
        return BTreeSet::new();
    }
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| table.lines().filter_map(listening).collect::<Vec<_>>())
        .filter(|(_, inode)| sockets.contains(inode))
        .map(|(port, _)| port)
        .collect()
}

/// Inodes of the sockets that processes of a name hold.
fn sockets_of(name: &str) -> BTreeSet<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return BTreeSet::new() };
    processes
        .flatten()
        .filter(|process| {
            fs::read_to_string(process.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        })
        .filter_map(|process| fs::read_dir(process.path().join("fd")).ok())
        .flat_map(|descriptors| descriptors.flatten())
        .filter_map(|descriptor| {
            let target = fs::read_link(descriptor.path()).ok()?;
            Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect()
}

/// Port and inode of a line of /proc/net/tcp that listens.
fn listening(line: &str) -> Option<(u16, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, (*fields.get(9)?).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_count() {
        let line = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        assert_eq!(listening(line), Some((22, "4711".to_owned())));
        assert_eq!(listening(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(listening("  sl  local_address rem_address   st"), None);
    }
}
