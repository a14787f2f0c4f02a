//! The segment table: records, frontier, and what a commit changes in them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::buddy_map::BuddyMap;
use super::reserve::Reservation;
use super::segment::{Segment, SegmentMaps};
use crate::error::{Error, Result, Structure};
use crate::format::{
    AllocatorState, HeaderKind, Layout, PAGE_HEADER_BYTES, PageHeader, Role, SEGMENT_RECORD_BYTES,
    SegmentRecord,
};
use crate::journal::{MetadataChange, MetadataWrite};

/// A reservation about to become an extent.
#[derive(Clone, Copy, Debug)]
pub struct Allocation {
    /// The pages.
    pub reservation: Reservation,
    /// The caller's tag.
    pub owner: u64,
}

/// An extent about to be freed, checked against its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Segment number.
    pub segment: u32,
    /// First page, counted in the segment.
    pub page: u32,
    /// Length in pages.
    pub pages: u32,
    /// Generation of the extent.
    pub generation: u32,
}

/// Counters over all segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceCounters {
    /// Pages allocated by committed transactions.
    pub allocated_pages: u64,
    /// Extents allocated by committed transactions.
    pub extents: u64,
    /// Pages reserved by open transactions.
    pub reserved_pages: u64,
    /// Pages freed by transactions that are not durable yet.
    pub pending_pages: u64,
}

/// All segments below the frontier.
#[derive(Debug)]
pub struct Space {
    layout: Arc<Layout>,
    /// As the journal has it.
    state: AllocatorState,
    /// Number of the first entry of `segments`: segments before it lie under the metadata area.
    first: u32,
    segments: Vec<Segment>,
    /// For each order, the segments whose largest available run is of that order.
    by_class: Vec<BTreeSet<u32>>,
    counters: SpaceCounters,
}

impl Space {
    /// Takes the tables of a store. `record` gives the record of a segment, as decoded.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when tables contradict themselves; places are filled in by `offset_of`.
    pub fn load(
        layout: Arc<Layout>,
        state: AllocatorState,
        mut record: impl FnMut(u32) -> Result<SegmentRecord>,
        offset_of: impl Fn(Structure, u32) -> u64,
    ) -> Result<Self> {
        let first = layout.first_segment();
        let frontier = state.frontier.max(first);
        if frontier > layout.segment_count() {
            let offset = offset_of(Structure::AllocatorState, 0);
            return Err(Error::corrupt(Structure::AllocatorState, offset, "frontier beyond the device"));
        }
        let linked = |link: Option<u32>| link.is_none_or(|segment| (first..frontier).contains(&segment));
        let orders = usize::from(layout.max_order()) + 1;
        if !state.heads.iter().all(|&head| linked(head))
            || state.heads.get(orders..).is_some_and(|heads| heads.iter().any(Option::is_some))
        {
            let offset = offset_of(Structure::AllocatorState, 0);
            return Err(Error::corrupt(Structure::AllocatorState, offset, "free-list head out of range"));
        }
        let mut space = Self {
            state,
            first,
            segments: Vec::with_capacity((frontier - first) as usize),
            by_class: vec![BTreeSet::new(); orders],
            counters: SpaceCounters::default(),
            layout,
        };
        for number in first..frontier {
            let record = record(number)?;
            let usable = u32::try_from(space.layout.usable_range(number).len()).unwrap_or(u32::MAX);
            let problem = if record == SegmentRecord::default() && usable > 0 {
                // What comes under the frontier gets a record: this one was never written, and nothing follows from it.
                Some("no record below the frontier")
            } else if record.used_pages > usable || record.extents > record.used_pages {
                Some("counts beyond the segment")
            } else if record.class.is_some_and(|order| order > space.layout.max_order()) {
                Some("class beyond the segment")
            } else if !linked(record.previous) || !linked(record.next) {
                Some("link out of range")
            } else {
                None
            };
            if let Some(problem) = problem {
                let offset = offset_of(Structure::SegmentRecord, number);
                return Err(Error::corrupt(Structure::SegmentRecord, offset, problem));
            }
            space.counters.allocated_pages += u64::from(record.used_pages);
            space.counters.extents += u64::from(record.extents);
            space.segments.push(Segment { record, last_generation: record.generation, ..Segment::default() });
            space.reindex(number);
        }
        Ok(space)
    }

    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Counters over all segments.
    #[must_use]
    pub fn counters(&self) -> SpaceCounters {
        self.counters
    }

    /// Pages that may be handed out.
    #[must_use]
    pub fn free_pages(&self) -> u64 {
        let taken = self.counters;
        self.layout.usable_pages() - taken.allocated_pages - taken.reserved_pages - taken.pending_pages
    }

    /// The first segment that is not in memory.
    #[must_use]
    pub fn memory_frontier(&self) -> u32 {
        self.first + u32::try_from(self.segments.len()).unwrap_or(u32::MAX)
    }

    /// The first segment beyond the committed frontier.
    #[must_use]
    pub fn committed_frontier(&self) -> u32 {
        self.state.frontier.max(self.first)
    }

    /// Numbers of the segments below the frontier.
    #[must_use]
    pub fn segment_numbers(&self) -> std::ops::Range<u32> {
        self.first..self.memory_frontier()
    }

    /// A segment below the frontier.
    #[must_use]
    pub fn segment(&self, number: u32) -> Option<&Segment> {
        self.segments.get(number.checked_sub(self.first)? as usize)
    }

    pub(super) fn segment_mut(&mut self, number: u32) -> Option<&mut Segment> {
        self.segments.get_mut(number.checked_sub(self.first)? as usize)
    }

    /// Keeps the index of available classes in step with a segment. Only this segment's old place is unknown, so all
    /// places are looked at; there are at most 19.
    pub(super) fn reindex(&mut self, number: u32) {
        let class = self.segment(number).and_then(Segment::available_class);
        for (order, segments) in (0_u8..).zip(&mut self.by_class) {
            if Some(order) == class {
                segments.insert(number);
            } else if !segments.is_empty() {
                segments.remove(&number);
            }
        }
    }

    /// The lowest segment of the smallest class that has a run of `order`.
    pub(super) fn best_segment(&self, order: u8) -> Option<u32> {
        let classes = self.by_class.get(usize::from(order)..)?;
        classes.iter().find_map(|segments| segments.first().copied())
    }

    pub(super) fn count_reserved(&mut self, more: u32, fewer: u32) {
        let reserved = self.counters.reserved_pages + u64::from(more);
        self.counters.reserved_pages = reserved.saturating_sub(u64::from(fewer));
    }

    pub(super) fn head(&self, order: u8) -> Option<u32> {
        self.state.heads.get(usize::from(order)).copied().flatten()
    }

    pub(super) fn set_head(&mut self, order: u8, to: Option<u32>) {
        if let Some(head) = self.state.heads.get_mut(usize::from(order)) {
            *head = to;
        }
    }

    pub(super) fn change_record(
        &mut self,
        number: u32,
        changed: &mut BTreeSet<u32>,
        change: impl FnOnce(&mut SegmentRecord),
    ) {
        if let Some(segment) = self.segment_mut(number) {
            change(&mut segment.record);
            changed.insert(number);
        }
    }

    /// Takes a segment's bitmap, as read from its blocks.
    ///
    /// # Errors
    /// A description of how bitmap and record contradict each other.
    pub fn load_bitmap(&mut self, number: u32, used: &[u8]) -> Result<(), String> {
        let pages = self.layout.pages_per_segment();
        let usable = self.layout.usable_range(number);
        let Some(segment) = self.segment_mut(number) else {
            return Err("segment beyond the frontier".to_owned());
        };
        if segment.maps.is_some() {
            return Ok(());
        }
        let map = BuddyMap::from_used_bytes(pages, usable.clone(), used)
            .map_err(|page| format!("page {page} cannot be in use"))?;
        let used_pages = u32::try_from(usable.len()).unwrap_or(u32::MAX).saturating_sub(map.free_pages());
        if used_pages != segment.record.used_pages {
            return Err(format!("{used_pages} pages in use, {} in the record", segment.record.used_pages));
        }
        // Nothing is held against the class of a segment without a role: no search has relied on it yet.
        if segment.record.role != Role::Unused && map.largest_order() != segment.record.class {
            return Err(format!(
                "largest free run of order {:?}, {:?} in the record",
                map.largest_order(),
                segment.record.class
            ));
        }
        segment.maps = Some(SegmentMaps { committed: map.clone(), available: map });
        self.reindex(number);
        Ok(())
    }

    /// Takes the first segment beyond the frontier into use, in memory. It is committed with its first extent.
    pub fn open_segment(&mut self, number: u32) {
        if number != self.memory_frontier() || number >= self.layout.segment_count() {
            return;
        }
        let map = BuddyMap::new(self.layout.pages_per_segment(), self.layout.usable_range(number));
        let maps = SegmentMaps { committed: map.clone(), available: map };
        self.segments.push(Segment { maps: Some(maps), ..Segment::default() });
        self.reindex(number);
    }

    /// Publishes allocations and releases in memory, and says which bytes change on disk. The pages of releases stay
    /// unavailable until [`reclaim`](Self::reclaim).
    pub fn publish(&mut self, allocations: &[Allocation], releases: &[Release]) -> Vec<MetadataWrite> {
        let old_state = self.state;
        let mut changed = BTreeSet::new();
        let mut writes = Vec::with_capacity(2 * (allocations.len() + releases.len()) + 4);
        for allocation in allocations {
            self.publish_allocation(allocation, &mut changed, &mut writes);
        }
        for release in releases {
            self.publish_release(release, &mut changed, &mut writes);
        }
        for number in changed.clone() {
            self.relink(number, &mut changed);
        }
        for number in changed {
            let Some(segment) = self.segment(number) else { continue };
            let (leaf, offset) = self.layout.record_place(number);
            let bytes = segment.record.encode().to_vec();
            writes.push(MetadataWrite { leaf, change: MetadataChange::Bytes { offset, bytes } });
        }
        if self.state != old_state {
            let leaf = self.layout.state_leaf();
            let bytes = self.state.encode().to_vec();
            writes.push(MetadataWrite { leaf, change: MetadataChange::Bytes { offset: 0, bytes } });
        }
        writes
    }

    fn publish_allocation(
        &mut self,
        allocation: &Allocation,
        changed: &mut BTreeSet<u32>,
        writes: &mut Vec<MetadataWrite>,
    ) {
        let Reservation { segment: number, page, generation, .. } = allocation.reservation;
        let pages = allocation.reservation.pages();
        // Segments between the old frontier and this one come along: unused, and on the list of their class.
        let first = self.first;
        for skipped in self.state.frontier.max(first)..=number {
            self.state.frontier = skipped + 1;
            self.enlist(skipped, changed);
        }
        let Some(segment) = self.segment_mut(number) else { return };
        if let Some(maps) = &mut segment.maps {
            let marked = maps.committed.set_used(page, pages);
            debug_assert!(marked, "a reserved page was in use");
        }
        segment.reserved_pages = segment.reserved_pages.saturating_sub(pages);
        let record = &mut segment.record;
        record.role = Role::Buddy;
        record.used_pages += pages;
        record.extents += 1;
        record.generation = record.generation.max(generation);
        changed.insert(number);
        self.count_reserved(0, pages);
        self.counters.allocated_pages += u64::from(pages);
        self.counters.extents += 1;
        self.push_bits(number, page, pages, true, writes);
        let header = PageHeader { owner: allocation.owner, generation, kind: HeaderKind::Buddy, pages };
        self.push_header(number, page, &header, writes);
    }

    /// Puts a segment that just came under the frontier on the list of its class.
    fn enlist(&mut self, number: u32, changed: &mut BTreeSet<u32>) {
        changed.insert(number);
        self.relink(number, changed);
    }

    fn publish_release(
        &mut self,
        release: &Release,
        changed: &mut BTreeSet<u32>,
        writes: &mut Vec<MetadataWrite>,
    ) {
        let Release { segment: number, page, pages, generation } = *release;
        let Some(segment) = self.segment_mut(number) else { return };
        if let Some(maps) = &mut segment.maps {
            let marked = maps.committed.set_free(page, pages);
            debug_assert!(marked, "a freed page was free");
        }
        segment.pending_pages += pages;
        segment.record.used_pages = segment.record.used_pages.saturating_sub(pages);
        segment.record.extents = segment.record.extents.saturating_sub(1);
        changed.insert(number);
        self.counters.pending_pages += u64::from(pages);
        self.counters.allocated_pages = self.counters.allocated_pages.saturating_sub(u64::from(pages));
        self.counters.extents = self.counters.extents.saturating_sub(1);
        self.push_bits(number, page, pages, false, writes);
        self.push_header(number, page, &PageHeader { generation, ..PageHeader::default() }, writes);
    }

    /// Makes freed pages available: the transaction that freed them is durable (rule 3).
    pub fn reclaim(&mut self, releases: &[Release]) {
        for release in releases {
            let Some(segment) = self.segment_mut(release.segment) else { continue };
            if let Some(maps) = &mut segment.maps {
                let marked = maps.available.set_free(release.page, release.pages);
                debug_assert!(marked, "a pending page was available");
            }
            segment.pending_pages = segment.pending_pages.saturating_sub(release.pages);
            self.reindex(release.segment);
            let pages = u64::from(release.pages);
            self.counters.pending_pages = self.counters.pending_pages.saturating_sub(pages);
        }
    }

    fn push_bits(&self, segment: u32, page: u32, pages: u32, set: bool, writes: &mut Vec<MetadataWrite>) {
        let per_block = self.layout.pages_per_bitmap_block();
        let mut first = page;
        while first < page + pages {
            let count = (per_block - first % per_block).min(page + pages - first);
            writes.push(MetadataWrite {
                leaf: self.layout.bitmap_leaf(segment, u64::from(first / per_block)),
                change: MetadataChange::Bits { first: first % per_block, count, set },
            });
            first += count;
        }
    }

    fn push_header(&self, segment: u32, page: u32, header: &PageHeader, writes: &mut Vec<MetadataWrite>) {
        let (leaf, offset) = self.layout.header_place(segment, page);
        writes.push(MetadataWrite {
            leaf,
            change: MetadataChange::Bytes { offset, bytes: header.encode().to_vec() },
        });
    }

    /// Metadata changes and bytes that one allocation or release can cause, at most: bits, a header, its own record and
    /// those of its neighbours on two lists, and the allocator state.
    #[must_use]
    pub fn change_bound(layout: &Layout, pages: u32) -> (usize, usize) {
        let bitmap_blocks = (pages / layout.pages_per_bitmap_block()) as usize + 2;
        let records = 4.min(layout.segment_count() as usize);
        (
            bitmap_blocks + 1 + records + 1,
            (pages / 8) as usize
                + 2 * bitmap_blocks
                + PAGE_HEADER_BYTES
                + records * SEGMENT_RECORD_BYTES
                + AllocatorState::ENCODED_BYTES,
        )
    }
}
