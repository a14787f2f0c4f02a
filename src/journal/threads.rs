//! Which thread does what is to be done: that of whoever asks, or another one. By what it took of late, and by how much there is.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::engine::Journal;

/// About what it takes until another thread runs.
const HOP: Duration = Duration::from_micros(20);
/// The most that a write into a cache is to keep its thread for. Another one would need a processor for as long, and the way there and
/// back costs two or three times a hop on some machines.
const LONGEST_COPY: Duration = Duration::from_micros(100);

/// About how many bytes of a cache are copied in a nanosecond.
const COPIED_PER_NANO: u64 = 4;

/// The most that is written, or made durable of what was written directly, on a thread that is not for blocking calls.
const MOST_IN_LINE_BYTES: u64 = 256 << 10;
/// Transactions that change the caller's space take several times as long to take effect as others. So many of them are best left
/// to a thread for blocking calls: meanwhile the threads of the runtime bring the next group together.
const MANY_JOURNALING: u32 = 64;

thread_local! {
    /// How long what this thread did in place was expected to take, since it last left something to another thread, or ran what
    /// else there was.
    static BLOCKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Where groups are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// By the committer itself.
    Here,
    /// By a task of the runtime.
    Task,
    /// On a thread for blocking calls.
    Thread,
}

/// Whether a runtime may have several threads that run tasks.
pub(super) fn is_multi_threaded(runtime: &Handle) -> bool {
    runtime.runtime_flavor() == RuntimeFlavor::MultiThread
}

/// Whether a runtime has other threads that run tasks while one of them is blocked.
pub(super) fn others_run(runtime: &Handle) -> bool {
    is_multi_threaded(runtime) && runtime.metrics().num_workers() > 1
}

/// This thread has run what else there was, and now does something itself that is expected to take so long.
pub(super) fn block_first(expected: Duration) {
    BLOCKED.set(expected);
}

impl Journal {
    /// Whether so many bytes of the caller's data are best written where the caller is: when that is expected to take less
    /// than the way to another thread, or is work for a processor and not too much, and other threads run what else there is.
    pub fn may_write_in_place(&self, bytes: usize) -> bool {
        let Some(expected) = self.port.expected_direct_write(bytes) else { return false };
        let most = if self.port.writes_into_cache() { LONGEST_COPY } else { HOP };
        expected < most.min(self.options.block_up_to)
            && Handle::try_current().is_ok_and(|runtime| others_run(&runtime))
            && self.may_block_once_more(expected)
    }

    /// Whether so many bytes, if they are at hand, are best read where the caller is.
    pub fn may_read_in_place(&self, bytes: usize) -> bool {
        let copying = Duration::from_nanos(1000 + bytes as u64 / COPIED_PER_NANO);
        self.port.may_block() && copying < HOP * 2 && self.may_block_once_more(copying)
    }

    /// Whether a thread of the runtime may once more do itself what is expected to take so long: all that is done so in a row
    /// takes no longer than one thing may. A task that never waits for another thread would keep its own from what else
    /// there is.
    pub(super) fn may_block_once_more(&self, expected: Duration) -> bool {
        let blocked = BLOCKED.get().saturating_add(expected);
        let may = blocked <= self.options.block_up_to;
        BLOCKED.set(if may { blocked } else { Duration::ZERO });
        may
    }

    /// Where the groups that wait are best written.
    pub(super) fn place(&self, runtime: &Handle) -> Place {
        let (bytes, journaling, alone) = {
            let state = self.lock(&self.state);
            let groups = || state.full.iter().chain([&state.open]);
            let journaling: u32 = groups().map(|group| group.journaling).sum();
            let transactions: u32 = groups().map(|group| group.transactions).sum();
            let large: u64 = groups().map(|group| group.large_bytes).sum();
            (self.usual_bytes(transactions).max(large), journaling, transactions <= 1)
        };
        let expected = self.expected_write();
        let others_run = is_multi_threaded(runtime);
        if expected >= self.options.block_up_to
            || bytes.max(self.data.bytes_at_risk()) > MOST_IN_LINE_BYTES
            || journaling > MANY_JOURNALING
        {
            Place::Thread
        } else if alone && self.recent_transactions.load(Ordering::Relaxed) <= 1 {
            Place::Here
        } else if others_run {
            Place::Task
        } else if expected <= HOP {
            Place::Here
        } else {
            Place::Thread
        }
    }

    /// What so many transactions have in the journal, if they are as those of late.
    fn usual_bytes(&self, transactions: u32) -> u64 {
        let [before, bytes] = self.encoded_of_late.each_ref().map(|sum| sum.load(Ordering::Relaxed));
        u64::from(transactions) * bytes / before.max(1)
    }

    /// What writing a group and making it durable took of late; for ever, before the first one.
    pub(super) fn expected_write(&self) -> Duration {
        Duration::from_nanos(self.recent_write.load(Ordering::Relaxed))
    }

    /// Takes one group into account for how many bytes are expected of the next.
    pub(super) fn note_encoded(&self, transactions: u32, bytes: u32) {
        for (sum, more) in self.encoded_of_late.iter().zip([transactions, bytes]) {
            // Only the one who writes groups comes here.
            sum.store(sum.load(Ordering::Relaxed) / 2 + u64::from(more), Ordering::Relaxed);
        }
    }

    /// Takes one group into account for what is expected of the next. What counts is the middle one of the last three: a device
    /// that stalls once is not a slow one.
    pub(super) fn note_write(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let [before, last] = &self.last_writes;
        let mut three = [before.load(Ordering::Relaxed), last.load(Ordering::Relaxed), took];
        before.store(three[1], Ordering::Relaxed);
        last.store(took, Ordering::Relaxed);
        three.sort_unstable();
        let [_, middle, _] = three;
        let recent = self.recent_write.load(Ordering::Relaxed);
        let next = if recent == u64::MAX { took } else { recent - recent / 8 + middle / 8 };
        // Only the one who writes groups comes here.
        self.recent_write.store(next, Ordering::Relaxed);
    }
}
