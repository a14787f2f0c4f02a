//! Taking effect: what a transaction changes in the committed state, and which bytes of which blocks that is.

use std::collections::BTreeMap;
use std::ops::Range;

use smallvec::SmallVec;

use super::counters::Held;
use super::place::{Allocation, Place, Release, Reservation, Resize};
use super::segment::{Content, order_of_run};
use super::table::Space;
use crate::format::{AllocatorState, ExtentChange, LeafAddress, PageHeader, Role, SegmentRecord};

/// Where changes of metadata blocks go.
pub trait MetadataBlocks {
    /// From now on these bytes stand at this offset of the block.
    fn bytes(&mut self, leaf: LeafAddress, offset: u32, bytes: &[u8]);
    /// This becomes of the header of a page of a segment, and of the bits of its pages.
    fn extent(&mut self, segment: u32, page: u32, change: ExtentChange);
}

/// What transactions change in the caller's space, beside what they stage themselves.
#[derive(Debug, Default)]
pub struct RegionHeads {
    /// What changes of heads: offset on the device, content.
    pub bytes: Vec<(u64, Vec<u8>)>,
    /// Regions that were not there before, by numbers of their blocks on the device, in order. What lay there before means nothing.
    pub fresh: Vec<Range<u64>>,
}

/// Transactions that are published one after the other. What they change of the same records and regions is written down once,
/// when they are [settled](Space::settle).
#[derive(Debug)]
#[must_use = "records, regions and counters follow when it is settled"]
pub struct Batch {
    state: AllocatorState,
    /// Segments whose record changes. There are few.
    changed: SmallVec<[ChangedRecord; 8]>,
    /// Regions whose items change, by segment and place.
    pub(super) regions: BTreeMap<(u32, u32), TouchedRegion>,
}

/// A region that a batch changes: whether the journal had it before, and which places of its head change.
#[derive(Debug, Default)]
pub(super) struct TouchedRegion {
    pub(super) was_on_disk: bool,
    pub(super) places: Vec<Range<usize>>,
}

/// A record before the batch, and how many pages of its segment are freed.
#[derive(Debug)]
struct ChangedRecord {
    segment: u32,
    before: SegmentRecord,
    freed: u32,
}

/// What is being published, and where it goes.
pub(super) struct Publishing<'a> {
    pub(super) batch: &'a mut Batch,
    pub(super) blocks: &'a mut dyn MetadataBlocks,
}

impl Batch {
    /// Notes that the record of a segment changes, and that so many of its pages are freed. `place` is the segment's own note
    /// of where it is here.
    #[inline]
    fn note(&mut self, segment: u32, place: &mut u32, before: SegmentRecord, freed: u32) {
        match self.changed.get_mut(*place as usize) {
            Some(changed) if changed.segment == segment => changed.freed += freed,
            _ => {
                *place = u32::try_from(self.changed.len()).unwrap_or(u32::MAX);
                self.changed.push(ChangedRecord { segment, before, freed });
            }
        }
    }
}

pub(super) fn slack_u32(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Space {
    /// Begins to publish.
    pub fn begin_batch(&self) -> Batch {
        Batch { state: self.state, changed: SmallVec::new(), regions: BTreeMap::new() }
    }

    /// Publishes in memory, and says which bytes change on disk, but for those of records and heads of regions. The space of releases stays unavailable until
    /// [`reclaim`](Self::reclaim).
    pub fn publish<'a>(
        &mut self,
        allocations: impl IntoIterator<Item = &'a Allocation>,
        releases: impl IntoIterator<Item = &'a Release>,
        resizes: impl IntoIterator<Item = &'a Resize>,
        batch: &mut Batch,
        blocks: &mut dyn MetadataBlocks,
    ) {
        let mut work = Publishing { batch, blocks };
        for allocation in allocations {
            self.publish_allocation(allocation, &mut work);
        }
        for resize in resizes {
            self.publish_resize(resize, &mut work);
        }
        for release in releases {
            self.publish_release(release, &mut work);
        }
    }

    /// Ends a batch: heads of regions, records and counters follow from what was published. The segments whose blocks change
    /// are named; each stays in memory, and is told from others, until it has [landed](Self::land) as often.
    pub fn settle(
        &mut self,
        mut batch: Batch,
        blocks: &mut dyn MetadataBlocks,
        segments: &mut impl Extend<u32>,
    ) -> RegionHeads {
        let mut heads = RegionHeads::default();
        for ((number, region), touched) in std::mem::take(&mut batch.regions) {
            let mut work = Publishing { batch: &mut batch, blocks: &mut *blocks };
            self.publish_region(number, region, touched, &mut work, &mut heads);
        }
        for changed in batch.changed {
            let number = changed.segment;
            self.settle_record(number, &changed);
            segments.extend([number]);
            self.reindex(number);
            let (leaf, offset) = self.layout().record_place(number);
            let Some(segment) = self.segment_mut(number) else { continue };
            segment.version = segment.version.wrapping_add(1);
            segment.in_flight += 1;
            blocks.bytes(leaf, offset, &segment.record.encode());
        }
        if self.state != batch.state {
            blocks.bytes(self.layout().state_leaf(), 0, &self.state.encode());
        }
        heads
    }

    /// The blocks of a segment are what its record says they are, as far as one [batch](Self::settle) is concerned.
    pub fn land(&mut self, number: u32) {
        if let Some(segment) = self.segment_mut(number) {
            segment.in_flight = segment.in_flight.saturating_sub(1);
        }
    }

    /// Changes a record. The counters follow when [it is settled](Self::settle_record).
    pub(super) fn change_record(
        &mut self,
        number: u32,
        work: &mut Publishing<'_>,
        change: impl FnOnce(&mut SegmentRecord),
    ) {
        if let Some(segment) = self.segment_mut(number) {
            work.batch.note(number, &mut segment.place_in_batch, segment.record, 0);
            change(&mut segment.record);
        }
    }

    /// What follows from the counts of a record: role and class, and the counters.
    fn settle_record(&mut self, number: u32, changed: &ChangedRecord) {
        let usable = u32::try_from(self.layout().usable_range(number).len()).unwrap_or(0);
        let Some(segment) = self.segment(number) else { return };
        let mut record = segment.record;
        if record.used_pages == 0 {
            record = SegmentRecord { generation: record.generation, ..SegmentRecord::default() };
        } else if matches!(record.role, Role::Buddy | Role::Extent) {
            let free = usable.saturating_sub(record.used_pages);
            record.class = self.class_bound(number, free, changed.freed);
        }
        let Some(segment) = self.segment_mut(number) else { return };
        segment.record = record;
        self.count_record(&changed.before, &record);
    }

    /// No free run of the committed state is of a higher order.
    fn class_bound(&self, number: u32, free: u32, freed: u32) -> Option<u8> {
        let most = order_of_run(free)?;
        let segment = self.segment(number)?;
        // With nothing held back, what is available is what is free.
        if segment.reserved_pages == 0 && segment.pending_pages == 0 && freed == 0 {
            return match &segment.content {
                Content::Buddy(map) => map.largest_order(),
                Content::Runs => order_of_run(self.runs.map(number)?.longest()),
                _ => Some(most),
            };
        }
        let old = segment.record.class.filter(|_| freed == 0).unwrap_or(most);
        Some(old.min(most))
    }

    /// Segments up to this one come under the frontier.
    fn advance_frontier(&mut self, last: u32) {
        if self.committed_frontier() <= last {
            self.state.frontier = last + 1;
        }
    }

    fn publish_allocation(&mut self, allocation: &Allocation, work: &mut Publishing<'_>) {
        let Reservation { place, generation } = allocation.reservation;
        self.advance_frontier(place.last_segment());
        let page_bytes = u64::from(self.layout().page_bytes());
        let (_, len) = place.range(self.layout());
        let kind = place.kind();
        let mut header = PageHeader {
            owner: allocation.owner,
            generation,
            kind,
            pages: 0,
            slack: PageHeader::slack_for(kind, len, page_bytes, allocation.asked),
        };
        match place {
            Place::Run { segment, page, pages, .. } => {
                header.pages = pages;
                let slack = slack_u32(header.slack_bytes(len, page_bytes));
                self.publish_pages(segment, pages, generation, work, |record| {
                    record.extents = record.extents.saturating_add(1);
                    record.slack_bytes = record.slack_bytes.saturating_add(slack);
                });
                work.blocks.extent(segment, page, ExtentChange::Begin { header });
            }
            Place::Item { segment, region, index, class, .. } => {
                let slack = class.slack_for(allocation.asked);
                self.publish_item(segment, region, index, Some((slack, allocation.owner)), work);
            }
            Place::Span { segment, segments, tail_pages } => {
                header.pages = tail_pages;
                let pages = self.layout().pages_per_segment();
                let slack = slack_u32(header.slack_bytes(len, page_bytes));
                self.change_record(segment, work, |record| {
                    record.role = Role::Span;
                    record.used_pages = pages;
                    record.extents = 1;
                    record.capacity_bytes = segments;
                    record.slack_bytes = slack;
                    record.generation = generation;
                });
                for number in segment..segment + segments {
                    self.hold_pages(number, pages, 0);
                }
                work.blocks.extent(segment, 0, ExtentChange::Begin { header });
                if tail_pages > 0 {
                    let tail = PageHeader {
                        owner: segment.into(),
                        generation,
                        kind: Self::TAIL_KIND,
                        pages: tail_pages,
                        slack: 0,
                    };
                    self.publish_pages(segment + segments, tail_pages, generation, work, |_| {});
                    work.blocks.extent(segment + segments, 0, ExtentChange::Begin { header: tail });
                }
            }
        }
    }

    /// Pages that were reserved come into use; `more` is what else changes of the record.
    fn publish_pages(
        &mut self,
        number: u32,
        pages: u32,
        generation: u32,
        work: &mut Publishing<'_>,
        more: impl FnOnce(&mut SegmentRecord),
    ) {
        let role = match self.segment(number).map(|segment| &segment.content) {
            Some(Content::Buddy(_)) => Role::Buddy,
            Some(Content::Slab(_)) => Role::Slab,
            _ => Role::Extent,
        };
        self.hold_pages(number, pages, 0);
        let slab_bytes = self.slab_bytes(role, pages);
        self.change_record(number, work, |record| {
            record.role = role;
            record.used_pages = record.used_pages.saturating_add(pages);
            record.item_bytes = record.item_bytes.saturating_add(slab_bytes);
            record.capacity_bytes = record.capacity_bytes.saturating_add(slab_bytes);
            record.generation = record.generation.max(generation);
            more(record);
        });
    }

    /// What pages of an extent count for beside items: nothing but in segments of role `slab`.
    fn slab_bytes(&self, role: Role, pages: u32) -> u32 {
        if role == Role::Slab {
            slack_u32(u64::from(pages) * u64::from(self.layout().page_bytes()))
        } else {
            0
        }
    }

    /// Pages in use become pending; `more` is what else changes of the record.
    fn release_pages(
        &mut self,
        number: u32,
        pages: u32,
        work: &mut Publishing<'_>,
        more: impl FnOnce(&mut SegmentRecord),
    ) {
        let role = self.segment(number).map_or(Role::Unused, |segment| segment.record.role);
        let slab_bytes = self.slab_bytes(role, pages);
        let bytes = u64::from(pages) * u64::from(self.layout().page_bytes());
        self.counters.count_held(Held::default(), Held { reserved: 0, pending: bytes });
        if let Some(segment) = self.segment_mut(number) {
            let record = &mut segment.record;
            work.batch.note(number, &mut segment.place_in_batch, *record, pages);
            record.used_pages = record.used_pages.saturating_sub(pages);
            record.item_bytes = record.item_bytes.saturating_sub(slab_bytes);
            record.capacity_bytes = record.capacity_bytes.saturating_sub(slab_bytes);
            more(record);
            segment.pending_pages += pages;
        }
        self.reindex(number);
    }

    fn publish_release(&mut self, release: &Release, work: &mut Publishing<'_>) {
        let slack = slack_u32(release.slack_bytes);
        match release.place {
            Place::Run { segment, page, pages, .. } => {
                self.release_pages(segment, pages, work, |record| {
                    record.extents = record.extents.saturating_sub(1);
                    record.slack_bytes = record.slack_bytes.saturating_sub(slack);
                });
                work.blocks.extent(segment, page, ExtentChange::End { pages });
            }
            Place::Item { segment, region, index, .. } => {
                self.publish_item(segment, region, index, None, work);
            }
            Place::Span { segment, segments, tail_pages } => {
                self.change_record(segment, work, |record| {
                    *record = SegmentRecord { generation: record.generation, ..SegmentRecord::default() };
                });
                work.blocks.extent(segment, 0, ExtentChange::End { pages: 0 });
                let bytes = u64::from(segments) * self.layout().segment_bytes();
                self.counters.count_held(Held::default(), Held { reserved: 0, pending: bytes });
                if tail_pages > 0 {
                    self.release_pages(segment + segments, tail_pages, work, |_| {});
                    work.blocks.extent(segment + segments, 0, ExtentChange::End { pages: tail_pages });
                }
            }
        }
    }

    fn publish_resize(&mut self, resize: &Resize, work: &mut Publishing<'_>) {
        let page_bytes = u64::from(self.layout().page_bytes());
        let number = resize.segment;
        let (_, pages) = resize.difference();
        let len = |pages: u32| u64::from(pages) * page_bytes;
        let kind = resize.header.kind;
        let slack = PageHeader::slack_for(kind, len(resize.new_pages), page_bytes, resize.asked);
        let header = PageHeader { pages: resize.new_pages, slack, ..resize.header };
        let before = slack_u32(resize.header.slack_bytes(len(resize.old_pages), page_bytes));
        let after = slack_u32(header.slack_bytes(len(resize.new_pages), page_bytes));
        if pages > 0 && resize.grows() {
            self.publish_pages(number, pages, header.generation, work, |_| {});
        } else if pages > 0 {
            self.release_pages(number, pages, work, |_| {});
        }
        self.change_record(number, work, |record| {
            record.slack_bytes = record.slack_bytes.saturating_add(after).saturating_sub(before);
        });
        let change = ExtentChange::Replace { was_pages: resize.old_pages, header };
        work.blocks.extent(number, resize.page, change);
    }
}
