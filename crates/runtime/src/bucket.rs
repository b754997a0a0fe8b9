//! A budget of writes. Pure: the moment is an argument.

use std::time::{Duration, Instant};

/// A token bucket: a token comes back in `refill`, and at most `burst` are saved up.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    burst: u32,
    refill: Duration,
    tokens: u32,
    /// Up to when `tokens` is counted.
    since: Instant,
}

impl TokenBucket {
    /// A full one.
    pub fn new(burst: u32, refill: Duration, now: Instant) -> TokenBucket {
        TokenBucket { burst, refill, tokens: burst, since: now }
    }

    fn counted(self, now: Instant) -> TokenBucket {
        let TokenBucket { burst, refill, tokens, since } = self;
        let came = now.saturating_duration_since(since).as_nanos().checked_div(refill.as_nanos());
        let came = came.and_then(|came| u32::try_from(came).ok()).unwrap_or(u32::MAX);
        match tokens.saturating_add(came) {
            // A full bucket saves nothing up for later.
            full if full >= burst => TokenBucket { tokens: burst, since: now, ..self },
            tokens => TokenBucket { tokens, since: since + refill * came, ..self },
        }
    }

    /// When there is a token.
    pub fn next(self, now: Instant) -> Instant {
        let counted = self.counted(now);
        if counted.tokens > 0 { now } else { counted.since + self.refill }
    }

    /// Takes a token, where there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        *self = self.counted(now);
        let taken = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFILL: Duration = Duration::from_secs(30);

    #[test]
    fn a_bucket_gives_three_and_then_one_in_thirty_seconds() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut bucket = TokenBucket::new(3, REFILL, start);
        let taken = (0..300).filter(|second| bucket.take(at(*second))).count();
        assert_eq!(taken, 3 + 9);
        assert_eq!((0..10).filter(|_| bucket.take(at(10_000))).count(), 3, "no more is saved up");
    }

    #[test]
    fn it_tells_when_the_next_token_comes() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(1, REFILL, start);
        assert_eq!(bucket.next(start), start);
        assert!(bucket.take(start));
        let next = bucket.next(start + REFILL / 2);
        assert_eq!(next, start + REFILL);
        assert!(!bucket.take(next - Duration::from_millis(1)) && bucket.take(next));
    }
}
