//! The comparators: buddy blocks as a whole, and buddy blocks whose end is given back. On the maps of the product.

use std::sync::Arc;

use freehold::format::{HeaderKind, Layout};
use freehold::space::Place;
use freehold::space::buddy_map::BuddyMap;

use crate::store::{Shape, Store, pages_of};

pub(crate) struct Buddies {
    /// From the first segment on.
    maps: Vec<BuddyMap>,
    first: u32,
    layout: Arc<Layout>,
    tail_back: bool,
}

impl Buddies {
    pub(crate) fn new(layout: &Arc<Layout>, tail_back: bool) -> Self {
        let first = layout.first_segment();
        let map = |segment| BuddyMap::new(layout.pages_per_segment(), layout.usable_range(segment));
        let maps = (first..layout.segment_count()).map(map).collect();
        Self { maps, first, layout: Arc::clone(layout), tail_back }
    }
}

impl Store for Buddies {
    fn alloc(&mut self, asked: u64) -> Option<Place> {
        self.alloc_pages(pages_of(&self.layout, asked), asked)
    }

    /// In the segment whose largest block is the smallest that is large enough; among equals the lowest.
    fn alloc_pages(&mut self, pages: u32, _: u64) -> Option<Place> {
        let order = u8::try_from(pages.next_power_of_two().ilog2()).ok()?;
        let largest = |map: &BuddyMap| map.largest_order().filter(|&largest| largest >= order);
        let classes =
            (self.first..).zip(&mut self.maps).filter_map(|(at, map)| Some((largest(map)?, at, map)));
        let (_, segment, map) = classes.min_by_key(|&(class, at, _)| (class, at))?;
        let page = map.take(order)?;
        let block = 1 << order;
        let given = self.tail_back && pages < block && map.set_free(page + pages, block - pages);
        let pages = if given { pages } else { block };
        Some(Place::Run { segment, page, pages, kind: HeaderKind::Buddy })
    }

    fn free(&mut self, place: &Place, _: u64) {
        let Place::Run { segment, page, pages, .. } = *place else { return };
        let map = self.maps.get_mut((segment - self.first) as usize);
        let freed = map.is_some_and(|map| map.set_free(page, pages));
        debug_assert!(freed, "what was not in use was freed");
    }

    fn longest(&self) -> u32 {
        let largest = self.maps.iter().filter_map(BuddyMap::largest_order).max();
        largest.map_or(0, |order| 1 << order)
    }

    fn shape(&self) -> Shape {
        let mut shape = Shape::new(&self.layout);
        for map in &self.maps {
            shape.add(map.free_runs());
        }
        shape
    }
}
