//! Rows of bits, one row for each short length, one bit for each child of a node.

#![expect(clippy::indexing_slicing, reason = "hot path: rows are indexed by remainders of their number")]

use super::FANOUT;

/// The bit of a child among its siblings.
#[inline]
pub(super) const fn bit(child: u32) -> u64 {
    1 << (child % FANOUT)
}

/// One row of bits for each short length, one bit per child.
#[repr(align(64))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows([u64; FANOUT as usize]);

impl Rows {
    /// Rows without a bit.
    pub(super) const EMPTY: Self = Self([0; FANOUT as usize]);

    /// The row of runs of `len` pages.
    #[inline]
    pub(super) const fn row(&self, len: u32) -> u64 {
        self.0[(len % FANOUT) as usize]
    }

    /// The same, to be changed.
    #[inline]
    pub(super) const fn row_mut(&mut self, len: u32) -> &mut u64 {
        &mut self.0[(len % FANOUT) as usize]
    }
}
