//! Items: a place in a region of the class; else a new region; else a page of their own.

use std::collections::BTreeSet;

use super::{Request, Reserve, Wanted};
use crate::format::{ItemClass, Role};
use crate::space::index::ItemKind;
use crate::space::place::{Place, Reservation};
use crate::space::segment::Content;
use crate::space::slab::Region;
use crate::space::table::Space;

impl Space {
    /// An item, in the lowest region of its class that has room.
    pub(super) fn reserve_item(&mut self, class: ItemClass, tagged: bool, tried: &BTreeSet<u32>) -> Reserve {
        let Some(layout) = self.layout().region_layout(class, tagged) else { return Reserve::Full };
        if let Some(&(number, region)) = self.index.open.get(&(class, tagged)).and_then(BTreeSet::first) {
            return self.take_item(number, region);
        }
        if let Some(number) = self.cold_with_open((class, tagged)) {
            return Reserve::Load(number);
        }
        while let Some(number) = self.index.roomy.first().copied() {
            if let taken @ (Reserve::Reserved(_) | Reserve::LoadRegion(..)) = self.new_region(number, layout)
            {
                return taken;
            }
            self.index.roomy.remove(&number);
        }
        let regions = |number: u32| self.layout().usable_regions(number).len() as u64;
        let region_order = self.layout().region_pages().ilog2();
        let roomy = |number: &u32| {
            let class = self.cold_class(*number);
            !tried.contains(number) && class.is_some_and(|class| u32::from(class) >= region_order)
        };
        if let Some(number) = self.index.cold_slab.iter().copied().find(roomy) {
            return Reserve::Load(number);
        }
        if let Some(number) = self.index.empty.iter().copied().find(|&number| regions(number) > 0) {
            return if self.adopt(number, Role::Slab) {
                self.new_region(number, layout)
            } else {
                Reserve::Full
            };
        }
        if self.memory_frontier() < self.layout().segment_count() {
            return Reserve::Open(self.memory_frontier());
        }
        // A page of its own is better than nothing.
        let wanted = Wanted::Run { pages: 1, align: 1 };
        self.reserve(&Request { wanted, at: None, near: None, group: None }, tried)
    }

    pub(super) fn new_region(&mut self, number: u32, layout: crate::format::RegionLayout) -> Reserve {
        let Some(region) = self.free_region(number) else { return Reserve::Full };
        let pages = self.layout().region_pages();
        let Some(segment) = self.segment_mut(number) else { return Reserve::Full };
        let generation = segment.next_generation();
        let Content::Slab(slab) = &mut segment.content else { return Reserve::Full };
        slab.regions.insert(region, Region::new(layout, generation));
        let taken = self.slab_runs.take(number, region * pages, pages);
        debug_assert!(taken, "the pages of a free region were not free");
        self.grown = true;
        self.reindex_region(number, region, (layout.class(), layout.tagged()));
        self.take_item(number, region)
    }

    /// A segment that is not loaded and may have an item of a kind in a region that is there.
    pub(super) fn cold_with_open(&self, kind: ItemKind) -> Option<u32> {
        let open = |number: &u32| self.segment(*number).is_some_and(|segment| segment.may_have(kind));
        self.index.cold_slab.iter().copied().find(open)
    }

    /// A place where all pages of a region are free: in the shortest run that surely has one, else anywhere.
    fn free_region(&self, number: u32) -> Option<u32> {
        let pages = self.layout().region_pages();
        let map = self.slab_runs.map(number).filter(|map| map.longest() >= pages)?;
        if let Some(fit) = self.slab_runs.best_fit_in(number, 2 * pages - 1) {
            let region = fit.page.div_ceil(pages);
            return self.layout().usable_regions(number).contains(&region).then_some(region);
        }
        let is_free = |region: &u32| map.is_run_free(region * pages, pages);
        self.layout().usable_regions(number).find(is_free)
    }

    pub(super) fn take_item(&mut self, number: u32, region: u32) -> Reserve {
        let taken = self.change_region(number, region, |region| {
            let taken = region.take();
            (region.is_loaded(), taken.map(|(index, generation)| (index, generation, region.layout)))
        });
        let (index, generation, layout) = match taken {
            Some((true, Some(taken))) => taken,
            Some((false, _)) => return Reserve::LoadRegion(number, region),
            Some((true, None)) | None => return Reserve::Full,
        };
        self.touch(number);
        let (class, tagged) = (layout.class(), layout.tagged());
        let place = Place::Item { segment: number, region, index, class, tagged };
        Reserve::Reserved(Reservation { place, generation })
    }

    /// Changes what is reserved, pending or in use of a region; counters and index follow. A region of which nothing is
    /// left goes back to its segment.
    pub(in crate::space) fn change_region<T>(
        &mut self,
        number: u32,
        place: u32,
        change: impl FnOnce(&mut Region) -> T,
    ) -> Option<T> {
        let region_bytes = self.layout().region_bytes();
        let region_pages = self.layout().region_pages();
        let segment = self.segment_mut(number)?;
        let Content::Slab(slab) = &mut segment.content else { return None };
        let region = slab.regions.get_mut(&place)?;
        let kind = (region.layout.class(), region.layout.tagged());
        let (before, was_busy, was_open) = (region.held(region_bytes), !region.is_idle(), region.is_open());
        let had_room = region.has_room();
        let result = change(region);
        let (after, is_busy, is_open) = (region.held(region_bytes), !region.is_idle(), region.is_open());
        let gone = region.is_gone();
        let relist = gone || region.has_room() != had_room;
        if gone {
            slab.regions.remove(&place);
        }
        if was_open != is_open {
            slab.count_open(kind.0, was_open, is_open);
        }
        // Reserved and pending items keep their segment from being dropped, and from being taken by another role.
        let pages = |busy: bool| if busy { region_pages } else { 0 };
        segment.reserved_pages = (segment.reserved_pages + pages(is_busy)).saturating_sub(pages(was_busy));
        self.counters.count_held(before, after);
        if gone {
            self.give_pages(number, place * region_pages, region_pages);
        }
        if relist {
            self.reindex_region(number, place, kind);
        }
        self.reindex(number);
        Some(result)
    }
}
