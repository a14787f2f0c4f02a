//! Locks on ranges of the device, granted in the order of asking: shared among journaled changes, exclusive for direct writes.
//!
//! A direct write holds its blocks for itself until it has really ended, even when its future was dropped, so that neither a
//! journaled image of the same blocks nor a direct write of a later owner can slip under it (rules 4, 18).
//!
//! Thousands may hold or want locks at the same time, most of them of a few blocks: what lies in the way of a request is looked
//! up, and not searched for among all of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::ranges::merged;

/// The locks of one store.
#[derive(Clone, Debug, Default)]
pub struct RangeLocks {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    next_ticket: u64,
    requests: FxHashMap<u64, Request>,
    shared: Ranges,
    exclusive: Ranges,
}

/// Somebody who holds a lock or waits for it.
#[derive(Debug)]
struct Request {
    /// They do not overlap.
    ranges: Vec<Range<u64>>,
    shared: bool,
    /// Earlier requests that are in its way.
    blockers: usize,
    /// Present while the request waits.
    grant: Option<oneshot::Sender<()>>,
}

/// Ranges with the tickets of their requests: a map for each class of lengths, the powers of two, by where they begin. Of a class
/// only what begins less than twice its length before a place can reach it.
#[derive(Debug, Default)]
struct Ranges {
    classes: Vec<BTreeMap<(u64, u64), u64>>,
}

/// Tickets, each once, in order.
type Tickets = SmallVec<[u64; 8]>;

impl Ranges {
    fn class_of(&mut self, range: &Range<u64>) -> Option<&mut BTreeMap<(u64, u64), u64>> {
        let class = (range.end - range.start).checked_ilog2()? as usize;
        if self.classes.len() <= class {
            self.classes.resize_with(class + 1, BTreeMap::new);
        }
        self.classes.get_mut(class)
    }

    fn insert(&mut self, ticket: u64, range: &Range<u64>) {
        if let Some(class) = self.class_of(range) {
            class.insert((range.start, ticket), range.end);
        }
    }

    fn remove(&mut self, ticket: u64, range: &Range<u64>) {
        if let Some(class) = self.class_of(range) {
            class.remove(&(range.start, ticket));
        }
    }

    /// Adds the tickets of all that overlap a range.
    fn overlapping(&self, range: &Range<u64>, tickets: &mut Tickets) {
        for (class, ranges) in (0..).zip(&self.classes) {
            if ranges.is_empty() {
                continue;
            }
            let longest = 2_u64.saturating_pow(class + 1);
            let candidates = ranges.range((range.start.saturating_sub(longest), 0)..(range.end, 0));
            let overlapping = candidates.filter(|(_, end)| **end > range.start);
            tickets.extend(overlapping.map(|((_, ticket), _)| *ticket));
        }
    }
}

/// Ranges that are locked, or asked for; dropping it lets go.
#[derive(Debug)]
pub struct RangeGuard {
    queue: Arc<Mutex<Queue>>,
    ticket: u64,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // No code that can panic runs under this lock.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Those that a request for these ranges is in the way of, or that are in its way.
    fn conflicting(&self, ranges: &[Range<u64>], shared: bool) -> Tickets {
        let mut tickets = Tickets::new();
        for range in ranges {
            self.exclusive.overlapping(range, &mut tickets);
            if !shared {
                self.shared.overlapping(range, &mut tickets);
            }
        }
        tickets.sort_unstable();
        tickets.dedup();
        tickets
    }

    fn ranges_mut(&mut self, shared: bool) -> &mut Ranges {
        if shared { &mut self.shared } else { &mut self.exclusive }
    }

    /// Puts a request in. Returns its ticket, and what to wait for if others are in its way.
    fn insert(&mut self, ranges: Vec<Range<u64>>, shared: bool) -> (u64, Option<oneshot::Receiver<()>>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let blockers = self.conflicting(&ranges, shared).len();
        for range in &ranges {
            self.ranges_mut(shared).insert(ticket, range);
        }
        let (grant, receiver) = if blockers > 0 { Some(oneshot::channel()) } else { None }.unzip();
        self.requests.insert(ticket, Request { ranges, shared, blockers, grant });
        (ticket, receiver)
    }

    /// Takes a request out. Returns the grants of those that no other one is in the way of any more.
    fn remove(&mut self, ticket: u64) -> SmallVec<[oneshot::Sender<()>; 4]> {
        let mut grants = SmallVec::new();
        let Some(gone) = self.requests.remove(&ticket) else { return grants };
        for range in &gone.ranges {
            self.ranges_mut(gone.shared).remove(ticket, range);
        }
        for later in self.conflicting(&gone.ranges, gone.shared) {
            let Some(request) = self.requests.get_mut(&later).filter(|_| later > ticket) else { continue };
            request.blockers = request.blockers.saturating_sub(1);
            if request.blockers == 0 {
                grants.extend(request.grant.take());
            }
        }
        grants
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
        let (ticket, receiver) = lock(&self.queue).insert(merged(ranges), shared);
        let guard = RangeGuard { queue: Arc::clone(&self.queue), ticket };
        if let Some(receiver) = receiver {
            // The sender lives in the queue until it is used.
            let _ = receiver.await;
        }
        guard
    }
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        let grants = lock(&self.queue).remove(self.ticket);
        for grant in grants {
            // A receiver that is gone is about to drop its guard.
            let _ = grant.send(());
        }
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a lock of one range")]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use quickcheck::{Arbitrary, Gen, quickcheck};

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

    /// What is asked for, what is let go: every request waits for the earlier ones that it cannot share with, and for no other.
    #[derive(Clone, Debug)]
    enum Step {
        Ask { ranges: Vec<Range<u64>>, shared: bool },
        Drop(usize),
    }

    impl Arbitrary for Step {
        fn arbitrary(random: &mut Gen) -> Self {
            if random.size() > 0 && u8::arbitrary(random).is_multiple_of(3) {
                return Self::Drop(usize::arbitrary(random));
            }
            let mut range = || {
                let (start, bits) = (u64::from(u8::arbitrary(random)), u32::arbitrary(random) % 9);
                start..start + u64::arbitrary(random) % (1 << bits)
            };
            let ranges = vec![range(), range(), range()];
            Self::Ask { ranges, shared: bool::arbitrary(random) }
        }
    }

    quickcheck! {
        fn locks_do_what_a_list_of_all_requests_says(steps: Vec<Step>) -> bool {
            let overlap = |a: &Range<u64>, b: &Range<u64>| a.start.max(b.start) < a.end.min(b.end);
            let conflict = |a: &(Vec<Range<u64>>, bool), b: &(Vec<Range<u64>>, bool)| {
                !(a.1 && b.1) && a.0.iter().any(|a| b.0.iter().any(|b| overlap(a, b)))
            };
            let locks = RangeLocks::default();
            let (mut asked, mut futures, mut guards) = (Vec::new(), Vec::new(), Vec::new());
            let done = steps.into_iter().all(|step| {
                match step {
                    Step::Ask { ranges, shared } => {
                        let locks = locks.clone();
                        asked.push((ranges.clone(), shared));
                        futures.push(Some(Box::pin(async move { locks.acquire(ranges, shared).await })));
                        guards.push(None);
                    }
                    Step::Drop(at) if !asked.is_empty() => {
                        let at = at % asked.len();
                        asked.remove(at);
                        drop(futures.remove(at));
                        drop(guards.remove(at));
                    }
                    Step::Drop(_) => {}
                }
                for (future, guard) in futures.iter_mut().zip(&mut guards) {
                    let granted = future.as_mut().and_then(|future| future.as_mut().now_or_never());
                    if granted.is_some() {
                        (*future, *guard) = (None, granted);
                    }
                }
                guards.iter().enumerate().all(|(at, guard)| {
                    let waits = asked[..at].iter().any(|earlier| conflict(earlier, &asked[at]));
                    guard.is_some() != waits
                })
            });
            drop((futures, guards));
            let queue = lock(&locks.queue);
            let is_empty = |ranges: &Ranges| ranges.classes.iter().all(BTreeMap::is_empty);
            done && queue.requests.is_empty() && is_empty(&queue.shared) && is_empty(&queue.exclusive)
        }
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
