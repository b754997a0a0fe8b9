//! Waiting for the end of a burst, but not for ever.

use std::time::Duration;

use tokio::time::Instant;

/// A burst of changes that becomes one piece of work.
#[derive(Clone, Copy, Debug)]
pub struct Debounce {
    /// So long after the last change.
    quiet: Duration,
    /// But no longer than this after the first.
    longest: Duration,
    burst: Option<(Instant, Instant)>,
    not_before: Option<Instant>,
}

impl Debounce {
    /// Nothing to do yet.
    pub fn new(quiet: Duration, longest: Duration) -> Debounce {
        Debounce { quiet, longest, burst: None, not_before: None }
    }

    /// Something changed.
    pub fn touch(&mut self, now: Instant) {
        let (first, _) = self.burst.unwrap_or((now, now));
        self.burst = Some((first, now));
    }

    /// Not before this time, whatever changes.
    pub fn hold_until(&mut self, time: Instant) {
        self.not_before = Some(time);
    }

    /// When the work is due, if there is any.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.burst?;
        let due = (last + self.quiet).min(first + self.longest);
        Some(self.not_before.map_or(due, |time| due.max(time)))
    }

    /// Whether the work is due; from then on it counts as done.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        if due {
            self.burst = None;
            self.not_before = None;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_ends_when_it_is_quiet_or_too_long() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut burst = Debounce::new(ms(50), ms(500));
        assert_eq!(burst.due(), None);
        burst.touch(start);
        burst.touch(start + ms(30));
        assert_eq!(burst.due(), Some(start + ms(80)));
        for step in 1..20 {
            burst.touch(start + ms(40 * step));
        }
        assert_eq!(burst.due(), Some(start + ms(500)));
        burst.hold_until(start + ms(900));
        assert!(!burst.take(start + ms(500)));
        assert!(burst.take(start + ms(900)));
        assert_eq!(burst.due(), None);
    }
}
