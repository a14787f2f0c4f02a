//! Data before pointer (rule 16): which direct writes a flush has made durable.
//!
//! Each completed direct write gets the next number. A flush covers the numbers given out before it was issued.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use crate::error::Result;

/// Numbers of direct writes.
#[derive(Debug, Default)]
pub(super) struct DataSequence {
    completed: AtomicU64,
    durable: AtomicU64,
    bytes_written: AtomicU64,
    bytes_durable: AtomicU64,
}

/// What had been written directly at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataMark {
    number: u64,
    bytes: u64,
}

impl DataSequence {
    /// A direct write of so many bytes has completed; returns its number.
    pub(super) fn complete_one(&self, bytes: u64) -> u64 {
        self.bytes_written.fetch_add(bytes, Ordering::AcqRel);
        self.completed.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The last number given out.
    pub(super) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Acquire)
    }

    /// What has been written so far. To be read before a flush is issued.
    pub(super) fn mark(&self) -> DataMark {
        let number = self.completed();
        // Bytes are counted before numbers are given out: a write that comes between is taken for durable too early. That
        // is only a matter of how long a flush may take.
        DataMark { number, bytes: self.bytes_written.load(Ordering::Acquire) }
    }

    /// A flush issued after the mark was read has succeeded.
    pub(super) fn flushed(&self, mark: DataMark) {
        self.durable.fetch_max(mark.number, Ordering::AcqRel);
        self.bytes_durable.fetch_max(mark.bytes, Ordering::AcqRel);
    }

    /// Bytes that the next flush has to make durable.
    pub(super) fn bytes_at_risk(&self) -> u64 {
        let durable = self.bytes_durable.load(Ordering::Acquire);
        self.bytes_written.load(Ordering::Acquire).saturating_sub(durable)
    }

    /// Whether the write with this number is durable.
    pub(super) fn is_durable(&self, number: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= number
    }
}

/// Somebody who waits for direct writes to become durable.
#[derive(Debug)]
pub(super) struct DataWaiter {
    pub(super) number: u64,
    pub(super) sender: oneshot::Sender<Result<()>>,
}
