//! Free space by length of run, and what is lost to rounding.

use std::sync::Arc;

use super::info::RoleUsage;
use super::source::Source;
use crate::allocator::{FreeRuns, RunCount};
use crate::device::Device;
use crate::error::{Error, Result, Structure};
use crate::format::{Role, SegmentRecord};
use crate::space::buddy_map::BuddyMap;

/// How the space of a store is used, and what shape its free space has. The journal is applied, in memory.
///
/// `run_bytes + free_item_bytes = free_bytes`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StatReport {
    /// Unit of allocation.
    pub page_bytes: u32,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// In extents and items.
    pub allocated_bytes: u64,
    /// Can be allocated.
    pub free_bytes: u64,
    /// Bytes of regions that can be no item: heads and remainders.
    pub overhead_bytes: u64,
    /// Bytes that were allocated and not asked for, see [`RoleUsage::rounding_bytes`].
    pub rounding_bytes: u64,
    /// Free pages as runs.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub runs: FreeRuns,
    /// Free items of regions: room for items of the region's class.
    pub free_item_bytes: u64,
    /// Of the runs: in segments that were never used.
    pub untouched_bytes: u64,
    /// Segments that were used, by role.
    pub roles: Vec<RoleUsage>,
}

/// Counts free space from segment table and bitmaps.
///
/// # Errors
/// As [`info`](super::info()), and [`Error::Corrupt`] for any damage that is run into.
pub fn stat(device: Arc<dyn Device>) -> Result<StatReport> {
    let mut source = Source::open(device)?;
    if let Some(error) = source.refused.take() {
        return Err(error);
    }
    let layout = Arc::clone(&source.layout);
    let page_bytes = u64::from(layout.page_bytes());
    let (first, count) = (layout.first_segment(), layout.segment_count());
    let frontier = source.state()?.frontier.clamp(first, count.max(first));
    let mut report = StatReport::default();
    let mut runs = RunCount::default();
    // Where the span at hand ends, which covers segments without a role.
    let mut span_end = first;
    for number in first..frontier {
        let (record, _) = source.record(number)?;
        if number < span_end && record.role == Role::Unused {
            continue;
        }
        span_end = number.saturating_add(record.span_segments().unwrap_or(1));
        RoleUsage::count(&mut report.roles, &layout, number, &record);
        let usable = u32::try_from(layout.usable_range(number).len()).unwrap_or(0);
        match record.role {
            Role::Unused => runs.add(usable, 1),
            Role::Buddy | Role::Extent => {
                let map = bitmap(&mut source, number, &record)?;
                map.free_runs().for_each(|(_, pages)| runs.add(pages, 1));
            }
            Role::Slab => {
                let map = bitmap(&mut source, number, &record)?;
                map.free_runs().for_each(|(_, pages)| runs.add(pages, 1));
                report.free_item_bytes += u64::from(record.capacity_bytes.saturating_sub(record.item_bytes));
            }
            Role::Span => {}
        }
    }
    let mut untouched = RunCount::default();
    untouched.add_segments(&layout, &(frontier..count));
    runs.add_segments(&layout, &(frontier..count));
    let sum = |part: fn(&RoleUsage) -> u64| report.roles.iter().map(part).sum::<u64>();
    let (allocated_bytes, overhead_bytes) =
        (sum(|role| role.allocated_bytes), sum(|role| role.overhead_bytes));
    Ok(StatReport {
        page_bytes: layout.page_bytes(),
        segment_bytes: layout.segment_bytes(),
        allocated_bytes,
        free_bytes: (layout.usable_pages() * page_bytes).saturating_sub(allocated_bytes + overhead_bytes),
        overhead_bytes,
        rounding_bytes: sum(|role| role.rounding_bytes),
        runs: runs.finish(&layout),
        untouched_bytes: untouched.finish(&layout).run_bytes,
        ..report
    })
}

/// The pages of a segment, as its bitmap has them.
fn bitmap(source: &mut Source, number: u32, record: &SegmentRecord) -> Result<BuddyMap> {
    let layout = Arc::clone(&source.layout);
    let (mut used, mut offset) = (Vec::new(), None);
    for block in 0..layout.bitmap_blocks() {
        let leaf = source.leaf(layout.bitmap_leaf(number, block))?;
        offset.get_or_insert(leaf.offset);
        match leaf.bytes {
            Some(bytes) => used.extend_from_slice(&bytes),
            None => used.resize(used.len() + layout.block_bytes() as usize, 0),
        }
    }
    let corrupt = |reason: String| Error::corrupt(Structure::Bitmap, offset.unwrap_or(0), reason);
    let (pages, usable) = (layout.pages_per_segment(), layout.usable_range(number));
    used.truncate(pages.div_ceil(8) as usize);
    let map = BuddyMap::from_used_bytes(pages, usable.clone(), &used)
        .map_err(|page| corrupt(format!("page {page} cannot be in use")))?;
    let used_pages = usable.len() as u64 - u64::from(map.free_pages());
    if used_pages != u64::from(record.used_pages) {
        return Err(corrupt(format!("{used_pages} pages in use, {} in the record", record.used_pages)));
    }
    Ok(map)
}
