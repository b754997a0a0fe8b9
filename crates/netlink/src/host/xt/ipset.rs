//! The match `set`: is the packet in an ip set?

use notrack_core::host::{Field, Match, Members, Step};

use super::bytes::{byte, ne16, ne32};
use super::sets::{Direction, IpSets};
use super::text::{Options, not};
use super::{Part, quoted};

/// `IPSET_INV_MATCH`; above it a bit for each dimension that is looked up by the packet's source.
const INVERTED: u8 = 1;
/// `IPSET_RETURN_NOMATCH` in the first revisions.
const OLD_RETURN_NOMATCH: u8 = 1 << 7;
/// `IPSET_FLAG_RETURN_NOMATCH`.
const RETURN_NOMATCH: u32 = 1 << 7;

/// `struct xt_set_info_match_v1`, 3 and 4. The oldest is of kernels before 2.6.39.
pub(super) fn matching(revision: u8, info: &[u8], sets: &mut IpSets) -> Option<Part> {
    let (index, dimensions, flags) = (ne16(info, 0)?, byte(info, 2)?, byte(info, 3)?);
    // Where each revision has the comparisons with an element's own counters, and its flags.
    let (counters, return_nomatch) = match revision {
        1 | 2 => (false, flags & OLD_RETURN_NOMATCH != 0),
        3 => (byte(info, 8)? != 0 || byte(info, 24)? != 0, ne32(info, 40)? & RETURN_NOMATCH != 0),
        4 => (byte(info, 16)? != 0 || byte(info, 32)? != 0, ne32(info, 40)? & RETURN_NOMATCH != 0),
        _ => return None,
    };
    let directions: Vec<_> = (1..=dimensions.min(6))
        .map(|place| if flags & 1 << place != 0 { Direction::Source } else { Direction::Destination })
        .collect();
    let inverted = flags & INVERTED != 0;
    let name = sets.name(index)?;
    let (fields, mut of) = sets
        .contents(&name, &directions)
        .unwrap_or_else(|| (vec![Field::Other(format!("set {name}"))], Members::Unknown));
    if counters || return_nomatch {
        of = Members::Unknown;
    }
    let words: Vec<_> = directions.iter().map(|direction| direction.word()).collect();
    let mut options = Options::default();
    options.add(format!("{}--match-set {} {}", not(inverted), shown(&name), words.join(",")));
    options.when(return_nomatch, "--return-nomatch");
    Some(Part::new(vec![Step::Match(Match { fields, inverted, of })], options.text()))
}

/// This extension quotes a name only where a shell would split it.
fn shown(name: &str) -> String {
    if name.contains(char::is_whitespace) { quoted(name) } else { name.to_owned() }
}
