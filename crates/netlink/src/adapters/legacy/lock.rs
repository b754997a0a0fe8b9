//! The lock that iptables takes while it changes a table.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use notrack_core::host::TableId;

use crate::adapters::AdapterError;

const FILE: &str = "/run/xtables.lock";
/// A load of thousands of rules holds it for some seconds.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// Held until it is dropped.
pub(super) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Waits for the lock. Where the file can neither be opened nor made (a container whose root file system is
    /// read-only and that has no `/run` of the host's) there is nothing to hold: what another program does at the same
    /// time is then found by reading the table again.
    pub fn take(table: &TableId) -> Result<Lock, AdapterError> {
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(FILE);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                tracing::debug!(file = FILE, %error, "changing iptables without its lock");
                return Ok(Lock { _file: None });
            }
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: Some(file) }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(POLL),
                Err(TryLockError::WouldBlock) => {
                    return Err(AdapterError::Locked { table: table.clone(), file: FILE });
                }
                Err(TryLockError::Error(error)) => {
                    tracing::debug!(file = FILE, %error, "changing iptables without its lock");
                    return Ok(Lock { _file: None });
                }
            }
        }
    }
}
