//! How long things took, in a histogram that does not grow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each power of two is cut into so many equal parts: a part is at most 1/128 of what falls into it, and its middle is
/// off by at most half of that.
const PARTS_BITS: u32 = 7;
const PARTS: u64 = 1 << PARTS_BITS;
/// Up to the longest time there is.
const BUCKETS: u64 = (u64::BITS - PARTS_BITS + 1) as u64 * PARTS;

/// A log-linear histogram of nanoseconds, for many threads at once.
#[derive(Debug)]
pub(super) struct Latencies(Box<[AtomicU64]>);

/// Below two powers of parts each number has a bucket of its own.
fn bucket_of(nanos: u64) -> u64 {
    let shift = nanos.checked_ilog2().unwrap_or(0).saturating_sub(PARTS_BITS);
    u64::from(shift) * PARTS + (nanos >> shift)
}

/// The middle of a bucket.
fn nanos_of(bucket: u64) -> u64 {
    let shift = (bucket / PARTS).saturating_sub(1);
    let low = (bucket - shift * PARTS) << shift;
    low + ((1 << shift) - 1) / 2
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn record(&self, latency: Duration) {
        let bucket = bucket_of(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        if let Some(bucket) = usize::try_from(bucket).ok().and_then(|bucket| self.0.get(bucket)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were recorded.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Microseconds that this many thousandths of all did not exceed. Zero if there are none.
    pub(super) fn micros(&self, thousandths: u64) -> f64 {
        let rank = (self.count() * thousandths).div_ceil(1000);
        let mut seen = 0;
        let found = (0..).zip(&self.0).find(|(_, count)| {
            seen += count.load(Ordering::Relaxed);
            seen >= rank && seen > 0
        });
        found.map_or(0.0, |(bucket, _)| nanos_of(bucket) as f64 / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_close_to_what_falls_into_it_and_the_next_begins_where_it_ends() {
        let buckets: Vec<u64> = (0..100_000).map(bucket_of).collect();
        assert_eq!(buckets[0], 0);
        assert!(buckets.windows(2).all(|pair| pair[1] - pair[0] <= 1), "none goes back, none is left out");
        for nanos in (0..100_000).chain((0..62).flat_map(|bit| [(1 << bit) - 1, 1 << bit, 3 << bit])) {
            let off = nanos_of(bucket_of(nanos)).abs_diff(nanos);
            assert!(off * 250 <= nanos, "{nanos} is off by {off}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(nanos_of(BUCKETS - 1)), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_a_hundredth() {
        let latencies = Latencies::new();
        assert_eq!((latencies.count(), latencies.micros(500)), (0, 0.0));
        for micros in (1..=10_000).rev() {
            latencies.record(Duration::from_micros(micros));
        }
        for (thousandths, exact) in [(0, 1.0), (500, 5000.0), (990, 9900.0), (999, 9990.0), (1000, 10_000.0)]
        {
            let found = latencies.micros(thousandths);
            assert!((found / exact - 1.0).abs() < 0.01, "{thousandths}: {found}");
        }
        latencies.record(Duration::MAX);
        assert_eq!(latencies.count(), 10_001);
        assert!(latencies.micros(1000) > 1e15);
    }
}
