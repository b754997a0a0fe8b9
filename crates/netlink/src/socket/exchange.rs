//! Whole exchanges: a request and its answer, a dump, a batch.

use std::ops::{ControlFlow, RangeInclusive};

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use super::{NetlinkError, Reply, Socket, flags};
use crate::attr::{AttrError, Buffer, HEADER_LEN, Message, Messages, Writer};

impl Socket {
    /// Builds one nfnetlink request, adds `NLM_F_REQUEST | NLM_F_ACK` to its flags, and asks; see
    /// [`Socket::ask`].
    ///
    /// # Errors
    /// As [`Socket::ask`].
    pub fn request(
        &mut self,
        what: &'static str,
        (kind, extra_flags, family): (u16, u16, u8),
        fill: impl FnOnce(&mut Writer<'_>),
        each: impl FnMut(Message<'_>) -> Result<(), AttrError>,
    ) -> Result<(), NetlinkError> {
        let seq = self.next_seq();
        let mut message = Buffer::with_capacity(256);
        message.nfnl(kind, flags::REQUEST | flags::ACK | extra_flags, seq, family, 0, fill);
        let message = message.finish().map_err(|source| NetlinkError::Malformed { what, source })?;
        self.ask(what, &message, each)
    }

    /// Sends one request or dump and hands over the messages of its answer.
    ///
    /// The request must carry `NLM_F_ACK` or `NLM_F_DUMP`: some answers, such as the table figures of
    /// conntrack, claim to be one of several and no end follows. An answer is read to its end even when
    /// `each` fails, because the kernel refuses a second dump on a socket while one is running.
    ///
    /// # Errors
    /// [`NetlinkError::Interrupted`] when a dump is inconsistent: what `each` was given is then not to be
    /// used. The kernel's refusal otherwise, or what `each` returned.
    pub fn ask(
        &mut self,
        what: &'static str,
        request: &[u8],
        mut each: impl FnMut(Message<'_>) -> Result<(), AttrError>,
    ) -> Result<(), NetlinkError> {
        self.exchange(what, request, |message| each(message).map(ControlFlow::Continue))
    }

    /// As [`Socket::request`] for a dump, until `each` has seen enough. The kernel dumps as it is read, and
    /// what is left of this dump ends with the socket: hence it is used up.
    ///
    /// # Errors
    /// As [`Socket::ask`].
    pub fn search(
        mut self,
        what: &'static str,
        (kind, family): (u16, u8),
        each: impl FnMut(Message<'_>) -> Result<ControlFlow<()>, AttrError>,
    ) -> Result<(), NetlinkError> {
        let mut message = Buffer::with_capacity(32);
        message.nfnl(kind, flags::REQUEST | flags::DUMP, self.next_seq(), family, 0, |_| {});
        let message = message.finish().map_err(|source| NetlinkError::Malformed { what, source })?;
        self.exchange(what, &message, each)
    }

    fn exchange(
        &mut self,
        what: &'static str,
        request: &[u8],
        mut each: impl FnMut(Message<'_>) -> Result<ControlFlow<()>, AttrError>,
    ) -> Result<(), NetlinkError> {
        let header = Messages::new(request)
            .next()
            .unwrap_or(Err(AttrError::Truncated { what: "message", need: HEADER_LEN, have: 0 }))
            .map_err(|source| NetlinkError::Malformed { what, source })?;
        let dump = header.flags & flags::DUMP == flags::DUMP;
        if !dump && header.flags & flags::ACK == 0 {
            return Err(NetlinkError::NoAck { what });
        }
        self.discard_stale();
        self.send_one(what, request)?;
        let mut outcome = Ok(());
        loop {
            match self.receive(MsgFlags::empty()) {
                Err(errno) => {
                    let error = NetlinkError::receive(what, errno);
                    if !matches!(error, NetlinkError::NoBuffer { .. }) || !dump {
                        return Err(error);
                    }
                    // The dump goes on; it is read to its end and then reported as incomplete.
                    keep_first(&mut outcome, error);
                }
                Ok(len) => {
                    let datagram = &self.buffer[self.start..self.start + len];
                    let ids = (header.seq, self.port);
                    if read_answer(what, datagram, ids, &mut outcome, &mut each)?.is_break() {
                        return outcome;
                    }
                }
            }
        }
    }

    /// Sends a batch in one `sendmsg` and hands over everything that the kernel answered to it: refusals
    /// with the sequence numbers of their messages, acknowledgements and echoes. Nothing at all is the
    /// answer to a batch that succeeded and asked for nothing.
    ///
    /// # Errors
    /// [`NetlinkError::NoBuffer`] when answers were lost: the batch may have been applied. Refusals are not
    /// errors here: one message's may be expected ([`super::Refusal::into_error`]).
    pub fn transact(
        &mut self,
        what: &'static str,
        batch: &[u8],
        seqs: &RangeInclusive<u32>,
        mut each: impl FnMut(Reply<'_>),
    ) -> Result<(), NetlinkError> {
        self.discard_stale();
        self.send_one(what, batch)?;
        loop {
            let len = match self.receive(MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return Ok(()),
                received => received.map_err(|errno| NetlinkError::receive(what, errno))?,
            };
            for message in Messages::new(&self.buffer[self.start..self.start + len]) {
                let message = message.map_err(|source| NetlinkError::Malformed { what, source })?;
                if !seqs.contains(&message.seq) || message.port != self.port {
                    return Err(NetlinkError::Sequence { what, seq: message.seq });
                }
                each(Reply::parse(message).map_err(|source| NetlinkError::Malformed { what, source })?);
            }
        }
    }
}

/// Reads one datagram of an answer. It breaks where the answer ends, or `each` has seen enough.
pub(super) fn read_answer(
    what: &'static str,
    datagram: &[u8],
    (seq, port): (u32, u32),
    outcome: &mut Result<(), NetlinkError>,
    each: &mut impl FnMut(Message<'_>) -> Result<ControlFlow<()>, AttrError>,
) -> Result<ControlFlow<()>, NetlinkError> {
    let malformed = |source| NetlinkError::Malformed { what, source };
    for message in Messages::new(datagram) {
        let message = message.map_err(malformed)?;
        if message.seq != seq || message.port != port {
            return Err(NetlinkError::Sequence { what, seq: message.seq });
        }
        if message.flags & flags::DUMP_INTR != 0 {
            keep_first(outcome, NetlinkError::Interrupted { what });
        }
        match Reply::parse(message).map_err(malformed)? {
            Reply::Data(message) if outcome.is_ok() => match each(message) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return Ok(ControlFlow::Break(())),
                Err(source) => *outcome = Err(malformed(source)),
            },
            Reply::Data(_) => {}
            Reply::Ack { .. } => return Ok(ControlFlow::Break(())),
            Reply::Refused(refusal) => {
                keep_first(outcome, refusal.into_error(what));
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn keep_first(outcome: &mut Result<(), NetlinkError>, error: NetlinkError) {
    if outcome.is_ok() {
        *outcome = Err(error);
    }
}
