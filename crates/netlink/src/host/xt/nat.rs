//! What a NAT target translates to.

use notrack_core::host::{NatTarget, NatTo};
use notrack_core::net::{AddressRange, Family, PortRange};

use super::address::{Inet, prefix_len};
use super::bytes::{array, be16, ne32};

/// `NF_NAT_RANGE_*`.
const ADDRESSES: u32 = 1;
const PORTS: u32 = 1 << 1;
const RANDOM: u32 = 1 << 2;
const PERSISTENT: u32 = 1 << 3;
const FULLY_RANDOM: u32 = 1 << 4;
const OFFSET: u32 = 1 << 5;

/// `struct nf_nat_range2`, of which `nf_nat_range` is the beginning, or `nf_nat_ipv4_multi_range_compat`.
pub(super) struct NatRange {
    flags: u32,
    low: [u8; 16],
    high: [u8; 16],
    ports: (u16, u16),
    base_port: u16,
    inet: Inet,
}

impl NatRange {
    /// Reads any of the three: the one of IPv4 alone is the shorter.
    pub(super) fn read(family: Option<Family>, info: &[u8]) -> Option<Self> {
        const RANGE_LEN: usize = 40;
        if info.len() < RANGE_LEN {
            let v4 = |at| {
                let mut all = [0; 16];
                all[..4].copy_from_slice(&array::<4>(info, at)?);
                Some(all)
            };
            return Some(Self {
                flags: ne32(info, 4)?,
                low: v4(8)?,
                high: v4(12)?,
                ports: (be16(info, 16)?, be16(info, 18)?),
                base_port: 0,
                inet: Inet::of(Some(Family::Ipv4), &[]),
            });
        }
        let (low, high) = (array(info, 4)?, array(info, 20)?);
        Some(Self {
            flags: ne32(info, 0)?,
            low,
            high,
            ports: (be16(info, 36)?, be16(info, 38)?),
            base_port: be16(info, 40).unwrap_or_default(),
            inet: Inet::of(family, &[low, high]),
        })
    }

    /// Where `DNAT` sends packets.
    pub(super) fn destination(&self) -> NatTo {
        let target = if self.flags & ADDRESSES == 0 { NatTarget::Kept } else { self.target() };
        NatTo { target, ports: self.port_range() }
    }

    /// Where `REDIRECT` sends packets.
    pub(super) fn redirection(&self) -> NatTo {
        NatTo { target: NatTarget::Own, ports: self.port_range() }
    }

    /// The network that `NETMAP` puts in the place of another, as a destination.
    pub(super) fn mapping(&self) -> NatTo {
        NatTo { target: self.target(), ports: None }
    }

    fn target(&self) -> NatTarget {
        let number = |bytes| self.inet.bytes(bytes).iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        let family = if self.inet.bits() == 32 { Family::Ipv4 } else { Family::Ipv6 };
        let (first, last) = (number(&self.low), number(&self.high));
        NatTarget::Addresses(AddressRange { family, first, last: last.max(first) })
    }

    fn port_range(&self) -> Option<PortRange> {
        let (low, high) = self.ports;
        PortRange::new(low, high.max(low)).filter(|_| self.flags & PORTS != 0)
    }

    /// `10.0.0.1-10.0.0.4:80-90`, of which each part may be missing.
    pub(super) fn addresses_and_ports(&self) -> String {
        let mut text = String::new();
        if self.flags & ADDRESSES != 0 {
            text = self.inet.shown(&self.low);
            if self.high != self.low {
                text += &format!("-{}", self.inet.shown(&self.high));
            }
            if self.inet.bits() == 128 && self.flags & PORTS != 0 {
                text = format!("[{text}]");
            }
        }
        match self.ports() {
            Some(ports) => format!("{text}:{ports}"),
            None => text,
        }
    }

    /// `8080`, `1000-2000`, with the port that is the first one's at `/`.
    pub(super) fn ports(&self) -> Option<String> {
        let (low, high) = self.ports;
        (self.flags & PORTS != 0).then(|| {
            let mut text = super::text::span(low, high, '-');
            if self.flags & OFFSET != 0 {
                text += &format!("/{}", self.base_port);
            }
            text
        })
    }

    /// The network that `NETMAP` puts in the place of another.
    pub(super) fn network(&self) -> String {
        // The bits in which the first and the last address agree are the mask.
        let mut mask = [0; 16];
        for (mask, (low, high)) in mask.iter_mut().zip(self.low.iter().zip(&self.high)) {
            *mask = !(low ^ high);
        }
        let shown = self.inet.shown(&self.low);
        match prefix_len(self.inet.bytes(&mask)) {
            Some(len) if len == self.inet.bits() => shown,
            Some(len) => format!("{shown}/{len}"),
            None => format!("{shown}/{}", self.inet.shown(&mask)),
        }
    }

    /// How a port or an address is chosen among several.
    pub(super) fn choice(&self) -> Vec<String> {
        let named = [(RANDOM, "--random"), (FULLY_RANDOM, "--random-fully"), (PERSISTENT, "--persistent")];
        named.into_iter().filter(|(flag, _)| self.flags & flag != 0).map(|(_, name)| name.into()).collect()
    }
}
