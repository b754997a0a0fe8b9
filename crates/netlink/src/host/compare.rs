//! Comparisons of a register, as values of fields.

use notrack_core::host::{CT_STATES, Field, Match, Members};

use super::interfaces::Interfaces;
use super::load::{Kind, Load, Meaning, Segment};
use crate::nft::uapi;

/// A comparison as it is to be printed.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub fields: Vec<Segment>,
    pub relation: Relation,
}

/// How fields are compared.
#[derive(Clone, Debug)]
pub(super) enum Relation {
    /// The field (one) is in a range, or is not.
    Range { inverted: bool, range: (u128, u128) },
    /// The field (one) stands in an order to a value: `<`, `==`.
    Order(&'static str, u128),
    /// The masked field is a value, or is not.
    Masked { mask: u128, inverted: bool, value: u128 },
    /// The fields are in a set of the table.
    Set { inverted: bool, name: String },
}

pub(super) type Judged = Vec<(Match, Comparison)>;

/// What a `cmp` asks of a register; `None` where its bytes make no sense.
pub(super) fn compare(load: &Load, op: u32, data: &[u8], interfaces: &mut Interfaces) -> Option<Judged> {
    if data.is_empty() {
        return None;
    }
    if let [_, _, ..] = load.segments.as_slice() {
        return several(load, op, data, interfaces);
    }
    let mut segment = load.segments.first()?.clone();
    // Of what has no name here, the length is not known.
    if load.host_order && matches!(segment.field, Field::Other(_)) {
        segment.bytes = segment.bytes.min(data.len());
    }
    let missing = segment.bytes.checked_sub(data.len())?;
    segment.bytes -= missing;
    segment.missing += missing;
    // Shorter data compare the first bytes only, which a number in the machine's order does not begin with.
    let number = load.number(data).filter(|_| missing == 0 || !load.host_order)?;
    let inverted = op == uapi::NFT_CMP_NEQ;
    let equality = inverted || op == uapi::NFT_CMP_EQ;
    if load.scrambled {
        return Some(vec![unknown(vec![segment], Relation::Order(symbol(op)?, number))]);
    }
    let Some((mask, flipped)) = load.masked else {
        return Some(vec![match (equality, order(op, number, ones(segment.bytes))) {
            (false, ranges) => {
                let relation = Relation::Order(symbol(op)?, number);
                // memcmp() orders numbers in the machine's order by their lowest byte first.
                match ranges.filter(|_| !load.host_order || segment.bytes == 1) {
                    Some(range) => among(segment, false, &[range], Some(relation), interfaces),
                    None => unknown(vec![segment], relation),
                }
            }
            (true, _) => among(segment, inverted, &[(number, number)], None, interfaces),
        }]);
    };
    let value = number ^ flipped;
    let relation = Relation::Masked { mask, inverted, value };
    if !equality {
        return Some(vec![unknown(vec![segment], Relation::Order(symbol(op)?, number))]);
    }
    let free = !mask & ones(segment.bytes);
    Some(vec![if value & !mask != 0 {
        among(segment, inverted, &[], Some(relation), interfaces)
    } else if segment.field == Field::CtState {
        // Any of some bits is asked for as "not none of them".
        let (inverted, states): (bool, Vec<u128>) = if value == 0 {
            (!inverted, CT_STATES.into_iter().filter(|state| state & mask != 0).collect())
        } else {
            (inverted, CT_STATES.into_iter().filter(|state| state & mask == value).collect())
        };
        let states: Vec<_> = states.into_iter().map(|state| (state, state)).collect();
        among(segment, inverted, &states, Some(relation), interfaces)
    } else if free & free.wrapping_add(1) == 0 {
        let shown = if matches!(segment.kind, Kind::Address(_)) { None } else { Some(relation) };
        among(segment, inverted, &[(value, value | free)], shown, interfaces)
    } else if segment.bytes == 1 && segment.missing == 0 {
        among(segment, inverted, &matching_bytes(mask, value), Some(relation), interfaces)
    } else if segment.missing == 0 {
        let of = Members::Masked { mask, values: vec![value] };
        let fields = vec![segment.field.clone()];
        (Match { fields, inverted, of }, Comparison { fields: vec![segment], relation })
    } else {
        unknown(vec![segment], relation)
    }])
}

/// What a `range` asks of a register.
pub(super) fn within(
    load: &Load,
    inverted: bool,
    (low, high): (&[u8], &[u8]),
    interfaces: &mut Interfaces,
) -> Option<(Match, Comparison)> {
    let [segment] = load.segments.as_slice() else { return None };
    let range = (load.number(low)?, load.number(high)?);
    let ordered = !load.host_order || segment.bytes == 1;
    Some(if load.is_intact() && ordered && low.len() == segment.bytes {
        among(segment.clone(), inverted, &[range], None, interfaces)
    } else {
        unknown(vec![segment.clone()], Relation::Range { inverted, range })
    })
}

/// Joins what a field is at least with what it is at most.
pub(super) fn join(from: &(Match, Comparison), to: &(Match, Comparison)) -> Option<(Match, Comparison)> {
    let (Members::Boxes(low), Members::Boxes(high)) = (&from.0.of, &to.0.of) else { return None };
    let ([low], [high]) = (low.as_slice(), high.as_slice()) else { return None };
    let ([low], [high]) = (low.as_slice(), high.as_slice()) else { return None };
    let range = (low.0, high.1);
    let mut joined = from.clone();
    joined.0.of = Members::Boxes(vec![vec![range]]);
    joined.1.relation = Relation::Range { inverted: false, range };
    Some(joined)
}

/// Several fields in one load.
fn several(load: &Load, op: u32, data: &[u8], interfaces: &mut Interfaces) -> Option<Judged> {
    let segments = load.segments.clone();
    let inverted = op == uapi::NFT_CMP_NEQ;
    if data.len() != load.len() || load.scrambled || !(inverted || op == uapi::NFT_CMP_EQ) {
        let number = load.number(data).unwrap_or_default();
        return Some(vec![unknown(segments, Relation::Order(symbol(op)?, number))]);
    }
    let mut judged = Vec::new();
    let (mut at, total) = (0, load.len());
    for segment in &segments {
        let bytes = data.get(at..at + segment.bytes)?;
        at += segment.bytes;
        let part = |number: u128| number >> (8 * (total - at).min(15)) & ones(segment.bytes);
        let masked = load.masked.map(|(mask, flipped)| (part(mask), part(flipped)));
        // A part that is masked out altogether asks for nothing.
        if masked.is_some_and(|(mask, flipped)| mask == 0 && load.number(bytes) == Some(flipped)) {
            continue;
        }
        let masked = masked.filter(|masked| *masked != (ones(segment.bytes), 0));
        let single = Load { segments: vec![segment.clone()], masked, ..load.clone() };
        judged.extend(compare(&single, uapi::NFT_CMP_EQ, bytes, interfaces)?);
    }
    if !inverted {
        return Some(judged);
    }
    if let [(Match { inverted, .. }, comparison)] = judged.as_mut_slice() {
        *inverted = !*inverted;
        match &mut comparison.relation {
            Relation::Range { inverted, .. } | Relation::Masked { inverted, .. } => *inverted = !*inverted,
            _ => {}
        }
        return Some(judged);
    }
    Some(vec![unknown(segments, Relation::Order("!=", load.number(data).unwrap_or_default()))])
}

/// A field among ranges of what the register held. `shown` is how it is printed where not as a range.
fn among(
    segment: Segment,
    inverted: bool,
    ranges: &[(u128, u128)],
    shown: Option<Relation>,
    interfaces: &mut Interfaces,
) -> (Match, Comparison) {
    let mut boxes = Vec::new();
    for (low, high) in ranges {
        match whole(&segment, (*low, *high)).and_then(|range| mean(segment.meaning, range, interfaces)) {
            Some(range) => boxes.push(vec![range]),
            None => {
                let relation = shown.unwrap_or(Relation::Range { inverted, range: (*low, *high) });
                // The number of an interface that is gone is printed as such.
                let kind = if segment.meaning == Meaning::Index { Kind::Number } else { segment.kind };
                return unknown(vec![Segment { kind, ..segment }], relation);
            }
        }
    }
    let first = boxes.first().and_then(|values: &Vec<_>| values.first()).copied();
    let relation = match (shown, first) {
        (Some(relation), _) => relation,
        (None, Some(range)) => Relation::Range { inverted, range },
        (None, None) => Relation::Order("==", 0),
    };
    let fields = vec![segment.field.clone()];
    (Match { fields, inverted, of: Members::Boxes(boxes) }, Comparison { fields: vec![segment], relation })
}

fn unknown(fields: Vec<Segment>, relation: Relation) -> (Match, Comparison) {
    let names = fields.iter().map(|segment| segment.field.clone()).collect();
    (Match { fields: names, inverted: false, of: Members::Unknown }, Comparison { fields, relation })
}

/// The range of the whole field by that of its first bytes.
fn whole(segment: &Segment, (low, high): (u128, u128)) -> Option<(u128, u128)> {
    if segment.bytes + segment.missing > 16 {
        return None;
    }
    let shift = 8 * segment.missing as u32;
    let rest = ones(segment.missing);
    let (low, high) = (low.checked_shl(shift)?, high.checked_shl(shift)? | rest);
    // The kernel pads names with NUL: behind the first one there is nothing to differ in.
    let ended = segment.kind == Kind::Interface && low >> shift & 0xff == 0 && low | rest == high;
    Some((low, if ended { low } else { high }))
}

/// The range of the field by that of the register's number.
pub(super) fn mean(
    meaning: Meaning,
    (low, high): (u128, u128),
    interfaces: &mut Interfaces,
) -> Option<(u128, u128)> {
    let number = match meaning {
        Meaning::Plain => return Some((low, high)),
        _ if low != high => return None,
        Meaning::Index => interfaces.name(u32::try_from(low).ok()?)?,
        Meaning::EtherType if low == 0x0800 => 2,
        Meaning::EtherType if low == 0x86dd => 10,
        Meaning::EtherType => return None,
    };
    Some((number, number))
}

fn order(op: u32, number: u128, most: u128) -> Option<(u128, u128)> {
    match op {
        uapi::NFT_CMP_LT => number.checked_sub(1).map(|high| (0, high)),
        uapi::NFT_CMP_LTE => Some((0, number)),
        uapi::NFT_CMP_GT => number.checked_add(1).filter(|low| *low <= most).map(|low| (low, most)),
        uapi::NFT_CMP_GTE => Some((number, most)),
        _ => None,
    }
}

fn symbol(op: u32) -> Option<&'static str> {
    ["==", "!=", "<", "<=", ">", ">="].get(op as usize).copied()
}

/// The bytes that a mask leaves at a value, as ranges.
fn matching_bytes(mask: u128, value: u128) -> Vec<(u128, u128)> {
    let mut ranges: Vec<(u128, u128)> = Vec::new();
    for byte in (0..=255).filter(|byte| byte & mask == value) {
        match ranges.last_mut() {
            Some((_, high)) if *high + 1 == byte => *high = byte,
            _ => ranges.push((byte, byte)),
        }
    }
    ranges
}

/// The highest number of so many bytes.
pub(super) fn ones(bytes: usize) -> u128 {
    match bytes {
        0 => 0,
        1..16 => (1 << (8 * bytes)) - 1,
        _ => u128::MAX,
    }
}
