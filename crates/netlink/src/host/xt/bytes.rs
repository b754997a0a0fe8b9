//! Parts of a C structure. `None` where it is too short: of a revision that is not known here.

/// `N` bytes.
pub(super) fn array<const N: usize>(info: &[u8], at: usize) -> Option<[u8; N]> {
    info.get(at..)?.first_chunk().copied()
}

/// A byte.
pub(super) fn byte(info: &[u8], at: usize) -> Option<u8> {
    info.get(at).copied()
}

/// A native `__u16`.
pub(super) fn ne16(info: &[u8], at: usize) -> Option<u16> {
    array(info, at).map(u16::from_ne_bytes)
}

/// A `__be16`.
pub(super) fn be16(info: &[u8], at: usize) -> Option<u16> {
    array(info, at).map(u16::from_be_bytes)
}

/// A native `__u32`.
pub(super) fn ne32(info: &[u8], at: usize) -> Option<u32> {
    array(info, at).map(u32::from_ne_bytes)
}

/// Text of at most `len` bytes, up to its first NUL. What is not UTF-8 is replaced.
pub(super) fn text(info: &[u8], at: usize, len: usize) -> Option<String> {
    let bytes = info.get(at..at.checked_add(len)?)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(len);
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}
