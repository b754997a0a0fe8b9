//! A transaction as one batch of bytes.

use std::ffi::CString;
use std::ops::RangeInclusive;

use nftnl::nftnl_sys::libc;
use nftnl::{Batch, Chain, MsgType, NlMsg, ProtoFamily, Rule, Table};
use notrack_core::diff::Op;
use notrack_core::nf::{Base, Element, FieldType, Hook, Key, SetSpec, TABLE_NAME};

use super::expression::{Lowered, verdict_code};
use super::message::{Quiet, Raw};
use super::{NftError, body, uapi};
use crate::attr::{AttrError, Buffer, Writer};

/// Elements of one message: each takes at most some 130 bytes and a chain's name, and the list must stay below the
/// 65,535 bytes of a nested attribute.
const ELEMENTS_A_MESSAGE: usize = 180;

/// A batch, ready to be sent in one piece.
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    pub seqs: RangeInclusive<u32>,
    /// The sequence number of the first message behind the batch's beginning.
    pub first_op: u32,
    /// Whether this kernel acknowledges a batch.
    pub acknowledged: bool,
    /// What each message from `first_op` on is for.
    pub ops: Vec<String>,
}

pub(super) fn batch(ops: &[Op], flags: u32, generation: u32) -> Result<Encoded, NftError> {
    let mut writer = BatchWriter { batch: Batch::new(), ops: Vec::new(), set_id: 0 };
    for op in ops {
        writer.write(op, flags)?;
    }
    let BatchWriter { batch, ops: names, .. } = writer;
    let finished = batch.finalize();
    let seqs = finished.sequence_numbers();
    let mut bytes = Vec::new();
    for page in &finished {
        bytes.extend_from_slice(page);
    }
    // From 6.10 on the kernel acknowledges begin and end of a batch, and nftnl then numbers them too.
    let acknowledged = seqs.end - seqs.start > names.len() as u32;
    let first_op = seqs.start + u32::from(acknowledged);
    let bytes = with_generation(&bytes, generation, first_op - 1)?;
    Ok(Encoded { bytes, seqs: 0..=seqs.end, first_op, acknowledged, ops: names })
}

/// Replaces the beginning of a batch by one that names the generation which the batch was made for: where another
/// program commits first, the kernel applies nothing (`ERESTART`).
fn with_generation(bytes: &[u8], generation: u32, seq: u32) -> Result<Vec<u8>, AttrError> {
    let len = bytes.first_chunk().map_or(0, |len| u32::from_ne_bytes(*len) as usize);
    let flags =
        bytes.get(6..8).and_then(|flags| flags.first_chunk()).map_or(0, |flags| u16::from_ne_bytes(*flags));
    let mut begin = Buffer::with_capacity(bytes.len() + 8);
    // `res_id` names the subsystem.
    begin.nfnl(uapi::NFNL_MSG_BATCH_BEGIN, flags, seq, 0, uapi::kind(0) >> 8, |message| {
        message.be32(uapi::NFNL_BATCH_GENID, generation);
    });
    let mut whole = begin.finish()?;
    whole.extend_from_slice(bytes.get(len..).unwrap_or_default());
    Ok(whole)
}

fn table() -> Result<Table, NftError> {
    Ok(Table::new(c_name(TABLE_NAME)?, ProtoFamily::Inet))
}

fn c_name(name: &str) -> Result<CString, NftError> {
    CString::new(name).map_err(|_| NftError::Name(name.to_owned()))
}

struct BatchWriter {
    batch: Batch,
    ops: Vec<String>,
    set_id: u32,
}

impl BatchWriter {
    fn add<M: NlMsg>(&mut self, op: &Op, message: &M, kind: MsgType) {
        self.batch.add(&Quiet(message), kind);
        self.ops.push(op.to_string());
    }

    fn raw(
        &mut self,
        op: &Op,
        message: u16,
        flags: u16,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), NftError> {
        let raw = Raw { message, flags, body: body(fill)? };
        self.batch.add(&raw, MsgType::Add);
        self.ops.push(op.to_string());
        Ok(())
    }

    fn write(&mut self, op: &Op, flags: u32) -> Result<(), NftError> {
        let create = uapi::NLM_F_CREATE;
        match op {
            Op::AddTable => self.raw(op, uapi::NFT_MSG_NEWTABLE, create, |message| {
                message.text(uapi::NFTA_TABLE_NAME, TABLE_NAME);
                message.be32(uapi::NFTA_TABLE_FLAGS, flags);
            }),
            Op::DeleteTable => self.raw(op, uapi::NFT_MSG_DELTABLE, 0, |message| {
                message.text(uapi::NFTA_TABLE_NAME, TABLE_NAME);
            }),
            Op::AddChain { name, base } => self.add_chain(op, name, *base),
            Op::FlushChain(name) => self.raw(op, uapi::NFT_MSG_DELRULE, 0, |message| {
                message.text(uapi::NFTA_RULE_TABLE, TABLE_NAME);
                message.text(uapi::NFTA_RULE_CHAIN, name);
            }),
            Op::DeleteChain(name) => self.raw(op, uapi::NFT_MSG_DELCHAIN, 0, |message| {
                message.text(uapi::NFTA_CHAIN_TABLE, TABLE_NAME);
                message.text(uapi::NFTA_CHAIN_NAME, name);
            }),
            Op::AddRule { chain, rule } => {
                let table = table()?;
                let chain = Chain::new(c_name(chain)?, &table);
                let mut message = Rule::new(&chain);
                for expr in rule {
                    message.add_expr(&Lowered(expr));
                }
                self.add(op, &message, MsgType::Add);
                Ok(())
            }
            Op::AddSet { name, spec, size } => {
                self.set_id += 1;
                let id = self.set_id;
                self.raw(op, uapi::NFT_MSG_NEWSET, create, |message| add_set(message, name, spec, *size, id))
            }
            Op::DeleteSet(name) => self.raw(op, uapi::NFT_MSG_DELSET, 0, |message| {
                message.text(uapi::NFTA_SET_TABLE, TABLE_NAME);
                message.text(uapi::NFTA_SET_NAME, name);
            }),
            Op::FlushSet(name) => {
                self.raw(op, uapi::NFT_MSG_DELSETELEM, 0, |message| element_list(message, name))
            }
            Op::AddElements { set, spec, elements, lifetime } => {
                let timeout =
                    lifetime.map(|lifetime| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
                self.elements(op, (uapi::NFT_MSG_NEWSETELEM, create), (set, spec), elements, timeout)
            }
            Op::DeleteElements { set, spec, elements } => {
                self.elements(op, (uapi::NFT_MSG_DELSETELEM, 0), (set, spec), elements, None)
            }
            Op::AddCounter(name) => self.raw(op, uapi::NFT_MSG_NEWOBJ, create, |message| {
                message.text(uapi::NFTA_OBJ_TABLE, TABLE_NAME);
                message.text(uapi::NFTA_OBJ_NAME, name);
                message.be32(uapi::NFTA_OBJ_TYPE, uapi::NFT_OBJECT_COUNTER);
                message.nested(uapi::NFTA_OBJ_DATA, |counter| {
                    counter.be64(uapi::NFTA_COUNTER_BYTES, 0);
                    counter.be64(uapi::NFTA_COUNTER_PACKETS, 0);
                });
            }),
            Op::DeleteCounter(name) => self.raw(op, uapi::NFT_MSG_DELOBJ, 0, |message| {
                message.text(uapi::NFTA_OBJ_TABLE, TABLE_NAME);
                message.text(uapi::NFTA_OBJ_NAME, name);
                message.be32(uapi::NFTA_OBJ_TYPE, uapi::NFT_OBJECT_COUNTER);
            }),
        }
    }

    fn add_chain(&mut self, op: &Op, name: &str, base: Option<Base>) -> Result<(), NftError> {
        let table = table()?;
        let mut chain = Chain::new(c_name(name)?, &table);
        if let Some(base) = base {
            let hook = match base.hook {
                Hook::Prerouting => nftnl::Hook::PreRouting,
                Hook::Input => nftnl::Hook::In,
                Hook::Forward => nftnl::Hook::Forward,
                Hook::Output => nftnl::Hook::Out,
            };
            chain.set_type(nftnl::ChainType::Filter);
            chain.set_hook(hook, base.priority);
            chain.set_policy(nftnl::Policy::Accept);
        }
        self.add(op, &chain, MsgType::Add);
        Ok(())
    }

    fn elements(
        &mut self,
        op: &Op,
        (message, flags): (u16, u16),
        (set, spec): (&str, &SetSpec),
        elements: &[Element],
        timeout: Option<u64>,
    ) -> Result<(), NftError> {
        let len = key_len(spec);
        for chunk in elements.chunks(ELEMENTS_A_MESSAGE) {
            self.raw(op, message, flags, |message| {
                element_list(message, set);
                message.nested(uapi::NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                    for element in chunk {
                        list.nested(uapi::NFTA_LIST_ELEM, |item| write_element(item, element, len, timeout));
                    }
                });
            })?;
        }
        Ok(())
    }
}

fn element_list(message: &mut Writer<'_>, set: &str) {
    message.text(uapi::NFTA_SET_ELEM_LIST_TABLE, TABLE_NAME);
    message.text(uapi::NFTA_SET_ELEM_LIST_SET, set);
}

fn write_element(item: &mut Writer<'_>, element: &Element, len: usize, timeout: Option<u64>) {
    let Element { key, end, verdict } = element;
    let mut write = |kind, key: &Key| {
        let bytes = key.bytes();
        item.nested(kind, |data| data.bytes(uapi::NFTA_DATA_VALUE, bytes.get(..len).unwrap_or(bytes)));
    };
    write(uapi::NFTA_SET_ELEM_KEY, key);
    if let Some(end) = end {
        write(uapi::NFTA_SET_ELEM_KEY_END, end);
    }
    if let Some(verdict) = verdict {
        item.nested(uapi::NFTA_SET_ELEM_DATA, |data| {
            data.nested(uapi::NFTA_DATA_VERDICT, |data| {
                data.be32(uapi::NFTA_VERDICT_CODE, verdict_code(verdict));
                if let Some(chain) = verdict.target() {
                    data.text(uapi::NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
    }
    if let Some(timeout) = timeout {
        item.be64(uapi::NFTA_SET_ELEM_TIMEOUT, timeout);
    }
}

fn add_set(message: &mut Writer<'_>, name: &str, spec: &SetSpec, size: Option<u32>, id: u32) {
    message.text(uapi::NFTA_SET_TABLE, TABLE_NAME);
    message.text(uapi::NFTA_SET_NAME, name);
    message.be32(uapi::NFTA_SET_FLAGS, set_flags(spec));
    message.be32(uapi::NFTA_SET_KEY_TYPE, key_type(&spec.key));
    message.be32(uapi::NFTA_SET_KEY_LEN, key_len(spec) as u32);
    if spec.verdicts {
        message.be32(uapi::NFTA_SET_DATA_TYPE, uapi::NFT_DATA_VERDICT);
    }
    message.be32(uapi::NFTA_SET_ID, id);
    message.nested(uapi::NFTA_SET_DESC, |desc| {
        if let Some(size) = size {
            desc.be32(uapi::NFTA_SET_DESC_SIZE, size);
        }
        if spec.interval && spec.key.len() > 1 {
            desc.nested(uapi::NFTA_SET_DESC_CONCAT, |fields| {
                for field in &spec.key {
                    fields.nested(uapi::NFTA_LIST_ELEM, |item| {
                        item.be32(uapi::NFTA_SET_FIELD_LEN, field.len() as u32);
                    });
                }
            });
        }
    });
    message.bytes(uapi::NFTA_SET_USERDATA, &userdata(spec));
}

/// The bytes of a key: every field padded, but for a key of a single field.
fn key_len(spec: &SetSpec) -> usize {
    match spec.key.as_slice() {
        [field] => field.len(),
        fields => fields.iter().map(|field| field.padded_len()).sum(),
    }
}

pub(super) fn set_flags(spec: &SetSpec) -> u32 {
    let mut flags = 0;
    for (set, flag) in [
        (spec.interval, uapi::NFT_SET_INTERVAL),
        (spec.interval && spec.key.len() > 1, uapi::NFT_SET_CONCAT),
        (spec.verdicts, uapi::NFT_SET_MAP),
        (spec.timeout, uapi::NFT_SET_TIMEOUT),
    ] {
        flags |= if set { flag } else { 0 };
    }
    flags
}

/// nft's number of a concatenated type: six bits a field.
pub(super) fn key_type(key: &[FieldType]) -> u32 {
    key.iter().fold(0, |number, field| number << 6 | field.nft_type())
}

/// What nft itself stores with a set, to be able to list it: the key's byte order and, for a `typeof` set, the
/// expressions of its key (`NFTNL_UDATA_SET_*`, as nftables 1.0 writes them).
pub(super) fn userdata(spec: &SetSpec) -> Vec<u8> {
    const KEY_BYTE_ORDER: u8 = 0;
    const KEY_TYPEOF: u8 = 3;
    const DATA_TYPEOF: u8 = 4;
    const EXPR_VERDICT: u32 = 1;
    const EXPR_PAYLOAD: u32 = 7;
    const EXPR_CONCAT: u32 = 13;
    const BASE_TRANSPORT: u32 = 3;
    const HOST_ENDIAN: u32 = 1;
    let order = if spec.key.len() == 1 { HOST_ENDIAN } else { 0 };
    let mut data = tlv_u32(KEY_BYTE_ORDER, order);
    let raw = |field: &FieldType| match field {
        FieldType::Raw { offset, bits } => Some((*offset, *bits)),
        _ => None,
    };
    let fields: Option<Vec<(u16, u16)>> = spec.key.iter().map(raw).collect();
    if let Some(fields) = fields {
        let parts = fields.iter().enumerate().flat_map(|(number, (offset, bits))| {
            let payload = [
                tlv_u32(0, 0),
                tlv_u32(1, 0),
                tlv_u32(2, BASE_TRANSPORT),
                tlv_u32(3, u32::from(*offset)),
                tlv_u32(4, u32::from(*bits)),
            ];
            tlv(number as u8, &[tlv_u32(0, EXPR_PAYLOAD), tlv(1, &payload.concat())].concat())
        });
        let parts: Vec<u8> = parts.collect();
        data.extend(tlv(KEY_TYPEOF, &[tlv_u32(0, EXPR_CONCAT), tlv(1, &parts)].concat()));
        data.extend(tlv(DATA_TYPEOF, &[tlv_u32(0, EXPR_VERDICT), tlv(1, &[])].concat()));
    }
    data
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, value.len() as u8], value].concat()
}

fn tlv_u32(kind: u8, value: u32) -> Vec<u8> {
    tlv(kind, &value.to_ne_bytes())
}

const _: () = assert!(libc::NFPROTO_INET as u8 == uapi::NFPROTO_INET);
