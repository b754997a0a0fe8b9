//! The tables of nf_tables, in one consistent state.

use std::collections::{BTreeMap, BTreeSet};

use notrack_core::host::{
    Act, ChainKind, HostBase, HostChain, HostHook, HostRule, HostSet, HostTable, NatTo, Step, TableFamily,
    TableId,
};
use notrack_core::nf::TABLE_NAME;

use super::backend::backend;
use super::expression::{self, Piece, Scope};
use super::interfaces::Interfaces;
use super::nat::Mapped;
use super::set::{Element, SetHeader};
use super::{text, xt};
use crate::attr::{Attr, AttrError, Message, Writer};
use crate::nft::{MOST_READS, generation, inner, number, text as word, uapi};
use crate::socket::{NetlinkError, Options, Socket, flags};

const READ: &str = "read the rules of nf_tables";

/// Reads every table of the families ip, ip6 and inet but our own, in the kernel's order. One dump for each kind of
/// object, and one for each set that a rule looks up; again where another program commits meanwhile.
pub(super) fn read() -> Result<Vec<HostTable>, NetlinkError> {
    let options = Options { receive_buffer: 16 << 20, ..Options::default() };
    let mut socket = Socket::with_options(options)?;
    let mut error = NetlinkError::Interrupted { what: READ };
    for _ in 0..MOST_READS {
        match once(&mut socket) {
            Ok((tables, true)) => return Ok(tables),
            // Chains of one state with rules of another would say nothing that holds.
            Ok((_, false)) => error = NetlinkError::Interrupted { what: READ },
            // This kernel has no nf_tables.
            Err(NetlinkError::Kernel { errno: libc::EINVAL | libc::EOPNOTSUPP, .. }) => {
                return Ok(Vec::new());
            }
            // A set that went between two dumps.
            Err(NetlinkError::Kernel { errno: libc::ENOENT, .. }) => {
                error = NetlinkError::Interrupted { what: READ }
            }
            Err(transient) if transient.is_transient() => error = transient,
            Err(other) => return Err(other),
        }
    }
    Err(error)
}

/// Everything, and whether it is of one generation.
fn once(socket: &mut Socket) -> Result<(Vec<HostTable>, bool), NetlinkError> {
    let before = generation(socket)?;
    let mut reader = Reader::default();
    for (kind, each) in [
        (uapi::NFT_MSG_GETTABLE, Reader::table as fn(&mut Reader, Message<'_>) -> Result<(), AttrError>),
        (uapi::NFT_MSG_GETCHAIN, Reader::chain),
        (uapi::NFT_MSG_GETSET, Reader::set),
        (uapi::NFT_MSG_GETOBJ, Reader::object),
        (uapi::NFT_MSG_GETRULE, Reader::rule),
    ] {
        dump(socket, (kind, libc::AF_UNSPEC as u8), |_| {}, |message| each(&mut reader, message))?;
    }
    let Reader { tables, mut interfaces, .. } = reader;
    let mut read = Vec::with_capacity(tables.len());
    for table in tables {
        read.push(table.finish(socket, &mut interfaces)?);
    }
    Ok((read, generation(socket)? == before))
}

fn dump(
    socket: &mut Socket,
    (kind, family): (u16, u8),
    fill: impl FnOnce(&mut Writer<'_>),
    each: impl FnMut(Message<'_>) -> Result<(), AttrError>,
) -> Result<(), NetlinkError> {
    socket.request(READ, (uapi::kind(kind), flags::DUMP, family), fill, each)
}

/// A table while it is read.
#[derive(Debug)]
struct Table {
    family: TableFamily,
    name: String,
    owner: Option<u32>,
    dormant: bool,
    chains: BTreeMap<String, Option<HostBase>>,
    sets: BTreeMap<String, SetHeader>,
    /// The helpers of its objects.
    helpers: BTreeMap<String, String>,
    rules: Vec<Draft>,
}

/// A rule before the sets are read.
#[derive(Debug)]
struct Draft {
    chain: String,
    /// Without its text, and without what it has from a map.
    rule: HostRule,
    /// What the text is made of.
    pieces: Vec<Piece>,
    mapped: Option<Mapped>,
}

#[derive(Debug, Default)]
struct Reader {
    tables: Vec<Table>,
    /// The table of the message before: dumps go table by table.
    last: usize,
    interfaces: Interfaces,
    ip_sets: xt::IpSets,
}

impl Reader {
    fn table(&mut self, message: Message<'_>) -> Result<(), AttrError> {
        let attrs = message.attrs()?;
        let Some(family) = family(&message)? else { return Ok(()) };
        let name = word(&attrs, uapi::NFTA_TABLE_NAME)?.unwrap_or_default();
        if family == TableFamily::Inet && name == TABLE_NAME {
            return Ok(());
        }
        let flags = number(&attrs, uapi::NFTA_TABLE_FLAGS)?.unwrap_or_default();
        self.tables.push(Table {
            family,
            name: name.to_owned(),
            owner: number(&attrs, uapi::NFTA_TABLE_OWNER)?.filter(|port| *port != 0),
            dormant: flags & uapi::NFT_TABLE_F_DORMANT != 0,
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
            helpers: BTreeMap::new(),
            rules: Vec::new(),
        });
        Ok(())
    }

    /// The place of the table that a message is about. The table's name is the first attribute of every kind.
    fn place(&mut self, message: &Message<'_>) -> Result<Option<usize>, AttrError> {
        let Some(family) = family(message)? else { return Ok(None) };
        let name = word(&message.attrs()?, uapi::NFTA_TABLE_NAME)?.unwrap_or_default();
        let is_it = |table: &Table| table.family == family && table.name == name;
        if !self.tables.get(self.last).is_some_and(is_it) {
            let Some(place) = self.tables.iter().position(is_it) else { return Ok(None) };
            self.last = place;
        }
        Ok(Some(self.last))
    }

    fn of(&mut self, message: &Message<'_>) -> Result<Option<&mut Table>, AttrError> {
        Ok(self.place(message)?.and_then(|place| self.tables.get_mut(place)))
    }

    fn chain(&mut self, message: Message<'_>) -> Result<(), AttrError> {
        let Some(table) = self.of(&message)? else { return Ok(()) };
        let attrs = message.attrs()?;
        let name = word(&attrs, uapi::NFTA_CHAIN_NAME)?.unwrap_or_default().to_owned();
        let hook = inner(&attrs, uapi::NFTA_CHAIN_HOOK)?;
        // A chain at another hook (ingress) sees packets before tracking could, and so the same ones in any case.
        let hook_name = number(&hook, uapi::NFTA_HOOK_HOOKNUM)?.and_then(self::hook);
        let base = match hook_name.zip(number(&hook, uapi::NFTA_HOOK_PRIORITY)?) {
            Some((hook, priority)) => {
                let kind = match word(&attrs, uapi::NFTA_CHAIN_TYPE)? {
                    Some("nat") => ChainKind::Nat,
                    Some("route") => ChainKind::Route,
                    _ => ChainKind::Filter,
                };
                let drops = number(&attrs, uapi::NFTA_CHAIN_POLICY)? == Some(uapi::NF_DROP);
                Some(HostBase { hook, priority: priority.cast_signed(), kind, drops })
            }
            None => None,
        };
        table.chains.insert(name, base);
        Ok(())
    }

    fn set(&mut self, message: Message<'_>) -> Result<(), AttrError> {
        let Some(table) = self.of(&message)? else { return Ok(()) };
        let attrs = message.attrs()?;
        let name = word(&attrs, uapi::NFTA_SET_NAME)?.unwrap_or_default().to_owned();
        table.sets.insert(name, SetHeader::read(&attrs)?);
        Ok(())
    }

    fn object(&mut self, message: Message<'_>) -> Result<(), AttrError> {
        let Some(table) = self.of(&message)? else { return Ok(()) };
        let attrs = message.attrs()?;
        if number(&attrs, uapi::NFTA_OBJ_TYPE)? != Some(uapi::NFT_OBJECT_CT_HELPER) {
            return Ok(());
        }
        let name = word(&attrs, uapi::NFTA_OBJ_NAME)?.unwrap_or_default().to_owned();
        if let Some(helper) = word(&inner(&attrs, uapi::NFTA_OBJ_DATA)?, uapi::NFTA_CT_HELPER_NAME)? {
            table.helpers.insert(name, helper.to_owned());
        }
        Ok(())
    }

    fn rule(&mut self, message: Message<'_>) -> Result<(), AttrError> {
        let Some(place) = self.place(&message)? else { return Ok(()) };
        let Some(table) = self.tables.get_mut(place) else { return Ok(()) };
        let attrs = message.attrs()?;
        let chain = word(&attrs, uapi::NFTA_RULE_CHAIN)?.unwrap_or_default().to_owned();
        let handle = attrs.find(uapi::NFTA_RULE_HANDLE)?.map(|attr| attr.be64()).transpose()?;
        let comment = attrs.find(uapi::NFTA_RULE_USERDATA)?.and_then(comment);
        let mut scope = Scope {
            family: table.family,
            sets: &mut table.sets,
            helpers: &table.helpers,
            ip_sets: &mut self.ip_sets,
            interfaces: &mut self.interfaces,
        };
        let meaning = expression::rule(inner(&attrs, uapi::NFTA_RULE_EXPRESSIONS)?, &mut scope);
        let rule = HostRule {
            handle: handle.unwrap_or_default(),
            text: String::new(),
            comment: comment.or(meaning.comment),
            steps: meaning.steps,
        };
        table.rules.push(Draft { chain, rule, pieces: meaning.pieces, mapped: meaning.mapped });
        Ok(())
    }
}

impl Table {
    fn finish(self, socket: &mut Socket, interfaces: &mut Interfaces) -> Result<HostTable, NetlinkError> {
        let mut sets: BTreeMap<String, HostSet> = BTreeMap::new();
        // The data of maps that say where packets are sent.
        let mut data: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let is_mapped = |name: &String| {
            self.rules.iter().any(|draft| draft.mapped.as_ref().is_some_and(|mapped| mapped.map == *name))
        };
        for (name, header) in &self.sets {
            let elements = if header.is_legible() { Some(self.elements(socket, name)?) } else { None };
            if let Some(elements) = elements.as_ref().filter(|_| is_mapped(name)) {
                data.insert(
                    name.clone(),
                    elements.iter().filter_map(|element| element.data.clone()).collect(),
                );
            }
            sets.insert(name.clone(), header.finish(elements, interfaces));
        }
        let pieces = self.rules.iter().map(|draft| draft.pieces.as_slice());
        let backend = backend((self.family, &self.name), &self.chains, pieces, self.sets.keys());
        let mut chains: BTreeMap<String, HostChain> = BTreeMap::new();
        for (name, base) in self.chains {
            chains.insert(name, HostChain { base, rules: Vec::new() });
        }
        for Draft { chain, mut rule, pieces, mapped } in self.rules {
            rule.text = text::rule(&pieces, &sets);
            let found = mapped.and_then(|mapped| Some(mapped.read(data.get(&mapped.map)?)));
            if let (Some(found), Some(to)) = (found, rule.steps.iter_mut().find_map(destination)) {
                *to = found;
            }
            chains.entry(chain).or_default().rules.push(rule);
        }
        let id = TableId { backend, family: self.family, name: self.name };
        Ok(HostTable { id, owner: self.owner, dormant: self.dormant, chains, sets })
    }

    fn elements(&self, socket: &mut Socket, set: &str) -> Result<Vec<Element>, NetlinkError> {
        let family = match self.family {
            TableFamily::Ip => uapi::NFPROTO_IPV4,
            TableFamily::Ip6 => uapi::NFPROTO_IPV6,
            TableFamily::Inet => uapi::NFPROTO_INET,
        };
        let fill = |message: &mut Writer<'_>| {
            message.text(uapi::NFTA_SET_ELEM_LIST_TABLE, &self.name);
            message.text(uapi::NFTA_SET_ELEM_LIST_SET, set);
        };
        let mut elements = Vec::new();
        dump(socket, (uapi::NFT_MSG_GETSETELEM, family), fill, |message| {
            for item in inner(&message.attrs()?, uapi::NFTA_SET_ELEM_LIST_ELEMENTS)? {
                elements.push(Element::read(&item?.nested())?);
            }
            Ok(())
        })?;
        Ok(elements)
    }
}

fn destination(step: &mut Step) -> Option<&mut Vec<NatTo>> {
    match step {
        Step::Act(Act::Dnat(to)) => Some(to),
        _ => None,
    }
}

fn family(message: &Message<'_>) -> Result<Option<TableFamily>, AttrError> {
    Ok(match message.family()? {
        uapi::NFPROTO_IPV4 => Some(TableFamily::Ip),
        uapi::NFPROTO_IPV6 => Some(TableFamily::Ip6),
        uapi::NFPROTO_INET => Some(TableFamily::Inet),
        _ => None,
    })
}

/// `enum nf_inet_hooks`
fn hook(number: u32) -> Option<HostHook> {
    use HostHook::{Forward, Input, Output, Postrouting, Prerouting};
    [Prerouting, Input, Forward, Output, Postrouting].get(number as usize).copied()
}

/// The comment that nft puts into a rule's userdata: a list of type (0 for the comment), length and text with its NUL
/// (libnftnl's `nftnl_udata`).
fn comment(userdata: Attr<'_>) -> Option<String> {
    const COMMENT: u8 = 0;
    let mut rest = userdata.payload;
    while let [kind, len, more @ ..] = rest {
        let (content, behind) = more.split_at_checked(usize::from(*len))?;
        if *kind == COMMENT {
            let text = content.strip_suffix(&[0]).unwrap_or(content);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests;
