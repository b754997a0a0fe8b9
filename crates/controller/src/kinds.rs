//! Whether our own kinds are there to be written: a state machine over what is found of the CRDs.

use std::time::Duration;

use tokio::time::Instant;

use crate::crds::Installed;

/// So long after CRDs came back nothing is written: whoever brings them back brings the policies back too.
const SETTLE: Duration = Duration::from_secs(30);

/// What is known of the CRDs.
#[derive(Debug, Default)]
pub struct Kinds {
    known: Option<Vec<String>>,
    /// Those that are missing or being deleted.
    missing: Vec<String>,
    settled_at: Option<Instant>,
}

/// What a look at the CRDs means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    Same,
    /// They are missing, or going.
    Gone,
    /// They are there now, and were not, or were others: list the kinds anew.
    Came,
}

impl Kinds {
    /// Takes in what was found.
    pub fn found(&mut self, installed: Installed, now: Instant) -> Verdict {
        match installed {
            Installed::Unknown(_) => Verdict::Same,
            Installed::Not(missing) => {
                let new = self.missing != missing;
                self.missing = missing;
                if new { Verdict::Gone } else { Verdict::Same }
            }
            Installed::All(uids) if self.missing.is_empty() && self.known.as_ref() == Some(&uids) => {
                Verdict::Same
            }
            Installed::All(uids) => {
                let first = self.known.replace(uids).is_none();
                let absent = !std::mem::take(&mut self.missing).is_empty();
                self.settled_at = (!first).then(|| now + SETTLE);
                if first && !absent { Verdict::Same } else { Verdict::Came }
            }
        }
    }

    /// Uids of the CRDs that writes are meant for.
    pub fn known(&self) -> Vec<String> {
        self.known.clone().unwrap_or_default()
    }

    /// When writes may begin; `None`: not as long as this does not change.
    pub fn writable_at(&self) -> Option<Option<Instant>> {
        (self.known.is_some() && self.missing.is_empty()).then_some(self.settled_at)
    }

    /// Whether writes may happen now.
    pub fn writable(&self, now: Instant) -> bool {
        self.writable_at().is_some_and(|settled| settled.is_none_or(|time| time <= now))
    }

    /// Why not, in words.
    pub fn stopped(&self, now: Instant) -> Option<String> {
        if !self.missing.is_empty() {
            let missing = self.missing.join(", ");
            return Some(format!("not installed, or being deleted: {missing}; the nodes keep what they run"));
        }
        let settling = self.settled_at.is_some_and(|time| time > now);
        settling.then(|| format!("the CRDs came back; nothing is written for {} s", SETTLE.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(uids: &[&str]) -> Installed {
        Installed::All(uids.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn crds_that_come_back_are_given_time() {
        let (mut kinds, now) = (Kinds::default(), Instant::now());
        assert!(!kinds.writable(now), "nobody has looked yet");
        assert_eq!(kinds.found(Installed::Not(vec!["x".into()]), now), Verdict::Gone);
        assert_eq!(kinds.found(all(&["1"]), now), Verdict::Came);
        assert!(kinds.writable(now), "the first installation needs no time");
        assert_eq!(kinds.found(all(&["1"]), now), Verdict::Same);
        assert_eq!(kinds.found(Installed::Unknown(String::new()), now), Verdict::Same);
        assert!(kinds.writable(now), "an API server that is away changes nothing");
        assert_eq!(kinds.found(Installed::Not(vec!["x".into()]), now), Verdict::Gone);
        assert!(!kinds.writable(now + SETTLE) && kinds.stopped(now).is_some());
        assert_eq!(kinds.found(all(&["2"]), now), Verdict::Came);
        assert!(!kinds.writable(now) && kinds.writable(now + SETTLE));
        // Deleted and made anew between two looks.
        assert_eq!(kinds.found(all(&["3"]), now + SETTLE), Verdict::Came);
        assert!(!kinds.writable(now + SETTLE) && kinds.writable(now + SETTLE * 2));
    }
}
