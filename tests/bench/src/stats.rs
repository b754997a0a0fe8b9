//! Figures of several rounds.

/// Quartiles of what was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub median: f64,
    /// The middle half's width, as a share of the median.
    pub spread: f64,
}

impl Summary {
    /// Of at least one figure.
    pub fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(&sorted, share));
        Self { median, spread: (high - low) / median }
    }
}

/// The figure below which a share of the sorted figures lies, interpolated.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let at = |index: f64| sorted.get(index as usize).copied().unwrap_or(f64::NAN);
    at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
}

/// A reproducible order: xorshift64*, as good as a shuffle needs.
#[derive(Debug)]
pub struct Shuffle(u64);

impl Shuffle {
    /// The same seed gives the same orders.
    pub fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.max(1))
    }

    /// Puts the items into another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, (self.next() % (end as u64 + 1)) as usize);
        }
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_and_spread() {
        let summary = Summary::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(summary, Summary { median: 3.0, spread: 2.0 / 3.0 });
        assert_eq!(Summary::of(&[7.0]), Summary { median: 7.0, spread: 0.0 });
        assert_eq!(quantile(&[1.0, 2.0], 0.99), 1.99);
    }

    #[test]
    fn a_seed_names_an_order_of_all_items() {
        let order = |seed| {
            let mut items: Vec<u8> = (0..20).collect();
            Shuffle::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
        let mut items = order(0);
        items.sort_unstable();
        assert_eq!(items, (0..20).collect::<Vec<u8>>());
    }
}
