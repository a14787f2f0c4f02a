//! Where the runs of each short length start, for one segment.
//!
//! 64 pairs of words are a region, and 32 regions the largest segment. For each short length there are rows of bits: row
//! `len` of a region has the bits of the pairs in which a run of `len` pages starts, and row `len` of the segment the
//! bits of the regions whose own row `len` is not zero. There are no runs of length 0, so row 0 is used for something
//! else: it has the bits of the pairs, and of the regions, that are wholly free.
//!
//! The rows of one region lie side by side, so the lengths 1 to 7 and row 0 share one cache line.
//!
//! Lengths are below [`LONG`](super::LONG) and pairs below the number that the rows were made for. Callers see to both.

#![expect(
    clippy::indexing_slicing,
    reason = "hot path: rows are indexed by lengths below the fanout, regions by those of pairs that exist"
)]

use super::{
    FANOUT, FANOUT_ORDER, ones,
    rows::{Rows, bit},
};

/// The row of the children that are wholly free.
const WHOLE: u32 = 0;

/// The rows of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bins {
    /// The rows of the segment, and then those of the regions in ascending order.
    nodes: Box<[Rows]>,
    /// Bit `len` is set if and only if row `len` of the segment is not zero, for each short length.
    lengths: u64,
}

impl Bins {
    /// Rows over `pairs` pairs, at most 2048, without a run and without a pair that is wholly free.
    pub(super) fn new(pairs: usize) -> Self {
        let regions = pairs.div_ceil(FANOUT as usize);
        Self { nodes: vec![Rows::EMPTY; regions + 1].into_boxed_slice(), lengths: 0 }
    }

    /// The short lengths of which there is a run, bit `len` for `len` pages.
    #[inline]
    pub(super) const fn lengths(&self) -> u64 {
        self.lengths
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.nodes)
    }

    /// Notes that a run of `len` pages starts in `pair`.
    #[inline]
    pub(super) fn insert(&mut self, len: u32, pair: u32) {
        let region = pair >> FANOUT_ORDER;
        let row = self.nodes[region as usize + 1].row_mut(len);
        let before = *row;
        *row |= bit(pair);
        if before == 0 {
            *self.nodes[0].row_mut(len) |= bit(region);
            self.lengths |= bit(len);
        }
    }

    /// Notes that no run of `len` pages starts in `pair`.
    #[inline]
    pub(super) fn remove(&mut self, len: u32, pair: u32) {
        let region = pair >> FANOUT_ORDER;
        let row = self.nodes[region as usize + 1].row_mut(len);
        *row &= !bit(pair);
        if *row == 0 {
            let row = self.nodes[0].row_mut(len);
            *row &= !bit(region);
            self.lengths &= !(u64::from(*row == 0) << (len % FANOUT));
        }
    }

    /// The lowest pair in which a run of `len` pages starts.
    #[inline]
    pub(super) fn first(&self, len: u32) -> Option<u32> {
        let region = self.nodes[0].row(len).trailing_zeros();
        let rows = self.nodes.get(region as usize + 1)?;
        Some((region << FANOUT_ORDER) + rows.row(len).trailing_zeros())
    }

    /// The pairs in which a run of `len` pages starts, in ascending order.
    pub(super) fn pairs(&self, len: u32) -> impl Iterator<Item = u32> {
        let regions = (0..).zip(self.nodes.iter().skip(1));
        regions.flat_map(move |(at, rows)| ones(rows.row(len)).map(move |pair| (at << FANOUT_ORDER) + pair))
    }

    /// Loads rows that a change in `pair` most likely needs. Which rows it needs shows only when the pages of the pair
    /// are known; in an index larger than the caches the two loads would follow one after the other.
    #[inline]
    pub(super) fn touch(&self, pair: u32) {
        std::hint::black_box(self.nodes[(pair >> FANOUT_ORDER) as usize + 1].row(WHOLE));
        std::hint::black_box(self.nodes[0].row(WHOLE));
    }

    /// Notes whether all pages of `pair` are free.
    pub(super) fn set_whole(&mut self, pair: u32, whole: bool) {
        let region = pair >> FANOUT_ORDER;
        let row = self.nodes[region as usize + 1].row_mut(WHOLE);
        *row = *row & !bit(pair) | u64::from(whole) << (pair % FANOUT);
        let whole = *row == u64::MAX;
        let row = self.nodes[0].row_mut(WHOLE);
        *row = *row & !bit(region) | u64::from(whole) << (region % FANOUT);
    }

    /// The highest pair below `pair` that is not wholly free.
    pub(super) fn broken_before(&self, pair: u32) -> Option<u32> {
        let region = pair >> FANOUT_ORDER;
        let broken = |region: u32| !self.nodes[region as usize + 1].row(WHOLE);
        let near = broken(region) & (bit(pair) - 1);
        let (region, broken) = if near == 0 {
            let region = (!self.nodes[0].row(WHOLE) & (bit(region) - 1)).checked_ilog2()?;
            (region, broken(region))
        } else {
            (region, near)
        };
        Some((region << FANOUT_ORDER) + broken.checked_ilog2()?)
    }

    /// The lowest pair from `pair` on that is not wholly free, or else one that does not exist.
    pub(super) fn broken_from(&self, pair: u32) -> u32 {
        let region = pair >> FANOUT_ORDER;
        let broken = |region: u32| self.nodes.get(region as usize + 1).map_or(1, |rows| !rows.row(WHOLE));
        let near = broken(region) & u64::MAX << (pair % FANOUT);
        if near != 0 {
            return (region << FANOUT_ORDER) + near.trailing_zeros();
        }
        let later = (!self.nodes[0].row(WHOLE) & u64::MAX << (region % FANOUT) << 1).trailing_zeros();
        (later << FANOUT_ORDER) + broken(later).trailing_zeros()
    }
}
