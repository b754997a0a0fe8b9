//! What a rule compares without extensions: `struct ipt_ip` and `ip6t_ip6`.

use libc::IFNAMSIZ;
use notrack_core::host::{Field, Members, Step, interface_number};
use notrack_core::net::Family;

use crate::host::xt::{Inet, compare, joined};
use crate::xtables::{Entry, Layout};

/// Those comparisons.
pub(super) struct Header {
    /// What they are.
    pub steps: Vec<Step>,
    /// As iptables writes them.
    pub text: String,
    /// Whether a jump of this rule does not come back (`-g`).
    pub goes: bool,
}

/// `IPT_F_GOTO` and `IP6T_F_GOTO`.
const GOTO_V4: u8 = 1 << 1;
const GOTO_V6: u8 = 1 << 2;
/// `IPT_INV_*` and `IP6T_INV_*`.
const NOT_IN: u8 = 1;
const NOT_OUT: u8 = 1 << 1;
const NOT_TOS: u8 = 1 << 2;
const NOT_SOURCE: u8 = 1 << 3;
const NOT_DESTINATION: u8 = 1 << 4;
const NOT_FRAGMENT: u8 = 1 << 5;
const NOT_PROTO: u8 = 1 << 6;
/// `IPT_F_FRAG`.
const FRAGMENT: u8 = 1;
/// `IP6T_F_PROTO`: without it the protocol does not count.
const PROTO: u8 = 1;
/// `IP6T_F_TOS`.
const TOS: u8 = 1 << 1;

impl Header {
    /// Reads the beginning of a rule.
    pub(super) fn read(entry: &Entry<'_>) -> Option<Self> {
        let Layout { family, interfaces, proto, flags, .. } = entry.layout;
        let entry = entry.bytes;
        let v4 = family == Family::Ipv4;
        let inet = Inet::of(Some(family), &[]);
        let [flags, inverted] = *entry.get(flags..)?.first_chunk()?;
        let goto = if v4 { GOTO_V4 } else { GOTO_V6 };
        let mut header = Self { steps: Vec::new(), text: String::new(), goes: flags & goto != 0 };

        let address = |place: usize| {
            let mut all = [0; 16];
            let len = family.address_len();
            all[..len].copy_from_slice(entry.get(place * len..)?.get(..len)?);
            Some(all)
        };
        for (option, field, not, place) in
            [("-s", inet.source(), NOT_SOURCE, 0), ("-d", inet.destination(), NOT_DESTINATION, 1)]
        {
            let (address, mask) = (address(place)?, address(place + 2)?);
            let not = inverted & not != 0;
            if not || mask != [0; 16] {
                let step = compare(field, not, inet.masked(&address, &mask));
                header.add(not, &format!("{option} {}", inet.shown_prefix(&address, &mask)), step);
            }
        }

        let name = |place: usize| entry.get(interfaces + place * IFNAMSIZ..)?.first_chunk();
        for (option, field, not, place) in
            [("-i", Field::InInterface, NOT_IN, 0), ("-o", Field::OutInterface, NOT_OUT, 1)]
        {
            let (name, mask): (&[u8; IFNAMSIZ], &[u8; IFNAMSIZ]) = (name(place)?, name(place + 2)?);
            let not = inverted & not != 0;
            if not || mask != &[0; IFNAMSIZ] {
                let (of, shown) = interface(name, mask);
                header.add(not, &format!("{option} {shown}"), compare(field, not, of));
            }
        }

        let proto = u16::from_ne_bytes(*entry.get(proto..)?.first_chunk()?);
        let not = inverted & NOT_PROTO != 0;
        if proto != 0 && (v4 || flags & PROTO != 0) {
            let number = u128::from(proto);
            let step = compare(Field::L4Proto, not, Members::Boxes(vec![vec![(number, number)]]));
            header.add(not, &format!("-p {}", proto_name(proto)), step);
        }
        if v4 && flags & FRAGMENT != 0 {
            header.add(inverted & NOT_FRAGMENT != 0, "-f", Step::Opaque("fragment".to_owned()));
        }
        if !v4 && flags & TOS != 0 {
            header.add(inverted & NOT_TOS != 0, "", Step::Opaque("tos".to_owned()));
        }
        Some(header)
    }

    fn add(&mut self, inverted: bool, text: &str, step: Step) {
        let not = if inverted && !text.is_empty() { "! " } else { "" };
        self.text = joined(&self.text, &format!("{not}{text}"));
        self.steps.push(step);
    }
}

/// The names that are meant, and how iptables writes them: the mask covers the NUL at a name's end, or just the
/// beginning that counts.
fn interface(name: &[u8; IFNAMSIZ], mask: &[u8; IFNAMSIZ]) -> (Members, String) {
    let covered = mask.iter().take_while(|byte| **byte == u8::MAX).count();
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(IFNAMSIZ);
    let shown = String::from_utf8_lossy(&name[..end.min(covered)]).into_owned();
    if mask[covered..].iter().any(|byte| *byte != 0) {
        return (Members::Unknown, shown);
    }
    let low = u128::from_be_bytes(*name);
    if covered > end || covered == IFNAMSIZ {
        let exact = interface_number(&shown);
        return (Members::Boxes(vec![vec![(exact, exact)]]), shown);
    }
    let any = u128::MAX.checked_shr(8 * covered as u32).unwrap_or_default();
    (Members::Boxes(vec![vec![(low & !any, low | any)]]), format!("{shown}+"))
}

/// As `/etc/protocols` calls it on most hosts.
fn proto_name(proto: u16) -> String {
    let name = match proto {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        136 => "udplite",
        other => return other.to_string(),
    };
    name.to_owned()
}
