//! Histograms of durations: how often something took how long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in nanoseconds. What takes longer is in one more bucket.
const BOUNDS: [u64; 23] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// The durations of something that happens again and again.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// The sum of all durations, in nanoseconds. It overflows after 584 years.
    sum: AtomicU64,
}

/// A duration with the bucket that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    bucket: usize,
    nanos: u64,
}

/// The content of a histogram at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Sample {
    pub(crate) fn new(duration: Duration) -> Sample {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Sample {
            bucket: BOUNDS.partition_point(|bound| *bound < nanos),
            nanos,
        }
    }
}

impl Histogram {
    /// Adds a duration to the histogram.
    pub fn record(&self, duration: Duration) {
        let Sample { bucket, nanos } = Sample::new(duration);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Adds a duration to a histogram that nobody else writes at the same time. This costs no
    /// atomic addition.
    pub(crate) fn record_alone(&self, Sample { bucket, nanos }: Sample) {
        for (to, more) in [(&self.buckets[bucket], 1), (&self.sum, nanos)] {
            let former = to.load(Ordering::Relaxed);
            to.store(former.wrapping_add(more), Ordering::Relaxed);
        }
    }

    /// Returns what the histogram holds now.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let read = |from: &AtomicU64| from.load(Ordering::Relaxed);
        HistogramSnapshot {
            buckets: std::array::from_fn(|bucket| read(&self.buckets[bucket])),
            sum: read(&self.sum),
        }
    }
}

impl HistogramSnapshot {
    /// Adds a duration to the snapshot.
    pub(crate) fn record(&mut self, duration: Duration) {
        let Sample { bucket, nanos } = Sample::new(duration);
        self.buckets[bucket] += 1;
        self.sum = self.sum.wrapping_add(nanos);
    }

    /// Adds what another histogram holds.
    pub(crate) fn merge(&mut self, other: &HistogramSnapshot) {
        for (to, more) in self.buckets.iter_mut().zip(other.buckets) {
            *to += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Returns how many durations there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// Returns for each bucket its upper bound, and how many durations are in this bucket alone. The
    /// last bucket has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = BOUNDS.iter().copied().map(Duration::from_nanos).map(Some);
        bounds.chain([None]).zip(self.buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for nanos in [0, 1_000, 1_001, 2_500, 60_000_000_000, 60_000_000_001] {
            histogram.record(Duration::from_nanos(nanos));
        }
        histogram.record_alone(Sample::new(Duration::MAX));
        let snapshot = histogram.snapshot();
        let counts: Vec<_> = snapshot.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts[..3], [2, 2, 0]);
        assert_eq!(counts[BUCKETS - 2..], [1, 2]);
        assert_eq!(snapshot.count(), 7);
        assert_eq!(snapshot.buckets().last(), Some((None, 2)));
    }

    #[test]
    fn snapshots_add_up() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.record(Duration::from_millis(3));
        other.record_alone(Sample::new(Duration::from_millis(4)));
        let mut both = one.snapshot();
        both.merge(&other.snapshot());
        both.record(Duration::from_secs(1));
        assert_eq!(both.count(), 3);
        assert_eq!(both.sum(), Duration::from_millis(1_007));
    }
}
