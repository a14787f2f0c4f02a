//! Which pages are free, as maximal runs of free pages, and the best fit among the runs of all attached segments.
//!
//! A *run* is a maximal row of free pages of one segment. A run of fewer than 64 pages is *short*, any other is
//! *long*. [`RunMap`] holds one segment: one bit per page, and above the bits, for each short length, the places at
//! which runs of that length start. [`RunIndex`] owns the maps of the attached segments and knows for each short
//! length which of them have such a run; the long runs of all segments are in one ordered set. To find, to
//! take and to give looks at no more pages, runs or segments when there are more of them, but for the pages that are
//! taken or given. Attaching, detaching and the second search of [`RunIndex::aligned_fit`] do look at many runs.
//!
//! The answers follow from which pages are free alone, never from the order of the calls before.
//!
//! Memory: one bit per page (32 KiB for a segment of 2^18 pages, 32 MiB per TiB of pages of 4 KiB), and an index of
//! 0.516 times the bits above them. To that come some 100 bytes per segment and some 25 bytes per long run, so the index
//! of a store of many segments is about 0.52 times the bits. It has two limits: a segment of few pages has at least
//! 1 KiB of index, and one in which runs of barely 64 pages are dense has up to 4032 long runs, which take some
//! 110 KiB.

mod bins;
mod bits;
mod histogram;
mod index;
mod long;
mod map;
mod pair;
mod rows;
mod segments;

pub use histogram::Histogram;
pub use index::RunIndex;
pub use map::RunMap;

/// log2 of [`FANOUT`].
const FANOUT_ORDER: u32 = 6;
/// Children of one node at most levels: pages in a word, pairs of words in a region, segments in a
/// group. A word has one bit for each.
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

#[cfg(test)]
mod tests;
