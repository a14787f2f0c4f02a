//! How long the stages of a commit take, group by group.

use std::time::Duration;

use super::engine::Journal;
use crate::histogram::{Histogram, Summary};

/// Live histograms; cheap enough to be always on: some clock readings and additions for each group.
#[derive(Debug, Default)]
pub(super) struct Stages {
    pub(super) wait: Histogram,
    pub(super) publish: Histogram,
    pub(super) encode: Histogram,
    pub(super) write: Histogram,
    pub(super) flush: Histogram,
    pub(super) tell: Histogram,
    pub(super) transactions: Histogram,
    pub(super) checkpoint: Histogram,
}

/// Where the time of commits goes, since the store was opened. Times are in nanoseconds.
///
/// A group waits from its first transaction on until its turn comes, takes effect, is encoded, written and flushed; then everyone in it
/// is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CommitStages {
    /// From a group's first transaction until its turn.
    pub wait: Summary,
    /// Taking effect in memory, all transactions of a group.
    pub publish: Summary,
    /// Making the bytes of a group.
    pub encode: Summary,
    /// Writing them.
    pub write: Summary,
    /// Making them durable.
    pub flush: Summary,
    /// Handing freed space out again, and telling everyone who waits.
    pub tell: Summary,
    /// Transactions in a group; not a time.
    pub transactions: Summary,
    /// A checkpoint from beginning to end. Commits go on meanwhile.
    pub checkpoint: Summary,
}

impl Journal {
    /// Where the time of commits goes.
    #[must_use]
    pub fn stages(&self) -> CommitStages {
        let stages = &self.stages;
        CommitStages {
            wait: stages.wait.summary(),
            publish: stages.publish.summary(),
            encode: stages.encode.summary(),
            write: stages.write.summary(),
            flush: stages.flush.summary(),
            tell: stages.tell.summary(),
            transactions: stages.transactions.summary(),
            checkpoint: stages.checkpoint.summary(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.port.clock().monotonic()
    }
}
