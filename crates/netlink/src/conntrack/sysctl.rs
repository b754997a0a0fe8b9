//! The settings of tracking below `/proc/sys/net/netfilter`.
//!
//! The directory shows the network namespace of the calling thread. `nf_conntrack_max` and
//! `nf_conntrack_buckets` are the whole machine's, and read-only in every namespace but the first.

use std::path::PathBuf;
use std::{fs, io};

use thiserror::Error;

/// Most entries (of the machine).
pub const MAX: &str = "nf_conntrack_max";
/// Buckets of the hash table (of the machine). The kernel makes `max` equal to it by default.
pub const BUCKETS: &str = "nf_conntrack_buckets";
/// Entries of this namespace.
pub const COUNT: &str = "nf_conntrack_count";
/// Whether a TCP connection may be picked up in its middle (1) or not (0).
pub const TCP_LOOSE: &str = "nf_conntrack_tcp_loose";
/// Seconds without a packet after which an open TCP connection is forgotten.
pub const TCP_ESTABLISHED: &str = "nf_conntrack_tcp_timeout_established";

/// A setting that cannot be read or written.
#[derive(Debug, Error)]
#[error("sysctl net.netfilter.{name}: {source}")]
pub struct SysctlError {
    /// The setting.
    pub name: String,
    /// Why.
    pub source: io::Error,
}

/// Reads a setting, by its file's name.
///
/// # Errors
/// When it does not exist (connection tracking is not loaded) or is not a number.
pub fn read(name: &str) -> Result<u32, SysctlError> {
    fs::read_to_string(path(name))
        .and_then(|text| text.trim().parse().map_err(|_| io::Error::other("not a number")))
        .map_err(|source| SysctlError { name: name.to_owned(), source })
}

/// Writes a setting, by its file's name.
///
/// # Errors
/// When it does not exist, or is read-only: in every namespace but the first for [`MAX`] and [`BUCKETS`],
/// and wherever the file system is mounted read-only, as in most containers.
pub fn write(name: &str, value: u32) -> Result<(), SysctlError> {
    fs::write(path(name), value.to_string()).map_err(|source| SysctlError { name: name.to_owned(), source })
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/netfilter").join(name)
}
