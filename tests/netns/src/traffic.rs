//! Real connections between hosts of a test, and what the table keeps of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use notrack_lab::{Namespace, wait_until};

/// How long a packet may take. Longer than a lost one needs to be sent again: what fails within it is cut off.
const PATIENCE: Duration = Duration::from_millis(2500);

/// An open TCP connection: both ends.
#[derive(Debug)]
pub struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    /// Opens one from a host to another's address; the client has its source from the kernel.
    pub fn open(client: &Namespace, server: &Namespace, to: SocketAddr) -> Result<Connection> {
        Connection::translated(client, to, server, to)
    }

    /// Opens one to an address that becomes another one on the way: that at which the server listens.
    pub fn translated(
        client: &Namespace,
        to: SocketAddr,
        server: &Namespace,
        at: SocketAddr,
    ) -> Result<Connection> {
        let listener = bind(server, || TcpListener::bind(at))?;
        listener.set_nonblocking(true)?;
        let client = client.enter(|| TcpStream::connect_timeout(&to, PATIENCE))??;
        // The client may be connected to something else on the way.
        let mut accepted = None;
        wait_until("a connection at the server", PATIENCE, || {
            accepted = listener.accept().ok();
            accepted.is_some()
        })?;
        let (server, _) = accepted.context("no connection")?;
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE))?;
        }
        Ok(Connection { client, server })
    }

    /// Sends something each way, the client first.
    pub fn talk(&mut self) -> io::Result<()> {
        exchange(&mut self.client, &mut self.server)
    }

    /// Sends something each way, the server first.
    pub fn talk_back(&mut self) -> io::Result<()> {
        exchange(&mut self.server, &mut self.client)
    }

    /// Sends so many bytes from the client to the server.
    pub fn pour(&mut self, bytes: usize) -> io::Result<()> {
        let Connection { client, server } = self;
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| client.write_all(&vec![0; bytes]));
            server.read_exact(&mut vec![0; bytes])?;
            sent.join().unwrap_or_else(|_| Err(ErrorKind::Other.into()))
        })
    }

    /// The addresses of client and server.
    pub fn ends(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.client.local_addr()?, self.client.peer_addr()?))
    }

    /// The client's port, which tells it from other connections to the same server.
    pub fn client_port(&self) -> io::Result<u16> {
        Ok(self.client.local_addr()?.port())
    }
}

fn exchange(one: &mut TcpStream, other: &mut TcpStream) -> io::Result<()> {
    let mut byte = [0];
    one.write_all(b"?")?;
    other.read_exact(&mut byte)?;
    other.write_all(b"!")?;
    one.read_exact(&mut byte)
}

/// Binds on a host. A program that another test is starting holds our closed sockets open until it runs: their ports
/// are free a moment later.
pub fn bind<T: Send>(host: &Namespace, socket: impl Fn() -> io::Result<T> + Send + Sync) -> Result<T> {
    let mut bound = host.enter(&socket)?;
    let taken = |bound: &io::Result<T>| matches!(bound, Err(error) if error.kind() == ErrorKind::AddrInUse);
    if taken(&bound) {
        wait_until("a free port", PATIENCE, || {
            if let Ok(again) = host.enter(&socket) {
                bound = again;
            }
            !taken(&bound)
        })?;
    }
    Ok(bound?)
}

/// A whole TCP connection with data each way.
pub fn tcp(client: &Namespace, server: &Namespace, to: &str) -> Result<()> {
    Ok(Connection::open(client, server, to.parse()?)?.talk()?)
}

/// A question and its answer by UDP; `from` may leave the port to the kernel (0).
pub fn udp(client: &Namespace, server: &Namespace, from: &str, to: &str) -> Result<()> {
    let answers = bind(server, || UdpSocket::bind(to))?;
    let asks = bind(client, || UdpSocket::bind(from))?;
    for socket in [&answers, &asks] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    asks.send_to(b"?", to)?;
    let (_, asker) = answers.recv_from(&mut [0; 8])?;
    answers.send_to(b"!", asker)?;
    asks.recv(&mut [0; 8])?;
    Ok(())
}

/// The entries of both families in which any end has the port.
pub fn entries(host: &Namespace, port: u16) -> Result<Vec<String>> {
    let mut all = host.conntrack("-f ipv4")?;
    all.extend(host.conntrack("-f ipv6")?);
    let field = format!("port={port} ");
    all.retain(|entry| entry.contains(&field));
    Ok(all)
}
