//! Packets that no ordinary program sends, and the number by which each is known again behind the firewall.

use std::net::IpAddr;

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Comes to the node from the wire.
    In,
    /// Sent by a program of the node, or, to a router, by a server behind it.
    Out,
}

/// Writes a number into a packet that survives reassembly: IPv4's identification, the lower half of IPv6's flow label.
pub fn stamp(packet: &mut [u8], number: u16) {
    if packet[0] >> 4 == 4 {
        packet[4..6].copy_from_slice(&number.to_be_bytes());
        fix_checksum(packet);
    } else {
        packet[2..4].copy_from_slice(&number.to_be_bytes());
        // The fragments of one packet have one number, those of another have another.
        if packet[6] == 44 {
            packet[46..48].copy_from_slice(&number.to_be_bytes());
        }
    }
}

fn fix_checksum(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 0x0f) * 4;
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = internet_sum(&packet[..length]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Of an even number of bytes, as IP headers and these ICMP messages have.
fn internet_sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet with options put into its header; their length is a multiple of four.
pub fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut out = [&packet[..20], options, &packet[20..]].concat();
    out[0] = 0x45 + (options.len() / 4) as u8;
    let length = out.len() as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    fix_checksum(&mut out);
    out
}

/// An IPv6 packet with a header of eight bytes put in front of its payload.
pub fn with_extension(packet: &[u8], kind: u8, body: [u8; 6]) -> Vec<u8> {
    let mut out = packet[..40].to_vec();
    out.push(packet[6]);
    out.push(0);
    out.extend(body);
    out.extend(&packet[40..]);
    out[6] = kind;
    let length = (out.len() - 40) as u16;
    out[4..6].copy_from_slice(&length.to_be_bytes());
    out
}

/// Six bytes of padding, as the options of hop-by-hop and destination headers.
pub const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];

/// A fragment of an IP packet: any bytes of its payload, at any place, a multiple of eight.
pub fn fragment(packet: &[u8], at: usize, bytes: &[u8], more: bool) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        let mut out = [&packet[..20], bytes].concat();
        let length = out.len() as u16;
        out[2..4].copy_from_slice(&length.to_be_bytes());
        out[6..8].copy_from_slice(&((at / 8) as u16 | u16::from(more) << 13).to_be_bytes());
        fix_checksum(&mut out);
        return out;
    }
    let place = (at as u16 | u16::from(more)).to_be_bytes();
    let whole = [&packet[..40], bytes].concat();
    with_extension(&whole, 44, [place[0], place[1], 0, 0, 0, 0])
}

/// Where the payload of a packet of the lab begins.
pub fn payload(packet: &[u8]) -> &[u8] {
    &packet[if packet[0] >> 4 == 4 { 20 } else { 40 }..]
}

/// A TCP segment with a wrong checksum.
pub fn with_wrong_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let at = packet.len() - 4;
    packet[at] ^= 0xff;
    packet
}

/// An ICMP error of IPv4 about any bytes; the lab's own embeds whole packets only.
pub fn icmp4_about(router: IpAddr, to: IpAddr, embedded: &[u8]) -> Vec<u8> {
    let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
    message.extend(embedded);
    let sum = internet_sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    notrack_lab::ip_packet(router, to, 1, &message)
}
