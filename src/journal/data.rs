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
}

impl DataSequence {
    /// A direct write has completed; returns its number.
    pub(super) fn complete_one(&self) -> u64 {
        self.completed.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The last number given out. To be read before a flush is issued.
    pub(super) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Acquire)
    }

    /// A flush issued after `completed` was read has succeeded.
    pub(super) fn flushed(&self, completed: u64) {
        self.durable.fetch_max(completed, Ordering::AcqRel);
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
