//! Reading: messages of a datagram, attributes of a message.

use super::{ATTR_LEN, AttrError, HEADER_LEN, NFGENMSG_LEN, align};

/// `NLA_TYPE_MASK`: the two high bits of a type are flags (nested, network byte order).
const TYPE_MASK: u16 = 0x3fff;

/// One netlink message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Message type; see [`super::nfnl_type`].
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// Sequence number of the request that it answers; 0 in notifications.
    pub seq: u32,
    /// Netlink port of the request's sender.
    pub port: u32,
    /// What follows the header, without padding.
    pub payload: &'a [u8],
    /// Header and payload, for parsers that want the whole message.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Family of the `nfgenmsg` (`AF_INET`, `AF_INET6`, `NFPROTO_*`).
    ///
    /// # Errors
    /// When the message is too short to hold one.
    pub fn family(&self) -> Result<u8, AttrError> {
        self.nfgenmsg().map(|header| header[0])
    }

    /// `res_id` of the `nfgenmsg`, in host order: the CPU in per-CPU statistics, the low bits of the
    /// generation in `nf_tables`.
    ///
    /// # Errors
    /// When the message is too short to hold one.
    pub fn res_id(&self) -> Result<u16, AttrError> {
        self.nfgenmsg().map(|header| u16::from_be_bytes([header[2], header[3]]))
    }

    /// The attributes behind the `nfgenmsg`.
    ///
    /// # Errors
    /// When the message is too short to hold a `nfgenmsg`.
    pub fn attrs(&self) -> Result<Attrs<'a>, AttrError> {
        self.nfgenmsg()?;
        let start = align(NFGENMSG_LEN).min(self.payload.len());
        Ok(Attrs::new(&self.payload[start..]))
    }

    fn nfgenmsg(&self) -> Result<[u8; NFGENMSG_LEN], AttrError> {
        self.payload.first_chunk().copied().ok_or(AttrError::Truncated {
            what: "nfgenmsg",
            need: NFGENMSG_LEN,
            have: self.payload.len(),
        })
    }
}

/// The messages of one datagram. After an error it ends.
#[derive(Debug, Clone)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Reads a datagram as received.
    #[must_use]
    pub const fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, AttrError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = message(self.0);
        self.0 = match &message {
            Ok(message) => self.0.get(align(message.bytes.len())..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(message)
    }
}

fn message(bytes: &[u8]) -> Result<Message<'_>, AttrError> {
    let what = "message";
    let header: &[u8; HEADER_LEN] =
        bytes.first_chunk().ok_or(AttrError::Truncated { what, need: HEADER_LEN, have: bytes.len() })?;
    let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *header;
    let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
    if len < HEADER_LEN {
        return Err(AttrError::Length { what, len });
    }
    let bytes = bytes.get(..len).ok_or(AttrError::Truncated { what, need: len, have: bytes.len() })?;
    Ok(Message {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        seq: u32::from_ne_bytes([s0, s1, s2, s3]),
        port: u32::from_ne_bytes([p0, p1, p2, p3]),
        payload: &bytes[HEADER_LEN..],
        bytes,
    })
}

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr<'a> {
    /// Type, without the flag bits.
    pub kind: u16,
    /// What follows the header, without padding.
    pub payload: &'a [u8],
}

impl<'a> Attr<'a> {
    /// The payload as exactly `N` bytes.
    ///
    /// # Errors
    /// When it has another size.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], AttrError> {
        self.payload.try_into().map_err(|_| AttrError::Payload {
            kind: self.kind,
            want: N,
            have: self.payload.len(),
        })
    }

    /// One byte.
    ///
    /// # Errors
    /// When the payload has another size.
    pub fn u8(&self) -> Result<u8, AttrError> {
        self.array().map(u8::from_ne_bytes)
    }

    /// A 16-bit integer in network byte order.
    ///
    /// # Errors
    /// When the payload has another size.
    pub fn be16(&self) -> Result<u16, AttrError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A 32-bit integer in network byte order.
    ///
    /// # Errors
    /// When the payload has another size.
    pub fn be32(&self) -> Result<u32, AttrError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A 64-bit integer in network byte order.
    ///
    /// # Errors
    /// When the payload has another size.
    pub fn be64(&self) -> Result<u64, AttrError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A 32-bit integer in the machine's byte order.
    ///
    /// # Errors
    /// When the payload has another size.
    pub fn ne32(&self) -> Result<u32, AttrError> {
        self.array().map(u32::from_ne_bytes)
    }

    /// A string up to its first NUL, which the kernel may leave out.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&'a str, AttrError> {
        let end = self.payload.iter().position(|byte| *byte == 0).unwrap_or(self.payload.len());
        str::from_utf8(&self.payload[..end]).map_err(|_| AttrError::Text { kind: self.kind })
    }

    /// The attributes inside. Whether there are any is known by the type alone: older kernels leave the
    /// flag `NLA_F_NESTED` out.
    #[must_use]
    pub const fn nested(&self) -> Attrs<'a> {
        Attrs::new(self.payload)
    }
}

/// A run of attributes. After an error it ends.
#[derive(Debug, Clone)]
pub struct Attrs<'a>(&'a [u8]);

impl<'a> Attrs<'a> {
    /// Reads attributes from the first byte on.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The first attribute of a type.
    ///
    /// # Errors
    /// When what stands before it is malformed.
    pub fn find(&self, kind: u16) -> Result<Option<Attr<'a>>, AttrError> {
        for attr in self.clone() {
            let attr = attr?;
            if attr.kind == kind {
                return Ok(Some(attr));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<Attr<'a>, AttrError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (attr, rest) = match attribute(self.0) {
            Ok((attr, rest)) => (Ok(attr), rest),
            Err(error) => (Err(error), &[][..]),
        };
        self.0 = rest;
        Some(attr)
    }
}

#[inline]
fn attribute(bytes: &[u8]) -> Result<(Attr<'_>, &[u8]), AttrError> {
    let what = "attribute";
    let have = bytes.len();
    let header: &[u8; ATTR_LEN] =
        bytes.first_chunk().ok_or(AttrError::Truncated { what, need: ATTR_LEN, have })?;
    let len = u16::from_ne_bytes([header[0], header[1]]) as usize;
    let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
    if len < ATTR_LEN {
        return Err(AttrError::Length { what, len });
    }
    let payload = bytes.get(ATTR_LEN..len).ok_or(AttrError::Truncated { what, need: len, have })?;
    // The last attribute of a message may come without its padding.
    let rest = bytes.get(align(len)..).unwrap_or_default();
    Ok((Attr { kind, payload }, rest))
}
