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

    /// Returns what has come since an earlier snapshot of the same histogram.
    pub(crate) fn since(&self, before: &HistogramSnapshot) -> HistogramSnapshot {
        let less = |bucket: usize| self.buckets[bucket].saturating_sub(before.buckets[bucket]);
        HistogramSnapshot {
            buckets: std::array::from_fn(less),
            sum: self.sum.wrapping_sub(before.sum),
        }
    }

    /// Returns a duration that so many percent of all durations do not exceed, from 1 to 100. Within a
    /// bucket, the durations count as evenly spread. If there are none, there is no such duration.
    pub(crate) fn percentile(&self, percent: u64) -> Option<Duration> {
        // The number of the duration, the shortest is the first.
        let number = (self.count() * percent).div_ceil(100);
        let (mut below, mut from) = (0, Duration::ZERO);
        for (bound, count) in self.buckets() {
            // What has no bound takes at least as long as the last bound.
            let to = bound.unwrap_or(from);
            if count > 0 && below + count >= number {
                let within = (number - below) as f64 / count as f64;
                return Some(from + (to - from).mul_f64(within));
            }
            below += count;
            from = to;
        }
        None
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
    fn a_percentile_is_in_the_bucket_of_its_duration() {
        let mut all = HistogramSnapshot::default();
        assert_eq!(all.percentile(99), None);
        for _ in 0..990 {
            all.record(Duration::from_micros(700));
        }
        let before = all.clone();
        for _ in 0..10 {
            all.record(Duration::from_millis(80));
        }
        let (p50, p99, p100) = (all.percentile(50), all.percentile(99), all.percentile(100));
        let ms = |ms| Some(Duration::from_micros(ms));
        assert!(p50 > ms(500) && p50 < ms(1_000), "{p50:?}");
        assert_eq!((p99, p100), (ms(1_000), ms(100_000)));
        let since = all.since(&before);
        assert_eq!(since.count(), 10);
        assert!(since.percentile(1) > ms(50_000));
        all.record(Duration::from_secs(100));
        assert_eq!(all.percentile(100), Some(Duration::from_secs(60)));
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
