//! A limiter of one rate, without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A limit for the rate of an action, or of bytes: a bucket of tokens that fills up within a second.
/// It needs no lock, since the state is one number (the "generic cell rate algorithm").
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: AtomicU32,
    start: Instant,
    /// The time at which the bucket is full again, in nanoseconds since `start`.
    full_at: AtomicU64,
}

const SECOND: u64 = 1_000_000_000;

impl RateLimiter {
    /// Creates a full bucket. The rate 0 means no limit.
    pub(crate) fn new(per_second: u32, now: Instant) -> RateLimiter {
        RateLimiter {
            per_second: AtomicU32::new(per_second),
            start: now,
            full_at: AtomicU64::new(0),
        }
    }

    /// Changes the rate. With another rate, the bucket is full.
    pub(crate) fn set(&self, per_second: u32) {
        if self.per_second.swap(per_second, Ordering::Relaxed) != per_second {
            self.full_at.store(0, Ordering::Relaxed);
        }
    }

    /// Whether there is no limit.
    pub(crate) fn is_off(&self) -> bool {
        self.per_second.load(Ordering::Relaxed) == 0
    }

    /// Takes so many tokens, if the bucket has one at least. A bucket gives more than it has, and
    /// then has to make up for them: what needs many tokens comes through as often as what needs
    /// few.
    ///
    /// # Errors
    ///
    /// The bucket has no token. The time until it has one is returned.
    pub(crate) fn take(&self, tokens: u32, now: Instant) -> Result<(), Duration> {
        let per_second = self.per_second.load(Ordering::Relaxed);
        if per_second == 0 {
            return Ok(());
        }
        let now = self.nanoseconds(now);
        let with_a_token = now.saturating_add(SECOND - cost(1, per_second));
        let cost = cost(tokens, per_second);
        let taken = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                (full_at <= with_a_token).then(|| full_at.max(now).saturating_add(cost))
            });
        match taken {
            Ok(_) => Ok(()),
            Err(full_at) => Err(Duration::from_nanos(full_at - with_a_token)),
        }
    }

    /// Puts back tokens that were taken and not needed.
    pub(crate) fn put_back(&self, tokens: u32) {
        let per_second = self.per_second.load(Ordering::Relaxed);
        if per_second > 0 {
            let cost = cost(tokens, per_second);
            let put_back = |full_at: u64| Some(full_at.saturating_sub(cost));
            let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
            // It always has an answer.
            let _ = self.full_at.fetch_update(set, fetch, put_back);
        }
    }

    /// The time until the bucket is full.
    pub(crate) fn full_in(&self, now: Instant) -> Duration {
        let full_at = self.full_at.load(Ordering::Relaxed);
        Duration::from_nanos(full_at.saturating_sub(self.nanoseconds(now)))
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

/// The time in which a bucket gets so many tokens, in nanoseconds.
fn cost(tokens: u32, per_second: u32) -> u64 {
    u64::from(tokens) * SECOND / u64::from(per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_and_then_at_the_pace() {
        let start = Instant::now();
        // Rates that divide a second, and some that do not.
        for per_second in [1, 3, 4, 7, 1_000, 100_000] {
            let limiter = RateLimiter::new(per_second, start);
            let taken = |at: Duration| {
                let takes = (0..2 * per_second).filter(|_| limiter.take(1, start + at).is_ok());
                takes.count()
            };
            assert_eq!(taken(Duration::ZERO), per_second as usize);
            assert_eq!(taken(Duration::from_secs(1)), per_second as usize);
            assert_eq!(taken(Duration::from_secs(60)), per_second as usize);
        }
        let limiter = RateLimiter::new(4, start);
        let taken = |at| {
            (0..9)
                .filter(|_| limiter.take(1, start + at).is_ok())
                .count()
        };
        assert_eq!(taken(Duration::ZERO), 4);
        assert_eq!(taken(Duration::from_millis(500)), 2);
    }

    #[test]
    fn more_than_the_bucket_has_must_be_made_up_for() {
        let start = Instant::now();
        let limiter = RateLimiter::new(4, start);
        let take = |tokens, seconds| limiter.take(tokens, start + Duration::from_secs(seconds));
        assert_eq!(take(12, 0), Ok(()));
        let wait = take(1, 1).expect_err("it has four less than nothing");
        assert_eq!(wait, Duration::from_millis(1250));
        take(1, 2).expect_err("it has nothing");
        assert_eq!(limiter.full_in(start), Duration::from_secs(3));
        assert_eq!(take(5, 3), Ok(()));
    }

    #[test]
    fn what_is_put_back_can_be_taken_again() {
        let start = Instant::now();
        let limiter = RateLimiter::new(1, start);
        assert_eq!(limiter.take(1, start), Ok(()));
        limiter.put_back(1);
        assert_eq!(limiter.take(1, start), Ok(()));
        assert_eq!(limiter.take(1, start), Err(Duration::from_secs(1)));
    }

    #[test]
    fn another_rate_begins_with_a_full_bucket() {
        let start = Instant::now();
        let limiter = RateLimiter::new(1, start);
        assert_eq!(limiter.take(1_000, start), Ok(()));
        limiter.set(1);
        assert!(limiter.take(1, start).is_err(), "it is the same rate");
        limiter.set(2);
        assert_eq!(limiter.take(1, start), Ok(()));
        limiter.set(0);
        assert!(limiter.is_off());
        assert!((0..100).all(|_| limiter.take(u32::MAX, start).is_ok()));
    }

    #[test]
    fn threads_take_no_more_than_there_is() {
        let start = Instant::now();
        let limiter = RateLimiter::new(1_000, start);
        let taken: usize = std::thread::scope(|scope| {
            let take = || {
                (0..1_000)
                    .filter(|_| limiter.take(1, start).is_ok())
                    .count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            let taken = threads.into_iter().map(|thread| thread.join());
            taken.map(|taken| taken.expect("a count")).sum()
        });
        assert_eq!(taken, 1_000);
    }
}
