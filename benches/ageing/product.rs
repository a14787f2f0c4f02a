//! The product: `Space` as the allocator drives it, without a device below.

use std::collections::BTreeSet;
use std::sync::Arc;

use freehold::Result;
use freehold::format::{
    AllocatorState, ExtentChange, HeaderKind, Layout, LeafAddress, PageHeader, SegmentRecord,
};
use freehold::space::{
    Allocation, MetadataBlocks, Place, Release, Request, Reservation, Reserve, Space, Wanted,
};

use crate::store::{Shape, Store, item_class, pages_of};

pub(crate) struct Product {
    space: Space,
    /// Everything is in memory, so that nothing was loaded in vain.
    tried: BTreeSet<u32>,
    layout: Arc<Layout>,
    items: bool,
    publish: bool,
}

impl Product {
    pub(crate) fn new(layout: &Arc<Layout>, items: bool, publish: bool) -> Result<Self> {
        let space = Space::load(
            Arc::clone(layout),
            AllocatorState::default(),
            |_| Ok(SegmentRecord::default()),
            |_, _| 0,
        )?;
        Ok(Self { space, tried: BTreeSet::new(), layout: Arc::clone(layout), items, publish })
    }

    /// What is wanted of space for so many bytes.
    pub(crate) fn request(&self, asked: u64) -> Request {
        let class = item_class(&self.layout, asked).filter(|_| self.items);
        let (pages, most) = (pages_of(&self.layout, asked), self.layout.pages_per_segment());
        let wanted = match class {
            Some(class) => Wanted::Item { class, tagged: false },
            None if pages > most => Wanted::Span { segments: pages / most, tail_pages: pages % most },
            None => Wanted::Run { pages, align: 1 },
        };
        Request { wanted, at: None, near: None, group: None }
    }

    #[inline]
    pub(crate) fn reserve(&mut self, request: &Request) -> Option<Place> {
        loop {
            match self.space.reserve(request, &self.tried) {
                Reserve::Reserved(reservation) => return Some(reservation.place),
                Reserve::Open(segment) => self.space.open_segments(segment),
                Reserve::Load(_) | Reserve::LoadRegion(..) | Reserve::Full => return None,
            }
        }
    }

    /// As a transaction of its own, in a group of its own.
    fn publish(&mut self, allocations: &[Allocation], releases: &[Release]) {
        let (mut batch, mut segments) = (self.space.begin_batch(), Vec::new());
        self.space.publish(allocations, releases, &[], &mut batch, &mut Unkept);
        self.space.settle(batch, &mut Unkept, &mut segments);
        segments.into_iter().for_each(|segment| self.space.land(segment));
    }

    /// Takes space and gives it back.
    #[inline]
    pub(crate) fn pair(&mut self, request: &Request) {
        if let Reserve::Reserved(reservation) = self.space.reserve(request, &self.tried) {
            self.space.unreserve(&reservation);
        }
    }

    #[inline]
    pub(crate) fn unreserve(&mut self, place: &Place) {
        self.space.unreserve(&Reservation { place: *place, generation: 1 });
    }

    fn take(&mut self, request: &Request, asked: u64) -> Option<Place> {
        let place = self.reserve(request)?;
        if self.publish {
            let reservation = Reservation { place, generation: 1 };
            self.publish(&[Allocation { reservation, owner: 0, asked }], &[]);
        }
        Some(place)
    }

    /// Bytes beyond those asked for, as a page header notes them.
    fn slack(&self, place: &Place, asked: u64) -> u64 {
        let (kind, page_bytes) = (place.kind(), u64::from(self.layout.page_bytes()));
        let (_, len) = place.range(&self.layout);
        if kind == HeaderKind::Region {
            return 0;
        }
        let slack = PageHeader::slack_for(kind, len, page_bytes, asked);
        PageHeader { kind, slack, ..PageHeader::default() }.slack_bytes(len, page_bytes)
    }
}

/// What is on disk is not looked at.
struct Unkept;

impl MetadataBlocks for Unkept {
    fn bytes(&mut self, _: LeafAddress, _: u32, _: &[u8]) {}
    fn extent(&mut self, _: u32, _: u32, _: ExtentChange) {}
}

impl Store for Product {
    fn alloc(&mut self, asked: u64) -> Option<Place> {
        self.take(&self.request(asked), asked)
    }

    fn alloc_pages(&mut self, pages: u32, asked: u64) -> Option<Place> {
        let wanted = Wanted::Run { pages, align: 1 };
        self.take(&Request { wanted, at: None, near: None, group: None }, asked)
    }

    fn free(&mut self, place: &Place, asked: u64) {
        if self.publish {
            let release = Release { place: *place, generation: 1, slack_bytes: self.slack(place, asked) };
            self.publish(&[], &[release]);
            self.space.reclaim(&[release], &[]);
        } else {
            self.unreserve(place);
        }
    }

    fn longest(&self) -> u32 {
        self.space.longest_run().unwrap_or(0)
    }

    fn shape(&self) -> Shape {
        let mut shape = Shape::new(&self.layout);
        for map in self.space.run_maps() {
            shape.add(map.free_runs());
        }
        for segment in self.space.memory_frontier()..self.layout.segment_count() {
            let usable = self.layout.usable_range(segment);
            shape.add(std::iter::once((usable.start, usable.end - usable.start)));
        }
        shape
    }

    fn overhead_bytes(&self) -> u64 {
        self.space.counters().overhead_bytes()
    }
}
