//! The registers of nf_tables, holding meanings in the place of bytes.

use super::load::Load;

/// 32-bit slots: `NFT_REG32_NUM` (16) of them; the four registers of 16 bytes overlap them.
const SLOTS: usize = 16;
const SLOT_LEN: usize = 4;
/// `NFT_REG32_00`
const FIRST_NARROW: u32 = 8;

/// What a register holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Something of the packet or of its entry.
    Load(Load),
    /// A constant of the rule.
    Constant(Vec<u8>),
    /// What a map has for the packet.
    Mapped {
        /// The map.
        map: String,
        /// The look-up, in nft's words.
        words: String,
        /// Bytes of its data.
        bytes: usize,
    },
}

/// All registers but that of the verdict.
#[derive(Debug, Default)]
pub(super) struct Registers {
    slots: [Option<Value>; SLOTS],
}

impl Registers {
    /// What begins in a register, as netlink numbers them; `None` where that is not known.
    pub fn get(&self, register: u32) -> Option<&Value> {
        self.slots.get(slot(register)?)?.as_ref()
    }

    /// The map whose data cover a register, and the place of the register in them, in bytes.
    pub fn mapped(&self, register: u32) -> Option<(&str, usize)> {
        let slot = slot(register)?;
        let before = self.slots.get(..=slot)?.iter().enumerate().rev();
        let (first, value) = before.filter_map(|(first, value)| Some((first, value.as_ref()?))).next()?;
        let at = (slot - first) * SLOT_LEN;
        match value {
            Value::Mapped { map, bytes, .. } if at < *bytes => Some((map, at)),
            _ => None,
        }
    }

    /// Fills a register; what was in the slots that it covers is gone.
    pub fn set(&mut self, register: u32, bytes: usize, value: Value) {
        let Some(first) = slot(register) else { return };
        let covered = bytes.div_ceil(SLOT_LEN).max(1);
        for place in self.slots.iter_mut().skip(first).take(covered) {
            *place = None;
        }
        if let Some(place) = self.slots.get_mut(first) {
            *place = Some(value);
        }
    }

    /// Forgets everything: something unknown may have written anywhere.
    pub fn forget(&mut self) {
        *self = Registers::default();
    }

    /// The fields of a key of so many bytes that begins in a register: each is padded to whole slots, and the last may
    /// have been taken for longer than it is. `None` where one of them is no field of the packet.
    pub fn key(&self, register: u32, bytes: usize) -> Option<Vec<Load>> {
        let first = slot(register)?;
        let (mut at, end) = (first, first + bytes.div_ceil(SLOT_LEN).max(1));
        let mut fields = Vec::new();
        while at < end {
            let Some(Value::Load(load)) = self.slots.get(at)?.as_ref() else {
                return None;
            };
            at += load.len().div_ceil(SLOT_LEN).max(1);
            fields.push(load.clone());
        }
        Some(fields)
    }
}

/// `NFT_REG_1` to `NFT_REG_4` are 1 to 4, `NFT_REG32_00` and those behind it 8 to 23 (`nft_parse_register`).
fn slot(register: u32) -> Option<usize> {
    let slot = match register {
        1..=4 => (register - 1) * 4,
        FIRST_NARROW.. => register - FIRST_NARROW,
        _ => return None,
    };
    usize::try_from(slot).ok().filter(|slot| *slot < SLOTS)
}
