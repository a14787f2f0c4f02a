//! Taking effect, of items: heads of regions, and regions that come and go.

use std::ops::Range;

use super::publish::{Publishing, RegionHeads, TouchedRegion, slack_u32};
use super::segment::Content;
use super::table::Space;
use crate::format::{ExtentChange, HeaderKind, PageHeader, Role};
use crate::ranges::merged;

impl Space {
    /// An item comes into use, with slack and owner, or is freed. What follows for its region comes when the batch is settled.
    pub(super) fn publish_item(
        &mut self,
        number: u32,
        place: u32,
        index: u16,
        used: Option<(u16, u64)>,
        work: &mut Publishing<'_>,
    ) {
        let changed = self.change_region(number, place, |region| {
            let was_on_disk = region.on_disk;
            let class = region.layout().class();
            let old = region.item(index).map_or(0, |(mark, _)| mark.slack_bytes(class));
            let (slack, owner) = used.unwrap_or_default();
            let places = region.write_item(index, used.is_some(), slack, owner);
            let new = region.item(index).map_or(0, |(mark, _)| mark.slack_bytes(class));
            if used.is_some() {
                region.reserved = region.reserved.saturating_sub(1);
                region.used += 1;
            } else {
                region.used = region.used.saturating_sub(1);
                region.pending += 1;
            }
            region.on_disk = region.used > 0;
            (was_on_disk, places, class.bytes(), slack_u32(old), slack_u32(new))
        });
        let Some((was_on_disk, places, class_bytes, old, new)) = changed else { return };
        let class_bytes = slack_u32(class_bytes);
        let touched = work
            .batch
            .regions
            .entry((number, place))
            .or_insert_with(|| TouchedRegion { was_on_disk, places: Vec::new() });
        touched.places.extend(places.into_iter().flatten());
        self.change_record(number, work, |record| {
            record.role = Role::Slab;
            if used.is_some() {
                record.extents = record.extents.saturating_add(1);
                record.item_bytes = record.item_bytes.saturating_add(class_bytes);
            } else {
                record.extents = record.extents.saturating_sub(1);
                record.item_bytes = record.item_bytes.saturating_sub(class_bytes);
            }
            record.slack_bytes = record.slack_bytes.saturating_add(new).saturating_sub(old);
        });
    }

    /// A region comes, goes, or has other items in use.
    pub(super) fn publish_region(
        &mut self,
        number: u32,
        place: u32,
        touched: TouchedRegion,
        work: &mut Publishing<'_>,
        heads: &mut RegionHeads,
    ) {
        let (region_pages, page) = (self.layout().region_pages(), place * self.layout().region_pages());
        let offset = self.layout().page_offset(number, page);
        let region_bytes = self.layout().region_bytes();
        let Some(Content::Slab(slab)) = self.segment(number).map(|segment| &segment.content) else { return };
        let Some(region) = slab.region(place) else { return };
        let capacity = u64::from(region.layout().capacity()) * region.layout().class().bytes();
        let capacity = slack_u32(capacity);
        let (is_on_disk, generation) = (region.on_disk, region.generation());
        let (open_classes, owner) = (slab.open_classes(), region.summary().encode());
        if is_on_disk && let Some(head) = region.head() {
            let mut push = |range: Range<usize>| {
                if let Some(bytes) = head.get(range.clone()) {
                    heads.bytes.push((offset + range.start as u64, bytes.to_vec()));
                }
            };
            if touched.was_on_disk {
                merged(touched.places).into_iter().for_each(&mut push);
            } else {
                push(0..head.len());
                let block_bytes = u64::from(self.layout().block_bytes());
                heads.fresh.push(offset / block_bytes..(offset + region_bytes) / block_bytes);
            }
        }
        match (touched.was_on_disk, is_on_disk) {
            (false, true) => {
                self.change_record(number, work, |record| {
                    record.used_pages = record.used_pages.saturating_add(region_pages);
                    record.capacity_bytes = record.capacity_bytes.saturating_add(capacity);
                    record.generation = record.generation.max(generation);
                });
            }
            (true, false) => {
                self.change_record(number, work, |record| {
                    record.used_pages = record.used_pages.saturating_sub(region_pages);
                    record.capacity_bytes = record.capacity_bytes.saturating_sub(capacity);
                });
            }
            _ => {}
        }
        self.change_record(number, work, |record| record.open_classes = open_classes);
        let header =
            PageHeader { owner, generation, kind: HeaderKind::Region, pages: region_pages, slack: 0 };
        let change = match (touched.was_on_disk, is_on_disk) {
            (false, true) => ExtentChange::Begin { header },
            (true, true) => ExtentChange::Replace { was_pages: region_pages, header },
            (true, false) => ExtentChange::End { pages: region_pages },
            (false, false) => return,
        };
        work.blocks.extent(number, page, change);
    }
}
