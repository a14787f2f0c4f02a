//! Which extents exist: every handle is checked against headers, region heads and open transactions (rule 15).

use std::sync::atomic::Ordering;

use super::extent::{Extent, ExtentInfo};
use super::handle::{Core, Inner};
use super::load::{Fault, Missing};
use super::reserve::Reserved;
use crate::error::{Error, Result, Structure};
use crate::format::{HeaderKind, ItemMark, LeafAddress, PAGE_HEADER_BYTES, PageHeader, Role};
use crate::journal::BlockId;
use crate::space::{Content, Place, Region, Release};

/// A committed extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) extent: Extent,
    pub(super) owner: u64,
    pub(super) release: Release,
    /// The header; of an item, its region's.
    pub(super) header: PageHeader,
}

fn invalid(extent: &Extent, reason: &'static str) -> Fault {
    Fault::Error(Error::InvalidExtent { offset: extent.offset, len: extent.len, reason })
}

fn not_allocated(offset: u64, reason: &'static str) -> Fault {
    Fault::Error(Error::NotAllocated { offset, reason })
}

impl Inner {
    /// Reads a page header. Waits for the device if the block is not in memory.
    pub(super) fn read_header(&self, segment: u32, page: u32) -> Result<PageHeader> {
        let (leaf, offset) = self.layout().header_place(segment, page);
        let block = self.journal.read_leaf(leaf)?;
        let header = block.get(offset as usize..).and_then(|rest| rest.first_chunk());
        self.decode_header(segment, page, header)
    }

    /// Reads a page header, if its block is in memory.
    fn look_at_header(&self, core: &Core, segment: u32, page: u32) -> Result<PageHeader, Fault> {
        let (leaf, offset) = self.layout().header_place(segment, page);
        // No more than a copy is made while others wait for the block.
        let header = self.journal.overlay().look(BlockId::Metadata(leaf.0), |block| {
            block.get(offset as usize..).and_then(|rest| rest.first_chunk().copied())
        });
        let header = header.ok_or(Fault::Missing(Missing::Leaf(leaf)))?;
        core.cache_hits.store(core.cache_hits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(self.decode_header(segment, page, header.as_ref())?)
    }

    fn decode_header(
        &self,
        segment: u32,
        page: u32,
        header: Option<&[u8; PAGE_HEADER_BYTES]>,
    ) -> Result<PageHeader> {
        let end = self.layout().usable_range(segment).end;
        header
            .ok_or("short block")
            .and_then(PageHeader::decode)
            .and_then(|header| {
                let aligned = header.kind != HeaderKind::Buddy || page.is_multiple_of(header.pages.max(1));
                let fits = match header.kind {
                    HeaderKind::Span => page == 0 && header.pages < self.layout().pages_per_segment(),
                    HeaderKind::SpanTail => page == 0 && header.pages <= end,
                    _ => header.pages <= end.saturating_sub(page) && aligned,
                };
                if fits { Ok(header) } else { Err("extent misaligned, or beyond its segment") }
            })
            .map_err(|reason| self.corrupt_header(segment, page, reason))
    }

    pub(super) fn corrupt_header(&self, segment: u32, page: u32, reason: &str) -> Error {
        let (leaf, offset) = self.layout().header_place(segment, page);
        Error::corrupt(Structure::PageHeader, self.journal.leaf_offset(leaf) + u64::from(offset), reason)
    }

    /// Fails with what is missing if a block is not in memory.
    fn need_leaf(&self, leaf: LeafAddress) -> Result<(), Fault> {
        if self.journal.overlay().contains(BlockId::Metadata(leaf.0)) {
            Ok(())
        } else {
            Err(Fault::Missing(Missing::Leaf(leaf)))
        }
    }

    /// The committed extent that a handle means.
    pub(super) fn find_committed(&self, core: &Core, extent: &Extent) -> Result<Found, Fault> {
        let found = self.find_at_offset(core, extent)?;
        if found.extent.generation != extent.generation {
            return Err(not_allocated(extent.offset, "it was freed and the space used again"));
        }
        if found.extent.len != extent.len {
            return Err(invalid(extent, "the length is another one"));
        }
        Ok(found)
    }

    /// The committed extent that begins where a handle says.
    fn find_at_offset(&self, core: &Core, extent: &Extent) -> Result<Found, Fault> {
        let page_bytes = u64::from(self.layout().page_bytes());
        let page_start = extent.offset / page_bytes * page_bytes;
        let (segment, page) = self
            .layout()
            .page_at(page_start)
            .filter(|(segment, _)| core.space.segment_numbers().contains(segment))
            .ok_or_else(|| invalid(extent, "no extent can start there"))?;
        let Some(entry) = core.space.segment(segment) else {
            return Err(invalid(extent, "no extent can start there"));
        };
        match (&entry.content, entry.record.role) {
            // A region, or what is left of one; else pages.
            (Content::Slab(slab), Role::Slab)
                if slab.region(page / self.layout().region_pages()).is_some()
                    || extent.offset != page_start =>
            {
                return self.find_item(core, extent, segment, page);
            }
            (Content::Absent, Role::Slab) => return Err(Fault::Missing(Missing::Segment(segment))),
            (Content::Span(head), _) if (segment, page) != (*head, 0) => {
                let reason = "the offset is inside an extent";
                let span = core.space.segment(*head).is_some_and(|head| head.record.role == Role::Span);
                return Err(if span {
                    invalid(extent, reason)
                } else {
                    not_allocated(extent.offset, "it was freed")
                });
            }
            _ => {}
        }
        if extent.offset != page_start {
            return Err(invalid(extent, "no extent can start there"));
        }
        let header = self.look_at_header(core, segment, page)?;
        if matches!(header.kind, HeaderKind::None | HeaderKind::SpanTail | HeaderKind::Region) {
            let bitmap = page / self.layout().pages_per_bitmap_block();
            let leaf = self.layout().bitmap_leaf(segment, bitmap.into());
            self.need_leaf(leaf)?;
            let slab = matches!(entry.content, Content::Slab(_));
            return Err(if self.is_page_used(segment, page)? {
                invalid(extent, "the offset is inside an extent")
            } else if header.generation == 0 && !slab {
                invalid(extent, "no extent ever started there")
            } else {
                not_allocated(extent.offset, "it was freed")
            });
        }
        self.found(core, segment, page, &header)
    }

    /// A bit of a bitmap as the journal has it. Waits for the device if the block is not in memory.
    fn is_page_used(&self, segment: u32, page: u32) -> Result<bool> {
        let per_block = self.layout().pages_per_bitmap_block();
        let block = self.journal.read_leaf(self.layout().bitmap_leaf(segment, (page / per_block).into()))?;
        let bit = page % per_block;
        Ok(block.get(bit as usize / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1))
    }

    /// The extent that a header describes.
    fn found(&self, core: &Core, segment: u32, page: u32, header: &PageHeader) -> Result<Found, Fault> {
        let layout = self.layout();
        let page_bytes = u64::from(layout.page_bytes());
        let entry = core.space.segment(segment);
        let place = match header.kind {
            HeaderKind::Span => {
                let segments = entry.and_then(|entry| entry.record.span_segments());
                let segments = segments.ok_or_else(|| {
                    // The record is ahead of the header when a group is being made.
                    if entry.is_some_and(|entry| entry.in_flight > 0) {
                        not_allocated(layout.page_offset(segment, page), "it was freed")
                    } else {
                        self.corrupt_header(segment, page, "a span in another segment").into()
                    }
                })?;
                Place::Span { segment, segments, tail_pages: header.pages }
            }
            kind => Place::Run { segment, page, pages: header.pages, kind },
        };
        let free = match entry.map(|entry| &entry.content) {
            Some(Content::Buddy(map)) => !map.is_run_used(page, header.pages),
            Some(Content::Runs | Content::Slab(_)) => {
                core.space.run_map(segment).is_some_and(|map| !map.is_run_used(page, header.pages))
            }
            _ => false,
        };
        if free {
            return Err(self.corrupt_bitmap(segment, "pages of an extent are not in use").into());
        }
        if let Some(Content::Slab(slab)) = entry.map(|entry| &entry.content) {
            let region_pages = layout.region_pages();
            let mut regions = page / region_pages..(page + header.pages).div_ceil(region_pages);
            if regions.any(|region| slab.region(region).is_some()) {
                return Err(self.corrupt_header(segment, page, "an extent over a region").into());
            }
        }
        let (offset, len) = place.range(layout);
        let release = Release {
            place,
            generation: header.generation,
            slack_bytes: header.slack_bytes(len, page_bytes),
        };
        let extent = Extent { offset, len, generation: header.generation };
        Ok(Found { extent, owner: header.owner, release, header: *header })
    }

    /// The item that begins where a handle says, in a loaded segment.
    fn find_item(&self, core: &Core, extent: &Extent, segment: u32, page: u32) -> Result<Found, Fault> {
        let layout = self.layout();
        let place = page / layout.region_pages();
        let Some(Content::Slab(slab)) = core.space.segment(segment).map(|entry| &entry.content) else {
            return Err(Fault::Missing(Missing::Segment(segment)));
        };
        let start = layout.page_offset(segment, place * layout.region_pages());
        let Some(region) = slab.region(place).filter(|region| region.head().is_some() || !region.is_loaded())
        else {
            return Err(not_allocated(extent.offset, "no item is in use there"));
        };
        if !region.is_loaded() {
            return Err(Fault::Missing(Missing::Region(segment, place)));
        }
        let index = region.layout().item_at(extent.offset - start);
        let index = index.ok_or_else(|| invalid(extent, "no item starts there"))?;
        let (Some(used), Some((mark, owner))) = (region.is_used(index), region.item(index)) else {
            return Err(Fault::Missing(Missing::Region(segment, place)));
        };
        if !used {
            return Err(not_allocated(
                extent.offset,
                if mark.count == 0 { "it never was" } else { "it was freed" },
            ));
        }
        Ok(item(region, segment, place, index, mark, owner, start))
    }

    /// The extent that starts at `offset`, whatever its generation.
    pub(super) fn find_at(&self, core: &Core, offset: u64) -> Result<ExtentInfo, Fault> {
        if let Some(reserved) = core.reserved.get(&offset) {
            return Ok(ExtentInfo { extent: reserved.extent, owner: reserved.owner });
        }
        let found = self.find_at_offset(core, &Extent { offset, len: 0, generation: 0 })?;
        Ok(ExtentInfo { extent: found.extent, owner: found.owner })
    }

    /// The extent, committed or reserved, that holds a range of the device.
    pub(super) fn find_containing(&self, core: &Core, offset: u64, len: u64) -> Result<Extent, Fault> {
        let range = Extent { offset, len, generation: 0 };
        let outside = || invalid(&range, "the range is not inside one extent");
        let end = offset.checked_add(len).ok_or_else(|| invalid(&range, "the range is beyond the device"))?;
        let holds = |extent: &Extent| extent.offset <= offset && extent.end() >= end;
        if let Some(reserved) = core.reserved.values().find(|reserved| holds(&reserved.extent)) {
            return Ok(reserved.extent);
        }
        let page_bytes = u64::from(self.layout().page_bytes());
        let numbers = core.space.segment_numbers();
        let (segment, page) = self
            .layout()
            .page_at(offset / page_bytes * page_bytes)
            .filter(|(segment, _)| numbers.contains(segment))
            .ok_or_else(outside)?;
        let entry = core.space.segment(segment).ok_or_else(outside)?;
        let found = match (&entry.content, entry.record.role) {
            (Content::Span(head), _) => {
                let start = self.layout().page_offset(*head, 0);
                self.find_at_offset(core, &Extent { offset: start, len: 0, generation: 0 })?
            }
            (Content::Absent, Role::Slab) => return Err(Fault::Missing(Missing::Segment(segment))),
            (Content::Slab(slab), _) if slab.region(page / self.layout().region_pages()).is_some() => {
                let place = page / self.layout().region_pages();
                let start = self.layout().page_offset(segment, place * self.layout().region_pages());
                let layout = slab.region(place).ok_or_else(outside)?.layout();
                let within = (offset - start).checked_sub(layout.item_offset(0)).ok_or_else(outside)?;
                let item =
                    start + layout.item_offset(0) + within / layout.class().bytes() * layout.class().bytes();
                self.find_at_offset(core, &Extent { offset: item, len: 0, generation: 0 })?
            }
            _ => {
                // The nearest header in front of it, or at it.
                let mut start = page;
                let header = loop {
                    let header = self.look_at_header(core, segment, start)?;
                    if header.kind != HeaderKind::None {
                        break header;
                    }
                    start = start
                        .checked_sub(1)
                        .filter(|page| self.layout().usable_range(segment).contains(page))
                        .ok_or_else(outside)?;
                };
                match header.kind {
                    HeaderKind::Region => return Err(outside()),
                    HeaderKind::SpanTail => {
                        let head = u32::try_from(header.owner).map_err(|_| outside())?;
                        let start = self.layout().page_offset(head, 0);
                        self.find_at_offset(core, &Extent { offset: start, len: 0, generation: 0 })?
                    }
                    _ => self.found(core, segment, start, &header)?,
                }
            }
        };
        if holds(&found.extent) { Ok(found.extent) } else { Err(outside()) }
    }

    /// A handle's reservation, if it is of a transaction that is still open.
    pub(super) fn find_reserved<'a>(&self, core: &'a Core, extent: &Extent) -> Option<&'a Reserved> {
        core.reserved.get(&extent.offset).filter(|reserved| reserved.extent == *extent)
    }

    /// Checks that a handle may be read or written, in this range.
    pub(super) fn check_access(
        &self,
        core: &Core,
        extent: &Extent,
        within: u64,
        len: u64,
    ) -> Result<(), Fault> {
        let resized = core.resized.get(&extent.offset).is_some_and(|resized| resized.extent == *extent);
        if !resized && self.find_reserved(core, extent).is_none() {
            self.find_committed(core, extent)?;
        }
        match within.checked_add(len) {
            Some(end) if end <= extent.len => Ok(()),
            _ => Err(Error::InvalidExtent {
                offset: extent.offset.saturating_add(within),
                len,
                reason: "the range ends beyond the extent",
            }
            .into()),
        }
    }
}

/// An item in use.
pub(super) fn item(
    region: &Region,
    segment: u32,
    place: u32,
    index: u16,
    mark: ItemMark,
    owner: u64,
    start: u64,
) -> Found {
    let (class, tagged) = (region.layout().class(), region.layout().tagged());
    let extent = Extent {
        offset: start + region.layout().item_offset(index),
        len: class.bytes(),
        generation: ItemMark::generation(region.generation(), mark.count),
    };
    let place = Place::Item { segment, region: place, index, class, tagged };
    let release = Release { place, generation: region.generation(), slack_bytes: mark.slack_bytes(class) };
    Found { extent, owner, release, header: PageHeader::default() }
}
