//! Bringing metadata into memory: the tables when the store is opened, a segment when it is first needed.

use std::sync::Arc;

use super::handle::Inner;
use crate::error::{Error, Result, Structure};
use crate::format::is_zero;
use crate::format::{AllocatorState, Layout, SEGMENT_RECORD_BYTES, SegmentRecord};
use crate::journal::Journal;
use crate::space::Space;

/// Reads allocator state and segment records.
pub(super) fn load_space(journal: &Journal) -> Result<Space> {
    let layout = journal.layout();
    let leaf = layout.state_leaf();
    let state = AllocatorState::decode(&journal.read_leaf(leaf)?)
        .map_err(|reason| Error::corrupt(Structure::AllocatorState, journal.leaf_offset(leaf), reason))?;
    Space::load(
        Arc::clone(layout),
        state,
        |segment| read_record(journal, segment),
        |structure, segment| match structure {
            Structure::SegmentRecord => {
                let (leaf, within) = layout.record_place(segment);
                journal.leaf_offset(leaf) + u64::from(within)
            }
            _ => journal.leaf_offset(leaf),
        },
    )
}

fn read_record(journal: &Journal, segment: u32) -> Result<SegmentRecord> {
    let (leaf, offset) = journal.layout().record_place(segment);
    let block = journal.read_leaf(leaf)?;
    block
        .get(offset as usize..)
        .and_then(|rest| rest.first_chunk::<SEGMENT_RECORD_BYTES>())
        .ok_or("short block")
        .and_then(SegmentRecord::decode)
        .map_err(|reason| {
            Error::corrupt(Structure::SegmentRecord, journal.leaf_offset(leaf) + u64::from(offset), reason)
        })
}

impl Inner {
    /// Loads a segment's bitmap.
    pub(super) fn load_segment(&self, number: u32) -> Result<()> {
        let layout = self.layout();
        let first = layout.bitmap_leaf(number, 0);
        let mut used = Vec::new();
        for block in 0..layout.bitmap_blocks() {
            used.extend_from_slice(&self.journal.read_leaf(layout.bitmap_leaf(number, block))?);
        }
        let bytes = layout.pages_per_segment().div_ceil(8) as usize;
        let corrupt = |reason| Error::corrupt(Structure::Bitmap, self.journal.leaf_offset(first), reason);
        if !used.get(bytes..).is_none_or(is_zero) {
            return Err(corrupt("bits beyond the segment".to_owned()));
        }
        used.truncate(bytes);
        let mut core = self.core();
        // A segment that is not loaded has no committed change since its blocks were read: publishing needs its map.
        core.space.load_bitmap(number, &used).map_err(corrupt)
    }

    /// Makes the first segment beyond the frontier usable: its metadata blocks are physically there before any
    /// transaction counts on them (rule 14).
    pub(super) fn open_segment(&self, number: u32) -> Result<()> {
        let layout = self.layout();
        let leaves = layout.segment_leaf_range(number);
        self.preallocate_leaves(layout, leaves)?;
        // The record's block is changed by the first commit.
        self.journal.read_leaf(layout.record_place(number).0)?;
        self.core().space.open_segment(number);
        Ok(())
    }

    fn preallocate_leaves(&self, layout: &Layout, leaves: std::ops::Range<u64>) -> Result<()> {
        for range in layout.slots_for_leaves(leaves) {
            self.journal.port().preallocate(range.start, range.end - range.start)?;
        }
        Ok(())
    }
}
