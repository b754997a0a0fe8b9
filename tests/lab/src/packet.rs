//! Raw IP packets, with the checksums a kernel insists on.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};

use crate::checksum::{crc32c, internet_sum};

/// TCP flags, to be combined with `|`.
pub mod tcp {
    #![allow(missing_docs, reason = "their names in RFC 9293 say it")]
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Who speaks to whom: both of one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    source: SocketAddr,
    destination: SocketAddr,
}

impl Flow {
    /// Refuses addresses of two families.
    pub fn new(source: SocketAddr, destination: SocketAddr) -> Result<Self> {
        if source.is_ipv4() != destination.is_ipv4() {
            bail!("{source} and {destination} are of different families");
        }
        Ok(Self { source, destination })
    }

    /// As in `10.0.0.2:40000` and `[fd00::2]:40000`.
    pub fn parse(source: &str, destination: &str) -> Result<Self> {
        let address = |text: &str| text.parse().with_context(|| format!("not an address: {text}"));
        Self::new(address(source)?, address(destination)?)
    }

    /// The other direction.
    pub fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }

    /// A TCP segment without data; [`Self::segment`] where sequence numbers matter.
    pub fn tcp(self, flags: u8) -> Vec<u8> {
        self.segment(flags, 1, 1, &[])
    }

    /// A TCP segment.
    pub fn segment(self, flags: u8, sequence: u32, acknowledged: u32, data: &[u8]) -> Vec<u8> {
        let mut segment = self.ports();
        segment.extend(sequence.to_be_bytes());
        segment.extend(acknowledged.to_be_bytes());
        // Header of five words, a window of 64240, checksum and urgent pointer still zero.
        segment.extend([5 << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        segment.extend(data);
        self.finish(TCP, segment, 16)
    }

    /// A UDP datagram.
    pub fn udp(self, data: &[u8]) -> Vec<u8> {
        let mut datagram = self.ports();
        datagram.extend((8 + data.len() as u16).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(data);
        self.finish(UDP, datagram, 6)
    }

    /// An SCTP packet with an INIT chunk, as opens an association.
    pub fn sctp_init(self) -> Vec<u8> {
        self.sctp(1)
    }

    /// The same, with another type of chunk.
    pub fn sctp(self, chunk: u8) -> Vec<u8> {
        let mut packet = self.ports();
        packet.extend([0; 8]); // Verification tag 0, as INIT demands; checksum.
        packet.extend([chunk, 0, 0, 20]); // No flags, its length.
        packet.extend([0, 0, 0, 1]); // Initiate tag.
        packet.extend([0, 1, 0, 0]); // Receive window.
        packet.extend([0, 1, 0, 1]); // One stream each way.
        packet.extend([0, 0, 0, 1]); // First sequence number.
        let sum = crc32c(&packet);
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
        ip_packet(self.source.ip(), self.destination.ip(), SCTP, &packet)
    }

    fn ports(self) -> Vec<u8> {
        let [source, destination] = [self.source, self.destination].map(|end| end.port());
        [source.to_be_bytes(), destination.to_be_bytes()].concat()
    }

    fn finish(self, protocol: u8, mut payload: Vec<u8>, checksum_at: usize) -> Vec<u8> {
        let (source, destination) = (self.source.ip(), self.destination.ip());
        let sum = transport_sum(source, destination, protocol, &payload);
        payload[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        ip_packet(source, destination, protocol, &payload)
    }
}

/// An IP packet around any payload. The addresses are of one family, as a [`Flow`]'s are; an
/// IPv6 destination with an IPv4 source is taken as IPv4-mapped.
pub fn ip_packet(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0];
            header.extend((20 + payload.len() as u16).to_be_bytes());
            header.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = internet_sum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        _ => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((payload.len() as u16).to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(octets6(source));
            header.extend(octets6(destination));
            header
        }
    };
    packet.extend(payload);
    packet
}

fn octets6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn transport_sum(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> u16 {
    let length = (payload.len() as u32).to_be_bytes();
    let next = [0, 0, 0, protocol];
    let sum = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            internet_sum(&[&source.octets(), &destination.octets(), &length, &next, payload])
        }
        _ => {
            let [source, destination] = [octets6(source), octets6(destination)];
            internet_sum(&[&source, &destination, &length, &next, payload])
        }
    };
    // Zero would mean "no checksum" in UDP; its other form is equal for the rest.
    if sum == 0 { 0xffff } else { sum }
}

/// What an ICMP error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// Nobody listens there.
    PortUnreachable,
    /// Fragmentation needed (IPv4), packet too big (IPv6).
    TooBig {
        /// The next link's.
        mtu: u16,
    },
    /// Time to live exceeded in transit.
    TimeExceeded,
    /// A bad header.
    ParameterProblem,
    /// Not an error, but it embeds a packet too: must never be let through by us.
    Redirect,
}

impl IcmpError {
    /// Type, code and the word behind the checksum.
    fn head(self, v4: bool) -> (u8, u8, u32) {
        match (self, v4) {
            (Self::PortUnreachable, true) => (3, 3, 0),
            (Self::PortUnreachable, false) => (1, 4, 0),
            (Self::TooBig { mtu }, true) => (3, 4, mtu.into()),
            (Self::TooBig { mtu }, false) => (2, 0, mtu.into()),
            (Self::TimeExceeded, true) => (11, 0, 0),
            (Self::TimeExceeded, false) => (3, 0, 0),
            (Self::ParameterProblem, true) => (12, 0, 0),
            (Self::ParameterProblem, false) => (4, 0, 0),
            (Self::Redirect, true) => (5, 1, 0),
            (Self::Redirect, false) => (137, 0, 0),
        }
    }
}

/// The ICMP error that `router` sends to the source of `about`, a whole IP packet, which it embeds
/// as routers do: header and eight bytes in IPv4, as much as fits 1,280 bytes in IPv6.
pub fn icmp_error(router: IpAddr, error: IcmpError, about: &[u8]) -> Result<Vec<u8>> {
    let (destination, embedded) = match about.first().map(|byte| byte >> 4) {
        Some(4) if about.len() >= 20 => {
            let source: [u8; 4] = about[12..16].try_into()?;
            let header = usize::from(about[0] & 0x0f) * 4;
            (IpAddr::from(source), &about[..about.len().min(header + 8)])
        }
        Some(6) if about.len() >= 40 => {
            let source: [u8; 16] = about[8..24].try_into()?;
            (IpAddr::from(source), &about[..about.len().min(1280 - 48)])
        }
        _ => bail!("an ICMP error needs a whole IP packet to be about"),
    };
    if router.is_ipv4() != destination.is_ipv4() {
        bail!("{router} cannot send an ICMP error to {destination}");
    }
    let (kind, code, word) = error.head(router.is_ipv4());
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(embedded);
    let (protocol, sum) = if router.is_ipv4() {
        (ICMP, internet_sum(&[&message]))
    } else {
        (ICMPV6, transport_sum(router, destination, ICMPV6, &message))
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Ok(ip_packet(router, destination, protocol, &message))
}

/// Cuts an IP packet into fragments of `size` payload bytes each, a multiple of eight.
pub fn fragments(packet: &[u8], size: usize) -> Result<Vec<Vec<u8>>> {
    if size == 0 || !size.is_multiple_of(8) {
        bail!("fragments are multiples of eight bytes, not {size}");
    }
    let v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let header = if v4 { 20 } else { 40 };
    let Some((head, payload)) = packet.split_at_checked(header) else {
        bail!("a packet without a whole IP header");
    };
    let count = payload.len().div_ceil(size);
    Ok(payload
        .chunks(size)
        .enumerate()
        .map(|(index, chunk)| {
            let more = index + 1 < count;
            let eights = (index * size / 8) as u16;
            if v4 { fragment4(head, chunk, eights, more) } else { fragment6(head, chunk, eights, more) }
        })
        .collect())
}

fn fragment4(head: &[u8], chunk: &[u8], eights: u16, more: bool) -> Vec<u8> {
    let mut packet = head.to_vec();
    packet[2..4].copy_from_slice(&(20 + chunk.len() as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&(eights | u16::from(more) << 13).to_be_bytes());
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = internet_sum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(chunk);
    packet
}

fn fragment6(head: &[u8], chunk: &[u8], eights: u16, more: bool) -> Vec<u8> {
    let mut packet = head.to_vec();
    packet[4..6].copy_from_slice(&(8 + chunk.len() as u16).to_be_bytes());
    packet.extend([packet[6], 0]);
    packet[6] = FRAGMENT;
    packet.extend((eights << 3 | u16::from(more)).to_be_bytes());
    packet.extend([0, 0, 0, 1]);
    packet.extend(chunk);
    packet
}
