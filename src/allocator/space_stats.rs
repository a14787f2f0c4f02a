//! Free space by length of run, and how fragmented it is.

use std::ops::Range;

use super::handle::Allocator;
use crate::format::{Layout, Role, SegmentRecord};
use crate::space::runs::Histogram;
use crate::space::{Content, Space};

/// Free runs of one order: from `from_bytes` to less than twice that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RunBucket {
    /// Length of the shortest run that counts here: a power of two of pages.
    pub from_bytes: u64,
    /// How many runs there are.
    pub runs: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Free pages as maximal runs.
///
/// A run never crosses the border of a segment. A segment with nothing in it, used before or not, is one run of its
/// usable pages. Segments of role `slab` have no runs: what is free in them is room for small items only.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FreeRuns {
    /// Bytes in all runs.
    pub run_bytes: u64,
    /// Length of the longest one in bytes.
    pub largest_run_bytes: u64,
    /// From 0 to 1. With the lengths of all runs in pages, *F* for their sum and *L* for the pages of the largest
    /// usable segment, or *F* if that is less: 1 - (sum of the squared lengths) / (*F* *L*). It is 0 when there is one
    /// run, or all of them fill such a segment, and near 1 when free space is dust; 0 when nothing is free.
    pub fragmentation: f64,
    /// All orders from a page to a segment, in ascending order.
    pub histogram: Vec<RunBucket>,
}

/// Free runs while they are counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunCount {
    histogram: Histogram,
    longest: u32,
}

impl RunCount {
    /// Counts `runs` runs of `pages` pages each. Runs of no pages are none.
    pub(crate) fn add(&mut self, pages: u32, runs: u64) {
        let Some(order) = pages.checked_ilog2().filter(|_| runs > 0) else { return };
        let (order, len) = (order as usize, u64::from(pages));
        if let Some(count) = self.histogram.runs.get_mut(order) {
            *count += runs;
        }
        if let Some(sum) = self.histogram.pages.get_mut(order) {
            *sum += runs * len;
        }
        self.histogram.squares += u128::from(runs) * u128::from(len * len);
        self.longest = self.longest.max(pages);
    }

    /// Counts segments with nothing in them. All between the first and the last of them are whole, so they are not
    /// looked at.
    pub(crate) fn add_segments(&mut self, layout: &Layout, numbers: &Range<u32>) {
        let mut inner = numbers.clone();
        for end in [inner.next(), inner.next_back()].into_iter().flatten() {
            self.add(usable_pages(layout, end), 1);
        }
        self.add(layout.pages_per_segment(), inner.len() as u64);
    }

    /// The sums.
    pub(crate) fn finish(&self, layout: &Layout) -> FreeRuns {
        let page_bytes = u64::from(layout.page_bytes());
        let free: u64 = self.histogram.pages.iter().sum();
        // Of three segments with usable pages the middle one is whole.
        let segments = layout.first_segment()..layout.segment_count();
        let largest = segments.take(2).map(|number| usable_pages(layout, number)).max().unwrap_or(0);
        let orders = 0..=u32::from(layout.max_order());
        let counts = orders.zip(self.histogram.runs.iter().zip(&self.histogram.pages));
        let bucket = |(order, (&runs, &pages)): (u32, (&u64, &u64))| RunBucket {
            from_bytes: page_bytes << order,
            runs,
            bytes: pages * page_bytes,
        };
        FreeRuns {
            run_bytes: free * page_bytes,
            largest_run_bytes: u64::from(self.longest) * page_bytes,
            fragmentation: score(free, self.histogram.squares, largest.into()),
            histogram: counts.map(bucket).collect(),
        }
    }
}

fn usable_pages(layout: &Layout, segment: u32) -> u32 {
    let usable = layout.usable_range(segment);
    usable.end.saturating_sub(usable.start)
}

/// See [`FreeRuns::fragmentation`]; `free` and `segment` in pages.
fn score(free: u64, squares: u128, segment: u64) -> f64 {
    let best = u128::from(free) * u128::from(free.min(segment));
    if best == 0 { 0.0 } else { (1.0 - squares as f64 / best as f64).clamp(0.0, 1.0) }
}

/// Free space of an open store.
///
/// `run_bytes + unloaded_free_bytes + free_item_bytes = free_bytes`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SpaceStats {
    /// Can be allocated now.
    pub free_bytes: u64,
    /// The runs that are known: those of segments which are loaded, empty, or were never used.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub runs: FreeRuns,
    /// Free in segments whose bitmaps are not in memory.
    pub unloaded_free_bytes: u64,
    /// Free items of regions.
    pub free_item_bytes: u64,
    /// Of the runs: in segments that were never used.
    pub untouched_bytes: u64,
}

impl Allocator {
    /// Free space by length of run. No I/O; the call looks at each segment below the frontier once, and at the pages
    /// of loaded segments of role `buddy`.
    ///
    /// ```
    /// # fn show(store: &freehold::Allocator) {
    /// let stats = store.space_stats();
    /// for bucket in stats.runs.histogram.iter().filter(|bucket| bucket.runs > 0) {
    ///     println!("{} runs of {} bytes or more", bucket.runs, bucket.from_bytes);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn space_stats(&self) -> SpaceStats {
        SpaceStats::of(&self.inner.core().space)
    }
}

impl SpaceStats {
    fn of(space: &Space) -> Self {
        let layout = space.layout();
        let longest = space.longest_loaded_run();
        let mut count = RunCount { histogram: space.histogram(), longest };
        let mut unloaded_pages = 0;
        let numbers = space.segment_numbers();
        for (number, segment) in numbers.clone().filter_map(|number| Some((number, space.segment(number)?))) {
            match &segment.content {
                // The histogram has them.
                Content::Runs | Content::Slab(_) => {}
                Content::Buddy(map) => map.free_runs().for_each(|(_, pages)| count.add(pages, 1)),
                Content::Absent if segment.is_cold() => {
                    unloaded_pages += free_run_pages(layout, number, &segment.record);
                }
                Content::Absent if segment.is_empty() => {
                    count.add(usable_pages(layout, number), 1);
                }
                Content::Absent | Content::Span(_) => {}
            }
        }
        let mut untouched = RunCount::default();
        untouched.add_segments(layout, &(numbers.end..layout.segment_count()));
        count.add_segments(layout, &(numbers.end..layout.segment_count()));
        let runs = count.finish(layout);
        let free_bytes = space.free_bytes();
        let unloaded_free_bytes = unloaded_pages * u64::from(layout.page_bytes());
        Self {
            free_bytes,
            free_item_bytes: free_bytes.saturating_sub(runs.run_bytes + unloaded_free_bytes),
            unloaded_free_bytes,
            untouched_bytes: untouched.finish(layout).run_bytes,
            runs,
        }
    }
}

/// Free pages of a segment in which there are runs.
fn free_run_pages(layout: &Layout, number: u32, record: &SegmentRecord) -> u64 {
    match record.role {
        Role::Buddy | Role::Extent | Role::Slab => {
            usable_pages(layout, number).saturating_sub(record.used_pages).into()
        }
        Role::Unused | Role::Span => 0,
    }
}

#[cfg(test)]
mod tests;
