//! The rates that one client, uid, address or plugin has.

use std::time::{Duration, Instant};

use super::limiter::RateLimiter;

/// The limits of some rates, each per second. The value 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RateLimits {
    pub(crate) connects: u32,
    pub(crate) messages: u32,
    /// The payloads of messages, after they were decompressed.
    pub(crate) bytes: u32,
}

/// The rates of connects, messages and bytes.
#[derive(Debug)]
pub(crate) struct Rates {
    connects: RateLimiter,
    messages: RateLimiter,
    bytes: RateLimiter,
}

/// The rate that a message exceeds, and the time until another message may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooFast {
    pub(crate) kind: RateKind,
    pub(crate) wait: Duration,
}

/// What a rate of messages counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateKind {
    Messages,
    Bytes,
}

impl RateLimits {
    /// Whether neither messages nor bytes have a limit.
    pub(crate) fn let_all_messages(self) -> bool {
        self.messages == 0 && self.bytes == 0
    }
}

impl Rates {
    /// Creates rates of which nothing is used up.
    pub(crate) fn new(limits: RateLimits, now: Instant) -> Rates {
        Rates {
            connects: RateLimiter::new(limits.connects, now),
            messages: RateLimiter::new(limits.messages, now),
            bytes: RateLimiter::new(limits.bytes, now),
        }
    }

    /// Changes the limits of all rates.
    pub(crate) fn set(&self, limits: RateLimits) {
        self.connects.set(limits.connects);
        self.messages.set(limits.messages);
        self.bytes.set(limits.bytes);
    }

    /// Whether neither messages nor bytes have a limit.
    pub(crate) fn let_all_messages(&self) -> bool {
        self.messages.is_off() && self.bytes.is_off()
    }

    /// Counts a connect, and returns false if it comes too fast.
    pub(crate) fn take_connect(&self, now: Instant) -> bool {
        self.connects.take(1, now).is_ok()
    }

    /// Counts a message of so many bytes.
    ///
    /// # Errors
    ///
    /// The message comes too fast. It is not counted then.
    pub(crate) fn take_message(&self, bytes: usize, now: Instant) -> Result<(), TooFast> {
        let too_fast = |kind| move |wait| TooFast { kind, wait };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let messages = self.messages.take(1, now);
        messages.map_err(too_fast(RateKind::Messages))?;
        let taken = self.bytes.take(bytes, now);
        if taken.is_err() {
            self.messages.put_back(1);
        }
        taken.map_err(too_fast(RateKind::Bytes))
    }

    /// The time until nothing of them is used up.
    pub(crate) fn full_in(&self, now: Instant) -> Duration {
        let limiters = [&self.connects, &self.messages, &self.bytes];
        let times = limiters.map(|limiter| limiter.full_in(now));
        times.into_iter().max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RateLimits = RateLimits {
        connects: 1,
        messages: 3,
        bytes: 100,
    };

    #[test]
    fn each_rate_has_its_own_end() {
        let now = Instant::now();
        let rates = Rates::new(LIMITS, now);
        let kind = |bytes| {
            let taken = rates.take_message(bytes, now);
            taken.err().map(|too_fast| too_fast.kind)
        };
        assert_eq!(kind(100), None);
        assert_eq!(kind(1), Some(RateKind::Bytes));
        assert_eq!(kind(0), Some(RateKind::Bytes), "there is no room for any");
        rates.set(RateLimits {
            bytes: 200,
            ..LIMITS
        });
        // What was refused did not count as a message.
        assert_eq!([kind(1), kind(1)], [None, None]);
        assert_eq!(kind(1), Some(RateKind::Messages));
        assert!(rates.take_connect(now) && !rates.take_connect(now));
        assert_eq!(rates.full_in(now), Duration::from_secs(1));
    }

    #[test]
    fn a_message_larger_than_a_second_s_worth_waits_for_as_long_as_it_counts() {
        let start = Instant::now();
        let rates = Rates::new(LIMITS, start);
        for second in [0, 5, 10, 15] {
            let now = start + Duration::from_secs(second);
            assert_eq!(rates.take_message(500, now), Ok(()));
            let between = now + Duration::from_millis(3_900);
            assert!(rates.take_message(1, between).is_err());
        }
    }
}
