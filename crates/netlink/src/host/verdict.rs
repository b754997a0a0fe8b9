//! Verdicts.

use notrack_core::host::HostVerdict;

use crate::attr::{AttrError, Attrs};
use crate::nft::{inner, number, text, uapi};

/// `NF_QUEUE`; the number of the queue stands above the lowest byte (`NF_VERDICT_MASK`).
const QUEUE: i32 = 3;

/// The verdict in an expression's or element's data; `None` for `continue`, and where there is none.
pub(super) fn verdict(data: &Attrs<'_>) -> Result<Option<HostVerdict>, AttrError> {
    let attrs = inner(data, uapi::NFTA_DATA_VERDICT)?;
    let target = || Ok::<_, AttrError>(text(&attrs, uapi::NFTA_VERDICT_CHAIN)?.map(str::to_owned));
    Ok(match number(&attrs, uapi::NFTA_VERDICT_CODE)?.map(u32::cast_signed) {
        Some(0) => Some(HostVerdict::Drop),
        Some(1) => Some(HostVerdict::Accept),
        Some(code) if code >= 0 && code & 0xff == QUEUE => Some(HostVerdict::Queue),
        Some(uapi::NFT_RETURN) => Some(HostVerdict::Return),
        Some(uapi::NFT_JUMP) => target()?.map(HostVerdict::Jump),
        Some(uapi::NFT_GOTO) => target()?.map(HostVerdict::Goto),
        _ => None,
    })
}
