//! Counters over the device seam.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Live counters; cheap to update from many threads.
#[derive(Debug, Default)]
pub struct Metrics {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    read_nanoseconds: AtomicU64,
    writes: AtomicU64,
    write_bytes: AtomicU64,
    write_nanoseconds: AtomicU64,
    flushes: AtomicU64,
    flush_nanoseconds: AtomicU64,
}

/// A reading of [`Metrics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DeviceMetrics {
    /// Completed reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Time spent reading, in nanoseconds, summed over callers.
    pub read_nanoseconds: u64,
    /// Completed writes.
    pub writes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Time spent writing, in nanoseconds.
    pub write_nanoseconds: u64,
    /// Completed flushes.
    pub flushes: u64,
    /// Time spent flushing, in nanoseconds.
    pub flush_nanoseconds: u64,
}

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Metrics {
    pub(crate) fn count_read(&self, bytes: usize, time: Duration) {
        add(&self.reads, 1);
        add(&self.read_bytes, bytes as u64);
        add(&self.read_nanoseconds, nanoseconds(time));
    }

    pub(crate) fn count_write(&self, bytes: usize, time: Duration) {
        add(&self.writes, 1);
        add(&self.write_bytes, bytes as u64);
        add(&self.write_nanoseconds, nanoseconds(time));
    }

    pub(crate) fn count_flush(&self, time: Duration) {
        add(&self.flushes, 1);
        add(&self.flush_nanoseconds, nanoseconds(time));
    }

    /// Reads all counters. They are read one by one, so a reading under load is not one instant.
    #[must_use]
    pub fn snapshot(&self) -> DeviceMetrics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DeviceMetrics {
            reads: get(&self.reads),
            read_bytes: get(&self.read_bytes),
            read_nanoseconds: get(&self.read_nanoseconds),
            writes: get(&self.writes),
            write_bytes: get(&self.write_bytes),
            write_nanoseconds: get(&self.write_nanoseconds),
            flushes: get(&self.flushes),
            flush_nanoseconds: get(&self.flush_nanoseconds),
        }
    }
}
