//! A mutex around what is large and changes with each call: several cache lines travel whenever another core takes it.
//!
//! Where two threads take it in turns, each of them waits for these lines more than for the other thread: together they do less
//! than one does alone. So whoever finds it taken waits until the other has not taken it for a moment, and has a number
//! of turns in a row then. On the machine of `BENCHMARKS.md` that makes a tenth more transactions.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LockResult, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

/// About the time between two turns of a thread that has much to do.
const PAUSE: Duration = Duration::from_nanos(600);
/// The longest that anybody waits for such a pause; then it is an ordinary mutex.
const MOST_PATIENCE: Duration = Duration::from_micros(60);

#[derive(Debug, Default)]
pub(super) struct Turns<T> {
    value: CachePadded<Mutex<T>>,
    /// Grows with each turn that was had without waiting.
    turns: CachePadded<AtomicU64>,
}

impl<T> Turns<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Mutex::new(value).into(), turns: CachePadded::default() }
    }

    /// Takes the lock.
    #[inline]
    pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        if let Ok(value) = self.value.try_lock() {
            // Only the one who has the lock comes here.
            self.turns.store(self.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            return Ok(value);
        }
        self.wait_for_a_pause();
        self.value.lock()
    }

    /// Takes the lock as soon as it can be had, for whoever has many waiting for him.
    #[inline]
    pub(super) fn lock_at_once(&self) -> LockResult<MutexGuard<'_, T>> {
        self.value.lock()
    }

    #[cold]
    fn wait_for_a_pause(&self) {
        let began = Instant::now();
        loop {
            let (turns, since) = (self.turns.load(Ordering::Relaxed), Instant::now());
            while since.elapsed() < PAUSE {
                spin_loop();
            }
            if turns == self.turns.load(Ordering::Relaxed) || began.elapsed() > MOST_PATIENCE {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use std::thread;

    #[test]
    fn one_at_a_time_has_it_and_everybody_gets_it() {
        let turns = Turns::new(0_u64);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let mut value = turns.lock().unwrap();
                        let before = *value;
                        spin_loop();
                        *value = before + 1;
                    }
                });
            }
        });
        assert_eq!(*turns.lock().unwrap(), 40_000);
    }

    #[test]
    fn a_panic_of_another_is_told() {
        let turns = Turns::new(0);
        let panicked = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _held = turns.lock().unwrap();
                    panic!("on purpose");
                })
                .join()
        });
        assert!(panicked.is_err() && turns.lock().is_err());
    }
}
