//! Expressions that do something beside comparing.

use notrack_core::host::{Act, HostVerdict, Marking, Step, TableFamily};
use notrack_core::net::Family;

use super::expression::{Meaning, Piece, Scope, membership, names, place, segments};
use super::load::{self, Kind, meta, payload};
use super::names as known;
use super::nat;
use super::register::Value;
use super::text;
use crate::attr::{AttrError, Attrs};
use crate::nft::{inner, number, text as word, uapi};

/// `None` where the expression is not understood.
type Understood = Result<Option<()>, AttrError>;

/// An expression that neither loads nor compares.
pub(super) fn statement(
    meaning: &mut Meaning,
    name: &str,
    data: &Attrs<'_>,
    family: TableFamily,
) -> Understood {
    let (step, words) = match name {
        "limit" => (Step::Limit, limit(data)?),
        "quota" => (Step::Limit, quota(data)?),
        "connlimit" => {
            let count = number(data, uapi::NFTA_CONNLIMIT_COUNT)?.unwrap_or_default();
            let over = if number(data, uapi::NFTA_CONNLIMIT_FLAGS)? == Some(1) { "over " } else { "" };
            (Step::CountConnections, format!("ct count {over}{count}"))
        }
        "log" => {
            let prefix = word(data, uapi::NFTA_LOG_PREFIX)?;
            let prefix = prefix.map(|prefix| format!(" prefix \"{prefix}\"")).unwrap_or_default();
            return meaning.words(format!("log{prefix}"));
        }
        // They note when a packet last came by, or copy it.
        "last" | "dup" => return meaning.words(name),
        "notrack" => (Step::Act(Act::Notrack), "notrack".to_owned()),
        "nat" | "masq" | "redir" => {
            let (act, words, mapped) = nat::act(meaning, name, data, family)?;
            meaning.mapped = mapped;
            meaning.act(act);
            meaning.pieces.push(Piece::Words(words));
            // The kernel's NAT decides on the packet: no rule behind it is evaluated in this chain.
            meaning.steps.push(Step::Verdict(HostVerdict::Accept));
            return Ok(Some(()));
        }
        "synproxy" => (Step::Act(Act::Synproxy), "synproxy".to_owned()),
        "tproxy" => {
            let port = number(data, uapi::NFTA_TPROXY_REG_PORT)?.and_then(|port| meaning.registers.get(port));
            let port =
                port.map(|port| format!(" to :{}", operand(port, Kind::Number, false))).unwrap_or_default();
            let both = family == TableFamily::Inet;
            let family = match number(data, uapi::NFTA_TPROXY_FAMILY)? {
                Some(2) if both => " ip",
                Some(10) if both => " ip6",
                _ => "",
            };
            (Step::Act(Act::Tproxy), format!("tproxy{family}{port}"))
        }
        "flow_offload" => {
            let table = word(data, uapi::NFTA_FLOW_TABLE_NAME)?.unwrap_or_default().to_owned();
            let words = format!("flow add @{table}");
            (Step::Act(Act::Offload(table)), words)
        }
        "queue" => {
            let queue = data.find(uapi::NFTA_QUEUE_NUM)?.map(|attr| attr.be16()).transpose()?;
            let to = queue.map(|queue| format!(" to {queue}")).unwrap_or_default();
            (Step::Verdict(HostVerdict::Queue), format!("queue{to}"))
        }
        "reject" => (Step::Verdict(HostVerdict::Drop), reject(data, meaning.known.family)?),
        _ => return Ok(None),
    };
    meaning.steps.push(step);
    meaning.words(words)
}

/// Writes into the packet.
pub(super) fn rewrite(meaning: &mut Meaning, data: &Attrs<'_>) -> Understood {
    /// Bytes of the network header before IPv4's addresses; in IPv6's, they begin before that.
    const ADDRESSES: usize = 12;
    /// Bytes of the ports at the beginning of a transport header.
    const PORTS: usize = 4;
    let Some((base, offset, len)) = place(data)? else { return Ok(None) };
    meaning.said_by(base);
    let written = match base {
        uapi::NFT_PAYLOAD_NETWORK_HEADER => offset.saturating_add(len) > ADDRESSES,
        uapi::NFT_PAYLOAD_TRANSPORT_HEADER => offset < PORTS,
        _ => false,
    };
    if written {
        meaning.act(Act::Rewrite);
    }
    let field = payload(base, offset, len, meaning.known);
    let kind = field.segments.first().map_or(Kind::Hex, |segment| segment.kind);
    let value = number(data, uapi::NFTA_PAYLOAD_SREG)?.and_then(|register| meaning.registers.get(register));
    let value = value.map(|value| operand(value, kind, false)).unwrap_or_default();
    meaning.words(format!("{} set {value}", names(&field.segments)))
}

/// Sets something of the packet that is not in it.
pub(super) fn set_meta(meaning: &mut Meaning, data: &Attrs<'_>) -> Understood {
    let (Some(key), Some(register)) =
        (number(data, uapi::NFTA_META_KEY)?, number(data, uapi::NFTA_META_SREG)?)
    else {
        return Ok(None);
    };
    let from = meaning.registers.get(register).cloned();
    if key == uapi::NFT_META_MARK {
        let restores = matches!(&from, Some(Value::Load(load)) if names(&load.segments) == "ct mark");
        meaning.act(if restores { Act::RestoreMark } else { Act::SetMark(from.as_ref().and_then(marking)) });
    }
    let field = meta(key);
    let kind = field.segments.first().map_or(Kind::Number, |segment| segment.kind);
    let value = from.map(|value| operand(&value, kind, field.host_order)).unwrap_or_default();
    meaning.words(format!("{} set {value}", names(&field.segments)))
}

/// What becomes of the mark, where it is made of a constant and of nothing but itself.
fn marking(from: &Value) -> Option<Marking> {
    let (keep, flip) = match from {
        Value::Constant(bytes) => (0, load::number(bytes, true)?),
        Value::Load(load) if names(&load.segments) == "meta mark" && !load.scrambled => {
            load.masked.unwrap_or((u32::MAX.into(), 0))
        }
        _ => return None,
    };
    Some(Marking { keep: keep.try_into().ok()?, flip: flip.try_into().ok()? })
}

/// Sets something of the packet's entry.
pub(super) fn set_ct(meaning: &mut Meaning, data: &Attrs<'_>) -> Understood {
    let (Some(key), Some(register)) = (number(data, uapi::NFTA_CT_KEY)?, number(data, uapi::NFTA_CT_SREG)?)
    else {
        return Ok(None);
    };
    let kind = match key {
        uapi::NFT_CT_MARK => {
            meaning.act(Act::SetCtMark);
            Kind::Mark
        }
        uapi::NFT_CT_ZONE => {
            meaning.act(Act::Zone);
            Kind::Number
        }
        // Labels and events stay on the entry.
        _ => Kind::Number,
    };
    let (name, _, host_order) = known::CT.get(key as usize).copied().unwrap_or(("?", 4, true));
    let value = meaning.registers.get(register);
    let value = value.map(|value| operand(value, kind, host_order)).unwrap_or_default();
    meaning.words(format!("ct {name} set {value}"))
}

/// Adds an element to a set, or deletes it. With an expression in the element (a meter), that decides.
pub(super) fn add_element(meaning: &mut Meaning, data: &Attrs<'_>, scope: &mut Scope<'_>) -> Understood {
    const DELETE: u32 = 2;
    /// `NFT_DYNSET_F_INV`: the rule goes on only where the element could not be added.
    const INVERTED: u32 = 1;
    let (Some(set), Some(register)) =
        (word(data, uapi::NFTA_DYNSET_SET_NAME)?, number(data, uapi::NFTA_DYNSET_SREG_KEY)?)
    else {
        return Ok(None);
    };
    let Some(header) = scope.sets.get_mut(set) else { return Ok(None) };
    header.dynamic = true;
    let key = meaning.registers.key(register, header.key_len);
    let key = key.map(|key| names(&segments(&key))).unwrap_or_default();
    let op = number(data, uapi::NFTA_DYNSET_OP)?.unwrap_or_default();
    if number(data, uapi::NFTA_DYNSET_FLAGS)?.unwrap_or_default() & INVERTED != 0 {
        return Ok(None);
    }
    let start = meaning.pieces.len();
    if op != DELETE {
        // One expression has an attribute of its own beside the list of several.
        let one = data.find(uapi::NFTA_DYNSET_EXPR)?.map(|attr| attr.nested());
        for item in inner(data, uapi::NFTA_DYNSET_EXPRESSIONS)? {
            meter(meaning, &item?.nested(), scope.family)?;
        }
        if let Some(one) = one {
            meter(meaning, &one, scope.family)?;
        }
    }
    let inside: Vec<String> = meaning
        .pieces
        .drain(start..)
        .filter_map(|piece| if let Piece::Words(words) = piece { Some(format!(" {words}")) } else { None })
        .collect();
    let verb = match op {
        0 => "add",
        DELETE => "delete",
        _ => "update",
    };
    meaning.words(format!("{verb} @{set} {{ {key}{} }}", inside.concat()))
}

fn meter(meaning: &mut Meaning, expression: &Attrs<'_>, family: TableFamily) -> Result<(), AttrError> {
    let name = word(expression, uapi::NFTA_EXPR_NAME)?.unwrap_or_default();
    if matches!(name, "limit" | "quota" | "connlimit") {
        statement(meaning, name, &inner(expression, uapi::NFTA_EXPR_DATA)?, family)?;
    }
    Ok(())
}

/// Uses a named object, or that which a map has for the packet.
pub(super) fn object(meaning: &mut Meaning, data: &Attrs<'_>, scope: &mut Scope<'_>) -> Understood {
    let (kind, name) = match word(data, uapi::NFTA_OBJREF_SET_NAME)? {
        Some(map) => {
            let Some(register) = number(data, uapi::NFTA_OBJREF_SET_SREG)? else { return Ok(None) };
            let Some((key, _)) = meaning.key(register, map, scope) else { return Ok(None) };
            meaning.steps.push(Step::Match(membership(&key, false, map).0));
            let kind = scope.sets.get(map).and_then(|header| header.objects);
            (kind, format!("{} map @{map}", names(&segments(&key))))
        }
        None => {
            let name = word(data, uapi::NFTA_OBJREF_IMM_NAME)?.unwrap_or_default();
            (number(data, uapi::NFTA_OBJREF_IMM_TYPE)?, format!("\"{name}\""))
        }
    };
    let unquoted = name.trim_matches('"');
    let helper = scope.helpers.get(unquoted).map_or(unquoted, String::as_str).to_owned();
    let (step, words) = match kind {
        Some(uapi::NFT_OBJECT_COUNTER) => (None, "counter name"),
        Some(uapi::NFT_OBJECT_QUOTA) => (Some(Step::Limit), "quota name"),
        Some(uapi::NFT_OBJECT_LIMIT) => (Some(Step::Limit), "limit name"),
        Some(uapi::NFT_OBJECT_CONNLIMIT) => (Some(Step::CountConnections), "ct count name"),
        Some(uapi::NFT_OBJECT_CT_HELPER) => (Some(Step::Act(Act::Helper(helper))), "ct helper set"),
        // Like a helper, it makes the entry expect another connection.
        Some(uapi::NFT_OBJECT_CT_EXPECT) => (Some(Step::Act(Act::Helper(helper))), "ct expectation set"),
        Some(uapi::NFT_OBJECT_SYNPROXY) => (Some(Step::Act(Act::Synproxy)), "synproxy name"),
        Some(uapi::NFT_OBJECT_CT_TIMEOUT) => (None, "ct timeout set"),
        Some(uapi::NFT_OBJECT_SECMARK) => (None, "meta secmark set"),
        Some(uapi::NFT_OBJECT_TUNNEL) => (None, "tunnel name"),
        _ => return Ok(None),
    };
    meaning.steps.extend(step);
    meaning.words(format!("{words} {name}"))
}

/// A register's content, in nft's words; the bytes of a constant are of this kind and in this order.
pub(super) fn operand(value: &Value, kind: Kind, host_order: bool) -> String {
    match value {
        Value::Constant(bytes) => {
            load::number(bytes, host_order).map_or("?".to_owned(), |number| text::value(kind, number))
        }
        Value::Mapped { words, .. } => words.clone(),
        Value::Load(load) => {
            let field = names(&load.segments);
            match (load.masked, load.segments.first()) {
                (Some((mask, flip)), Some(segment)) if !load.scrambled => {
                    let flip = match flip {
                        0 => String::new(),
                        flip => format!(" ^ {}", text::value(segment.kind, flip)),
                    };
                    format!("{field} & {}{flip}", text::value(segment.kind, mask))
                }
                _ => field,
            }
        }
    }
}

fn limit(data: &Attrs<'_>) -> Result<String, AttrError> {
    /// nft's own burst, which it does not print.
    const USUAL_BURST: u32 = 5;
    let wide = |kind| Ok::<_, AttrError>(data.find(kind)?.map(|attr| attr.be64()).transpose()?.unwrap_or(0));
    let unit = match wide(uapi::NFTA_LIMIT_UNIT)? {
        60 => "minute",
        3600 => "hour",
        86400 => "day",
        604_800 => "week",
        _ => "second",
    };
    let rate = wide(uapi::NFTA_LIMIT_RATE)?;
    let over = number(data, uapi::NFTA_LIMIT_FLAGS)?.unwrap_or_default() & uapi::NFT_LIMIT_F_INV != 0;
    let over = if over { "over " } else { "" };
    let burst = number(data, uapi::NFTA_LIMIT_BURST)?.unwrap_or_default();
    Ok(match number(data, uapi::NFTA_LIMIT_TYPE)? {
        Some(1) => format!("limit rate {over}{rate} bytes/{unit}"),
        _ if burst == USUAL_BURST || burst == 0 => format!("limit rate {over}{rate}/{unit}"),
        _ => format!("limit rate {over}{rate}/{unit} burst {burst} packets"),
    })
}

fn quota(data: &Attrs<'_>) -> Result<String, AttrError> {
    let bytes = data.find(uapi::NFTA_QUOTA_BYTES)?.map(|attr| attr.be64()).transpose()?.unwrap_or_default();
    let over = if number(data, uapi::NFTA_QUOTA_FLAGS)?.unwrap_or_default() & 1 != 0 { "over " } else { "" };
    let units = [(1 << 20, "mbytes"), (1 << 10, "kbytes")];
    let unit = units.into_iter().find(|(size, _)| bytes != 0 && bytes % size == 0);
    let (size, unit) = unit.unwrap_or((1, "bytes"));
    Ok(format!("quota {over}{} {unit}", bytes / size))
}

fn reject(data: &Attrs<'_>, family: Option<Family>) -> Result<String, AttrError> {
    const ICMP: [&str; 4] = ["net-unreachable", "host-unreachable", "prot-unreachable", "port-unreachable"];
    const ICMPV6: [&str; 7] = [
        "no-route",
        "admin-prohibited",
        "beyond-scope",
        "addr-unreachable",
        "port-unreachable",
        "policy-fail",
        "reject-route",
    ];
    const EITHER: [&str; 4] = ["no-route", "port-unreachable", "host-unreachable", "admin-prohibited"];
    let code = data.find(uapi::NFTA_REJECT_ICMP_CODE)?.map(|attr| attr.u8()).transpose()?.unwrap_or_default();
    let (word, names): (_, &[&str]) = match number(data, uapi::NFTA_REJECT_TYPE)? {
        Some(1) => return Ok("reject with tcp reset".to_owned()),
        Some(2) => ("icmpx", &EITHER),
        _ if family == Some(Family::Ipv6) => ("icmpv6", &ICMPV6),
        _ => ("icmp", &ICMP),
    };
    let name = match (word, code) {
        ("icmp", 9) => Some("net-prohibited"),
        ("icmp", 10) => Some("host-prohibited"),
        ("icmp", 13) => Some("admin-prohibited"),
        _ => names.get(usize::from(code)).copied(),
    };
    Ok(name.map_or(format!("reject with {word} code {code}"), |name| format!("reject with {word} {name}")))
}
