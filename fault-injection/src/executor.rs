//! A deterministic executor: one thread, no timers, and a bound on how often a future may be polled.
//!
//! On a simulated disk nothing waits for hardware. A future that is still pending after so many polls waits for
//! something that never comes: every await must end (rule 18).

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// How often a future is polled before it counts as stuck.
pub const POLL_LIMIT: u32 = 10_000;

/// A future did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck;

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an await did not end within {POLL_LIMIT} polls")
    }
}

/// Polls a future until it is ready.
pub fn run<T>(future: impl Future<Output = T>) -> Result<T, Stuck> {
    run_at_most(future, POLL_LIMIT)
}

/// Polls a future at most `polls` times, then drops it.
pub fn run_at_most<T>(future: impl Future<Output = T>, polls: u32) -> Result<T, Stuck> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Ok(value);
        }
    }
    Err(Stuck)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_and_stuck() {
        assert_eq!(run(async { 7 }), Ok(7));
        assert_eq!(run(std::future::pending::<()>()), Err(Stuck));
    }
}
