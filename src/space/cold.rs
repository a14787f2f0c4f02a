//! Bringing segments into memory, and dropping them again.

use std::collections::BTreeSet;

use super::buddy_map::BuddyMap;
use super::runs::RunMap;
use super::segment::{Content, order_of_run};
use super::slab::{Region, SlabSegment};
use super::table::Space;
use crate::format::Role;

/// The longest run of free pages, aligned or not.
pub(super) fn longest_run(map: &BuddyMap) -> u32 {
    map.free_runs().map(|(_, pages)| pages).max().unwrap_or(0)
}

impl Space {
    /// Takes a segment's bitmap, as read from its blocks when the segment had `version`; of a segment of role `slab`,
    /// also its regions. A segment that changed since is left as it is: the caller reads it again.
    ///
    /// # Errors
    /// A description of how bitmap, regions and record contradict each other.
    pub fn load_segment(
        &mut self,
        number: u32,
        version: u32,
        used: &[u8],
        regions: Vec<(u32, Region)>,
    ) -> Result<(), String> {
        let pages = self.layout().pages_per_segment();
        let usable = self.layout().usable_range(number);
        let Some(segment) = self.segment(number) else {
            return Err("segment beyond the frontier".to_owned());
        };
        if !segment.is_cold() || segment.version != version {
            return Ok(());
        }
        let record = segment.record;
        let misplaced = |page| format!("page {page} cannot be in use");
        let counted = |free: u32| {
            let used_pages = u32::try_from(usable.len()).unwrap_or(u32::MAX).saturating_sub(free);
            if used_pages == record.used_pages {
                Ok(())
            } else {
                Err(format!("{used_pages} pages in use, {} in the record", record.used_pages))
            }
        };
        let bounded = |order: Option<u8>| {
            if order <= record.class {
                Ok(())
            } else {
                Err(format!("a free run of order {order:?}, at most {:?} by the record", record.class))
            }
        };
        match record.role {
            Role::Buddy => {
                let map = BuddyMap::from_used_bytes(pages, usable.clone(), used).map_err(misplaced)?;
                counted(map.free_pages())?;
                bounded(map.largest_order())?;
                self.set_content(number, Content::Buddy(Box::new(map)));
            }
            Role::Extent => {
                let map = RunMap::from_used_bytes(pages, usable.clone(), used).map_err(misplaced)?;
                counted(map.free_pages())?;
                bounded(order_of_run(map.longest()))?;
                self.runs.attach(number, map);
                self.set_content(number, Content::Runs);
            }
            Role::Slab => {
                let map = RunMap::from_used_bytes(pages, usable.clone(), used).map_err(misplaced)?;
                counted(map.free_pages())?;
                self.load_slab(number, map, regions)?;
            }
            Role::Unused | Role::Span => {}
        }
        Ok(())
    }

    fn load_slab(&mut self, number: u32, map: RunMap, regions: Vec<(u32, Region)>) -> Result<(), String> {
        let region_pages = self.layout().region_pages();
        let mut slab = SlabSegment::default();
        let (mut items, mut bytes, mut capacity) = (0_u32, 0_u64, 0_u64);
        for (place, region) in regions {
            if !map.is_run_used(place * region_pages, region_pages) {
                return Err(format!("region {place} is not in use"));
            }
            let class = region.layout.class().bytes();
            items += u32::from(region.used);
            bytes += u64::from(region.used) * class;
            capacity += u64::from(region.layout.capacity()) * class;
            if region.used > region.layout.capacity() {
                return Err(format!("region {place} has more items than room"));
            }
            slab.count_open(region.layout.class(), false, region.is_open());
            slab.regions.insert(place, region);
        }
        let Some(segment) = self.segment(number) else { return Ok(()) };
        let record = segment.record;
        let region_pages = slab.regions.len() as u64 * u64::from(region_pages);
        // The pages in use that belong to no region are those of extents.
        let Some(pages) = u64::from(record.used_pages).checked_sub(region_pages) else {
            return Err("more regions than pages in use".to_owned());
        };
        let extents = pages * u64::from(self.layout().page_bytes());
        if (bytes + extents, capacity + extents) != (record.item_bytes.into(), record.capacity_bytes.into())
            || items > record.extents
            || slab.open_classes() != record.open_classes
        {
            return Err("the regions are not what the record says".to_owned());
        }
        let regions: Vec<_> = slab
            .regions
            .iter()
            .map(|(place, region)| (*place, (region.layout.class(), region.layout.tagged())))
            .collect();
        self.slab_runs.attach(number, map);
        self.set_content(number, Content::Slab(Box::new(slab)));
        for (place, kind) in regions {
            self.reindex_region(number, place, kind);
        }
        Ok(())
    }

    /// Takes the head of a region, as read when the segment had been loaded for the `loads`-th time. Others may have changed other
    /// regions since, but nobody a region whose head is not here. If the segment was loaded once more, or somebody else has
    /// loaded the region, nothing happens.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load_region(
        &mut self,
        number: u32,
        loads: u32,
        region: u32,
        head: Vec<u8>,
    ) -> Result<(), &'static str> {
        let Some(segment) = self.segment_mut(number).filter(|segment| segment.loads == loads) else {
            return Ok(());
        };
        if let Content::Slab(slab) = &mut segment.content
            && let Some(region) = slab.regions.get_mut(&region).filter(|region| !region.is_loaded())
        {
            region.load(head)?;
            region.advance(segment.item_lead);
        }
        Ok(())
    }

    /// Gives a segment its content; the index follows.
    pub(super) fn set_content(&mut self, number: u32, content: Content) {
        if let Some(segment) = self.segment_mut(number) {
            segment.content = content;
            segment.loads = segment.loads.wrapping_add(1);
            segment.known_longest = None;
            segment.known_open = None;
            segment.known_run = None;
        }
        self.grown = true;
        self.touch(number);
        self.reindex_content(number);
    }

    /// Gives an empty segment a role in memory. False if it is not empty.
    pub(super) fn adopt(&mut self, number: u32, role: Role) -> bool {
        if !self.segment(number).is_some_and(super::Segment::is_empty) {
            return false;
        }
        self.drop_content(number);
        let (pages, usable) = (self.layout().pages_per_segment(), self.layout().usable_range(number));
        let content = match role {
            Role::Extent => {
                self.runs.attach(number, RunMap::new(pages, usable));
                Content::Runs
            }
            Role::Buddy => Content::Buddy(Box::new(BuddyMap::new(pages, usable))),
            Role::Slab => {
                self.slab_runs.attach(number, RunMap::new(pages, usable));
                Content::Slab(Box::default())
            }
            Role::Unused | Role::Span => Content::Absent,
        };
        self.set_content(number, content);
        true
    }

    /// Drops what is loaded of a segment, which must be idle. What is left knows how long its longest run is.
    pub(super) fn drop_content(&mut self, number: u32) {
        let Some(segment) = self.segment_mut(number) else { return };
        let content = std::mem::take(&mut segment.content);
        let (mut open_kinds, mut run, mut lead) = (BTreeSet::new(), None, 0);
        let longest = match &content {
            Content::Buddy(map) => {
                run = Some(longest_run(map));
                Some(map.largest_order().map_or(0, |order| 1 << order))
            }
            Content::Runs => Some(self.runs.detach(number).map_or(0, |map| map.longest())),
            Content::Slab(slab) => {
                let kinds = |(place, region): (&u32, &Region)| {
                    (*place, (region.layout.class(), region.layout.tagged()))
                };
                for (place, kind) in slab.regions.iter().map(kinds) {
                    self.index.set_open(kind, (number, place), false);
                }
                let open = slab.regions.values().filter(|region| region.has_room());
                lead = slab.regions.values().map(Region::lead).max().unwrap_or(0);
                open_kinds = open.map(|region| (region.layout.class(), region.layout.tagged())).collect();
                Some(self.slab_runs.detach(number).map_or(0, |map| map.longest()))
            }
            Content::Absent | Content::Span(_) => None,
        };
        if let Some(segment) = self.segment_mut(number) {
            segment.known_longest = longest;
            segment.known_run = run;
            segment.item_lead = segment.item_lead.max(lead);
            segment.known_open = matches!(content, Content::Slab(_)).then_some(open_kinds);
        }
        self.reindex_content(number);
    }

    /// Whether maps or heads came into memory since this was asked last.
    pub fn take_grown(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }

    /// Bytes of what can be dropped and loaded again: bitmaps and the indexes over them.
    #[must_use]
    pub fn loaded_bytes(&self) -> usize {
        let other = |segment: &super::Segment| match &segment.content {
            Content::Buddy(map) => map.memory_bytes(),
            Content::Slab(slab) => slab.memory_bytes(),
            _ => 0,
        };
        let runs = [&self.runs, &self.slab_runs].map(|runs| runs.memory_bytes() + runs.index_bytes());
        runs.iter().sum::<usize>() + self.segments.iter().map(other).sum::<usize>()
    }

    /// Drops the segments that were not used for longest, until what is loaded takes at most `budget` bytes or none
    /// is left that can be dropped. `keep` stays.
    pub fn drop_cold(&mut self, budget: usize, keep: u32) {
        if self.loaded_bytes() <= budget {
            return;
        }
        let mut idle: Vec<(u64, u32)> = self
            .segment_numbers()
            .zip(&self.segments)
            .filter(|(number, segment)| {
                let loaded = !matches!(segment.content, Content::Absent | Content::Span(_));
                *number != keep && loaded && segment.is_idle()
            })
            .map(|(number, segment)| (segment.last_used, number))
            .collect();
        idle.sort_unstable();
        // A quarter more than needed, so that this is not for every segment that comes.
        let goal = budget / 4 * 3;
        for chunk in idle.chunks(16) {
            if self.loaded_bytes() <= goal {
                break;
            }
            for &(_, number) in chunk {
                self.drop_content(number);
            }
        }
    }
}
