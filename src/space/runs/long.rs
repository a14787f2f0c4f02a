//! Long runs in order, as numbers.
//!
//! A run that is cut is soon cut again, or made whole: the last one that came and the last one that went stand beside the
//! ordered set, so that the set need not be changed for what is undone next.
//!
//! Invariants: `came` is not in the set, `went` is, and they are not the same.

use std::collections::BTreeSet;

#[derive(Clone, Debug, Default)]
pub(super) struct LongRuns {
    set: BTreeSet<u64>,
    /// Belongs to the runs.
    came: Option<u64>,
    /// Does not belong to them any more.
    went: Option<u64>,
}

impl LongRuns {
    /// Adds a run that is not there.
    #[inline]
    pub(super) fn insert(&mut self, run: u64) {
        if self.went == Some(run) {
            self.went = None;
        } else if let Some(before) = self.came.replace(run) {
            self.set.insert(before);
        }
    }

    /// Removes a run that is there.
    #[inline]
    pub(super) fn remove(&mut self, run: u64) {
        if self.came == Some(run) {
            self.came = None;
        } else if let Some(before) = self.went.replace(run) {
            self.set.remove(&before);
        }
    }

    /// The lowest number that is not below `least`.
    #[inline]
    pub(super) fn first_from(&self, least: u64) -> Option<u64> {
        let came = self.came.filter(|&run| run >= least);
        let known = self.set.range(least..).copied().find(|&run| self.went != Some(run));
        match (came, known) {
            (Some(came), Some(known)) => Some(came.min(known)),
            (came, known) => came.or(known),
        }
    }

    /// All numbers that are not below `least`, in ascending order.
    pub(super) fn from(&self, least: u64) -> impl Iterator<Item = u64> {
        let mut came = self.came.filter(|&run| run >= least);
        let mut known = self.set.range(least..).copied().filter(|&run| self.went != Some(run)).peekable();
        std::iter::from_fn(move || match known.peek() {
            Some(&next) if came.is_none_or(|came| came > next) => known.next(),
            _ => came.take(),
        })
    }

    /// The highest number.
    pub(super) fn last(&self) -> Option<u64> {
        let known = self.set.iter().rev().copied().find(|&run| self.went != Some(run));
        known.max(self.came)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.set.len() + usize::from(self.came.is_some()) - usize::from(self.went.is_some())
    }
}

impl PartialEq for LongRuns {
    fn eq(&self, other: &Self) -> bool {
        self.from(0).eq(other.from(0))
    }
}

impl Eq for LongRuns {}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        /// Runs of few numbers, so that the same ones come and go again.
        fn they_agree_with_a_set(steps: Vec<u8>) -> bool {
            let (mut runs, mut model) = (LongRuns::default(), BTreeSet::new());
            steps.into_iter().all(|step| {
                let run = u64::from(step % 12);
                if model.insert(run) {
                    runs.insert(run);
                } else {
                    model.remove(&run);
                    runs.remove(run);
                }
                let same = |least: u64| {
                    runs.from(least).eq(model.range(least..).copied())
                        && runs.first_from(least) == model.range(least..).next().copied()
                };
                let disjoint = runs.came.is_none_or(|came| !runs.set.contains(&came))
                    && runs.went.is_none_or(|went| runs.set.contains(&went));
                disjoint && (0..13).all(same) && runs.last() == model.last().copied() && runs.len() == model.len()
            })
        }
    }
}
