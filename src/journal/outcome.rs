//! What becomes of a group: told once, to everyone who has a transaction in it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

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

    /// Tells everyone. Only the first time counts.
    pub(super) fn tell(&self, result: Result<()>) {
        if self.0.result.set(result).is_ok() {
            let wakers = std::mem::take(&mut *self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner));
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.0.result.get().is_none() {
            // Only a panic gets here, and the group may have been written by then.
            let cause = Arc::new(Error::Internal("a panic stopped the journal"));
            self.tell(Err(Error::OutcomeUnknown { cause }));
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

    #[test]
    fn everyone_learns_the_outcome_and_each_its_own_lsn() {
        let teller = Teller::default();
        let mut early: Vec<_> = (5..8).map(|lsn| teller.ticket(lsn)).collect();
        let late = teller.ticket(8);
        assert!(early.iter_mut().all(|ticket| ticket.now_or_never().is_none()));
        // Once more, by somebody else: they keep their places.
        assert!(early.iter_mut().all(|ticket| ticket.now_or_never().is_none()));
        assert_eq!(teller.0.wakers.lock().unwrap().len(), 3);
        teller.tell(Ok(()));
        teller.tell(Err(Error::Closed));
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
            teller.tell(Ok(()));
            for (lsn, waiting) in (0..).zip(waiting) {
                assert_eq!(waiting.await.unwrap().unwrap(), lsn);
            }
        }
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
