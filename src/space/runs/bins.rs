//! Where the runs of each short length start, for one segment.
//!
//! 64 lines are a region, and eight regions the largest segment. For each short length there are rows of bits: row
//! `len` of a region has the bits of the lines in which a run of `len` pages starts, and row `len` of the segment the
//! bits of the regions whose own row `len` is not zero. There are no runs of length 0, so row 0 is used for something
//! else: it has the bits of the lines, and of the regions, that are wholly free.
//!
//! The rows of one region lie side by side, so the lengths 1 to 7 and row 0 share one cache line.
//!
//! Lengths are below [`LONG`](super::LONG) and lines below the number that the rows were made for. Callers see to both.

#![expect(
    clippy::indexing_slicing,
    reason = "hot path: rows are indexed by lengths below the fanout, regions by those of lines that exist"
)]

use super::{FANOUT, FANOUT_ORDER, Rows, bit, ones};

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
    /// Rows over `lines` lines, at most 512, without a run and without a line that is wholly free.
    pub(super) fn new(lines: usize) -> Self {
        let regions = lines.div_ceil(FANOUT as usize);
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

    /// Notes that a run of `len` pages starts in `line`.
    #[inline]
    pub(super) fn insert(&mut self, len: u32, line: u32) {
        let region = line >> FANOUT_ORDER;
        let row = self.nodes[region as usize + 1].row_mut(len);
        let before = *row;
        *row |= bit(line);
        if before == 0 {
            *self.nodes[0].row_mut(len) |= bit(region);
            self.lengths |= bit(len);
        }
    }

    /// Notes that no run of `len` pages starts in `line`.
    #[inline]
    pub(super) fn remove(&mut self, len: u32, line: u32) {
        let region = line >> FANOUT_ORDER;
        let row = self.nodes[region as usize + 1].row_mut(len);
        *row &= !bit(line);
        if *row == 0 {
            let row = self.nodes[0].row_mut(len);
            *row &= !bit(region);
            self.lengths &= !(u64::from(*row == 0) << (len % FANOUT));
        }
    }

    /// The lowest line in which a run of `len` pages starts.
    #[inline]
    pub(super) fn first(&self, len: u32) -> Option<u32> {
        let region = self.nodes[0].row(len).trailing_zeros();
        let rows = self.nodes.get(region as usize + 1)?;
        Some((region << FANOUT_ORDER) + rows.row(len).trailing_zeros())
    }

    /// The lines in which a run of `len` pages starts, in ascending order.
    pub(super) fn lines(&self, len: u32) -> impl Iterator<Item = u32> {
        let regions = (0..).zip(self.nodes.iter().skip(1));
        regions.flat_map(move |(at, rows)| ones(rows.row(len)).map(move |line| (at << FANOUT_ORDER) + line))
    }

    /// Loads the rows of the shortest lengths into the cache.
    #[inline]
    pub(super) fn touch(&self, line: u32) {
        std::hint::black_box(self.nodes[(line >> FANOUT_ORDER) as usize + 1].row(WHOLE));
    }

    /// Notes whether all pages of `line` are free.
    pub(super) fn set_whole(&mut self, line: u32, whole: bool) {
        let region = line >> FANOUT_ORDER;
        let row = self.nodes[region as usize + 1].row_mut(WHOLE);
        *row = *row & !bit(line) | u64::from(whole) << (line % FANOUT);
        let whole = *row == u64::MAX;
        let row = self.nodes[0].row_mut(WHOLE);
        *row = *row & !bit(region) | u64::from(whole) << (region % FANOUT);
    }

    /// The highest line below `line` that is not wholly free.
    pub(super) fn broken_before(&self, line: u32) -> Option<u32> {
        let region = line >> FANOUT_ORDER;
        let broken = |region: u32| !self.nodes[region as usize + 1].row(WHOLE);
        let near = broken(region) & (bit(line) - 1);
        let (region, broken) = if near == 0 {
            let region = (!self.nodes[0].row(WHOLE) & (bit(region) - 1)).checked_ilog2()?;
            (region, broken(region))
        } else {
            (region, near)
        };
        Some((region << FANOUT_ORDER) + broken.checked_ilog2()?)
    }

    /// The lowest line from `line` on that is not wholly free, or else one that does not exist.
    pub(super) fn broken_from(&self, line: u32) -> u32 {
        let region = line >> FANOUT_ORDER;
        let broken = |region: u32| self.nodes.get(region as usize + 1).map_or(1, |rows| !rows.row(WHOLE));
        let near = broken(region) & u64::MAX << (line % FANOUT);
        if near != 0 {
            return (region << FANOUT_ORDER) + near.trailing_zeros();
        }
        let later = (!self.nodes[0].row(WHOLE) & u64::MAX << (region % FANOUT) << 1).trailing_zeros();
        (later << FANOUT_ORDER) + broken(later).trailing_zeros()
    }
}
