//! A mutex around what is large and changes with each call: several cache lines travel whenever another core takes it.
//!
//! Where two threads take it in turns, each of them waits for these lines more than for the other thread: together they do less
//! than one does alone. So whoever finds it taken lets the other go on: at first for a moment, and if that one takes it again and
//! again, asleep, until it has nothing to do with it for a while, or [pauses](Turns::pause). A thread of a runtime has
//! other tasks in hand meanwhile, which wait with it, so it is not to have many (see `WOKEN_TOGETHER` in
//! `journal/drive.rs`). `docs/ARCHITECTURE.md` has what that brings.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, LockResult, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

/// About the time between two turns of a thread that has much to do.
const MOMENT: Duration = Duration::from_nanos(1500);
/// The time to wait where everybody has a few turns only, and then waits for the device: it is better to come in between two turns
/// of the other than to let that one finish.
const SHORT_MOMENT: Duration = Duration::from_nanos(200);
/// Who has so many turns while another one waits has more of them.
const MANY_TURNS: u64 = 12;
const NAP: Duration = Duration::from_micros(50);

#[derive(Debug)]
pub(super) struct Turns<T> {
    value: CachePadded<Mutex<T>>,
    /// Grows with each turn, but for those that were waited for.
    turns: CachePadded<AtomicU64>,
    /// The longest that anybody waits for a pause; then it is an ordinary mutex.
    patience: Duration,
    /// How long anybody sleeps before looking whether the other is still at it.
    nap: Duration,
    asleep: AtomicUsize,
    has_short_moments: AtomicBool,
    pauses: Mutex<u64>,
    paused: Condvar,
}

impl<T> Turns<T> {
    pub(super) fn new(value: T, patience: Duration) -> Self {
        Self {
            value: Mutex::new(value).into(),
            turns: CachePadded::default(),
            patience,
            nap: NAP,
            asleep: AtomicUsize::new(0),
            has_short_moments: AtomicBool::new(false),
            pauses: Mutex::new(0),
            paused: Condvar::new(),
        }
    }

    /// Takes the lock.
    #[inline]
    pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        if let Ok(value) = self.value.try_lock() {
            self.count_turn();
            return Ok(value);
        }
        self.wait_for_a_pause();
        self.value.lock()
    }

    /// Takes the lock as soon as it can be had, for whoever has many waiting for him.
    #[inline]
    pub(super) fn lock_at_once(&self) -> LockResult<MutexGuard<'_, T>> {
        let value = self.value.lock();
        self.count_turn();
        value
    }

    /// This thread is going to do something else for a while: who sleeps is woken.
    pub(super) fn pause(&self) {
        // Who falls asleep just now has a nap, and looks again.
        if self.asleep.load(Ordering::Relaxed) > 0 {
            *self.pauses.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.paused.notify_all();
        }
    }

    /// Whether few transactions were in the last group: as many, presumably, are being made.
    pub(super) fn set_few(&self, few: bool) {
        // The line is in the caches of all who wait.
        if self.has_short_moments.load(Ordering::Relaxed) != few {
            self.has_short_moments.store(few, Ordering::Relaxed);
        }
    }

    fn count_turn(&self) {
        // Only the one who has the lock comes here.
        self.turns.store(self.turns().wrapping_add(1), Ordering::Relaxed);
    }

    fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    #[cold]
    fn wait_for_a_pause(&self) {
        let (began, first) = (Instant::now(), self.turns());
        let mut turns = first;
        let moment = if self.has_short_moments.load(Ordering::Relaxed) { SHORT_MOMENT } else { MOMENT };
        while turns.wrapping_sub(first) < MANY_TURNS {
            let since = Instant::now();
            while since.elapsed() < moment {
                spin_loop();
            }
            if turns == self.turns() || began.elapsed() >= self.patience {
                return;
            }
            turns = self.turns();
        }
        self.sleep(began);
    }

    /// Until the other pauses, or does nothing for the time of a nap.
    fn sleep(&self, began: Instant) {
        self.asleep.fetch_add(1, Ordering::Relaxed);
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *pauses;
        loop {
            let turns = self.turns();
            let nap = self.nap.min(self.patience.saturating_sub(began.elapsed()));
            (pauses, _) = self.paused.wait_timeout(pauses, nap).unwrap_or_else(PoisonError::into_inner);
            if *pauses != before || turns == self.turns() || began.elapsed() >= self.patience {
                break;
            }
        }
        self.asleep.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use std::thread;

    const HOUR: Duration = Duration::from_secs(3600);
    /// When a test has failed.
    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn one_at_a_time_has_it_and_everybody_gets_it() {
        let patience = [Duration::ZERO, Duration::from_micros(400), HOUR];
        for (patience, few) in patience.into_iter().flat_map(|patience| [(patience, false), (patience, true)])
        {
            let turns = Turns::new(0_u64, patience);
            turns.set_few(few);
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
    }

    /// Whether somebody who sleeps wakes up while another one has turn after turn, and calls `between` in between.
    fn wakes_up(patience: Duration, nap: Duration, between: impl Fn(&Turns<()>)) -> bool {
        let (turns, awake) = (Turns { nap, ..Turns::new((), patience) }, AtomicBool::new(false));
        let began = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                turns.sleep(Instant::now());
                awake.store(true, Ordering::Relaxed);
            });
            while !awake.load(Ordering::Relaxed) {
                if began.elapsed() > DEADLINE {
                    // For the sake of the one who still sleeps.
                    *turns.pauses.lock().unwrap() += 1;
                    turns.paused.notify_all();
                    return false;
                }
                drop(turns.lock_at_once().unwrap());
                if turns.asleep.load(Ordering::Relaxed) > 0 {
                    between(&turns);
                }
            }
            true
        })
    }

    #[test]
    fn patience_has_an_end() {
        for patience in [Duration::ZERO, Duration::from_millis(5)] {
            assert!(wakes_up(patience, HOUR, |_| {}), "{patience:?}");
        }
    }

    #[test]
    fn a_pause_is_for_those_who_sleep() {
        assert!(wakes_up(HOUR, HOUR, Turns::pause));
    }

    #[test]
    fn who_does_nothing_for_long_is_not_waited_for() {
        assert!(wakes_up(HOUR, NAP, |_| thread::sleep(Duration::from_millis(20))));
    }

    #[test]
    fn a_panic_of_another_is_told() {
        let turns = Turns::new(0, HOUR);
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
