//! The old iptables (`net/ipv4/netfilter/ip_tables.c`) as bytes: its tables, read with `getsockopt`, their rules
//! and chains.
//!
//! Only tables that exist are read: asking for another one makes the kernel create it.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::{fs, io};

use notrack_core::host::{Backend, TableFamily, TableId};

use crate::conntrack::Family;

mod chains;
mod rules;
#[cfg(test)]
pub(crate) mod sample;

pub(crate) use chains::Table;
pub(crate) use rules::{
    ACCEPT, COUNTERS_LEN, DROP, Entries, Entry, Extension, HEAD_LEN, Layout, QUEUE, RETURN,
};

/// One of the two.
pub(crate) struct Iptables {
    /// Its name, without `-legacy`.
    pub program: &'static str,
    /// The family of its packets.
    pub family: Family,
    /// Tables of this network namespace, one a line; not there where the kernel has no legacy iptables.
    /// `thread-self`, because `/proc/net` is the namespace of the process's first thread.
    pub names: &'static str,
    bind: &'static str,
    /// Of its socket options.
    pub level: libc::c_int,
    /// How its rules lie in memory.
    pub layout: Layout,
}

/// Both.
pub(crate) const BOTH: [Iptables; 2] = [
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
pub(crate) const NAME_LEN: usize = 32;
/// `NF_INET_NUMHOOKS`.
pub(crate) const HOOKS: usize = 5;
/// `struct ipt_getinfo`: the name, the valid hooks, five entry and five underflow points, count, size.
const INFO_LEN: usize = NAME_LEN + 4 + HOOKS * 4 + HOOKS * 4 + 4 + 4;
/// `struct ipt_get_entries` and `xt_counters_info` before their arrays: the name, a number, padding.
pub(crate) const ARRAY_AT: usize = NAME_LEN + 8;
/// How often a table that another program replaced meanwhile is looked at again.
pub(crate) const TRIES: u32 = 16;

/// A table as the kernel keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// How its rules lie in memory.
    pub layout: Layout,
    /// By `NF_INET_*` hook, where the table has it: the offsets of the first rule and of the policy.
    pub hooks: [Option<(u32, u32)>; HOOKS],
    /// Every rule, to be read with [`Entries`] or [`Image::table`].
    pub bytes: Vec<u8>,
}

impl Iptables {
    /// What a table of this name is called elsewhere.
    pub(crate) fn id(&self, name: &str) -> TableId {
        let family = match self.family {
            Family::V4 => TableFamily::Ip,
            Family::V6 => TableFamily::Ip6,
        };
        TableId { backend: Backend::IptablesLegacy, family, name: name.to_owned() }
    }

    /// The tables that exist in the calling thread's namespace.
    ///
    /// # Errors
    /// When the list cannot be read. A kernel without the old iptables has none.
    pub(crate) fn tables(&self) -> io::Result<Vec<String>> {
        match fs::read_to_string(self.names) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            names => Ok(names?.lines().map(str::to_owned).collect()),
        }
    }

    /// Any socket of the family does; this one needs no capability of its own.
    pub(crate) fn socket(&self) -> io::Result<UdpSocket> {
        UdpSocket::bind(self.bind)
    }

    /// Reads a table.
    ///
    /// # Errors
    /// When the kernel refuses it (CAP_NET_ADMIN); `Interrupted` where other programs replace the table again and
    /// again, [`TRIES`] times.
    pub(crate) fn read(&self, table: &str) -> io::Result<Image> {
        let socket = self.socket()?;
        for _ in 0..TRIES {
            let info = self.info(&socket, table)?;
            let size = info.last_chunk().map_or(0, |size| u32::from_ne_bytes(*size));
            let mut entries = named(table, ARRAY_AT + size as usize)?;
            entries[NAME_LEN..NAME_LEN + 4].copy_from_slice(&size.to_ne_bytes());
            match get(&socket, self.level, GET_ENTRIES, &mut entries) {
                // The size alone does not tell that the offsets belong to these rules.
                Ok(()) if self.info(&socket, table)? == info => {
                    let bytes = entries.split_off(ARRAY_AT);
                    return Ok(Image { layout: self.layout, hooks: hooks(&info), bytes });
                }
                Ok(()) => {}
                // The table has another size by now.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(ErrorKind::Interrupted, format!("table {table} changes all the time")))
    }

    fn info(&self, socket: &UdpSocket, table: &str) -> io::Result<Vec<u8>> {
        let mut info = named(table, INFO_LEN)?;
        get(socket, self.level, GET_INFO, &mut info)?;
        Ok(info)
    }
}

/// The hooks of a `struct ipt_getinfo`.
fn hooks(info: &[u8]) -> [Option<(u32, u32)>; HOOKS] {
    let word = |index: usize| {
        let bytes = info.get(NAME_LEN + 4 * index..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    };
    std::array::from_fn(|hook| (word(0) & 1 << hook != 0).then(|| (word(1 + hook), word(1 + HOOKS + hook))))
}

/// A structure of `len` bytes that begins with a table's name; what follows is 0.
pub(crate) fn named(table: &str, len: usize) -> io::Result<Vec<u8>> {
    // The last byte stays 0.
    if table.len() >= NAME_LEN {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut bytes = vec![0; len];
    bytes[..table.len()].copy_from_slice(table.as_bytes());
    Ok(bytes)
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
