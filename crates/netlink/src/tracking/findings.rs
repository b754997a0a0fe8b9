//! What the rules of a namespace show, by family.

use crate::conntrack::Family;

/// The families that a rule's family stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Families {
    /// One.
    One(Family),
    /// `inet`, and `bridge`, which registers both (`nf_ct_netns_get`).
    Both,
}

impl Families {
    /// From `NFPROTO_*`. The others, `arp` and `netdev`, cannot track.
    pub(super) const fn of_nft(family: u8) -> Option<Self> {
        match family {
            1 | 7 => Some(Self::Both),
            2 => Some(Self::One(Family::V4)),
            10 => Some(Self::One(Family::V6)),
            _ => None,
        }
    }

    fn contains(self, family: Family) -> bool {
        self == Self::Both || self == Self::One(family)
    }
}

/// What was found for one family.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The first user of tracking that is not ours.
    pub(super) foreign: Option<String>,
    /// Whether our own table uses tracking.
    pub(super) own: bool,
    /// Whether something could not be read.
    pub(super) incomplete: bool,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    v4: Found,
    v6: Found,
}

impl Findings {
    pub(super) const fn of(&self, family: Family) -> &Found {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn each(&mut self, families: Families) -> impl Iterator<Item = &mut Found> {
        [(Family::V4, &mut self.v4), (Family::V6, &mut self.v6)]
            .into_iter()
            .filter(move |(family, _)| families.contains(*family))
            .map(|(_, found)| found)
    }

    /// Notes a user of tracking; the first one of a family is kept as evidence.
    pub(super) fn foreign(&mut self, families: Families, evidence: &str) {
        for found in self.each(families) {
            found.foreign.get_or_insert_with(|| evidence.to_owned());
        }
    }

    /// Whether nothing more can change the conclusion.
    pub(super) const fn is_conclusive(&self) -> bool {
        self.v4.foreign.is_some() && self.v6.foreign.is_some()
    }

    pub(super) fn own(&mut self, families: Families) {
        self.each(families).for_each(|found| found.own = true);
    }

    pub(super) fn incomplete(&mut self, families: Families) {
        self.each(families).for_each(|found| found.incomplete = true);
    }
}
