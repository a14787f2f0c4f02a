//! How many free runs there are, by length.

#![expect(
    clippy::indexing_slicing,
    reason = "hot path: lengths are below the fanout or looked at as long, orders are those of the pages of a segment"
)]

use super::{LONG, RunMap};

/// The free runs of all attached segments by order: a run of `len` pages has the order `floor(log2(len))`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many runs have each order.
    pub runs: [u64; RunMap::ORDERS],
    /// The pages of those runs.
    pub pages: [u64; RunMap::ORDERS],
    /// The sum of the squares of the lengths of all runs, in pages. Divided by the number of free pages it is the mean
    /// length of the run around a free page.
    pub squares: u128,
}

impl Histogram {
    fn count(&mut self, len: u32, runs: u64) {
        let (order, len) = ((len | 1).ilog2() as usize, u64::from(len));
        self.runs[order] += runs;
        self.pages[order] += runs * len;
        self.squares += u128::from(runs) * u128::from(len * len);
    }

    fn remove(&mut self, len: u32) {
        let (order, len) = (len.ilog2() as usize, u64::from(len));
        self.runs[order] -= 1;
        self.pages[order] -= len;
        self.squares -= u128::from(len * len);
    }
}

impl std::ops::Add for Histogram {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        let (runs, pages) = (self.runs.iter_mut().zip(other.runs), self.pages.iter_mut().zip(other.pages));
        runs.chain(pages).for_each(|(count, more)| *count += more);
        self.squares += other.squares;
        self
    }
}

/// The runs as they are counted while they come and go: the short ones by length, which is one step per run.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Runs of each short length. The entry of length 0 counts parts of runs that were empty, and means nothing.
    short: [u64; LONG as usize],
    long: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        Self { short: [0; LONG as usize], long: Histogram::default() }
    }
}

impl Tally {
    /// Counts a run that came to be, or an empty one.
    #[inline]
    pub(super) fn add(&mut self, len: u32) {
        match self.short.get_mut(len as usize) {
            Some(runs) => *runs = runs.wrapping_add(1),
            None => self.long.count(len, 1),
        }
    }

    /// Counts a run that is no more, or an empty one.
    #[inline]
    pub(super) fn remove(&mut self, len: u32) {
        match self.short.get_mut(len as usize) {
            Some(runs) => *runs = runs.wrapping_sub(1),
            None => self.long.remove(len),
        }
    }

    /// The count by order.
    pub(super) fn histogram(&self) -> Histogram {
        let mut all = self.long;
        (0..).zip(&self.short).skip(1).for_each(|(len, &runs)| all.count(len, runs));
        all
    }
}
