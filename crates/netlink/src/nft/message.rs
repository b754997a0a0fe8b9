//! What nftnl's crate lacks: messages of our own in its batch, and its messages without an acknowledgement each.

use std::ffi::{c_char, c_void};

use nftnl::nftnl_sys as sys;
use nftnl::{MsgType, NlMsg};

use super::uapi;

/// `NLM_F_ACK`
const ACK: u16 = 0x4;
/// Offset of `nlmsg_flags` in `nlmsghdr`: behind 4 bytes of length and 2 of type.
const FLAGS_OFFSET: usize = 6;

/// A message whose attributes were written by [`super::body`].
pub(super) struct Raw {
    pub message: u16,
    pub flags: u16,
    pub body: Vec<u8>,
}

// SAFETY: `write` builds one complete message of at most `nft_nlmsg_maxsize()` bytes: bodies are made of attributes
// whose sum `encode` keeps below 64 KiB, which is what nftnl's batch leaves room for behind its page.
unsafe impl NlMsg for Raw {
    unsafe fn write(&self, buf: *mut c_void, seq: u32, _: MsgType) {
        // SAFETY: the caller gives a buffer of `nft_nlmsg_maxsize()` bytes; the header takes 20 of them.
        let header = unsafe {
            sys::nftnl_nlmsg_build_hdr(
                buf.cast::<c_char>(),
                self.message,
                u16::from(uapi::NFPROTO_INET),
                self.flags,
                seq,
            )
        };
        // SAFETY: `header` is the start of `buf`, whose first `nlmsg_len` bytes are written; the body fits behind
        // them, as said above, and overlaps neither.
        unsafe {
            let end = (*header).nlmsg_len as usize;
            std::ptr::copy_nonoverlapping(self.body.as_ptr(), buf.cast::<u8>().add(end), self.body.len());
            (*header).nlmsg_len += self.body.len() as u32;
        }
    }
}

/// A message that asks for no acknowledgement: thousands of them would overrun the receive buffer though the commit
/// succeeds. Refusals come without being asked for.
pub(super) struct Quiet<'a, T>(pub &'a T);

// SAFETY: the message is the inner one's, with one bit of its header cleared.
unsafe impl<T: NlMsg> NlMsg for Quiet<'_, T> {
    unsafe fn write(&self, buf: *mut c_void, seq: u32, msg_type: MsgType) {
        // SAFETY: the caller's promises are handed on.
        unsafe { self.0.write(buf, seq, msg_type) };
        // SAFETY: `buf` now begins with a `nlmsghdr`, which is 16 bytes long; netlink aligns messages to 4 bytes.
        unsafe {
            let flags = buf.cast::<u8>().add(FLAGS_OFFSET).cast::<u16>();
            flags.write(flags.read() & !ACK);
        }
    }
}
