//! Bringing metadata into memory: the tables when the store is opened, a segment or a region when it is first needed.

use std::sync::Arc;

use super::data::overlay_bytes;
use super::handle::Inner;
use crate::error::{Error, Result, Structure};
use crate::format::{
    AllocatorState, HeaderKind, LeafAddress, RegionSummary, Role, SEGMENT_RECORD_BYTES, SegmentRecord,
    is_zero,
};
use crate::journal::{BlockId, Journal};
use crate::space::{Content, Region, Space};

/// Metadata blocks whose slots are made physically present at a time.
const PREPARED_TOGETHER: u64 = 8;

/// The metadata blocks that are prepared together, as a number.
const fn together(leaf: LeafAddress) -> u64 {
    leaf.0 / PREPARED_TOGETHER
}

/// What has to be in memory before a question can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// A segment's map.
    Segment(u32),
    /// The head of a region of a segment.
    Region(u32, u32),
    /// A metadata block.
    Leaf(LeafAddress),
}

/// Why a question has no answer yet, or never.
#[derive(Debug)]
pub(super) enum Fault {
    Missing(Missing),
    Error(Error),
}

impl Fault {
    /// For where nothing can be missing.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Missing(_) => Error::Internal("something that was loaded is gone"),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Reads allocator state and segment records.
pub(super) fn load_space(journal: &Journal) -> Result<Space> {
    let layout = journal.layout();
    let leaf = layout.state_leaf();
    let state = AllocatorState::decode(&journal.read_leaf(leaf)?)
        .map_err(|reason| Error::corrupt(Structure::AllocatorState, journal.leaf_offset(leaf), reason))?;
    // Records come in order; each block of them is looked up once.
    let mut block: Option<(LeafAddress, Arc<Vec<u8>>)> = None;
    let record = |segment: u32| {
        let (leaf, offset) = layout.record_place(segment);
        let bytes = match &block {
            Some((held, bytes)) if *held == leaf => Arc::clone(bytes),
            _ => {
                let bytes = journal.read_leaf(leaf)?;
                block = Some((leaf, Arc::clone(&bytes)));
                bytes
            }
        };
        bytes
            .get(offset as usize..)
            .and_then(|rest| rest.first_chunk::<SEGMENT_RECORD_BYTES>())
            .ok_or("short block")
            .and_then(SegmentRecord::decode)
            .map_err(|reason| {
                let offset = journal.leaf_offset(leaf) + u64::from(offset);
                Error::corrupt(Structure::SegmentRecord, offset, reason)
            })
    };
    Space::load(Arc::clone(layout), state, record, |structure, segment| match structure {
        Structure::SegmentRecord => {
            let (leaf, within) = layout.record_place(segment);
            journal.leaf_offset(leaf) + u64::from(within)
        }
        _ => journal.leaf_offset(leaf),
    })
}

impl Inner {
    /// Asks a question of what is in memory; what is missing is loaded, and the question is asked again.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        mut question: impl FnMut(&Self, &mut super::handle::Core) -> Result<T, Fault>,
    ) -> Result<T> {
        loop {
            // The lock must not live until the load.
            let answer = question(self, &mut self.core());
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Fault::Error(error)) => return Err(error),
                Err(Fault::Missing(missing)) => {
                    self.offload(move |inner| inner.load(missing)).await?;
                }
            }
        }
    }

    /// Loads what is missing. Waits for the device.
    pub(super) fn load(&self, missing: Missing) -> Result<()> {
        match missing {
            Missing::Segment(number) => self.load_segment(number),
            Missing::Region(number, region) => self.load_region(number, region),
            Missing::Leaf(leaf) => self.journal.read_leaf(leaf).map(drop),
        }
    }

    /// The bitmap of a segment as the journal has it, without the padding of its blocks.
    pub(super) fn read_bitmap(&self, number: u32) -> Result<Vec<u8>> {
        let layout = self.layout();
        let mut used = Vec::new();
        for block in 0..layout.bitmap_blocks() {
            used.extend_from_slice(&self.journal.read_leaf(layout.bitmap_leaf(number, block))?);
        }
        let bytes = layout.pages_per_segment().div_ceil(8) as usize;
        if !used.get(bytes..).is_none_or(is_zero) {
            return Err(self.corrupt_bitmap(number, "bits beyond the segment"));
        }
        used.truncate(bytes);
        Ok(used)
    }

    pub(super) fn corrupt_bitmap(&self, number: u32, reason: impl Into<String>) -> Error {
        let first = self.layout().bitmap_leaf(number, 0);
        Error::corrupt(Structure::Bitmap, self.journal.leaf_offset(first), reason)
    }

    /// Loads a segment: its bitmap, and the headers of its regions.
    fn load_segment(&self, number: u32) -> Result<()> {
        let (version, role) = {
            let core = self.core();
            let Some(segment) = core.space.segment(number).filter(|segment| segment.is_cold()) else {
                return Ok(());
            };
            (segment.version, segment.record.role)
        };
        let used = self.read_bitmap(number)?;
        let regions = if role == Role::Slab { self.read_regions(number, &used)? } else { Vec::new() };
        let mut core = self.core();
        let loaded = core.space.load_segment(number, version, &used, regions);
        loaded.map_err(|reason| self.corrupt_bitmap(number, reason))?;
        core.space.drop_cold(self.loaded_budget, number);
        Ok(())
    }

    /// The regions of a segment, from the headers of the pages in use where one can begin.
    pub(super) fn read_regions(&self, number: u32, used: &[u8]) -> Result<Vec<(u32, Region)>> {
        let layout = self.layout();
        let region_pages = layout.region_pages();
        let mut regions = Vec::new();
        for place in layout.usable_regions(number) {
            let page = place * region_pages;
            let in_use = used.get(page as usize / 8).is_some_and(|byte| byte >> (page % 8) & 1 == 1);
            if !in_use {
                continue;
            }
            let header = self.read_header(number, page)?;
            if header.kind != HeaderKind::Region {
                continue;
            }
            let region = (header.pages == region_pages)
                .then(|| RegionSummary::decode(header.owner))
                .flatten()
                .and_then(|summary| {
                    let layout = layout.region_layout(summary.class, summary.tagged)?;
                    Some(Region::found(layout, header.generation, &summary))
                });
            let region =
                region.ok_or_else(|| self.corrupt_header(number, page, "not the header of a region"))?;
            regions.push((place, region));
        }
        Ok(regions)
    }

    /// Loads the head of a region.
    fn load_region(&self, number: u32, place: u32) -> Result<()> {
        let (loads, len) = {
            let core = self.core();
            let Some(segment) = core.space.segment(number) else { return Ok(()) };
            let Content::Slab(slab) = &segment.content else { return Ok(()) };
            let Some(region) = slab.region(place).filter(|region| !region.is_loaded()) else { return Ok(()) };
            (segment.loads, region.layout().head_bytes())
        };
        let offset = self.layout().page_offset(number, place * self.layout().region_pages());
        let head = self.read_blocking(offset, usize::try_from(len).unwrap_or(0))?;
        let mut core = self.core();
        core.space
            .load_region(number, loads, place, head)
            .map_err(|reason| Error::corrupt(Structure::Region, offset, reason))?;
        core.space.drop_cold(self.loaded_budget, number);
        Ok(())
    }

    /// Reads a range of the device as the journal has it. Waits for the device.
    pub(super) fn read_blocking(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        // Blocks in the overlay are looked at first: one that is not there any more is in place by then.
        let journaled = self.journaled_blocks(offset, len);
        let sector = u64::from(self.layout().sector_bytes());
        let start = offset / sector * sector;
        let end = (offset + len as u64).next_multiple_of(sector);
        let whole = self.journal.port().read_vec(start, usize::try_from(end - start).unwrap_or(0))?;
        let skip = usize::try_from(offset - start).unwrap_or(0);
        let mut bytes = whole.get(skip..skip + len).unwrap_or_default().to_vec();
        for (start, content) in journaled {
            overlay_bytes(&mut bytes, offset, start, &content);
        }
        Ok(bytes)
    }

    /// The blocks of the caller in the journal under a range, by offset.
    pub(super) fn journaled_blocks(&self, offset: u64, len: usize) -> Vec<(u64, Arc<Vec<u8>>)> {
        let block_bytes = u64::from(self.layout().block_bytes());
        let overlay = self.journal.overlay();
        if overlay.caller_blocks() == 0 {
            return Vec::new();
        }
        let blocks = offset / block_bytes..(offset + len as u64).div_ceil(block_bytes);
        let journaled =
            blocks.filter_map(|block| Some((block * block_bytes, overlay.get(BlockId::Caller(block))?)));
        journaled.collect()
    }

    /// Makes the slots of metadata blocks, and of the tree above them, physically present before any transaction counts
    /// on them (rule 14).
    pub(super) fn prepare(&self, leaves: &[LeafAddress]) -> Result<()> {
        for leaf in leaves {
            let together = together(*leaf);
            if self.prepared().contains(&together) {
                continue;
            }
            let first = together * PREPARED_TOGETHER;
            let end = (first + PREPARED_TOGETHER).min(self.layout().leaf_count());
            self.journal.preallocate(first..end)?;
            self.prepared().insert(together);
        }
        Ok(())
    }
}
