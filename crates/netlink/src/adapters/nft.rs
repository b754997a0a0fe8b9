//! Adapters in nf_tables, in tables of nft and of iptables-nft.

use std::collections::BTreeSet;

use notrack_core::host::{Adapter, Backend, TableFamily, TableId, Untracked};

use super::{AdapterError, Present, check, expressions, is_ours, xt};
use crate::attr::{AttrError, Attrs, Buffer, Message, Writer};
use crate::nft::{generation, uapi};
use crate::socket::{NetlinkError, Refusal, Reply, Socket, flags};

const READ: &str = "look for adapters in nf_tables";
const CHANGE: &str = "change adapters in nf_tables";
/// How often rules that change while they are read are read again.
const MOST_READS: u32 = 8;
/// How often a change is tried again that another program's overtook.
const MOST_COMMITS: u32 = 64;
/// `NFTNL_UDATA_RULE_COMMENT`: the type of a comment in a rule's userdata.
const COMMENT: u8 = 0;

pub(super) fn present() -> Result<BTreeSet<Present>, AdapterError> {
    let mut socket = Socket::open()?;
    for _ in 0..MOST_READS {
        match read(&mut socket) {
            Err(error) if error.is_transient() => {}
            other => return Ok(other?),
        }
    }
    Err(unsteady(MOST_READS))
}

pub(super) fn apply(add: &[&Adapter], remove: &[&Present]) -> Result<(), AdapterError> {
    if add.is_empty() && remove.is_empty() {
        return Ok(());
    }
    for adapter in add {
        check(adapter)?;
    }
    let mut socket = Socket::open()?;
    for _ in 0..MOST_COMMITS {
        // The generation first: where the rules change after it, the transaction is refused. So no handle can have
        // gone over to another program's rule when it is used, as in a table that was deleted and made anew.
        let done = generation(&mut socket).and_then(|generation| Ok((generation, read(&mut socket)?)));
        let (generation, present) = match done {
            Err(error) if error.is_transient() => continue,
            other => other?,
        };
        let changes = changes(add, remove, &present);
        if changes.is_empty() {
            return Ok(());
        }
        match commit(&mut socket, &changes, generation) {
            // Lost answers: the next look shows what was done.
            Err(AdapterError::Netlink(error)) if error.is_transient() => {}
            other => return other,
        }
    }
    Err(unsteady(MOST_COMMITS))
}

fn unsteady(tries: u32) -> AdapterError {
    AdapterError::Unsteady { what: "nf_tables".to_owned(), tries }
}

enum Change<'a> {
    Add(&'a Adapter),
    Remove(&'a Present),
}

/// What is left to do. Additions come first: the rule before which one goes may be among the removed.
fn changes<'a>(add: &[&'a Adapter], remove: &[&'a Present], present: &BTreeSet<Present>) -> Vec<Change<'a>> {
    let mut there: BTreeSet<(&TableId, &str, String)> = (present.iter())
        .filter(|rule| !remove.contains(rule))
        .map(|rule| (&rule.table, rule.chain.as_str(), rule.comment.clone()))
        .collect();
    let added =
        add.iter().filter(|adapter| there.insert((&adapter.table, &adapter.chain, adapter.comment())));
    let mut changes: Vec<Change<'a>> = added.map(|adapter| Change::Add(adapter)).collect();
    changes.extend(remove.iter().filter(|rule| present.contains(**rule)).map(|rule| Change::Remove(rule)));
    changes
}

fn commit(socket: &mut Socket, changes: &[Change<'_>], generation: u32) -> Result<(), AdapterError> {
    let first = socket.reserve_seqs(changes.len() + 2);
    let last = first + changes.len() as u32 + 1;
    let mut batch = Buffer::with_capacity(1024 * (changes.len() + 1));
    let subsystem = uapi::NFNL_SUBSYS_NFTABLES;
    batch.nfnl(uapi::NFNL_MSG_BATCH_BEGIN, flags::REQUEST, first, 0, subsystem, |message| {
        message.be32(uapi::NFNL_BATCH_GENID, generation);
    });
    for (seq, change) in (first + 1..last).zip(changes) {
        // The last one's acknowledgement is that of the transaction: kernels before 6.10 acknowledge no batch.
        let ack = if seq + 1 == last { flags::ACK } else { 0 };
        write(&mut batch, change, seq, flags::REQUEST | ack);
    }
    batch.nfnl(uapi::NFNL_MSG_BATCH_END, flags::REQUEST, last, 0, subsystem, |_| {});
    let batch = batch.finish()?;

    let mut refused: Option<Refusal> = None;
    let mut acknowledged = false;
    let outcome = socket.transact(CHANGE, &batch, &(first..=last), |reply| match reply {
        // The first refusal is the cause; those after it follow from it.
        Reply::Refused(refusal) => {
            refused.get_or_insert(refusal);
        }
        Reply::Ack { .. } => acknowledged = true,
        Reply::Data(_) => {}
    });
    if let Some(refusal) = refused {
        let place = refusal.seq.checked_sub(first + 1).map(|place| place as usize);
        let source = refusal.into_error(CHANGE);
        return Err(match place.and_then(|place| changes.get(place)) {
            Some(change) if !source.is_transient() => explain(socket, change, source),
            _ => source.into(),
        });
    }
    outcome?;
    if acknowledged { Ok(()) } else { Err(NetlinkError::NoBuffer { what: CHANGE }.into()) }
}

fn write(batch: &mut Buffer, change: &Change<'_>, seq: u32, flags: u16) {
    let (table, chain) = change.place();
    let family = family_number(table.family);
    let place = |message: &mut Writer<'_>| {
        message.text(uapi::NFTA_RULE_TABLE, &table.name);
        message.text(uapi::NFTA_RULE_CHAIN, chain);
    };
    match change {
        Change::Remove(rule) => {
            batch.nfnl(uapi::kind(uapi::NFT_MSG_DELRULE), flags, seq, family, 0, |message| {
                place(message);
                message.be64(uapi::NFTA_RULE_HANDLE, rule.handle);
            });
        }
        Change::Add(adapter) => {
            // With a position: before that rule, or (appending) behind it. Without one: first, or last.
            let append = if adapter.before.is_none() { uapi::NLM_F_APPEND } else { 0 };
            let flags = flags | uapi::NLM_F_CREATE | append;
            batch.nfnl(uapi::kind(uapi::NFT_MSG_NEWRULE), flags, seq, family, 0, |message| {
                place(message);
                if let Some(handle) = adapter.before {
                    message.be64(uapi::NFTA_RULE_POSITION, handle);
                }
                message.nested(uapi::NFTA_RULE_EXPRESSIONS, |list| expressions::write(list, adapter));
                if adapter.table.backend == Backend::Nft {
                    message.bytes(uapi::NFTA_RULE_USERDATA, &userdata(&adapter.comment()));
                } else {
                    // Matches that belong to one protocol ask for it here.
                    message.nested(uapi::NFTA_RULE_COMPAT, |compat| {
                        let Untracked { carried, sources, .. } = &adapter.packets;
                        let proto = carried.number(sources.family);
                        compat.be32(uapi::NFTA_RULE_COMPAT_PROTO, u32::from(proto));
                        compat.be32(uapi::NFTA_RULE_COMPAT_FLAGS, 0);
                    });
                }
            });
        }
    }
}

impl Change<'_> {
    fn place(&self) -> (&TableId, &str) {
        match self {
            Change::Add(adapter) => (&adapter.table, &adapter.chain),
            Change::Remove(rule) => (&rule.table, &rule.chain),
        }
    }
}

/// A refusal in terms of the rule that was refused.
fn explain(socket: &mut Socket, change: &Change<'_>, source: NetlinkError) -> AdapterError {
    let (table, chain) = change.place();
    let (table, chain) = (table.clone(), chain.to_owned());
    match (&source, change) {
        (NetlinkError::PermissionDenied { .. }, _) => match owner(socket, &table) {
            Ok(Some(port)) => AdapterError::Owned { table, chain, port },
            _ => source.into(),
        },
        (NetlinkError::Kernel { errno: libc::ENOENT, .. }, Change::Add(adapter))
            if !exists(socket, adapter).unwrap_or(true) =>
        {
            AdapterError::Gone { table, chain, before: adapter.before }
        }
        (_, change) => {
            let action = match change {
                Change::Add(_) => "add a rule to",
                Change::Remove(_) => "remove a rule from",
            };
            AdapterError::Refused { action, table, chain, source: Box::new(source) }
        }
    }
}

/// The netlink port of a table's living owner.
fn owner(socket: &mut Socket, table: &TableId) -> Result<Option<u32>, NetlinkError> {
    let mut owner = None;
    dump(socket, uapi::NFT_MSG_GETTABLE, family_number(table.family), |message| {
        let attrs = message.attrs()?;
        if text(&attrs, uapi::NFTA_TABLE_NAME)? == table.name {
            owner = attrs.find(uapi::NFTA_TABLE_OWNER)?.map(|attr| attr.be32()).transpose()?;
        }
        Ok(())
    })?;
    Ok(owner.filter(|port| *port != 0))
}

/// Whether the place of a new rule is there: `ENOENT` also tells of an extension that the kernel lacks.
fn exists(socket: &mut Socket, adapter: &Adapter) -> Result<bool, NetlinkError> {
    let (family, mut exists) = (family_number(adapter.table.family), false);
    let name = adapter.table.name.as_str();
    match adapter.before {
        None => dump(socket, uapi::NFT_MSG_GETCHAIN, family, |message| {
            let attrs = message.attrs()?;
            exists |= text(&attrs, uapi::NFTA_CHAIN_TABLE)? == name
                && text(&attrs, uapi::NFTA_CHAIN_NAME)? == adapter.chain;
            Ok(())
        }),
        Some(handle) => dump(socket, uapi::NFT_MSG_GETRULE, family, |message| {
            let attrs = message.attrs()?;
            exists |= text(&attrs, uapi::NFTA_RULE_TABLE)? == name
                && text(&attrs, uapi::NFTA_RULE_CHAIN)? == adapter.chain
                && attrs.find(uapi::NFTA_RULE_HANDLE)?.map(|attr| attr.be64()).transpose()? == Some(handle);
            Ok(())
        }),
    }?;
    Ok(exists)
}

fn dump(
    socket: &mut Socket,
    message: u16,
    family: u8,
    each: impl FnMut(Message<'_>) -> Result<(), AttrError>,
) -> Result<(), NetlinkError> {
    let dumped = socket.request(READ, (uapi::kind(message), flags::DUMP, family), |_| {}, each);
    match dumped {
        // This kernel has no nf_tables, and hence no rule of ours in it.
        Err(NetlinkError::Kernel { errno: libc::EINVAL | libc::EOPNOTSUPP, .. }) => Ok(()),
        other => other,
    }
}

fn read(socket: &mut Socket) -> Result<BTreeSet<Present>, NetlinkError> {
    let mut present = BTreeSet::new();
    dump(socket, uapi::NFT_MSG_GETRULE, libc::AF_UNSPEC as u8, |message| {
        present.extend(ours(&message)?);
        Ok(())
    })?;
    Ok(present)
}

/// The rule, if it is one of ours.
fn ours(message: &Message<'_>) -> Result<Option<Present>, AttrError> {
    let Some(family) = family_of(message.family()?) else {
        return Ok(None);
    };
    let attrs = message.attrs()?;
    let userdata = attrs.find(uapi::NFTA_RULE_USERDATA)?.map_or(&[][..], |attr| attr.payload);
    let mut comment = userdata_comment(userdata);
    let mut backend = Backend::Nft;
    if let Some(list) = attrs.find(uapi::NFTA_RULE_EXPRESSIONS)? {
        for item in list.nested() {
            let item = item?.nested();
            // nft itself writes no extensions of iptables.
            if text(&item, uapi::NFTA_EXPR_NAME)? != "match" {
                continue;
            }
            backend = Backend::IptablesNft;
            let data = item.find(uapi::NFTA_EXPR_DATA)?.map_or(Attrs::new(&[]), |data| data.nested());
            if let (Some("comment"), Some(info)) = (
                data.find(uapi::NFTA_MATCH_NAME)?.map(|name| name.text()).transpose()?,
                data.find(uapi::NFTA_MATCH_INFO)?,
            ) {
                comment = xt::comment_text(info.payload);
            }
        }
    }
    let Some(comment) = comment.filter(|comment| is_ours(comment)) else {
        return Ok(None);
    };
    let missing = AttrError::Missing { what: "NFTA_RULE_HANDLE" };
    Ok(Some(Present {
        table: TableId { backend, family, name: text(&attrs, uapi::NFTA_RULE_TABLE)?.to_owned() },
        chain: text(&attrs, uapi::NFTA_RULE_CHAIN)?.to_owned(),
        handle: attrs.find(uapi::NFTA_RULE_HANDLE)?.ok_or(missing)?.be64()?,
        comment: comment.to_owned(),
    }))
}

/// A text, or none: the kernel gives every object those that are asked for here.
fn text<'a>(attrs: &Attrs<'a>, kind: u16) -> Result<&'a str, AttrError> {
    attrs.find(kind)?.map_or(Ok(""), |attr| attr.text())
}

/// Userdata is a run of type, length (a byte each) and value.
fn userdata(comment: &str) -> Vec<u8> {
    let len = u8::try_from(comment.len() + 1).unwrap_or_default();
    [&[COMMENT, len], comment.as_bytes(), &[0]].concat()
}

fn userdata_comment(mut userdata: &[u8]) -> Option<&str> {
    while let [kind, len, rest @ ..] = userdata {
        let (value, rest) = rest.split_at_checked(usize::from(*len))?;
        if *kind == COMMENT {
            return xt::comment_text(value);
        }
        userdata = rest;
    }
    None
}

fn family_number(family: TableFamily) -> u8 {
    match family {
        TableFamily::Inet => uapi::NFPROTO_INET,
        TableFamily::Ip => libc::NFPROTO_IPV4 as u8,
        TableFamily::Ip6 => libc::NFPROTO_IPV6 as u8,
    }
}

fn family_of(number: u8) -> Option<TableFamily> {
    [TableFamily::Inet, TableFamily::Ip, TableFamily::Ip6]
        .into_iter()
        .find(|family| family_number(*family) == number)
}
