//! Which pages are free, as maximal runs of free pages, and the best fit among the runs of all attached segments.
//!
//! A *run* is a maximal row of free pages of one segment. A run of fewer than 64 pages is *short*, any other is
//! *long*. [`RunMap`] holds one segment: one bit per page, and above the bits, for each short length, the places at
//! which runs of that length start. [`RunIndex`] owns the maps of the attached segments and knows for each short
//! length which of them have such a run; the long runs of all segments are in one ordered set. No operation looks at
//! pages, runs or segments one after the other, except for the pages that it is told to take or to give.
//!
//! The answers follow from which pages are free alone, never from the order of the calls before.
//!
//! Memory: one bit per page (32 KiB for a segment of 2^18 pages, 32 MiB per TiB of pages of 4 KiB), and an index of
//! 1.016 times the bits above them. To that come 90 bytes per segment, some 30 bytes per long run, and at most
//! 500 bytes per segment for the short lengths that occur in it. So the index is about 1.03 times the bits. It has two
//! limits: a segment of few pages has at least 1 KiB of index, and a segment in which long runs are dense, each
//! of barely 64 pages, may have up to 120 KiB for its 4032 long runs.

mod bins;
mod histogram;
mod index;
mod line;
mod map;
mod segments;

pub use histogram::Histogram;
pub use index::RunIndex;
pub use map::RunMap;

/// log2 of [`FANOUT`].
const FANOUT_ORDER: u32 = 6;
/// Children of one node at most levels: pages in a word, lines in a region, segments in a group. A word has one bit for
/// each.
const FANOUT: u32 = 1 << FANOUT_ORDER;
/// The number of pages from which on a run is long.
const LONG: u32 = FANOUT;

/// Free pages that a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fit {
    /// The segment that they lie in.
    pub segment: u32,
    /// The first of them, counted in pages from the start of the segment.
    pub page: u32,
    /// How many pages are free from `page` on.
    pub len: u32,
}

/// The positions of the bits that are 1, in ascending order.
fn ones(mut mask: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let lowest = (mask != 0).then(|| mask.trailing_zeros())?;
        mask &= mask - 1;
        Some(lowest)
    })
}

/// The bit of a child among its siblings.
#[inline]
const fn bit(child: u32) -> u64 {
    1 << (child % FANOUT)
}

/// One row of bits for each short length, one bit per child.
#[repr(align(64))]
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rows([u64; FANOUT as usize]);

impl Rows {
    const EMPTY: Self = Self([0; FANOUT as usize]);

    #[inline]
    const fn row(&self, len: u32) -> u64 {
        self.0[(len % FANOUT) as usize]
    }

    #[inline]
    const fn row_mut(&mut self, len: u32) -> &mut u64 {
        &mut self.0[(len % FANOUT) as usize]
    }
}

#[cfg(test)]
mod tests;
