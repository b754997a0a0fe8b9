//! Small matches: marks, rates, comments.

use notrack_core::host::{Field, Match, Members, Step};

use super::bytes::{byte, ne32, text};
use super::text::not;
use super::{Part, quoted};

/// A mark and its mask as iptables writes them.
pub(super) fn masked(mark: u32, mask: u32) -> String {
    if mask == u32::MAX { format!("{mark:#x}") } else { format!("{mark:#x}/{mask:#x}") }
}

/// `struct xt_mark_mtinfo1`.
pub(super) fn mark(info: &[u8]) -> Option<Part> {
    let (mark, mask, inverted) = (ne32(info, 0)?, ne32(info, 4)?, byte(info, 8)? != 0);
    let of = match mask {
        u32::MAX => Members::Boxes(vec![vec![(mark.into(), mark.into())]]),
        mask => Members::Masked { mask: mask.into(), values: vec![mark.into()] },
    };
    let step = Match { fields: vec![Field::Mark], inverted, of };
    let text = format!("{}--mark {}", not(inverted), masked(mark, mask));
    Some(Part::new(vec![Step::Match(step)], text))
}

/// `struct xt_rateinfo`: how long a packet takes of the allowance, in 1/10,000 s, and how many may come at once.
pub(super) fn limit(info: &[u8]) -> Option<Part> {
    const SECOND: u32 = 10_000;
    const UNITS: [(&str, u32); 4] =
        [("day", 86_400 * SECOND), ("hour", 3_600 * SECOND), ("min", 60 * SECOND), ("sec", SECOND)];
    /// What iptables takes where nothing is said, and does not write.
    const USUAL_BURST: u32 = 5;
    let (period, burst) = (ne32(info, 0)?, ne32(info, 4)?);
    if period == 0 {
        return None;
    }
    // The longest unit, unless a shorter one tells the rate better: as iptables chooses.
    let shorter = |unit: &u32| period <= *unit && unit / period >= unit % period;
    let units = UNITS.iter().skip(1).take_while(|(_, unit)| shorter(unit)).last();
    let (unit, length) = units.unwrap_or(&UNITS[0]);
    let mut text = format!("--limit {}/{unit}", length / period);
    if burst != USUAL_BURST {
        text += &format!(" --limit-burst {burst}");
    }
    Some(Part::new(vec![Step::Limit], text))
}

/// `struct xt_comment_info`.
pub(super) fn comment(info: &[u8]) -> Option<Part> {
    /// `XT_MAX_COMMENT_LEN`.
    const LEN: usize = 256;
    let comment = text(info, 0, LEN)?;
    let text = format!("--comment {}", quoted(&comment));
    Some(Part { steps: Vec::new(), text, comment: Some(comment) })
}
