//! What becomes of a group: told once, to everyone who has a transaction in it.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::maintenance::EngineThread;
use crate::error::{Error, Result};

#[derive(Debug, Default)]
struct Outcome {
    result: OnceLock<Result<()>>,
    /// Those who wait, in the order in which they came.
    wakers: Mutex<Vec<Waker>>,
}

/// The one who tells. Tells of a panic when it is dropped before.
#[derive(Debug, Default)]
pub(super) struct Teller(Arc<Outcome>);

impl Teller {
    /// A place to learn what becomes of the transaction with this LSN.
    pub(super) fn ticket(&self, lsn: u64) -> Ticket {
        Ticket { outcome: Arc::clone(&self.0), lsn, place: None }
    }

    /// Tells everyone, and returns those who are to be woken. Only the first time counts.
    pub(super) fn tell(&self, result: Result<()>) -> Told {
        if self.0.result.set(result).is_err() {
            return Told::default();
        }
        let wakers = std::mem::take(&mut *self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        Told { asleep: wakers.into_iter(), took: None }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.0.result.get().is_none() {
            // Only a panic gets here, and the group may have been written by then.
            let cause = Arc::new(Error::Internal("a panic stopped the journal"));
            drop(self.tell(Err(Error::OutcomeUnknown { cause })));
        }
    }
}

/// Those who were told and sleep. All of them are woken when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Told {
    asleep: std::vec::IntoIter<Waker>,
    /// Time spent for them so far, if they are of a group.
    pub(super) took: Option<Duration>,
}

impl Told {
    /// Takes some of them out, in the order in which they came.
    pub(super) fn split(&mut self, most: usize) -> Self {
        let some: Vec<Waker> = self.asleep.by_ref().take(most).collect();
        Self { asleep: some.into_iter(), took: None }
    }

    /// Whether there is nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.asleep.len() == 0
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if self.is_empty() {
            return;
        }
        // The last handle of the store may go with one of them.
        let _here = EngineThread::enter();
        for waker in self.asleep.by_ref() {
            // One that panics is not to keep the others asleep.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

/// Where a transaction's outcome arrives: its LSN when it is durable, or why it is not.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    outcome: Arc<Outcome>,
    lsn: u64,
    /// Among those who wait.
    place: Option<usize>,
}

impl Ticket {
    /// The transaction's LSN, whatever becomes of it.
    #[must_use]
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    /// Whether the outcome is there.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.outcome.result.get().is_some()
    }

    /// Whoever has polled it is not woken, unless it is polled again.
    pub(super) fn forget_waiter(&self) {
        let mut wakers = self.outcome.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = self.place.and_then(|place| wakers.get_mut(place)) {
            waker.clone_from(Waker::noop());
        }
    }

    fn result(&self) -> Option<Result<u64>> {
        self.outcome.result.get().map(|result| result.clone().map(|()| self.lsn))
    }
}

impl Future for Ticket {
    type Output = Result<u64>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.result() {
            return Poll::Ready(result);
        }
        let Self { outcome, place, .. } = &mut *self;
        let mut wakers = outcome.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        // The result is there before the wakers are taken: whoever sees none is in time.
        if outcome.result.get().is_none() {
            match place.and_then(|place| wakers.get_mut(place)) {
                Some(waker) => waker.clone_from(context.waker()),
                None => {
                    *place = Some(wakers.len());
                    wakers.push(context.waker().clone());
                }
            }
            return Poll::Pending;
        }
        drop(wakers);
        self.result().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[test]
    fn everyone_learns_the_outcome_and_each_its_own_lsn() {
        let teller = Teller::default();
        let mut early: Vec<_> = (5..8).map(|lsn| teller.ticket(lsn)).collect();
        let late = teller.ticket(8);
        assert!(early.iter_mut().all(|ticket| ticket.now_or_never().is_none()));
        // Once more, by somebody else: they keep their places.
        assert!(early.iter_mut().all(|ticket| ticket.now_or_never().is_none()));
        assert_eq!(teller.0.wakers.lock().unwrap().len(), 3);
        drop(teller.tell(Ok(())));
        drop(teller.tell(Err(Error::Closed)));
        let told = join_all(early).now_or_never().unwrap();
        assert_eq!(told.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!(late.now_or_never().unwrap().unwrap(), 8);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn those_who_wait_are_woken() {
        for round in 0..200 {
            let teller = Teller::default();
            let waiting: Vec<_> = (0..4).map(|lsn| tokio::spawn(teller.ticket(lsn))).collect();
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            let mut told = teller.tell(Ok(()));
            if round % 3 == 0 {
                drop(told.split(1));
                tokio::task::yield_now().await;
            }
            drop(told);
            for (lsn, waiting) in (0..).zip(waiting) {
                assert_eq!(waiting.await.unwrap().unwrap(), lsn);
            }
        }
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn some_are_woken_before_others_and_nobody_sleeps_on() {
        let (teller, count) = (Teller::default(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut waiting: Vec<_> = (0..5).map(|lsn| teller.ticket(lsn)).collect();
        for ticket in &mut waiting {
            assert!(Pin::new(ticket).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        let woken = || count.0.load(Ordering::Relaxed);
        let mut told = teller.tell(Ok(()));
        drop(told.split(2));
        assert_eq!(woken(), 2);
        // Who looks knows it already.
        assert!(waiting.iter().all(Ticket::is_told));
        let mut others = told.split(2);
        assert_eq!(woken(), 2);
        drop(others.split(1));
        assert_eq!(woken(), 3);
        drop(others);
        assert_eq!(woken(), 4);
        assert!(!told.is_empty());
        drop(told);
        assert_eq!(woken(), 5);
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }

    #[test]
    fn one_that_panics_does_not_keep_others_asleep() {
        let (teller, count) = (Teller::default(), Arc::new(Count::default()));
        let wakers = [Waker::from(Arc::new(Panics)), Waker::from(Arc::clone(&count))];
        let mut waiting: Vec<_> = (0..4).map(|lsn| teller.ticket(lsn)).collect();
        for (ticket, waker) in waiting.iter_mut().zip(wakers.iter().cycle()) {
            assert!(Pin::new(ticket).poll(&mut Context::from_waker(waker)).is_pending());
        }
        drop(teller.tell(Ok(())));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_teller_that_is_lost_tells_that_nobody_knows() {
        let teller = Teller::default();
        let mut ticket = teller.ticket(1);
        assert!((&mut ticket).now_or_never().is_none());
        drop(teller);
        assert!(matches!(ticket.now_or_never(), Some(Err(Error::OutcomeUnknown { .. }))));
    }
}
