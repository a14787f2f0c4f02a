//! Metadata blocks that somebody gathers: they stay in the overlay until all of them are there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashSet;

use crate::format::LeafAddress;

type Leaves = Arc<FxHashSet<LeafAddress>>;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct KeptLeaves {
    sets: Mutex<Vec<Leaves>>,
    /// Blocks in all sets.
    count: AtomicUsize,
}

/// Keeps some blocks until it is dropped.
#[derive(Debug)]
#[must_use = "nothing is kept without it"]
pub struct Keeping<'a> {
    kept: &'a KeptLeaves,
    leaves: Leaves,
}

impl KeptLeaves {
    /// Keeps these.
    pub(super) fn keep(&self, leaves: FxHashSet<LeafAddress>) -> Keeping<'_> {
        let leaves = Arc::new(leaves);
        self.count.fetch_add(leaves.len(), Ordering::Relaxed);
        self.sets().push(Arc::clone(&leaves));
        Keeping { kept: self, leaves }
    }

    /// How many there may be at most; one that several keep counts as often.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Calls `look` with a question: whether a block is kept.
    pub(super) fn ask<T>(&self, look: impl FnOnce(&dyn Fn(LeafAddress) -> bool) -> T) -> T {
        let sets = self.sets();
        look(&|leaf| sets.iter().any(|leaves| leaves.contains(&leaf)))
    }

    fn sets(&self) -> MutexGuard<'_, Vec<Leaves>> {
        // A list that somebody left while adding to it is whole.
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        self.kept.sets().retain(|leaves| !Arc::ptr_eq(leaves, &self.leaves));
        self.kept.count.fetch_sub(self.leaves.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_kept_for_as_long_as_anybody_keeps_it() {
        let kept = KeptLeaves::default();
        let set = |leaves: [u64; 2]| leaves.map(LeafAddress).into_iter().collect();
        let is_kept = |leaf| kept.ask(|is_kept| is_kept(LeafAddress(leaf)));
        let (first, second) = (kept.keep(set([1, 2])), kept.keep(set([2, 3])));
        assert_eq!(([1, 2, 3, 4].map(is_kept), kept.count()), ([true, true, true, false], 4));
        drop(first);
        assert_eq!(([1, 2, 3, 4].map(is_kept), kept.count()), ([false, true, true, false], 2));
        drop(second);
        assert_eq!(([1, 2, 3, 4].map(is_kept), kept.count()), ([false; 4], 0));
    }
}
