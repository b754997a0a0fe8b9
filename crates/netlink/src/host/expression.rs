//! What the expressions of a rule mean together: each fills or compares registers, which here hold meanings
//! ([`super::register`]) in the place of bytes.

use std::collections::BTreeMap;

use notrack_core::host::{Act, Field, HostVerdict, Match, Members, Step, TableFamily};
use notrack_core::net::Family;

use super::compare::{Comparison, Judged, Relation, compare, join, ones, within};
use super::interfaces::Interfaces;
use super::load::{Kind, Known, Load, Segment, ct, fib, meta, payload};
use super::nat::Mapped;
use super::register::{Registers, Value};
use super::set::SetHeader;
use super::verdict::verdict;
use super::{act, xt};
use crate::attr::{AttrError, Attrs};
use crate::nft::{inner, number, text, uapi, value};

/// What a rule's meaning depends on beside its expressions.
pub(super) struct Scope<'a> {
    pub family: TableFamily,
    /// The sets of the table.
    pub sets: &'a mut BTreeMap<String, SetHeader>,
    /// The helpers of the table's objects, by the objects' names.
    pub helpers: &'a BTreeMap<String, String>,
    pub ip_sets: &'a mut xt::IpSets,
    pub interfaces: &'a mut Interfaces,
}

/// A part of a rule's text.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Comparison {
        comparison: Comparison,
        /// Whether a later part says as much, as `tcp dport` says `meta l4proto tcp`.
        implied: bool,
    },
    VerdictMap {
        fields: Vec<Segment>,
        map: String,
    },
    /// nft's words.
    Words(String),
    Counter,
    /// An extension of iptables, in its words.
    Extension(String),
    Verdict(HostVerdict),
}

/// A rule on its way.
#[derive(Debug)]
pub(super) struct Meaning {
    pub steps: Vec<Step>,
    pub pieces: Vec<Piece>,
    /// The text of `-m comment`.
    pub comment: Option<String>,
    /// What its translation has from a map.
    pub mapped: Option<Mapped>,
    pub(super) registers: Registers,
    pub(super) known: Known,
    /// The pieces that said what is known.
    family_said: Option<usize>,
    proto_said: Option<usize>,
    /// The register that the expression before compared with `>=`.
    at_least: Option<u32>,
}

/// The meaning of a rule. Expressions that are not understood are there as [`Step::Opaque`].
pub(super) fn rule(expressions: Attrs<'_>, scope: &mut Scope<'_>) -> Meaning {
    let mut meaning = Meaning {
        steps: Vec::new(),
        pieces: Vec::new(),
        comment: None,
        mapped: None,
        registers: Registers::default(),
        known: Known::of(scope.family),
        family_said: None,
        proto_said: None,
        at_least: None,
    };
    for item in expressions {
        let mut name = "?";
        let read = item.and_then(|item| {
            let attrs = item.nested();
            name = text(&attrs, uapi::NFTA_EXPR_NAME)?.unwrap_or_default();
            meaning.expression(name, &inner(&attrs, uapi::NFTA_EXPR_DATA)?, scope)
        });
        if !matches!(read, Ok(Some(()))) {
            meaning.opaque(name);
        }
    }
    meaning
}

type Understood = Result<Option<()>, AttrError>;

impl Meaning {
    /// `None` where the expression is not understood.
    fn expression(&mut self, name: &str, data: &Attrs<'_>, scope: &mut Scope<'_>) -> Understood {
        let at_least = self.at_least.take();
        let load = match name {
            "payload" if number(data, uapi::NFTA_PAYLOAD_SREG)?.is_some() => return act::rewrite(self, data),
            "payload" => (uapi::NFTA_PAYLOAD_DREG, self.payload(data)?),
            "meta" if number(data, uapi::NFTA_META_SREG)?.is_some() => return act::set_meta(self, data),
            "meta" => (uapi::NFTA_META_DREG, number(data, uapi::NFTA_META_KEY)?.map(meta)),
            "ct" if number(data, uapi::NFTA_CT_SREG)?.is_some() => return act::set_ct(self, data),
            "ct" => (uapi::NFTA_CT_DREG, self.ct(data)?),
            "fib" => {
                let result = number(data, uapi::NFTA_FIB_RESULT)?;
                let flags = number(data, uapi::NFTA_FIB_FLAGS)?;
                (uapi::NFTA_FIB_DREG, result.zip(flags).map(|(result, flags)| fib(result, flags)))
            }
            // By the attribute that names the register; lengths are those of the longest value.
            "rt" | "osf" | "xfrm" => (1, Some(Load::other(name, 16, Kind::Number))),
            "numgen" => (1, Some(Load::other(name, 4, Kind::Number))),
            "hash" => (2, Some(Load::other(name, 4, Kind::Number))),
            "socket" | "tunnel" => (2, Some(Load::other(name, 8, Kind::Number))),
            // Written into an option of TCP, which nobody here compares.
            "exthdr" if data.find(uapi::NFTA_EXTHDR_SREG)?.is_some() => return self.words("tcp option set"),
            "exthdr" => (1, Some(Load::other(name, 4, Kind::Number))),
            "cmp" => return self.compare(data, at_least, scope),
            "range" => return self.range(data, scope),
            "bitwise" => return self.mask(data),
            "byteorder" => return self.turn(data),
            "lookup" => return self.look_up(data, scope),
            "immediate" => return self.immediate(data),
            "dynset" => return act::add_element(self, data, scope),
            "objref" => return act::object(self, data, scope),
            "match" | "target" => return self.extension(name, data, scope),
            "counter" => {
                self.pieces.push(Piece::Counter);
                return Ok(Some(()));
            }
            _ => return act::statement(self, name, data, scope.family),
        };
        let (Some(register), Some(load)) = (number(data, load.0)?, load.1) else {
            return Ok(None);
        };
        self.registers.set(register, load.len(), Value::Load(load));
        Ok(Some(()))
    }

    pub(super) fn words(&mut self, words: impl Into<String>) -> Understood {
        self.pieces.push(Piece::Words(words.into()));
        Ok(Some(()))
    }

    pub(super) fn act(&mut self, act: Act) {
        self.steps.push(Step::Act(act));
    }

    fn opaque(&mut self, name: &str) {
        self.registers.forget();
        self.steps.push(Step::Opaque(name.to_owned()));
        self.pieces.push(Piece::Words(format!("({name})")));
    }

    fn payload(&mut self, data: &Attrs<'_>) -> Result<Option<Load>, AttrError> {
        let Some((base, offset, len)) = place(data)? else { return Ok(None) };
        self.said_by(base);
        Ok(Some(payload(base, offset, len, self.known)))
    }

    /// A field of a header says which header it is.
    pub(super) fn said_by(&mut self, base: u32) {
        let icmp = base == uapi::NFT_PAYLOAD_TRANSPORT_HEADER && matches!(self.known.proto, Some(1 | 58));
        let said = [
            (base == uapi::NFT_PAYLOAD_TRANSPORT_HEADER).then_some(self.proto_said).flatten(),
            (base == uapi::NFT_PAYLOAD_NETWORK_HEADER || icmp).then_some(self.family_said).flatten(),
        ];
        for piece in said.into_iter().flatten() {
            if let Some(Piece::Comparison { implied, .. }) = self.pieces.get_mut(piece) {
                *implied = true;
            }
        }
    }

    /// An untracked packet has none of them but the state: the rule ends at the load (`nft_ct_get_eval`), compared or
    /// not.
    fn ct(&mut self, data: &Attrs<'_>) -> Result<Option<Load>, AttrError> {
        let Some(key) = number(data, uapi::NFTA_CT_KEY)? else { return Ok(None) };
        let direction = data.find(uapi::NFTA_CT_DIRECTION)?.map(|attr| attr.u8()).transpose()?;
        let load = ct(key, direction, self.known);
        if let Some(Segment { field: field @ Field::CtOther(_), bytes, .. }) = load.segments.first() {
            let any = Members::Boxes(vec![vec![(0, ones(*bytes))]]);
            self.steps.push(Step::Match(Match { fields: vec![field.clone()], inverted: false, of: any }));
        }
        Ok(Some(load))
    }

    fn compare(&mut self, data: &Attrs<'_>, at_least: Option<u32>, scope: &mut Scope<'_>) -> Understood {
        let (Some(register), Some(op), Some(bytes)) = (
            number(data, uapi::NFTA_CMP_SREG)?,
            number(data, uapi::NFTA_CMP_OP)?,
            value(data, uapi::NFTA_CMP_DATA)?,
        ) else {
            return Ok(None);
        };
        let Some(Value::Load(load)) = self.registers.get(register) else { return Ok(None) };
        let Some(mut judged) = compare(load, op, &bytes, scope.interfaces) else { return Ok(None) };
        if at_least == Some(register) && op == uapi::NFT_CMP_LTE {
            self.join_with_last(&mut judged);
        }
        self.at_least = (op == uapi::NFT_CMP_GTE).then_some(register);
        for (matched, comparison) in judged {
            self.matched(matched, comparison);
        }
        Ok(Some(()))
    }

    fn join_with_last(&mut self, judged: &mut Judged) {
        let (Some(Step::Match(from)), Some(Piece::Comparison { comparison, .. })) =
            (self.steps.last(), self.pieces.last())
        else {
            return;
        };
        if let [to] = judged.as_mut_slice()
            && let Some(joined) = join(&(from.clone(), comparison.clone()), to)
        {
            *to = joined;
            self.steps.pop();
            self.pieces.pop();
        }
    }

    fn matched(&mut self, matched: Match, comparison: Comparison) {
        // A load of the entry has asked for its presence; the comparison says more.
        if let (Some(Step::Match(last)), [Field::CtOther(_)]) = (self.steps.last(), matched.fields.as_slice())
            && last.fields == matched.fields
            && matched.of != Members::Unknown
            && !matched.inverted
        {
            self.steps.pop();
        }
        let piece = self.pieces.len();
        if let (false, Members::Boxes(boxes)) = (matched.inverted, &matched.of)
            && let ([field], [values]) = (matched.fields.as_slice(), boxes.as_slice())
            && let [(low, high)] = values.as_slice()
            && low == high
        {
            // `ip protocol` is a condition in its own right, `meta l4proto` is mostly there for what follows.
            let said = comparison.fields.first().is_some_and(|field| field.name.starts_with("meta"));
            match (field, low) {
                (Field::Family, 2 | 10) => {
                    let v4 = *low == 2;
                    self.known.family = Some(if v4 { Family::Ipv4 } else { Family::Ipv6 });
                    self.family_said = Some(piece);
                }
                (Field::L4Proto, proto) => {
                    self.known.proto = u8::try_from(*proto).ok();
                    self.proto_said = said.then_some(piece);
                }
                _ => {}
            }
        }
        self.steps.push(Step::Match(matched));
        self.pieces.push(Piece::Comparison { comparison, implied: false });
    }

    fn range(&mut self, data: &Attrs<'_>, scope: &mut Scope<'_>) -> Understood {
        let (Some(register), Some(op), Some(low), Some(high)) = (
            number(data, uapi::NFTA_RANGE_SREG)?,
            number(data, uapi::NFTA_RANGE_OP)?,
            value(data, uapi::NFTA_RANGE_FROM_DATA)?,
            value(data, uapi::NFTA_RANGE_TO_DATA)?,
        ) else {
            return Ok(None);
        };
        let Some(Value::Load(load)) = self.registers.get(register) else { return Ok(None) };
        let inverted = op == uapi::NFT_CMP_NEQ;
        let Some((matched, comparison)) = within(load, inverted, (&low, &high), scope.interfaces) else {
            return Ok(None);
        };
        self.matched(matched, comparison);
        Ok(Some(()))
    }

    fn mask(&mut self, data: &Attrs<'_>) -> Understood {
        let (Some(from), Some(to)) =
            (number(data, uapi::NFTA_BITWISE_SREG)?, number(data, uapi::NFTA_BITWISE_DREG)?)
        else {
            return Ok(None);
        };
        let Some(Value::Load(load)) = self.registers.get(from) else { return Ok(None) };
        let mut load = load.clone();
        // Operation 0 is mask and flip; the others shift, or take a second register.
        let masks = number(data, uapi::NFTA_BITWISE_OP)?.is_none_or(|op| op == 0);
        let mask = value(data, uapi::NFTA_BITWISE_MASK)?.and_then(|mask| load.number(&mask));
        let flip = value(data, uapi::NFTA_BITWISE_XOR)?.and_then(|flip| load.number(&flip));
        let len = number(data, uapi::NFTA_BITWISE_LEN)?.unwrap_or_default() as usize;
        match (mask, flip) {
            (Some(mask), Some(flip)) if masks && len == load.len() => {
                let (before, flipped) = load.masked.unwrap_or((u128::MAX, 0));
                load.masked = Some((before & mask, flipped & mask ^ flip));
            }
            _ => load.scrambled = true,
        }
        self.registers.set(to, load.len(), Value::Load(load));
        Ok(Some(()))
    }

    fn turn(&mut self, data: &Attrs<'_>) -> Understood {
        let (Some(from), Some(to)) =
            (number(data, uapi::NFTA_BYTEORDER_SREG)?, number(data, uapi::NFTA_BYTEORDER_DREG)?)
        else {
            return Ok(None);
        };
        let Some(Value::Load(load)) = self.registers.get(from) else { return Ok(None) };
        let mut load = load.clone();
        match load.segments.as_slice() {
            [_] => load.host_order = !load.host_order,
            _ => load.scrambled = true,
        }
        self.registers.set(to, load.len(), Value::Load(load));
        Ok(Some(()))
    }

    fn look_up(&mut self, data: &Attrs<'_>, scope: &mut Scope<'_>) -> Understood {
        let (Some(register), Some(name)) =
            (number(data, uapi::NFTA_LOOKUP_SREG)?, text(data, uapi::NFTA_LOOKUP_SET)?)
        else {
            return Ok(None);
        };
        let inverted =
            number(data, uapi::NFTA_LOOKUP_FLAGS)?.unwrap_or_default() & uapi::NFT_LOOKUP_F_INV != 0;
        let target = number(data, uapi::NFTA_LOOKUP_DREG)?;
        let Some((key, data_len)) = self.key(register, name, scope) else { return Ok(None) };
        let fields: Vec<Segment> = segments(&key);
        if target == Some(uapi::NFT_REG_VERDICT) {
            let names = fields.iter().map(|segment| segment.field.clone()).collect();
            self.steps.push(Step::VerdictMap { fields: names, map: name.to_owned() });
            self.pieces.push(Piece::VerdictMap { fields, map: name.to_owned() });
            return Ok(Some(()));
        }
        let (step, comparison) = membership(&key, inverted, name);
        match target {
            None => self.matched(step, comparison),
            Some(target) => {
                self.steps.push(Step::Match(step));
                let words = format!("{} map @{name}", names(&fields));
                let map = name.to_owned();
                self.registers.set(target, data_len, Value::Mapped { map, words, bytes: data_len });
            }
        }
        Ok(Some(()))
    }

    /// The key that begins in a register, as a set of this name is asked for, and the bytes that a map has for it.
    pub(super) fn key(&self, register: u32, set: &str, scope: &mut Scope<'_>) -> Option<(Vec<Load>, usize)> {
        let header = scope.sets.get_mut(set)?;
        let mut key = self.registers.key(register, header.key_len)?;
        header.looked_up(&key);
        for load in &mut key {
            conceal(load);
        }
        Some((key, header.data_len))
    }

    fn immediate(&mut self, data: &Attrs<'_>) -> Understood {
        let Some(register) = number(data, uapi::NFTA_IMMEDIATE_DREG)? else { return Ok(None) };
        let content = inner(data, uapi::NFTA_IMMEDIATE_DATA)?;
        if register == uapi::NFT_REG_VERDICT {
            // `continue` is no end.
            if let Some(verdict) = verdict(&content)? {
                self.end(verdict);
            }
            return Ok(Some(()));
        }
        let Some(bytes) = content.find(uapi::NFTA_DATA_VALUE)? else { return Ok(None) };
        let bytes = bytes.payload.to_vec();
        self.registers.set(register, bytes.len(), Value::Constant(bytes));
        Ok(Some(()))
    }

    fn end(&mut self, verdict: HostVerdict) {
        self.pieces.push(Piece::Verdict(verdict.clone()));
        self.steps.push(Step::Verdict(verdict));
    }

    fn extension(&mut self, expression: &str, data: &Attrs<'_>, scope: &mut Scope<'_>) -> Understood {
        let Some(name) = text(data, uapi::NFTA_XT_NAME)? else { return Ok(None) };
        let revision = number(data, uapi::NFTA_XT_REV)?.and_then(|revision| u8::try_from(revision).ok());
        let info = data.find(uapi::NFTA_XT_INFO)?.map_or(&[][..], |info| info.payload);
        let revision = revision.unwrap_or_default();
        let family = match scope.family {
            TableFamily::Ip => Some(Family::Ipv4),
            TableFamily::Ip6 => Some(Family::Ipv6),
            TableFamily::Inet => None,
        };
        let part = match expression {
            "match" => xt::matching(family, name, revision, info, scope.ip_sets),
            _ => xt::target(family, name, revision, info),
        };
        self.steps.extend(part.steps);
        self.comment = self.comment.take().or(part.comment);
        if !part.text.is_empty() {
            self.pieces.push(Piece::Extension(part.text));
        }
        Ok(Some(()))
    }
}

/// Where in a packet a `payload` expression reads or writes: base, offset and length in bytes.
pub(super) fn place(data: &Attrs<'_>) -> Result<Option<(u32, usize, usize)>, AttrError> {
    let fields = (
        number(data, uapi::NFTA_PAYLOAD_BASE)?,
        number(data, uapi::NFTA_PAYLOAD_OFFSET)?,
        number(data, uapi::NFTA_PAYLOAD_LEN)?,
    );
    let (Some(base), Some(offset), Some(len)) = fields else { return Ok(None) };
    Ok(Some((base, offset as usize, len as usize)))
}

/// The match of a key among a set's elements.
pub(super) fn membership(key: &[Load], inverted: bool, set: &str) -> (Match, Comparison) {
    let fields = segments(key);
    let intact = key.iter().all(Load::is_intact);
    let of = if intact { Members::Set(set.to_owned()) } else { Members::Unknown };
    let names = fields.iter().map(|segment| segment.field.clone()).collect();
    let relation = Relation::Set { inverted, name: set.to_owned() };
    (Match { fields: names, inverted, of }, Comparison { fields, relation })
}

/// The fields of a key, from left to right.
pub(super) fn segments(key: &[Load]) -> Vec<Segment> {
    key.iter().flat_map(|load| load.segments.clone()).collect()
}

/// `ip saddr . tcp dport`
pub(super) fn names(fields: &[Segment]) -> String {
    fields.iter().map(|segment| segment.name.as_ref()).collect::<Vec<_>>().join(" . ")
}

/// A changed field is not the field: what a map says of it, it does not say of the field.
fn conceal(load: &mut Load) {
    if load.is_intact() {
        return;
    }
    let mask = load.masked.filter(|(_, flipped)| *flipped == 0 && !load.scrambled);
    for segment in &mut load.segments {
        let changed = match mask {
            Some((mask, _)) => format!("{} & {}", segment.name, super::text::value(segment.kind, mask)),
            None => format!("{} (changed)", segment.name),
        };
        segment.field = match segment.field {
            Field::CtOther(_) => Field::CtOther(changed.clone()),
            _ => Field::Other(changed.clone()),
        };
        segment.name = changed.into();
    }
}
