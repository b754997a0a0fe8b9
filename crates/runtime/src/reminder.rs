//! What stays wrong is said when it begins, when it changes and now and then, not at every attempt.

use std::time::{Duration, Instant};

/// Said again after this time.
const AGAIN: Duration = Duration::from_secs(60);

/// What was said last, and when. What is over and comes back within that time is not said again either: it flaps.
#[derive(Clone, Debug, Default)]
pub struct Reminder(Option<(String, Instant)>);

impl Reminder {
    /// Whether to say it at `now`; from then on it counts as said.
    pub fn is_due(&mut self, text: &str, now: Instant) -> bool {
        let is_said = |(said, at): &(String, Instant)| said == text && now.duration_since(*at) < AGAIN;
        let is_due = !self.0.as_ref().is_some_and(is_said);
        if is_due {
            self.0 = Some((text.to_owned(), now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_once_a_minute_and_what_changes_at_once() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut reminder = Reminder::default();
        let said: Vec<u64> = (0..180).filter(|second| reminder.is_due("full", at(*second))).collect();
        assert_eq!(said, [0, 60, 120]);
        assert!(reminder.is_due("refused", at(180)));
        assert!(!reminder.is_due("refused", at(181)));
    }
}
