//! Putting raw packets in front of the hooks: a TUN device for prerouting, a raw socket for output.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::socket::sockopt::Mark;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, setsockopt,
    socket,
};

use crate::link::configure;
use crate::namespace::Namespace;

/// A TUN device: what is sent arrives in its namespace as if from a wire, and what the namespace
/// routes out of the device can be received.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
}

impl Tun {
    /// Makes the device `name`, up, with `addresses` as in `10.0.0.1/24`.
    pub(crate) fn new(host: &Namespace, name: &str, addresses: &[&str]) -> Result<Self> {
        let file = host.enter(|| open_tun(name))??;
        configure(host, name, addresses)?;
        Ok(Self { file, name: name.to_owned() })
    }

    /// Lets one IP packet come in.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        (&self.file)
            .write_all(packet)
            .with_context(|| format!("cannot inject a packet through {}", self.name))
    }

    /// The next packet that goes out, if one does within `timeout`.
    pub fn receive(&self, timeout: Duration) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + timeout;
        let mut packet = vec![0; 65536];
        loop {
            match (&self.file).read(&mut packet) {
                Ok(length) => {
                    packet.truncate(length);
                    return Ok(Some(packet));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("cannot read from a TUN device"),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait_readable(left);
        }
    }

    /// The first packet going out that `wanted` accepts; others, such as the kernel's own router
    /// solicitations, are passed over.
    pub fn receive_where(
        &self,
        timeout: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + timeout;
        while let Some(packet) = self.receive(deadline.saturating_duration_since(Instant::now()))? {
            if wanted(&packet) {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }

    fn wait_readable(&self, timeout: Duration) {
        let mut wait = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = timeout.as_millis().clamp(1, 60_000) as libc::c_int;
        // SAFETY: `wait` is one pollfd, as the count says, and outlives the call. What it returns
        // does not matter: the caller reads again and looks at the clock.
        unsafe { libc::poll(&raw mut wait, 1, milliseconds) };
    }
}

fn open_tun(name: &str) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("no TUN devices here (/dev/net/tun): the kernel needs CONFIG_TUN")?;
    // SAFETY: ifreq is plain data, valid when all zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: the kernel wants a C string.
    if name.len() >= request.ifr_name.len() {
        bail!("{name} is too long for the name of a device");
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is, for the call's length.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("cannot make the TUN device {name}"));
    }
    Ok(file)
}

/// The mark of packets sent by a [`RawSocket`]: what the kernel sends on its own has none, so that a rule can tell.
pub const RAW_MARK: u32 = 0x6e74;

/// Sends whole IP packets, marked [`RAW_MARK`], through the output hook, whatever their source address.
#[derive(Debug)]
pub struct RawSocket {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl RawSocket {
    pub(crate) fn new(host: &Namespace) -> Result<Self> {
        // Protocol IPPROTO_RAW means that the header is ours, in both families.
        let open = |family| -> Result<OwnedFd> {
            let opened = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
                .context("cannot open a raw socket")?;
            setsockopt(&opened, Mark, &RAW_MARK).context("cannot mark a raw socket's packets")?;
            Ok(opened)
        };
        host.enter(|| Ok(Self { v4: open(AddressFamily::Inet)?, v6: open(AddressFamily::Inet6)? }))?
    }

    /// Sends one packet to the destination in its header.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let destination = destination_of(packet)?;
        match destination {
            IpAddr::V4(address) => {
                let to = SockaddrIn::from(std::net::SocketAddrV4::new(address, 0));
                sendto(self.v4.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
            IpAddr::V6(address) => {
                let to = SockaddrIn6::from(std::net::SocketAddrV6::new(address, 0, 0, 0));
                sendto(self.v6.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
        }
        .with_context(|| format!("cannot send a raw packet to {destination}"))?;
        Ok(())
    }
}

fn destination_of(packet: &[u8]) -> Result<IpAddr> {
    Ok(match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= 20 => Ipv4Addr::from(<[u8; 4]>::try_from(&packet[16..20])?).into(),
        Some(6) if packet.len() >= 40 => Ipv6Addr::from(<[u8; 16]>::try_from(&packet[24..40])?).into(),
        _ => bail!("not an IP packet"),
    })
}

impl Namespace {
    /// Makes a TUN device in here, up, with `addresses` as in `10.0.0.1/24`.
    pub fn tun(&self, name: &str, addresses: &[&str]) -> Result<Tun> {
        Tun::new(self, name, addresses)
    }

    /// Opens a sender of raw packets in here.
    pub fn raw_socket(&self) -> Result<RawSocket> {
        RawSocket::new(self)
    }
}
