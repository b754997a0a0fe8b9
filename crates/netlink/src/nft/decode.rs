//! Our table as the kernel dumps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use notrack_core::diff::{CounterValue, Observed, ObservedChain, ObservedSet};
use notrack_core::nf::expr::{CmpOp, Expr, MetaKey, PayloadBase};
use notrack_core::nf::{Base, Element, FieldType, Hook, Key, SetSpec, TABLE_NAME, Verdict};

use super::expression::meta_key;
use super::{NftError, encode, uapi};
use crate::attr::{Attr, AttrError, Attrs, Message, Writer};
use crate::socket::{NetlinkError, Socket, flags};

const READ: &str = "read table inet notrack-dev";

/// Our table itself.
pub(super) struct TableHeader {
    /// The netlink port of its living owner.
    pub owner: Option<u32>,
}

pub(super) fn table(socket: &mut Socket) -> Result<Option<TableHeader>, NftError> {
    let mut found = None;
    dump(
        socket,
        uapi::NFT_MSG_GETTABLE,
        |_| {},
        |message| {
            let attrs = message.attrs()?;
            if text(&attrs, uapi::NFTA_TABLE_NAME)? == Some(TABLE_NAME) {
                let owner = attrs.find(uapi::NFTA_TABLE_OWNER)?.map(|attr| attr.be32()).transpose()?;
                found = Some(TableHeader { owner: owner.filter(|port| *port != 0) });
            }
            Ok(())
        },
    )?;
    Ok(found)
}

pub(super) fn observe(socket: &mut Socket) -> Result<Option<Observed>, NftError> {
    if table(socket)?.is_none() {
        return Ok(None);
    }
    let mut observed = Observed::default();
    dump(socket, uapi::NFT_MSG_GETOBJ, named(uapi::NFTA_OBJ_TABLE), |message| {
        counter(message, &mut observed)
    })?;
    dump(socket, uapi::NFT_MSG_GETCHAIN, |_| {}, |message| chain(message, &mut observed))?;
    dump(socket, uapi::NFT_MSG_GETRULE, named(uapi::NFTA_RULE_TABLE), |message| {
        rule(message, &mut observed)
    })?;
    dump(socket, uapi::NFT_MSG_GETSET, named(uapi::NFTA_SET_TABLE), |message| set(message, &mut observed))?;
    dump(
        socket,
        uapi::NFT_MSG_GETFLOWTABLE,
        |_| {},
        |message| {
            if text(&message.attrs()?, uapi::NFTA_SET_TABLE)? == Some(TABLE_NAME) {
                observed.foreign.push("flowtable".to_owned());
            }
            Ok(())
        },
    )
    .or_else(without_flowtables)?;
    for (name, set) in &mut observed.sets {
        set.elements = elements(socket, name, &set.spec)?;
    }
    Ok(Some(observed))
}

pub(super) fn counters(socket: &mut Socket) -> Result<BTreeMap<String, CounterValue>, NftError> {
    let mut observed = Observed::default();
    dump(socket, uapi::NFT_MSG_GETOBJ, named(uapi::NFTA_OBJ_TABLE), |message| {
        counter(message, &mut observed)
    })?;
    Ok(observed.counters)
}

/// Kernels may be built without flow tables: then there are none.
fn without_flowtables(error: NftError) -> Result<(), NftError> {
    match &error {
        NftError::Netlink(inner @ NetlinkError::Kernel { .. })
            if matches!(inner.errno(), Some(libc::EOPNOTSUPP | libc::EINVAL)) =>
        {
            Ok(())
        }
        _ => Err(error),
    }
}

fn named(attribute: u16) -> impl FnOnce(&mut Writer<'_>) {
    move |message| message.text(attribute, TABLE_NAME)
}

fn dump(
    socket: &mut Socket,
    kind: u16,
    fill: impl FnOnce(&mut Writer<'_>),
    each: impl FnMut(Message<'_>) -> Result<(), AttrError>,
) -> Result<(), NftError> {
    Ok(socket.request(READ, (uapi::kind(kind), flags::DUMP, uapi::NFPROTO_INET), fill, each)?)
}

pub(crate) fn text<'a>(attrs: &Attrs<'a>, kind: u16) -> Result<Option<&'a str>, AttrError> {
    attrs.find(kind)?.map(|attr| attr.text()).transpose()
}

pub(crate) fn number(attrs: &Attrs<'_>, kind: u16) -> Result<Option<u32>, AttrError> {
    attrs.find(kind)?.map(|attr| attr.be32()).transpose()
}

pub(crate) fn inner<'a>(attrs: &Attrs<'a>, kind: u16) -> Result<Attrs<'a>, AttrError> {
    Ok(attrs.find(kind)?.map_or(Attrs::new(&[]), |attr| attr.nested()))
}

fn counter(message: Message<'_>, observed: &mut Observed) -> Result<(), AttrError> {
    let attrs = message.attrs()?;
    let (Some(TABLE_NAME), Some(name)) =
        (text(&attrs, uapi::NFTA_OBJ_TABLE)?, text(&attrs, uapi::NFTA_OBJ_NAME)?)
    else {
        return Ok(());
    };
    if number(&attrs, uapi::NFTA_OBJ_TYPE)? != Some(uapi::NFT_OBJECT_COUNTER) {
        observed.foreign.push(format!("object {name}"));
        return Ok(());
    }
    let data = inner(&attrs, uapi::NFTA_OBJ_DATA)?;
    let value = |kind| Ok(data.find(kind)?.map(|attr| attr.be64()).transpose()?.unwrap_or_default());
    let value =
        CounterValue { packets: value(uapi::NFTA_COUNTER_PACKETS)?, bytes: value(uapi::NFTA_COUNTER_BYTES)? };
    observed.counters.insert(name.to_owned(), value);
    Ok(())
}

fn chain(message: Message<'_>, observed: &mut Observed) -> Result<(), AttrError> {
    let attrs = message.attrs()?;
    let (Some(TABLE_NAME), Some(name)) =
        (text(&attrs, uapi::NFTA_CHAIN_TABLE)?, text(&attrs, uapi::NFTA_CHAIN_NAME)?)
    else {
        return Ok(());
    };
    let hook = inner(&attrs, uapi::NFTA_CHAIN_HOOK)?;
    let base = match (number(&hook, uapi::NFTA_HOOK_HOOKNUM)?, number(&hook, uapi::NFTA_HOOK_PRIORITY)?) {
        (Some(hook), Some(priority)) => match Hook::from_number(hook) {
            Some(hook) => Some(Base { hook, priority: priority.cast_signed() }),
            None => {
                observed.foreign.push(format!("chain {name}"));
                return Ok(());
            }
        },
        _ => None,
    };
    let policy = number(&attrs, uapi::NFTA_CHAIN_POLICY)?;
    let accepts = base.is_none() || policy.is_none_or(|policy| policy == uapi::NF_ACCEPT);
    observed.chains.insert(name.to_owned(), ObservedChain { base, accepts, rules: Vec::new() });
    Ok(())
}

fn rule(message: Message<'_>, observed: &mut Observed) -> Result<(), AttrError> {
    let attrs = message.attrs()?;
    let (Some(TABLE_NAME), Some(chain)) =
        (text(&attrs, uapi::NFTA_RULE_TABLE)?, text(&attrs, uapi::NFTA_RULE_CHAIN)?)
    else {
        return Ok(());
    };
    let mut rule = Vec::new();
    for item in inner(&attrs, uapi::NFTA_RULE_EXPRESSIONS)? {
        let attrs = item?.nested();
        let name = text(&attrs, uapi::NFTA_EXPR_NAME)?.unwrap_or_default();
        let data = inner(&attrs, uapi::NFTA_EXPR_DATA)?;
        rule.push(expression(name, &data)?.unwrap_or_else(|| Expr::Foreign(name.to_owned())));
    }
    if let Some(chain) = observed.chains.get_mut(chain) {
        chain.rules.push(rule);
    }
    Ok(())
}

/// One of our expressions; `None` where it is none that we would write.
fn expression(name: &str, data: &Attrs<'_>) -> Result<Option<Expr>, AttrError> {
    let is = |kind, wanted: u32| Ok::<bool, AttrError>(number(data, kind)? == Some(wanted));
    Ok(match name {
        "payload" => {
            let base = match number(data, uapi::NFTA_PAYLOAD_BASE)? {
                Some(uapi::NFT_PAYLOAD_NETWORK_HEADER) => PayloadBase::Network,
                Some(uapi::NFT_PAYLOAD_TRANSPORT_HEADER) => PayloadBase::Transport,
                _ => return Ok(None),
            };
            let fields = (
                number(data, uapi::NFTA_PAYLOAD_OFFSET)?,
                number(data, uapi::NFTA_PAYLOAD_LEN)?,
                number(data, uapi::NFTA_PAYLOAD_DREG)?,
            );
            match fields {
                (Some(offset), Some(len), Some(register)) => {
                    Some(Expr::Payload { base, offset, len, register })
                }
                _ => None,
            }
        }
        "meta" => {
            use MetaKey::{Iif, IifName, L4Proto, NfProto, Oif, OifName};
            let number_of = number(data, uapi::NFTA_META_KEY)?;
            let mut keys = [Iif, Oif, IifName, OifName, NfProto, L4Proto].into_iter();
            let key = keys.find(|key| Some(meta_key(*key)) == number_of);
            match (key, number(data, uapi::NFTA_META_DREG)?) {
                (Some(key), Some(register)) => Some(Expr::Meta { key, register }),
                _ => None,
            }
        }
        "ct" if is(uapi::NFTA_CT_KEY, uapi::NFT_CT_STATE)? && is(uapi::NFTA_CT_DREG, uapi::NFT_REG_1)? => {
            Some(Expr::CtState)
        }
        "cmp" if is(uapi::NFTA_CMP_SREG, uapi::NFT_REG_1)? => {
            let op = match number(data, uapi::NFTA_CMP_OP)? {
                Some(uapi::NFT_CMP_EQ) => CmpOp::Eq,
                Some(uapi::NFT_CMP_NEQ) => CmpOp::Neq,
                _ => return Ok(None),
            };
            value(data, uapi::NFTA_CMP_DATA)?.map(|data| Expr::Cmp { op, data })
        }
        "bitwise"
            if is(uapi::NFTA_BITWISE_SREG, uapi::NFT_REG_1)?
                && is(uapi::NFTA_BITWISE_DREG, uapi::NFT_REG_1)? =>
        {
            // Operation 0 is mask and xor.
            let masks = number(data, uapi::NFTA_BITWISE_OP)?.is_none_or(|op| op == 0);
            let xor = value(data, uapi::NFTA_BITWISE_XOR)?.unwrap_or_default();
            match value(data, uapi::NFTA_BITWISE_MASK)? {
                Some(mask) if masks && xor.iter().all(|byte| *byte == 0) => Some(Expr::Mask { mask }),
                _ => None,
            }
        }
        "lookup" if is(uapi::NFTA_LOOKUP_SREG, uapi::NFT_REG_1)? => {
            let verdict_map = match number(data, uapi::NFTA_LOOKUP_DREG)? {
                None => false,
                Some(uapi::NFT_REG_VERDICT) => true,
                Some(_) => return Ok(None),
            };
            let inverted =
                number(data, uapi::NFTA_LOOKUP_FLAGS)?.unwrap_or_default() & uapi::NFT_LOOKUP_F_INV != 0;
            text(data, uapi::NFTA_LOOKUP_SET)?.map(|set| Expr::Lookup {
                set: set.to_owned(),
                inverted,
                verdict_map,
            })
        }
        "immediate" if is(uapi::NFTA_IMMEDIATE_DREG, uapi::NFT_REG_VERDICT)? => {
            verdict(&inner(data, uapi::NFTA_IMMEDIATE_DATA)?)?.map(Expr::Immediate)
        }
        "notrack" => Some(Expr::Notrack),
        "objref" if is(uapi::NFTA_OBJREF_IMM_TYPE, uapi::NFT_OBJECT_COUNTER)? => {
            text(data, uapi::NFTA_OBJREF_IMM_NAME)?.map(|name| Expr::Counter(name.to_owned()))
        }
        "limit" => limit(data)?,
        _ => None,
    })
}

fn limit(data: &Attrs<'_>) -> Result<Option<Expr>, AttrError> {
    let wide = |kind| data.find(kind)?.map(|attr| attr.be64()).transpose();
    let rate = wide(uapi::NFTA_LIMIT_RATE)?.and_then(|rate| u32::try_from(rate).ok());
    let ours = wide(uapi::NFTA_LIMIT_UNIT)? == Some(1)
        && number(data, uapi::NFTA_LIMIT_BURST)? == rate
        && number(data, uapi::NFTA_LIMIT_TYPE)?.unwrap_or_default() == 0
        && number(data, uapi::NFTA_LIMIT_FLAGS)?.unwrap_or_default() == uapi::NFT_LIMIT_F_INV;
    Ok(rate.filter(|_| ours).map(|per_second| Expr::RateOver { per_second }))
}

pub(crate) fn value(attrs: &Attrs<'_>, kind: u16) -> Result<Option<Vec<u8>>, AttrError> {
    let value = inner(attrs, kind)?.find(uapi::NFTA_DATA_VALUE)?;
    Ok(value.map(|attr: Attr<'_>| attr.payload.to_vec()))
}

fn verdict(data: &Attrs<'_>) -> Result<Option<Verdict>, AttrError> {
    let attrs = inner(data, uapi::NFTA_DATA_VERDICT)?;
    let target = || Ok::<_, AttrError>(text(&attrs, uapi::NFTA_VERDICT_CHAIN)?.map(Arc::from));
    Ok(match number(&attrs, uapi::NFTA_VERDICT_CODE)?.map(u32::cast_signed) {
        Some(0) => Some(Verdict::Drop),
        Some(1) => Some(Verdict::Accept),
        Some(uapi::NFT_RETURN) => Some(Verdict::Return),
        Some(uapi::NFT_JUMP) => target()?.map(Verdict::Jump),
        Some(uapi::NFT_GOTO) => target()?.map(Verdict::Goto),
        _ => None,
    })
}

fn set(message: Message<'_>, observed: &mut Observed) -> Result<(), AttrError> {
    let attrs = message.attrs()?;
    let (Some(TABLE_NAME), Some(name)) =
        (text(&attrs, uapi::NFTA_SET_TABLE)?, text(&attrs, uapi::NFTA_SET_NAME)?)
    else {
        return Ok(());
    };
    match spec(&attrs)? {
        Some(spec) => {
            let size = number(&inner(&attrs, uapi::NFTA_SET_DESC)?, uapi::NFTA_SET_DESC_SIZE)?;
            observed.sets.insert(name.to_owned(), ObservedSet { spec, size, elements: Vec::new() });
        }
        None => observed.foreign.push(format!("set {name}")),
    }
    Ok(())
}

/// What a set is made of; `None` where it is nothing that we would make.
fn spec(attrs: &Attrs<'_>) -> Result<Option<SetSpec>, AttrError> {
    let flags = number(attrs, uapi::NFTA_SET_FLAGS)?.unwrap_or_default();
    let kind = number(attrs, uapi::NFTA_SET_KEY_TYPE)?.unwrap_or_default();
    let userdata = attrs.find(uapi::NFTA_SET_USERDATA)?.map(|attr| attr.payload).unwrap_or_default();
    let candidates = known_keys();
    let mut specs = candidates.into_iter().map(|key| SetSpec {
        key,
        interval: flags & uapi::NFT_SET_INTERVAL != 0,
        verdicts: flags & uapi::NFT_SET_MAP != 0,
        timeout: flags & uapi::NFT_SET_TIMEOUT != 0,
    });
    let ours = |spec: &SetSpec| {
        encode::key_type(&spec.key) == kind
            && encode::set_flags(spec) == flags
            && encode::userdata(spec) == userdata
    };
    let data = number(attrs, uapi::NFTA_SET_DATA_TYPE)?;
    let verdicts = data.is_none_or(|data| data == uapi::NFT_DATA_VERDICT);
    Ok(specs.find(ours).filter(|_| verdicts))
}

/// Every key that we make. Raw fields are told apart by the userdata.
fn known_keys() -> Vec<Vec<FieldType>> {
    use FieldType::{IcmpType, Icmpv6Type, InetProto, InetService, Ipv4Addr, Ipv6Addr, NfProto, TcpFlag};
    let mut keys = vec![vec![NfProto], vec![TcpFlag], vec![IcmpType], vec![Icmpv6Type]];
    for address in [Ipv4Addr, Ipv6Addr] {
        keys.push(vec![address, InetProto, InetService]);
        keys.push(vec![InetService, InetProto, address]);
        keys.push(vec![address, InetService]);
        keys.push(vec![address, InetService, address, InetService, InetProto]);
    }
    let raw = |offset, bits| FieldType::Raw { offset, bits };
    // Addresses and ports of the packet that an ICMP error embeds; behind a fragment header for the last one.
    for (addresses, width, proto, ports) in [
        ([160, 192], 32, 136, [224, 240]),
        ([128, 256], 128, 112, [384, 400]),
        ([128, 256], 128, 384, [448, 464]),
    ] {
        for (address, port) in addresses.into_iter().zip(ports) {
            keys.push(vec![raw(address, width), raw(proto, 8), raw(port, 16)]);
            keys.push(vec![raw(port, 16), raw(proto, 8), raw(address, width)]);
            keys.push(vec![raw(address, width), raw(port, 16)]);
        }
    }
    keys
}

fn elements(socket: &mut Socket, name: &str, spec: &SetSpec) -> Result<Vec<Element>, NftError> {
    let mut elements = Vec::new();
    // Chains are few and elements many: each name is kept once.
    let mut chains: BTreeMap<String, Arc<str>> = BTreeMap::new();
    let fill = |message: &mut Writer<'_>| {
        message.text(uapi::NFTA_SET_ELEM_LIST_TABLE, TABLE_NAME);
        message.text(uapi::NFTA_SET_ELEM_LIST_SET, name);
    };
    dump(socket, uapi::NFT_MSG_GETSETELEM, fill, |message| {
        for item in inner(&message.attrs()?, uapi::NFTA_SET_ELEM_LIST_ELEMENTS)? {
            let attrs = item?.nested();
            let key = |kind| Ok::<_, AttrError>(value(&attrs, kind)?.and_then(|bytes| padded_key(&bytes)));
            let Some(low) = key(uapi::NFTA_SET_ELEM_KEY)? else { continue };
            let end = if spec.interval { key(uapi::NFTA_SET_ELEM_KEY_END)?.or(Some(low)) } else { None };
            let verdict = verdict(&inner(&attrs, uapi::NFTA_SET_ELEM_DATA)?)?.map(|verdict| match verdict {
                Verdict::Jump(chain) => Verdict::Jump(intern(&mut chains, chain)),
                Verdict::Goto(chain) => Verdict::Goto(intern(&mut chains, chain)),
                other => other,
            });
            elements.push(Element { key: low, end, verdict });
        }
        Ok(())
    })?;
    elements.sort();
    Ok(elements)
}

/// A key as we hold it: also single fields are padded.
fn padded_key(bytes: &[u8]) -> Option<Key> {
    match bytes {
        [byte] => Some(Key::EMPTY.byte(*byte)),
        bytes => Key::from_bytes(bytes),
    }
}

fn intern(chains: &mut BTreeMap<String, Arc<str>>, chain: Arc<str>) -> Arc<str> {
    match chains.get(&*chain) {
        Some(known) => known.clone(),
        None => {
            chains.insert(chain.to_string(), chain.clone());
            chain
        }
    }
}
