//! The largest groups of a stream, in bounded memory.
//!
//! When the map is full the smaller half goes. A group that comes back starts from nothing, so that its
//! figures may be too low by as much as the largest that went (the bound of Space-Saving, paid in batches): at
//! most two parts in the room of all that was added.
//! As long as there are fewer groups than room, every figure is exact.

use std::collections::HashMap;
use std::hash::Hash;

/// What is added up for a group.
pub trait Sum: Default + Copy {
    /// What is added.
    type Of;

    /// Adds one thing to the group.
    fn add(&mut self, thing: &Self::Of);
    /// How large the group is.
    fn size(&self) -> u32;
}

/// A group's sum.
#[derive(Debug, Clone, Copy, Default)]
struct Slot<S> {
    sum: S,
    /// The most that was forgotten of this group.
    forgotten: u32,
}

/// Counts groups, and keeps the largest.
#[derive(Debug)]
pub struct Heavy<K, S> {
    slots: HashMap<K, Slot<S>>,
    room: usize,
    /// The size of the largest group that went.
    forgotten: u32,
}

impl<K: Eq + Hash + Ord + Copy, S: Sum> Heavy<K, S> {
    /// Room for so many groups; memory is taken as they come.
    pub fn new(room: usize) -> Self {
        Self { slots: HashMap::new(), room: room.max(2), forgotten: 0 }
    }

    /// Adds a thing to its group.
    pub fn add(&mut self, key: K, thing: &S::Of) {
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.sum.add(thing);
            return;
        }
        if self.slots.len() >= self.room {
            self.halve();
        }
        let mut slot = Slot { sum: S::default(), forgotten: self.forgotten };
        slot.sum.add(thing);
        self.slots.insert(key, slot);
    }

    /// Forgets at least half of the groups, and all of them where they are of one size.
    fn halve(&mut self) {
        let size = |slot: &Slot<S>| slot.sum.size() + slot.forgotten;
        let mut sizes: Vec<u32> = self.slots.values().map(size).collect();
        let middle = sizes.len() / 2;
        let (_, median, _) = sizes.select_nth_unstable(middle);
        self.forgotten = *median;
        self.slots.retain(|_, slot| size(slot) > *median);
    }

    /// How many groups there are; where some were forgotten, how many are remembered.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The groups in the order of `rank`, largest first, and how much too low a figure may be at most.
    pub fn largest(&self, count: usize, rank: impl Fn(&S) -> u32) -> (Vec<(K, S)>, u32) {
        let mut slots: Vec<(&K, &Slot<S>)> = self.slots.iter().collect();
        slots.sort_unstable_by(|(key_a, a), (key_b, b)| {
            rank(&b.sum).cmp(&rank(&a.sum)).then_with(|| key_a.cmp(key_b))
        });
        slots.truncate(count);
        let forgotten = slots.iter().map(|(_, slot)| slot.forgotten).max();
        let largest = slots.iter().map(|(key, slot)| (**key, slot.sum));
        (largest.collect(), forgotten.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, Default)]
    struct Count(u32);

    impl Sum for Count {
        type Of = ();

        fn add(&mut self, (): &()) {
            self.0 += 1;
        }
        fn size(&self) -> u32 {
            self.0
        }
    }

    /// The next number of a fixed sequence that looks random.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *state >> 33
    }

    #[test]
    fn with_room_for_all_every_figure_is_exact() {
        let mut heavy = Heavy::<u64, Count>::new(100);
        for number in 0..1000u64 {
            heavy.add(number % 100 * u64::from(number % 100 < 50), &());
        }
        let (largest, forgotten) = heavy.largest(2, |count| count.0);
        assert_eq!(forgotten, 0);
        assert_eq!((largest[0].0, largest[0].1.0), (0, 510));
        assert_eq!((largest[1].0, largest[1].1.0), (1, 10), "equal ones by their keys");
        assert_eq!(heavy.len(), 50);
    }

    #[test]
    fn large_groups_survive_a_flood_of_small_ones_within_the_bound() {
        const ROOM: usize = 128;
        let mut heavy = Heavy::<u64, Count>::new(ROOM);
        let mut exact: HashMap<u64, u32> = HashMap::new();
        let mut state = 7;
        for number in 0..200_000u64 {
            // Three groups have 4, 3 and 2 per cent; 100,000 others share the rest. What has more than
            // two parts of ROOM, here 1.6 per cent, is never forgotten.
            let key = match number % 100 {
                0..4 => 1,
                4..7 => 2,
                7..9 => 3,
                _ => 10 + next(&mut state) % 100_000,
            };
            heavy.add(key, &());
            *exact.entry(key).or_default() += 1;
            assert!(heavy.len() <= ROOM);
        }
        let (largest, forgotten) = heavy.largest(3, |count| count.0);
        let keys: Vec<u64> = largest.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [1, 2, 3]);
        for (key, count) in largest {
            assert!(count.0 <= exact[&key] && exact[&key] <= count.0 + forgotten, "{key}");
        }
    }

    #[test]
    fn groups_of_one_size_do_not_fill_the_room() {
        let mut heavy = Heavy::<u64, Count>::new(64);
        for number in 0..10_000 {
            heavy.add(number, &());
            assert!(heavy.len() <= 64);
        }
    }
}
