//! What a message from the kernel means.

use super::Refusal;
use crate::attr::{AttrError, Attrs, HEADER_LEN, Message};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The request is not repeated, only its header.
const NLM_F_CAPPED: u16 = 0x100;
/// Attributes follow: text and place of the error.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// One message of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// An object.
    Data(Message<'a>),
    /// Done: an acknowledgement, or the end of a dump.
    Ack {
        /// Sequence number of the request.
        seq: u32,
    },
    /// Refused.
    Refused(Refusal),
}

impl<'a> Reply<'a> {
    /// Tells objects, acknowledgements and refusals apart.
    ///
    /// # Errors
    /// When an error message is too short.
    pub fn parse(message: Message<'a>) -> Result<Self, AttrError> {
        let result = match message.kind {
            NLMSG_ERROR | NLMSG_DONE => message.payload.first_chunk().copied().map(i32::from_ne_bytes),
            _ => return Ok(Reply::Data(message)),
        };
        match result {
            // Kernels before 2.6.32 end a dump without the number.
            None if message.kind == NLMSG_DONE => Ok(Reply::Ack { seq: message.seq }),
            None => Err(AttrError::Truncated { what: "nlmsgerr", need: 4, have: message.payload.len() }),
            Some(0) => Ok(Reply::Ack { seq: message.seq }),
            Some(error) => Ok(Reply::Refused(refusal(message, error.checked_abs().unwrap_or(i32::MAX)))),
        }
    }
}

/// The explanation is worth having, never worth failing for.
fn refusal(message: Message<'_>, errno: i32) -> Refusal {
    let mut refusal = Refusal { seq: message.seq, errno, ext_ack: None, offset: None };
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return refusal;
    }
    let behind_number = message.payload.get(4..).unwrap_or_default();
    // `struct nlmsgerr` (lib/netlink `netlink_ack`): the number, then the header of the request, then the
    // rest of the request unless capped. The end of a dump has the number alone.
    let request = match message.kind {
        NLMSG_DONE => 0,
        _ if message.flags & NLM_F_CAPPED != 0 => HEADER_LEN,
        _ => behind_number.first_chunk().map_or(HEADER_LEN, |len| {
            (u32::from_ne_bytes(*len) as usize).max(HEADER_LEN).next_multiple_of(4)
        }),
    };
    for attr in Attrs::new(behind_number.get(request..).unwrap_or_default()).flatten() {
        match attr.kind {
            NLMSGERR_ATTR_MSG => refusal.ext_ack = attr.text().ok().map(str::to_owned),
            NLMSGERR_ATTR_OFFS => refusal.offset = attr.ne32().ok(),
            _ => {}
        }
    }
    refusal
}
