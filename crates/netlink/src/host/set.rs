//! Sets and maps. What the bytes of an element mean is known from the rules that look it up.

use notrack_core::host::{HostElement, HostSet, HostVerdict, ValueBox};

use super::compare::{mean, ones};
use super::interfaces::Interfaces;
use super::load::{Load, Meaning, number};
use super::verdict::verdict;
use crate::attr::{AttrError, Attrs};
use crate::nft::{inner, number as attr_number, uapi, value};

/// How a field of a key stands in the bytes of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    bytes: usize,
    host_order: bool,
    meaning: Meaning,
}

/// A set, before its elements are read.
#[derive(Debug, Default)]
pub(super) struct SetHeader {
    /// Bytes of the key; each field of a concatenation is padded to four.
    pub key_len: usize,
    /// Bytes of what a map has for a key.
    pub data_len: usize,
    /// Whether its keys are ranges.
    pub interval: bool,
    /// Whether packets add elements.
    pub dynamic: bool,
    /// The kind of object that it leads to (`NFT_OBJECT_*`), in a map to objects.
    pub objects: Option<u32>,
    /// `None` before the first look-up.
    shape: Option<Vec<Shape>>,
    /// Whether two look-ups see different things in the same bytes.
    contradictory: bool,
}

impl SetHeader {
    pub fn read(attrs: &Attrs<'_>) -> Result<SetHeader, AttrError> {
        let number = |kind| Ok::<_, AttrError>(attr_number(attrs, kind)?.unwrap_or_default());
        let flags = number(uapi::NFTA_SET_FLAGS)?;
        Ok(SetHeader {
            key_len: number(uapi::NFTA_SET_KEY_LEN)? as usize,
            data_len: number(uapi::NFTA_SET_DATA_LEN)? as usize,
            interval: flags & uapi::NFT_SET_INTERVAL != 0,
            dynamic: flags & uapi::NFT_SET_EVAL != 0,
            objects: attr_number(attrs, uapi::NFTA_SET_OBJ_TYPE)?,
            shape: None,
            contradictory: false,
        })
    }

    /// Notes what a rule looks up.
    pub fn looked_up(&mut self, key: &[Load]) {
        let shape: Option<Vec<Shape>> = key
            .iter()
            .map(|load| match load.segments.as_slice() {
                [segment] => Some(Shape {
                    bytes: segment.bytes,
                    host_order: load.host_order && segment.bytes > 1,
                    meaning: segment.meaning,
                }),
                _ => None,
            })
            .collect();
        match (&self.shape, shape) {
            (None, Some(shape)) => self.shape = Some(shape),
            (Some(known), Some(shape)) if *known == shape => {}
            _ => self.contradictory = true,
        }
    }

    /// Whether its elements matter and can be understood.
    pub fn is_legible(&self) -> bool {
        self.shape.is_some() && !self.contradictory
    }

    /// The set with its elements; without them where they were not read.
    pub fn finish(&self, elements: Option<Vec<Element>>, interfaces: &mut Interfaces) -> HostSet {
        let elements = match (&self.shape, elements) {
            (Some(shape), Some(elements)) if self.is_legible() => self.decode(shape, elements, interfaces),
            _ => None,
        };
        HostSet { dynamic: self.dynamic, unknown: elements.is_none(), elements: elements.unwrap_or_default() }
    }

    fn decode(
        &self,
        shape: &[Shape],
        elements: Vec<Element>,
        interfaces: &mut Interfaces,
    ) -> Option<Vec<HostElement>> {
        let (others, rest): (Vec<_>, Vec<_>) = elements.into_iter().partition(|element| element.others);
        let paired = self.interval && rest.iter().all(|element| element.end.is_none());
        let ranges = match shape {
            [field] if paired => pair(rest, *field)?,
            _ => rest
                .into_iter()
                .map(|element| {
                    let low = fields(&element.key, shape)?;
                    let high = fields(element.end.as_ref().unwrap_or(&element.key), shape)?;
                    Some((low.into_iter().zip(high).collect(), element.verdict))
                })
                .collect::<Option<_>>()?,
        };
        let mut read = Vec::with_capacity(ranges.len());
        for (ranges, verdict) in ranges {
            let mut values = ValueBox::with_capacity(shape.len());
            for (field, range) in shape.iter().zip(ranges) {
                values.push(field.range(range, interfaces)?);
            }
            read.push(HostElement { values, verdict });
        }
        read.sort_by(|one, other| one.values.cmp(&other.values));
        // What stands for all other keys (`*`) holds where nothing before it does.
        for Element { verdict, .. } in others {
            let values = shape.iter().map(|field| (0, ones(field.bytes))).collect();
            read.push(HostElement { values, verdict });
        }
        Some(read)
    }
}

impl Shape {
    /// The field's range by that of its bytes.
    fn range(self, (low, high): (u128, u128), interfaces: &mut Interfaces) -> Option<(u128, u128)> {
        if (low, high) == (0, ones(self.bytes)) && self.meaning == Meaning::Plain {
            return Some((low, high));
        }
        // A range of bytes is one of numbers only where the highest byte comes first.
        let range = match self.host_order {
            true if low == high && cfg!(target_endian = "little") => {
                let turned = low.swap_bytes().checked_shr(128 - 8 * self.bytes as u32)?;
                (turned, turned)
            }
            true if low != high => return None,
            _ => (low, high),
        };
        mean(self.meaning, range, interfaces)
    }
}

/// The fields of a key, each as the number of its bytes in their order.
fn fields(key: &[u8], shape: &[Shape]) -> Option<Vec<u128>> {
    if let [field] = shape {
        return (key.len() == field.bytes).then(|| number(key, false)).flatten().map(|field| vec![field]);
    }
    let mut at = 0;
    let fields = shape.iter().map(|field| {
        let bytes = key.get(at..at + field.bytes)?;
        at += field.bytes.next_multiple_of(4);
        number(bytes, false)
    });
    fields.collect()
}

type Ranges = Vec<(Vec<(u128, u128)>, Option<HostVerdict>)>;

/// The ranges of a set that keeps both ends as elements of their own: each end is one behind the last key, and that
/// of the highest possible key is left out.
fn pair(elements: Vec<Element>, field: Shape) -> Option<Ranges> {
    let mut ends = Vec::with_capacity(elements.len());
    for element in elements {
        let [at] = fields(&element.key, &[field])?[..] else { return None };
        ends.push((at, !element.closes, element.verdict));
    }
    // Where one range ends and the next begins, the end comes first.
    ends.sort_by_key(|(at, opens, _)| (*at, *opens));
    let mut ranges = Ranges::new();
    let mut open: Option<(u128, Option<HostVerdict>)> = None;
    for (at, opens, verdict) in ends {
        if let Some((from, verdict)) = open.take() {
            ranges.push((vec![(from, at.checked_sub(1)?)], verdict));
        }
        if opens {
            open = Some((at, verdict));
        }
    }
    if let Some((from, verdict)) = open {
        ranges.push((vec![(from, ones(field.bytes))], verdict));
    }
    Some(ranges)
}

/// An element as the kernel has it; the end of a range may be one without data.
#[derive(Debug)]
pub(super) struct Element {
    key: Vec<u8>,
    /// The other end of the range, in a concatenation with ranges.
    end: Option<Vec<u8>>,
    /// Whether a range ends before it (flag `INTERVAL_END`).
    closes: bool,
    /// Whether it stands for every key that has no element (flag `CATCHALL`).
    others: bool,
    verdict: Option<HostVerdict>,
    /// What a map has for it, but for a verdict.
    pub data: Option<Vec<u8>>,
}

impl Element {
    pub fn read(attrs: &Attrs<'_>) -> Result<Element, AttrError> {
        let flags = attr_number(attrs, uapi::NFTA_SET_ELEM_FLAGS)?.unwrap_or_default();
        Ok(Element {
            key: value(attrs, uapi::NFTA_SET_ELEM_KEY)?.unwrap_or_default(),
            end: value(attrs, uapi::NFTA_SET_ELEM_KEY_END)?,
            closes: flags & uapi::NFT_SET_ELEM_INTERVAL_END != 0,
            others: flags & uapi::NFT_SET_ELEM_CATCHALL != 0,
            verdict: verdict(&inner(attrs, uapi::NFTA_SET_ELEM_DATA)?)?,
            data: value(attrs, uapi::NFTA_SET_ELEM_DATA)?,
        })
    }
}
