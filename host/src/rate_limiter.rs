//! A rate limiter with a fixed rate per second, and a burst of one second's worth.

use std::time::Instant;

/// A token bucket that limits the rate of an action, or of bytes.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: f64,
    tokens: f64,
    last: Instant,
}

impl RateLimiter {
    /// Creates a full token bucket. The rate 0 means no limit, and then the result is `None`.
    pub(crate) fn new(per_second: u32, now: Instant) -> Option<RateLimiter> {
        let tokens = f64::from(per_second);
        (per_second > 0).then_some(RateLimiter {
            per_second: tokens,
            tokens,
            last: now,
        })
    }

    /// Takes one token, and returns false if the bucket has none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.take_many(1, now)
    }

    /// Takes so many tokens, and returns false if the bucket has none. A bucket gives more than it
    /// has, and then has to make up for them: what needs many tokens comes through as often as what
    /// needs few.
    pub(crate) fn take_many(&mut self, tokens: u32, now: Instant) -> bool {
        let earned = now.duration_since(self.last).as_secs_f64() * self.per_second;
        self.last = now;
        self.tokens = (self.tokens + earned).min(self.per_second);
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= f64::from(tokens);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_second_s_worth_at_once_and_then_at_the_pace() {
        let start = Instant::now();
        let mut rate_limiter = RateLimiter::new(4, start).expect("a rate_limiter");
        let taken = |rate_limiter: &mut RateLimiter, at| {
            (0..9).filter(|_| rate_limiter.take(start + at)).count()
        };
        assert_eq!(taken(&mut rate_limiter, Duration::ZERO), 4);
        assert_eq!(taken(&mut rate_limiter, Duration::from_millis(500)), 2);
        assert_eq!(taken(&mut rate_limiter, Duration::from_secs(60)), 4);
        assert!(RateLimiter::new(0, start).is_none());
    }

    #[test]
    fn more_than_the_bucket_has_must_be_made_up_for() {
        let start = Instant::now();
        let mut rate_limiter = RateLimiter::new(4, start).expect("a rate_limiter");
        let mut take =
            |tokens, seconds| rate_limiter.take_many(tokens, start + Duration::from_secs(seconds));
        assert!(take(12, 0));
        assert!(!take(1, 1), "it has four less than nothing");
        assert!(!take(1, 2), "it has nothing");
        assert!(take(5, 3));
    }
}
