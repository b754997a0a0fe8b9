//! One agent a network namespace.
//!
//! The lock is an abstract Unix socket: the kernel keeps those per network namespace, which is what must be locked,
//! and it goes with its holder however that ends.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use thiserror::Error;

const NAME: &str = "notrack-dev/agent";
/// A holder answers at once or is about to go.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why the lock was not taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another agent lives here.
    #[error(
        "another agent already runs in this network namespace: {holder}; stop it first, or leave the rules to it"
    )]
    Held {
        /// Who, as it says itself.
        holder: String,
    },
    /// The lock could not be tried.
    #[error("the agent's lock cannot be taken: {0}")]
    Io(#[from] io::Error),
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _listener: UnixListener,
}

/// Takes the lock of the calling thread's network namespace.
pub fn take() -> Result<Lock, LockError> {
    let address = SocketAddr::from_abstract_name(NAME)?;
    match UnixListener::bind_addr(&address) {
        Ok(listener) => {
            answer(listener.try_clone()?)?;
            Ok(Lock { _listener: listener })
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(LockError::Held {
            holder: ask(&address).unwrap_or_else(|_| "it does not say who it is".to_owned()),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Tells whoever asks who holds the lock.
fn answer(listener: UnixListener) -> io::Result<()> {
    let identity =
        format!("notrack-agent {} with process id {}", env!("CARGO_PKG_VERSION"), std::process::id());
    std::thread::Builder::new().name("lock".to_owned()).spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Who asked and went is of no interest.
            let _ = stream.write_all(identity.as_bytes());
        }
    })?;
    Ok(())
}

fn ask(address: &SocketAddr) -> io::Result<String> {
    let mut stream = UnixStream::connect_addr(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut holder = String::new();
    stream.read_to_string(&mut holder)?;
    Ok(holder)
}
