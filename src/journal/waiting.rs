//! Those who wait, counted for whoever can spare them some of it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many wait for one thing. To be looked at without a lock.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicUsize);

impl Waiting {
    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }

    /// Counts one for as long as the answer is kept.
    pub(super) fn count_one(&self) -> CountedOne<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        CountedOne(self)
    }
}

#[derive(Debug)]
pub(super) struct CountedOne<'a>(&'a Waiting);

impl Drop for CountedOne<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}
