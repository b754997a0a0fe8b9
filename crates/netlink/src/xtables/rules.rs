//! The kernel's rules as bytes: a run of `struct ipt_entry` or `ip6t_entry`, each followed by its matches
//! and one target (`include/uapi/linux/netfilter/x_tables.h`). All integers are native.

/// Where the parts of a rule lie, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Of `target_offset`; `next_offset` follows.
    pub(super) offsets: usize,
    /// Of the first match.
    pub(super) matches: usize,
}

impl Layout {
    /// `struct ipt_entry`.
    pub(crate) const V4: Self = Self { offsets: 88, matches: 112 };
    /// `struct ip6t_entry`.
    pub(crate) const V6: Self = Self { offsets: 140, matches: 168 };

    /// `struct xt_counters`: the packets and bytes that have met the rule, right before its matches.
    pub(crate) const fn counters(self) -> std::ops::Range<usize> {
        self.matches - 16..self.matches
    }
}

/// `struct xt_entry_match` and `xt_entry_target`: a length, a name and a revision before the data.
pub(super) const HEAD_LEN: usize = 32;
const NAME: std::ops::Range<usize> = 2..31;
const REVISION: usize = 31;

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
    matches_at: usize,
    target_at: usize,
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
        let Layout { offsets, matches } = self.layout;
        let [t0, t1, n0, n1] = *self.rest.get(offsets..)?.first_chunk()?;
        let target_at = u16::from_ne_bytes([t0, t1]) as usize;
        let next = u16::from_ne_bytes([n0, n1]) as usize;
        if target_at < matches || next <= target_at {
            return None;
        }
        let (bytes, rest) = self.rest.split_at_checked(next)?;
        let entry = Entry { offset: self.offset, bytes, matches_at: matches, target_at };
        self.rest = rest;
        self.offset += next;
        Some(entry)
    }
}

impl<'a> Entry<'a> {
    /// Its matches. They end before the first that is malformed.
    pub(crate) fn matches(&self) -> Extensions<'a> {
        Extensions(self.bytes.get(self.matches_at..self.target_at).unwrap_or_default())
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
