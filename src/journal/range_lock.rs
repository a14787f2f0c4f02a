//! Exclusive locks on ranges of the device, granted in the order of asking.
//!
//! A direct write holds its blocks until it has really ended, even when its future was dropped, so that neither a
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
    /// Present while the request waits.
    grant: Option<oneshot::Sender<()>>,
}

/// Ranges that are locked, or asked for; dropping it lets go.
#[derive(Debug)]
pub struct RangeGuard {
    queue: Arc<Mutex<Queue>>,
    ticket: u64,
}

fn conflict(a: &[Range<u64>], b: &[Range<u64>]) -> bool {
    a.iter().any(|a| b.iter().any(|b| a.start < b.end && b.start < a.end))
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // No code that can panic runs under this lock.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Grants every waiting request that no earlier one is in the way of.
    fn grant(&mut self) {
        let mut earlier: Vec<Range<u64>> = Vec::new();
        for request in &mut self.requests {
            if request.grant.is_some()
                && !conflict(&earlier, &request.ranges)
                && let Some(grant) = request.grant.take()
            {
                // A receiver that is gone is about to drop its guard.
                let _ = grant.send(());
            }
            earlier.extend(request.ranges.iter().cloned());
        }
    }
}

impl RangeLocks {
    /// Locks all `ranges`, waiting for earlier holders and for earlier waiters.
    pub async fn lock(&self, ranges: Vec<Range<u64>>) -> RangeGuard {
        let (guard, receiver) = {
            let mut queue = lock(&self.queue);
            let ticket = queue.next_ticket;
            queue.next_ticket += 1;
            let (sender, receiver) = oneshot::channel();
            let blocked = queue.requests.iter().any(|request| conflict(&request.ranges, &ranges));
            queue.requests.push_back(Request { ticket, ranges, grant: blocked.then_some(sender) });
            (RangeGuard { queue: Arc::clone(&self.queue), ticket }, blocked.then_some(receiver))
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
        let mut queue = lock(&self.queue);
        if let Some(at) = queue.requests.iter().position(|request| request.ticket == self.ticket) {
            queue.requests.remove(at);
            queue.grant();
        }
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
