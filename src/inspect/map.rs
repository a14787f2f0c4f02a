//! Used and free space as a picture of a given number of cells.

use std::sync::Arc;

use super::source::Source;
use crate::device::Device;
use crate::error::Result;
use crate::format::Role;

/// An equal part of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MapCell {
    /// First byte on the device.
    pub offset: u64,
    /// Superblocks, journal and metadata.
    pub metadata_bytes: u64,
    /// In pages that are in use: extents, and regions of items whole.
    pub allocated_bytes: u64,
    /// Free, in segments that were used before.
    pub free_bytes: u64,
    /// Free, beyond the frontier.
    pub untouched_bytes: u64,
}

/// The picture.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MapReport {
    /// Length of the device when the store was made.
    pub device_bytes: u64,
    /// Bytes that each cell stands for; the last one may be shorter.
    pub cell_bytes: u64,
    /// The cells, in order of offset.
    pub cells: Vec<MapCell>,
}

/// Draws a map of at most `cells` cells from the bitmaps, with the journal applied in memory.
///
/// # Errors
/// As [`info`](super::info()), and [`Error::Corrupt`](crate::Error::Corrupt) for any damage that is run into.
pub fn map(device: Arc<dyn Device>, cells: usize) -> Result<MapReport> {
    let mut source = Source::open(device)?;
    if let Some(error) = source.refused.take() {
        return Err(error);
    }
    let layout = Arc::clone(&source.layout);
    let page_bytes = u64::from(layout.page_bytes());
    let cell_pages = layout.page_count().div_ceil((cells as u64).max(1)).max(1);
    let count = layout.page_count().div_ceil(cell_pages);
    let cell_bytes = cell_pages * page_bytes;
    let mut map: Vec<MapCell> =
        (0..count).map(|cell| MapCell { offset: cell * cell_bytes, ..MapCell::default() }).collect();

    let first = layout.first_segment();
    let frontier = source.state()?.frontier.clamp(first, layout.segment_count().max(first));
    let data_page = layout.data_offset() / page_bytes;
    let pages_per_segment = u64::from(layout.pages_per_segment());
    let frontier_page = u64::from(frontier) * pages_per_segment;
    for (cell, start) in map.iter_mut().zip((0..).map(|cell| cell * cell_pages)) {
        let end = (start + cell_pages).min(layout.page_count());
        let overlap = |from: u64, to: u64| end.min(to).saturating_sub(start.max(from)) * page_bytes;
        cell.metadata_bytes = overlap(0, data_page);
        cell.free_bytes = overlap(data_page, frontier_page.max(data_page));
        cell.untouched_bytes = overlap(frontier_page.max(data_page), layout.page_count());
    }
    let take = |map: &mut [MapCell], pages: std::ops::Range<u64>| {
        let mut page = pages.start;
        while page < pages.end {
            let end = ((page / cell_pages + 1) * cell_pages).min(pages.end);
            let cell = usize::try_from(page / cell_pages).ok().and_then(|cell| map.get_mut(cell));
            if let Some(cell) = cell {
                let bytes = (end - page) * page_bytes;
                cell.allocated_bytes += bytes;
                cell.free_bytes = cell.free_bytes.saturating_sub(bytes);
            }
            page = end;
        }
    };
    for number in first..frontier {
        let record = source.record(number)?.0;
        if let Some(segments) = record.span_segments() {
            let first = u64::from(number) * pages_per_segment;
            take(&mut map, first..first + u64::from(segments) * pages_per_segment);
            continue;
        }
        if record.role == Role::Unused {
            continue;
        }
        let usable = layout.usable_range(number);
        for block in 0..layout.bitmap_blocks() {
            let Some(bytes) = source.leaf(layout.bitmap_leaf(number, block))?.bytes else { continue };
            let base = block * u64::from(layout.pages_per_bitmap_block());
            for (at, byte) in (0_u64..).zip(bytes.iter()).filter(|&(_, &byte)| byte != 0) {
                for page in (0..8).filter(|bit| byte >> bit & 1 == 1).map(|bit| base + at * 8 + bit) {
                    let in_segment = u32::try_from(page).is_ok_and(|page| usable.contains(&page));
                    let page = u64::from(number) * pages_per_segment + page;
                    if in_segment {
                        take(&mut map, page..page + 1);
                    }
                }
            }
        }
    }
    Ok(MapReport { device_bytes: layout.device_bytes(), cell_bytes, cells: map })
}
