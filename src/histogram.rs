//! How often something took how long, or was how large: a histogram that does not grow, for many threads at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each power of two is cut into so many equal parts, so a part is at most 1/32 of what falls into it.
const PARTS_BITS: u32 = 5;
const PARTS: u64 = 1 << PARTS_BITS;
/// Up to the largest number there is.
const BUCKETS: u64 = (u64::BITS - PARTS_BITS + 1) as u64 * PARTS;

/// A log-linear histogram of numbers: exact below 64, and off by 1.6 % at most above. Recording is one addition to a
/// counter. It takes 15 KiB of memory from the first number on, whatever is recorded.
///
/// ```
/// use freehold::Histogram;
/// use std::time::Duration;
///
/// let latencies = Histogram::default();
/// (1..=1000).for_each(|micros| latencies.record_time(Duration::from_micros(micros)));
/// let summary = latencies.summary();
/// assert_eq!(summary.count, 1000);
/// assert!((490_000..=510_000).contains(&summary.p50));
/// ```
#[derive(Debug, Default)]
pub struct Histogram(OnceLock<Box<[AtomicU64]>>);

/// A reading of a [`Histogram`]. Times are in nanoseconds. All zero if nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Summary {
    /// How many were recorded.
    pub count: u64,
    /// Half of all were not larger.
    pub p50: u64,
    /// 99 % of all were not larger.
    pub p99: u64,
    /// 99.9 % of all were not larger.
    pub p999: u64,
    /// None was larger.
    pub max: u64,
}

/// Below two powers of parts each number has a bucket of its own.
fn bucket_of(number: u64) -> u64 {
    let shift = number.checked_ilog2().unwrap_or(0).saturating_sub(PARTS_BITS);
    u64::from(shift) * PARTS + (number >> shift)
}

/// The middle of a bucket.
fn number_of(bucket: u64) -> u64 {
    let shift = (bucket / PARTS).saturating_sub(1);
    let low = (bucket - shift * PARTS) << shift;
    low + ((1 << shift) - 1) / 2
}

impl Histogram {
    /// Counts a number.
    pub fn record(&self, number: u64) {
        let buckets = self.0.get_or_init(|| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect());
        if let Some(bucket) = usize::try_from(bucket_of(number)).ok().and_then(|bucket| buckets.get(bucket)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a time, in nanoseconds.
    pub fn record_time(&self, time: Duration) {
        self.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn buckets(&self) -> &[AtomicU64] {
        self.0.get().map_or(&[], |buckets| buckets)
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets().iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// What this many thousandths of all did not exceed; the largest of all for 1000. Zero if there are none.
    #[must_use]
    pub fn quantile(&self, thousandths: u64) -> u64 {
        let rank = (self.count() * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = (0..).zip(self.buckets()).find(|(_, count)| {
            seen += count.load(Ordering::Relaxed);
            seen >= rank
        });
        found.map_or(0, |(bucket, _)| number_of(bucket))
    }

    /// A reading. What is recorded meanwhile may be in a part of it.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let at = |thousandths| self.quantile(thousandths);
        Summary { count: self.count(), p50: at(500), p99: at(990), p999: at(999), max: at(1000) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn a_number_is_near_the_middle_of_its_bucket(number: u64) -> bool {
            let middle = number_of(bucket_of(number));
            bucket_of(number) < BUCKETS && middle.abs_diff(number) <= number / (2 * PARTS)
        }
    }

    #[test]
    fn buckets_follow_each_other() {
        let borders = (1..u64::BITS).flat_map(|bit| [(1 << bit) - 2, (1 << bit) - 1, 1 << bit]);
        for number in (0..100_000).chain(borders) {
            let (bucket, next) = (bucket_of(number), bucket_of(number + 1));
            assert!(next == bucket || next == bucket + 1, "{number}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_thousand_numbers() {
        let histogram = Histogram::default();
        assert_eq!(histogram.summary(), Summary::default());
        (0..60).for_each(|number| histogram.record(number));
        // All of them have buckets of their own.
        assert_eq!((histogram.quantile(500), histogram.quantile(1000)), (29, 59));
        let histogram = Histogram::default();
        (1..=1000).for_each(|micros| histogram.record_time(Duration::from_micros(micros)));
        let summary = histogram.summary();
        let near = |found: u64, micros: u64| found.abs_diff(micros * 1000) * 60 <= micros * 1000;
        assert!(near(summary.p50, 500) && near(summary.p99, 990) && near(summary.max, 1000), "{summary:?}");
        assert_eq!(summary.count, 1000);
    }
}
