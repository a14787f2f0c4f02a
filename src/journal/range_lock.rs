//! Locks on ranges of the device, granted in the order of asking: shared among journaled changes, exclusive for direct writes.
//!
//! A direct write holds its blocks for itself until it has really ended, even when its future was dropped, so that neither a
//! journaled image of the same blocks nor a direct write of a later owner can slip under it (rules 4, 18).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The locks of one store.
#[derive(Clone, Debug, Default)]
pub struct RangeLocks {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    next_ticket: u64,
    requests: VecDeque<Request>,
}

#[derive(Debug)]
struct Request {
    ticket: u64,
    ranges: Vec<Range<u64>>,
    shared: bool,
    /// Earlier requests that are in its way.
    blockers: usize,
    /// Present while the request waits.
    grant: Option<oneshot::Sender<()>>,
}

/// Ranges that are locked, or asked for; dropping it lets go.
#[derive(Debug)]
pub struct RangeGuard {
    queue: Arc<Mutex<Queue>>,
    ticket: u64,
}

impl Request {
    fn conflicts(&self, ranges: &[Range<u64>], shared: bool) -> bool {
        let overlap = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
        !(self.shared && shared) && self.ranges.iter().any(|a| ranges.iter().any(|b| overlap(a, b)))
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // No code that can panic runs under this lock.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Takes a request out, and grants those that no other one is in the way of.
    fn remove(&mut self, ticket: u64) {
        let at = self.requests.partition_point(|request| request.ticket < ticket);
        let Some(gone) = self.requests.remove(at) else { return };
        for request in self.requests.iter_mut().skip(at) {
            if !request.conflicts(&gone.ranges, gone.shared) {
                continue;
            }
            request.blockers = request.blockers.saturating_sub(1);
            if request.blockers == 0
                && let Some(grant) = request.grant.take()
            {
                // A receiver that is gone is about to drop its guard.
                let _ = grant.send(());
            }
        }
    }
}

impl RangeLocks {
    /// Locks all `ranges`, waiting for earlier holders and for earlier waiters.
    pub async fn lock(&self, ranges: Vec<Range<u64>>) -> RangeGuard {
        self.acquire(ranges, false).await
    }

    /// The same, but for other shared locks, which are not in the way.
    pub async fn share(&self, ranges: Vec<Range<u64>>) -> RangeGuard {
        self.acquire(ranges, true).await
    }

    async fn acquire(&self, ranges: Vec<Range<u64>>, shared: bool) -> RangeGuard {
        let (guard, receiver) = {
            let mut queue = lock(&self.queue);
            let ticket = queue.next_ticket;
            queue.next_ticket += 1;
            let (sender, receiver) = oneshot::channel();
            let in_the_way = |earlier: &&Request| earlier.conflicts(&ranges, shared);
            let blockers = queue.requests.iter().filter(in_the_way).count();
            let grant = (blockers > 0).then_some(sender);
            queue.requests.push_back(Request { ticket, ranges, shared, blockers, grant });
            (RangeGuard { queue: Arc::clone(&self.queue), ticket }, (blockers > 0).then_some(receiver))
        };
        if let Some(receiver) = receiver {
            // The sender lives in the queue until it is used.
            let _ = receiver.await;
        }
        guard
    }
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        lock(&self.queue).remove(self.ticket);
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a lock of one range")]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn overlapping_ranges_wait_in_order_and_others_do_not() {
        let locks = RangeLocks::default();
        let first = locks.lock(vec![0..10]).now_or_never().unwrap();
        let apart = locks.lock(vec![10..20, 30..40]).now_or_never().unwrap();
        let mut second = Box::pin(locks.lock(vec![5..15]));
        assert!(second.as_mut().now_or_never().is_none());
        // Not held by anyone, but an earlier waiter wants it.
        let mut third = Box::pin(locks.lock(vec![12..13]));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.as_mut().now_or_never().is_none());
        drop(apart);
        let second = second.now_or_never().unwrap();
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn shared_locks_share_and_wait_for_exclusive_ones_in_order() {
        let locks = RangeLocks::default();
        let first = locks.share(vec![0..10]).now_or_never().unwrap();
        let second = locks.share(vec![5..15]).now_or_never().unwrap();
        let mut alone = Box::pin(locks.lock(vec![8..9]));
        assert!(alone.as_mut().now_or_never().is_none());
        // It would never get its turn if others could pass it.
        let mut third = Box::pin(locks.share(vec![0..20]));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(alone.as_mut().now_or_never().is_none());
        drop(second);
        let alone = alone.now_or_never().unwrap();
        assert!(third.as_mut().now_or_never().is_none());
        drop(alone);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn who_is_behind_two_waits_for_both() {
        let locks = RangeLocks::default();
        let first = locks.lock(vec![0..10, 20..30]).now_or_never().unwrap();
        let second = locks.lock(vec![40..50]).now_or_never().unwrap();
        let mut third = Box::pin(locks.lock(vec![5..6, 25..26, 45..46]));
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn an_abandoned_waiter_blocks_nobody() {
        let locks = RangeLocks::default();
        let held = locks.lock(vec![0..10]).now_or_never().unwrap();
        let mut waiter = Box::pin(locks.lock(vec![0..100]));
        assert!(waiter.as_mut().now_or_never().is_none());
        drop(waiter);
        assert!(locks.lock(vec![50..60]).now_or_never().is_some());
        drop(held);
        assert!(locks.lock(vec![0..100]).now_or_never().is_some());
    }
}
