//! Rules as nft writes them, from their meaning.

use std::collections::BTreeMap;
use std::fmt::Write;

use notrack_core::host::{HostSet, HostVerdict};
use notrack_core::net::{AddressRange, Family};

use super::compare::{Comparison, Relation, ones};
use super::expression::{Piece, names};
use super::load::{Kind, Segment};
use super::names as known;

/// A set of more elements is cut short.
const MOST_ELEMENTS: usize = 12;
/// Elements that are left of a set that is cut short.
const FEW_ELEMENTS: usize = 3;

type Sets = BTreeMap<String, HostSet>;

/// A rule in nft's words.
pub(super) fn rule(pieces: &[Piece], sets: &Sets) -> String {
    let mut words = Vec::with_capacity(pieces.len());
    for piece in pieces {
        words.push(match piece {
            Piece::Comparison { implied: true, .. } => continue,
            Piece::Comparison { comparison, .. } => self::comparison(comparison, sets),
            Piece::VerdictMap { fields, map } => format!("{} vmap {}", names(fields), set(fields, map, sets)),
            Piece::Words(words) | Piece::Extension(words) => words.clone(),
            Piece::Counter => "counter".to_owned(),
            Piece::Verdict(verdict) => self::verdict(verdict),
        });
    }
    words.join(" ")
}

fn comparison(Comparison { fields, relation }: &Comparison, sets: &Sets) -> String {
    let name = names(fields);
    let kind = fields.first().map_or(Kind::Hex, |segment| segment.kind);
    let not = |inverted: &bool| if *inverted { "!= " } else { "" };
    match relation {
        Relation::Range { inverted, range: (low, high) } => {
            let missing = fields.first().map_or(0, |segment| segment.missing);
            format!("{name} {}{}", not(inverted), range(kind, (*low, *high), missing))
        }
        Relation::Order("==", number) => format!("{name} {}", value(kind, *number)),
        Relation::Order(sign, number) => format!("{name} {sign} {}", value(kind, *number)),
        Relation::Set { inverted, name: of } => format!("{name} {}{}", not(inverted), set(fields, of, sets)),
        Relation::Masked { mask, inverted, value: number } => {
            let (mask_text, text) = (value(kind, *mask), value(kind, *number));
            match kind {
                Kind::CtState | Kind::CtStatus | Kind::TcpFlags if *number == 0 => {
                    let sign = if *inverted { "" } else { "! " };
                    format!("{name} {sign}{mask_text}")
                }
                Kind::TcpFlags => format!("{name} {}{text} / {mask_text}", not(inverted)),
                _ => format!("{name} & {mask_text} {} {text}", if *inverted { "!=" } else { "==" }),
            }
        }
    }
}

/// A set by its name, or by what is in it where it has no name of its own.
fn set(fields: &[Segment], name: &str, sets: &Sets) -> String {
    let anonymous = name.starts_with("__set") || name.starts_with("__map");
    let Some(HostSet { elements, unknown: false, .. }) = sets.get(name).filter(|_| anonymous) else {
        return format!("@{name}");
    };
    let mut text = String::from("{ ");
    let shown = if elements.len() > MOST_ELEMENTS { FEW_ELEMENTS } else { elements.len() };
    for (place, element) in elements.iter().take(shown).enumerate() {
        if place > 0 {
            text.push_str(", ");
        }
        for (place, (segment, values)) in fields.iter().zip(&element.values).enumerate() {
            if place > 0 {
                text.push_str(" . ");
            }
            text.push_str(&range(segment.kind, *values, 0));
        }
        if let Some(verdict) = &element.verdict {
            // Writing to a String cannot fail.
            let _ = write!(text, " : {}", self::verdict(verdict));
        }
    }
    if shown < elements.len() {
        let _ = write!(text, ", ... {} more", elements.len() - shown);
    }
    text + " }"
}

fn verdict(verdict: &HostVerdict) -> String {
    match verdict {
        HostVerdict::Accept => "accept".to_owned(),
        HostVerdict::Drop => "drop".to_owned(),
        HostVerdict::Queue => "queue".to_owned(),
        HostVerdict::Return => "return".to_owned(),
        HostVerdict::Jump(chain) => format!("jump {chain}"),
        HostVerdict::Goto(chain) => format!("goto {chain}"),
    }
}

/// A range of values. Of a field whose last bytes were not looked at, the ends are numbers of the whole field.
fn range(kind: Kind, (low, high): (u128, u128), missing: usize) -> String {
    match kind {
        Kind::Address(family) => AddressRange { family, first: low, last: high }.to_string(),
        Kind::Interface if low != high => format!("\"{}*\"", interface(low)),
        Kind::Hex | Kind::Number if missing > 0 => value(kind, low >> (8 * missing.min(15))),
        _ if low == high => value(kind, low),
        _ => format!("{}-{}", value(kind, low), value(kind, high)),
    }
}

/// One value.
pub(super) fn value(kind: Kind, number: u128) -> String {
    let named = match kind {
        Kind::Family => known::name(known::FAMILIES, number),
        Kind::Proto => known::name(known::PROTOCOLS, number),
        Kind::CtDirection => known::name(known::CT_DIRECTIONS, number),
        Kind::IcmpType => known::name(known::ICMP_TYPES, number),
        Kind::Icmpv6Type => known::name(known::ICMPV6_TYPES, number),
        Kind::RouteType => known::name(known::ROUTE_TYPES, number),
        Kind::PacketType => known::name(known::PACKET_TYPES, number),
        Kind::Presence => known::name(known::PRESENCE, number),
        Kind::CtState | Kind::CtStatus | Kind::TcpFlags => {
            let names = match kind {
                Kind::CtState => known::CT_STATES,
                Kind::CtStatus => known::CT_STATUS,
                _ => known::TCP_FLAGS,
            };
            return known::bits(names, number).unwrap_or_else(|| format!("{number:#x}"));
        }
        Kind::Address(family) => {
            let number = number & if family == Family::Ipv4 { ones(4) } else { u128::MAX };
            return AddressRange { family, first: number, last: number }.to_string();
        }
        Kind::Mark => return format!("{number:#010x}"),
        Kind::Hex => return format!("{number:#x}"),
        Kind::Interface => return format!("\"{}\"", interface(number)),
        Kind::Number => None,
    };
    named.map_or_else(|| number.to_string(), str::to_owned)
}

/// The name that a number stands for.
fn interface(number: u128) -> String {
    let bytes = number.to_be_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
