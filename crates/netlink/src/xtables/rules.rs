//! The kernel's rules as bytes: a run of `struct ipt_entry` or `ip6t_entry`, each followed by its matches
//! and one target (`include/uapi/linux/netfilter/x_tables.h`). All integers are native.

use notrack_core::net::Family;

/// Where the parts of a rule lie, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Of the addresses, four, which begin the structure: source, destination, and the masks of both.
    pub family: Family,
    /// Of the names of the interfaces, two, which follow the addresses; their masks follow.
    pub interfaces: usize,
    /// Of the protocol's number, 16 bits wide.
    pub proto: usize,
    /// Of the flags; the inverted ones follow.
    pub flags: usize,
    /// Of `target_offset`; `next_offset` follows.
    offsets: usize,
    /// Of the first match: the length of the structure.
    pub matches: usize,
}

impl Layout {
    /// `struct ipt_entry`.
    pub(crate) const V4: Self =
        Self { family: Family::Ipv4, interfaces: 16, proto: 80, flags: 82, offsets: 88, matches: 112 };
    /// `struct ip6t_entry`.
    pub(crate) const V6: Self =
        Self { family: Family::Ipv6, interfaces: 64, proto: 128, flags: 131, offsets: 140, matches: 168 };

    /// `struct xt_counters`: the packets and bytes that have met the rule, right before its matches.
    pub(crate) const fn counters(self) -> std::ops::Range<usize> {
        self.matches - COUNTERS_LEN..self.matches
    }

    /// A rule of a header, which is as long as [`Layout::matches`] says, of matches and a target.
    pub(crate) fn rule(self, header: &[u8], matches: &[Vec<u8>], target: &[u8]) -> Vec<u8> {
        let matches = matches.concat();
        let target_at = header.len() + matches.len();
        let mut bytes = [header, &matches, target].concat();
        for (place, offset) in [target_at, bytes.len()].into_iter().enumerate() {
            bytes[self.offsets + 2 * place..][..2].copy_from_slice(&(offset as u16).to_ne_bytes());
        }
        bytes
    }
}

/// Of `struct xt_counters`: packets, bytes.
pub(crate) const COUNTERS_LEN: usize = 16;

/// `struct xt_entry_match` and `xt_entry_target`: a length, a name and a revision before the data.
pub(crate) const HEAD_LEN: usize = 32;
const NAME: std::ops::Range<usize> = 2..31;
const REVISION: usize = 31;

/// `-NF_DROP - 1`, and likewise the others; `XT_RETURN` is `-NF_REPEAT - 1`.
pub(crate) const DROP: i32 = -1;
pub(crate) const ACCEPT: i32 = -2;
pub(crate) const QUEUE: i32 = -4;
pub(crate) const RETURN: i32 = -5;

/// The rules of a table, one after the other. It ends before the first that is malformed.
#[derive(Debug, Clone)]
pub(crate) struct Entries<'a> {
    rest: &'a [u8],
    offset: usize,
    layout: Layout,
}

/// A rule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Where it lies in the table.
    pub offset: usize,
    /// All of it, from its `struct ipt_ip` on.
    pub bytes: &'a [u8],
    /// How it lies in memory.
    pub layout: Layout,
    /// Where its target lies in it.
    pub target_at: usize,
}

impl<'a> Entries<'a> {
    /// Reads the rules of a table.
    pub(crate) const fn new(bytes: &'a [u8], layout: Layout) -> Self {
        Self { rest: bytes, offset: 0, layout }
    }

    /// Whether all bytes have been read.
    pub(crate) const fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let Layout { offsets, matches, .. } = self.layout;
        let [t0, t1, n0, n1] = *self.rest.get(offsets..)?.first_chunk()?;
        let target_at = u16::from_ne_bytes([t0, t1]) as usize;
        let next = u16::from_ne_bytes([n0, n1]) as usize;
        if target_at < matches || next <= target_at {
            return None;
        }
        let (bytes, rest) = self.rest.split_at_checked(next)?;
        let entry = Entry { offset: self.offset, bytes, layout: self.layout, target_at };
        self.rest = rest;
        self.offset += next;
        Some(entry)
    }
}

impl<'a> Entry<'a> {
    /// Its matches. They end before the first that is malformed.
    pub(crate) fn matches(&self) -> Extensions<'a> {
        Extensions(self.bytes.get(self.layout.matches..self.target_at).unwrap_or_default())
    }

    /// Its target.
    pub(crate) fn target(&self) -> Option<Extension<'a>> {
        Extension::read(self.bytes.get(self.target_at..)?).map(|(target, _)| target)
    }
}

/// A match or a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extension<'a> {
    /// Its name; empty for the standard target.
    pub name: &'a str,
    /// Of its structure.
    pub revision: u8,
    /// Its structure.
    pub info: &'a [u8],
}

impl<'a> Extension<'a> {
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let len = u16::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let info = bytes.get(HEAD_LEN..len)?;
        let name = bytes.get(NAME)?;
        let end = name.iter().position(|byte| *byte == 0)?;
        let name = str::from_utf8(&name[..end]).ok()?;
        Some((Self { name, revision: *bytes.get(REVISION)?, info }, &bytes[len..]))
    }

    /// As it lies in a rule.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_LEN];
        bytes[..2].copy_from_slice(&((HEAD_LEN + self.info.len()) as u16).to_ne_bytes());
        bytes[NAME][..self.name.len()].copy_from_slice(self.name.as_bytes());
        bytes[REVISION] = self.revision;
        bytes.extend(self.info);
        bytes
    }

    /// Its data up to the first NUL.
    pub(crate) fn text(&self) -> Option<&'a str> {
        let end = self.info.iter().position(|byte| *byte == 0)?;
        str::from_utf8(&self.info[..end]).ok()
    }

    /// The data of the standard target: a verdict, or the offset of the next rule.
    pub(crate) fn verdict(&self) -> Option<i32> {
        let verdict = i32::from_ne_bytes(*self.info.first_chunk()?);
        self.name.is_empty().then_some(verdict)
    }
}

/// The matches of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Extensions<'a>(&'a [u8]);

impl Extensions<'_> {
    /// Whether all bytes have been read.
    pub(crate) const fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Extension<'a>> {
        let (extension, rest) = Extension::read(self.0)?;
        self.0 = rest;
        Some(extension)
    }
}
