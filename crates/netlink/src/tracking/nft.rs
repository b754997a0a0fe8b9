//! Users of tracking among the rules, sets and objects of nftables; iptables-nft's rules are among them.

use std::ops::ControlFlow;

use super::findings::{Families, Findings};
use super::users;
use crate::attr::{Attr, AttrError, Attrs, Message, nfnl_type};
use crate::socket::{NetlinkError, Socket};

const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFT_MSG_GETRULE: u8 = 7;
const NFT_MSG_GETSET: u8 = 10;
const NFT_MSG_GETOBJ: u8 = 19;
const NFPROTO_INET: u8 = 1;

/// The table is the first attribute of all three kinds.
const NFTA_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_EXPR: u16 = 17;
const NFTA_SET_EXPRESSIONS: u16 = 18;
const NFTA_NAME: u16 = 2;
const NFTA_OBJ_TYPE: u16 = 3;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
/// Of `match` and of `target` alike.
const NFTA_XT_NAME: u16 = 1;
const NFTA_XT_INFO: u16 = 3;
const NFTA_DYNSET_EXPR: u16 = 7;
const NFTA_DYNSET_EXPRESSIONS: u16 = 10;

/// Foreign changes interrupt a dump; after so many what was seen has to do.
const TRIES: u32 = 5;
/// No kernel nests deeper than an expression in a `dynset`.
const DEPTH: u8 = 2;

type Read = fn(Attrs<'_>) -> Result<Option<String>, AttrError>;

/// Looks through everything in nftables, until there is evidence for both families. A rule costs some 10 us.
pub(super) fn scan(own_table: &str, findings: &mut Findings) -> Result<(), NetlinkError> {
    for (message, read) in
        [(NFT_MSG_GETOBJ, object as Read), (NFT_MSG_GETSET, set as Read), (NFT_MSG_GETRULE, rule as Read)]
    {
        search(message, read, own_table, findings)?;
    }
    Ok(())
}

fn search(message: u8, read: Read, own_table: &str, findings: &mut Findings) -> Result<(), NetlinkError> {
    let what = "look for users of connection tracking in nftables";
    let all_families = (nfnl_type(NFNL_SUBSYS_NFTABLES, message), libc::AF_UNSPEC as u8);
    for _ in 0..TRIES {
        if findings.is_conclusive() {
            return Ok(());
        }
        let searched = Socket::open()?.search(what, all_families, |message| {
            note(&message, read, own_table, findings)?;
            Ok(if findings.is_conclusive() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        match searched {
            // This kernel has no nf_tables.
            Err(NetlinkError::Kernel { errno: libc::EINVAL | libc::EOPNOTSUPP, .. }) => return Ok(()),
            Err(error) if error.is_transient() => {}
            other => return other,
        }
    }
    findings.incomplete(Families::Both);
    Ok(())
}

fn note(
    message: &Message<'_>,
    read: Read,
    own_table: &str,
    findings: &mut Findings,
) -> Result<(), AttrError> {
    let family = message.family()?;
    let attrs = message.attrs()?;
    let Some(families) = Families::of_nft(family) else {
        return Ok(());
    };
    let Some(user) = read(attrs.clone())? else {
        return Ok(());
    };
    let table = text(&attrs, NFTA_TABLE)?;
    if family == NFPROTO_INET && table == own_table {
        findings.own(families);
    } else {
        let family = family_name(family);
        findings.foreign(families, &format!("nftables table {family} {table}: {user}"));
    }
    Ok(())
}

fn rule(attrs: Attrs<'_>) -> Result<Option<String>, AttrError> {
    let Some(expressions) = attrs.find(NFTA_RULE_EXPRESSIONS)? else {
        return Ok(None);
    };
    let Some(user) = list(expressions.nested(), DEPTH)? else {
        return Ok(None);
    };
    let chain = text(&attrs, NFTA_RULE_CHAIN)?;
    Ok(Some(format!("{user} in chain {chain}")))
}

/// A set counts by the expressions that its elements will have, even while it is empty.
fn set(attrs: Attrs<'_>) -> Result<Option<String>, AttrError> {
    let mut user = None;
    if let Some(one) = attrs.find(NFTA_SET_EXPR)? {
        user = expression(one.nested(), DEPTH)?;
    }
    if let (None, Some(more)) = (&user, attrs.find(NFTA_SET_EXPRESSIONS)?) {
        user = list(more.nested(), DEPTH)?;
    }
    let Some(user) = user else {
        return Ok(None);
    };
    let name = text(&attrs, NFTA_NAME)?;
    Ok(Some(format!("{user} in set {name}")))
}

fn object(attrs: Attrs<'_>) -> Result<Option<String>, AttrError> {
    let kind = attrs.find(NFTA_OBJ_TYPE)?.map(|kind| kind.be32());
    let Some(user) = kind.transpose()?.and_then(users::object) else {
        return Ok(None);
    };
    let name = text(&attrs, NFTA_NAME)?;
    Ok(Some(format!("{user} {name}")))
}

/// The first user in a list of expressions.
fn list(expressions: Attrs<'_>, depth: u8) -> Result<Option<String>, AttrError> {
    for element in expressions {
        let user = expression(element?.nested(), depth)?;
        if user.is_some() {
            return Ok(user);
        }
    }
    Ok(None)
}

fn expression(attrs: Attrs<'_>, depth: u8) -> Result<Option<String>, AttrError> {
    let name = text(&attrs, NFTA_EXPR_NAME)?;
    let data = attrs.find(NFTA_EXPR_DATA)?.map_or(Attrs::new(&[]), |data| data.nested());
    Ok(match name {
        name if users::expression(name) => Some(name.to_owned()),
        "match" => {
            let extension = text(&data, NFTA_XT_NAME)?;
            users::xt_match(extension).then(|| format!("match {extension}"))
        }
        "target" => {
            let extension = text(&data, NFTA_XT_NAME)?;
            let info = data.find(NFTA_XT_INFO)?.map_or(&[][..], |info| info.payload);
            users::xt_target(extension, info).then(|| format!("target {extension}"))
        }
        "dynset" if depth > 0 => {
            let one = data.find(NFTA_DYNSET_EXPR)?;
            match one.map(|one| expression(one.nested(), depth - 1)) {
                Some(user) => user?,
                None => data
                    .find(NFTA_DYNSET_EXPRESSIONS)?
                    .map_or(Ok(None), |more| list(more.nested(), depth - 1))?,
            }
        }
        _ => None,
    })
}

/// A name, or nothing: no attribute is worth failing for.
fn text<'a>(attrs: &Attrs<'a>, kind: u16) -> Result<&'a str, AttrError> {
    attrs.find(kind)?.map_or(Ok(""), |attr: Attr<'a>| attr.text())
}

const fn family_name(family: u8) -> &'static str {
    match family {
        NFPROTO_INET => "inet",
        2 => "ip",
        7 => "bridge",
        _ => "ip6",
    }
}

#[cfg(test)]
mod tests;
