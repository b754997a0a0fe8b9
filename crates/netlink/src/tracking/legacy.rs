//! Users of tracking among the rules of the legacy iptables (`net/ipv4/netfilter/ip_tables.c`).
//!
//! Only tables that exist are read: asking for another one makes the kernel create it.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::{fs, io};

use super::findings::{Families, Findings};
use crate::conntrack::Family;

mod rules;

use rules::Layout;

/// One of the two.
struct Iptables {
    program: &'static str,
    family: Family,
    /// Tables of this network namespace, one a line; not there where the kernel has no legacy iptables.
    /// `thread-self`, because `/proc/net` is the namespace of the process's first thread.
    names: &'static str,
    bind: &'static str,
    level: libc::c_int,
    layout: Layout,
}

const BOTH: [Iptables; 2] = [
    Iptables {
        program: "iptables",
        family: Family::V4,
        names: "/proc/thread-self/net/ip_tables_names",
        bind: "0.0.0.0:0",
        level: libc::SOL_IP,
        layout: Layout::V4,
    },
    Iptables {
        program: "ip6tables",
        family: Family::V6,
        names: "/proc/thread-self/net/ip6_tables_names",
        bind: "[::]:0",
        level: libc::SOL_IPV6,
        layout: Layout::V6,
    },
];

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES` and `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// `XT_TABLE_MAXNAMELEN`.
const NAME_LEN: usize = 32;
/// `struct ipt_getinfo`: the name, the valid hooks, five entry and five underflow points, count, size.
const INFO_LEN: usize = NAME_LEN + 4 + 5 * 4 + 5 * 4 + 4 + 4;
/// `struct ipt_get_entries` without the entries, padded to their alignment.
const ENTRIES_AT: usize = NAME_LEN + 8;
/// Another program may replace the table between the two questions.
const TRIES: usize = 5;

/// Looks through the legacy tables of both families. What cannot be read makes the findings incomplete.
pub(super) fn scan(findings: &mut Findings) {
    for iptables in &BOTH {
        match iptables.user() {
            Ok(Some(user)) => findings.foreign(Families::One(iptables.family), &user),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(program = iptables.program, %error, "cannot read legacy rules");
                findings.incomplete(Families::One(iptables.family));
            }
        }
    }
}

impl Iptables {
    fn user(&self) -> io::Result<Option<String>> {
        let names = match fs::read_to_string(self.names) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            names => names?,
        };
        for table in names.lines() {
            if let Some(user) = rules::user(&self.entries(table)?, self.layout) {
                let program = self.program;
                return Ok(Some(format!("{program}-legacy table {table}: {user}")));
            }
        }
        Ok(None)
    }

    /// The rules of a table, as the kernel keeps them.
    fn entries(&self, table: &str) -> io::Result<Vec<u8>> {
        // Any socket of the family does; this one needs no capability of its own.
        let socket = UdpSocket::bind(self.bind)?;
        let mut last = io::Error::from(ErrorKind::Interrupted);
        for _ in 0..TRIES {
            let mut info = [0; INFO_LEN];
            name(&mut info, table)?;
            get(&socket, self.level, GET_INFO, &mut info)?;
            let size = info.last_chunk().map_or(0, |size| u32::from_ne_bytes(*size));

            let mut entries = vec![0; ENTRIES_AT + size as usize];
            name(&mut entries, table)?;
            entries[NAME_LEN..NAME_LEN + 4].copy_from_slice(&size.to_ne_bytes());
            match get(&socket, self.level, GET_ENTRIES, &mut entries) {
                Ok(()) => return Ok(entries.split_off(ENTRIES_AT)),
                // The table has another size by now.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

fn name(question: &mut [u8], table: &str) -> io::Result<()> {
    // The last byte stays 0.
    if table.len() >= NAME_LEN {
        return Err(ErrorKind::InvalidInput.into());
    }
    question[..table.len()].copy_from_slice(table.as_bytes());
    Ok(())
}

/// Asks the kernel; it fills the buffer, and demands that the buffer has exactly the answer's length.
fn get(socket: &UdpSocket, level: libc::c_int, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut len = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `len` bytes, all of them inside `buffer`, which lives and is
    // borrowed mutably until the call returns; every bit pattern is a valid byte.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut len)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
