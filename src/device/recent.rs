//! What calls took of late, for what is expected of the next.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A moving mean of what calls took: of any three in a row the middle one counts, for a call that stalls once says nothing of the next.
/// A call that is lost between two threads changes nothing that matters.
#[derive(Debug)]
pub(crate) struct Recent {
    /// In nanoseconds; for ever, before the first.
    mean: AtomicU64,
    /// The last two calls, in nanoseconds.
    last: [AtomicU64; 2],
}

impl Default for Recent {
    fn default() -> Self {
        Self { mean: AtomicU64::new(u64::MAX), last: [AtomicU64::new(0), AtomicU64::new(0)] }
    }
}

impl Recent {
    /// Takes a call into account.
    pub(crate) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let [before, last] = &self.last;
        let mut three = [before.load(Ordering::Relaxed), last.load(Ordering::Relaxed), took];
        before.store(three[1], Ordering::Relaxed);
        last.store(took, Ordering::Relaxed);
        three.sort_unstable();
        let [_, middle, _] = three;
        let mean = self.mean.load(Ordering::Relaxed);
        let next = if mean == u64::MAX { took } else { mean - mean / 8 + middle / 8 };
        self.mean.store(next, Ordering::Relaxed);
    }

    /// What the next one is expected to take. None before the first.
    pub(crate) fn expected(&self) -> Option<Duration> {
        let mean = self.mean.load(Ordering::Relaxed);
        (mean != u64::MAX).then(|| Duration::from_nanos(mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(micros: &[u64]) -> Duration {
        let recent = Recent::default();
        micros.iter().for_each(|&micros| recent.note(Duration::from_micros(micros)));
        recent.expected().unwrap()
    }

    #[test]
    fn nothing_is_expected_before_the_first_call() {
        assert_eq!(Recent::default().expected(), None);
        assert_eq!(noted(&[70]), Duration::from_micros(70));
    }

    #[test]
    fn one_call_that_stalls_changes_nothing_and_two_do() {
        let mut calls = [8; 32];
        assert_eq!(noted(&calls), Duration::from_micros(8));
        calls[20] = 80_000;
        assert_eq!(noted(&calls), Duration::from_micros(8));
        calls[21] = 80_000;
        assert!(noted(&calls) > Duration::from_micros(1000));
    }

    #[test]
    fn what_is_expected_follows_what_calls_take() {
        let mut calls = vec![8; 32];
        calls.extend([80; 64]);
        let expected = noted(&calls);
        assert!((79..=80).contains(&expected.as_micros()), "{expected:?}");
    }
}
