//! How long messages took, in buckets: memory that does not grow with their number.

use std::time::Duration;

/// Each bucket ends an eighth of a doubling after the one before: 9 % wide.
const PER_DOUBLING: u32 = 8;

/// From 1 µs on; the last one has all that took longer than a minute.
const BUCKETS: usize = 26 * PER_DOUBLING as usize;

#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    buckets: Vec<u64>,
    longest: Duration,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies {
            buckets: vec![0; BUCKETS],
            longest: Duration::ZERO,
        }
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let doublings = micros.ilog2();
        // The bits after the first one say where between two doublings it is.
        let rest = (micros << 3 >> doublings) & u64::from(PER_DOUBLING - 1);
        let bucket = u64::from(doublings * PER_DOUBLING) + rest;
        let bucket = usize::try_from(bucket).unwrap_or(BUCKETS);
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.longest = self.longest.max(took);
    }

    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// The time that so many of a thousand stay below, to an eighth.
    pub(crate) fn share(&self, of_thousand: u64) -> Duration {
        let all: u64 = self.buckets.iter().sum();
        let wanted = (all * of_thousand).div_ceil(1000);
        let mut so_far = 0;
        let at = self.buckets.iter().position(|count| {
            so_far += count;
            so_far >= wanted
        });
        if at == Some(BUCKETS - 1) {
            return self.longest;
        }
        let bucket = u64::try_from(at.unwrap_or_default()).unwrap_or_default() + 1;
        let (doublings, rest) = (
            bucket / u64::from(PER_DOUBLING),
            bucket % u64::from(PER_DOUBLING),
        );
        let micros = ((u64::from(PER_DOUBLING) + rest) << doublings) / u64::from(PER_DOUBLING);
        Duration::from_micros(micros).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_right_to_an_eighth() {
        let mut latencies = Latencies::default();
        for micros in 1..=10_000 {
            latencies.add(Duration::from_micros(micros));
        }
        for (of_thousand, exact) in [(500, 5_000.0), (990, 9_900.0), (1000, 10_000.0)] {
            let share = latencies.share(of_thousand).as_secs_f64() * 1e6;
            assert!(
                (exact * 0.99..exact * 1.13).contains(&share),
                "{of_thousand}: {share} and not {exact}"
            );
        }
        assert_eq!(latencies.longest(), Duration::from_millis(10));
        latencies.add(Duration::from_secs(1_000));
        assert_eq!(latencies.share(1000), Duration::from_secs(1_000));
    }
}
