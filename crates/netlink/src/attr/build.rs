//! Writing: one message or a batch of them, in one buffer, to be sent in one piece.

use std::ops::Range;

use super::{ATTR_LEN, AttrError, HEADER_LEN, align};

/// `NLA_F_NESTED`: kernel 5.2 and later refuse some nests without it.
const NESTED: u16 = 0x8000;
/// `NFNETLINK_V0`, the only version of nfnetlink.
const NFNETLINK_V0: u8 = 0;

/// A buffer of messages, one behind the other.
///
/// ```
/// use notrack_netlink::attr::{Buffer, Messages, nfnl_type};
///
/// let mut batch = Buffer::new();
/// batch.nfnl(nfnl_type(1, 0), 0x1, 7, 2, 0, |m| {
///     m.nested(1, |m| m.be32(2, 99));
/// });
/// let bytes = batch.finish()?;
/// assert_eq!(Messages::new(&bytes).count(), 1);
/// # Ok::<(), notrack_netlink::attr::AttrError>(())
/// ```
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    /// The first attribute that did not fit its length field; it is reported by `finish`.
    error: Option<AttrError>,
}

impl Buffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer that holds `bytes` before it grows.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), error: None }
    }

    /// Appends a message; `fill` writes what follows its header. The sender's port is left 0: the kernel
    /// takes it from the socket.
    pub fn message(&mut self, kind: u16, flags: u16, seq: u32, fill: impl FnOnce(&mut Writer<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        debug_assert_eq!(self.bytes.len() - start, HEADER_LEN);
        fill(&mut Writer { buffer: self });
        // A message of 4 GiB cannot be sent: the kernel caps a datagram at the send buffer, an `int`.
        let len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        patch(&mut self.bytes, start..start + 4, &len.to_ne_bytes());
    }

    /// Appends an nfnetlink message: header, `nfgenmsg` (`res_id` in host order) and what `fill` writes.
    pub fn nfnl(
        &mut self,
        kind: u16,
        flags: u16,
        seq: u32,
        family: u8,
        res_id: u16,
        fill: impl FnOnce(&mut Writer<'_>),
    ) {
        self.message(kind, flags, seq, |writer| {
            let [high, low] = res_id.to_be_bytes();
            writer.raw(&[family, NFNETLINK_V0, high, low]);
            fill(writer);
        });
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, ready to be sent.
    ///
    /// # Errors
    /// When an attribute was longer than its length field can say.
    pub fn finish(self) -> Result<Vec<u8>, AttrError> {
        match self.error {
            None => Ok(self.bytes),
            Some(error) => Err(error),
        }
    }
}

/// Writes attributes into the message at hand.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut Buffer,
}

impl Writer<'_> {
    /// Bytes without a header, padded: a message's own structure.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// An attribute of any payload.
    pub fn bytes(&mut self, kind: u16, payload: &[u8]) {
        self.attribute(kind, |writer| writer.buffer.bytes.extend_from_slice(payload));
    }

    /// An attribute without payload.
    pub fn flag(&mut self, kind: u16) {
        self.bytes(kind, &[]);
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// A 16-bit integer in network byte order.
    pub fn be16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A 32-bit integer in network byte order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A 64-bit integer in network byte order.
    pub fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A 32-bit integer in the machine's byte order.
    pub fn ne32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A string with its NUL (`NLA_NUL_STRING` demands it, `NLA_STRING` allows it).
    pub fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.buffer.bytes.extend_from_slice(value.as_bytes());
            writer.buffer.bytes.push(0);
        });
    }

    /// An attribute that holds attributes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Writer<'_>)) {
        self.attribute(kind | NESTED, |writer| fill(&mut Writer { buffer: &mut *writer.buffer }));
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.buffer.bytes.len();
        self.buffer.bytes.extend_from_slice(&[0; ATTR_LEN]);
        fill(self);
        let len = self.buffer.bytes.len() - start;
        match u16::try_from(len) {
            Ok(len) => {
                patch(&mut self.buffer.bytes, start..start + 2, &len.to_ne_bytes());
                patch(&mut self.buffer.bytes, start + 2..start + 4, &kind.to_ne_bytes());
            }
            Err(_) => {
                self.buffer.error.get_or_insert(AttrError::TooLong { kind: kind & !NESTED, len });
            }
        }
        self.pad();
    }

    fn pad(&mut self) {
        let padded = align(self.buffer.bytes.len());
        self.buffer.bytes.resize(padded, 0);
    }
}

fn patch(bytes: &mut [u8], at: Range<usize>, value: &[u8]) {
    bytes[at].copy_from_slice(value);
}
