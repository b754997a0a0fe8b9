//! BPF programs in traffic control: filters of a `clsact` or `ingress` qdisc. (Those of XDP come with the links.)
//!
//! Filters of other qdiscs sort packets for shaping and are no datapath.

use std::collections::BTreeSet;

use notrack_core::host::{Interface, Program};

use super::interfaces::Indexes;
use super::routing::{dump, split};
use super::{Unknown, again};
use crate::attr::{AttrError, Message};
use crate::socket::{NetlinkError, Socket};

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
/// Length of `struct tcmsg`.
const TCMSG_LEN: usize = 20;
const TCA_KIND: u16 = 1;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and `..EGRESS`. A qdisc `ingress` answers to both alike.
const HOOKS: [u32; 2] = [0xffff_fff2, 0xffff_fff3];

/// Notes the interfaces that have such a program.
pub(super) fn attach(
    socket: &mut Socket,
    indexes: &Indexes,
    interfaces: &mut [Interface],
    unknown: &mut Unknown,
) {
    let what = "BPF programs in traffic control";
    let hooked = unknown.without(what, again(|| hooked(socket))).unwrap_or_default();
    for index in hooked {
        let Some(has_program) = unknown.without(what, again(|| has_program(socket, index))) else { continue };
        let interface = interfaces.iter_mut().find(|interface| indexes.get(&index) == Some(&interface.name));
        if let (true, Some(interface)) = (has_program, interface) {
            interface.programs.push(Program::TrafficControl);
        }
    }
}

/// The interfaces with a qdisc where a program could be.
fn hooked(socket: &mut Socket) -> Result<BTreeSet<u32>, NetlinkError> {
    let mut hooked = BTreeSet::new();
    dump(socket, "list the qdiscs", RTM_GETQDISC, [0; TCMSG_LEN], |message| {
        let ([_, _, _, _, i0, i1, i2, i3, ..], kind) = tcmsg(&message)?;
        if message.kind == RTM_NEWQDISC && matches!(kind, "clsact" | "ingress") {
            hooked.insert(u32::from_ne_bytes([i0, i1, i2, i3]));
        }
        Ok(())
    })?;
    Ok(hooked)
}

fn has_program(socket: &mut Socket, index: u32) -> Result<bool, NetlinkError> {
    let mut found = false;
    for hook in HOOKS {
        let mut header = [0; TCMSG_LEN];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[12..16].copy_from_slice(&hook.to_ne_bytes());
        let listed = dump(socket, "list the filters of a qdisc", RTM_GETTFILTER, header, |message| {
            found |= message.kind == RTM_NEWTFILTER && tcmsg(&message)?.1 == "bpf";
            Ok(())
        });
        match listed {
            // The interface has just gone.
            Err(NetlinkError::Kernel { errno: libc::ENODEV | libc::EINVAL, .. }) => {}
            listed => listed?,
        }
    }
    Ok(found)
}

fn tcmsg<'a>(message: &Message<'a>) -> Result<([u8; TCMSG_LEN], &'a str), AttrError> {
    let (header, attrs) = split(message)?;
    Ok((header, attrs.find(TCA_KIND)?.map_or(Ok(""), |kind| kind.text())?))
}
