//! Which extents exist: every handle is checked against page headers and open transactions (rule 15).

use super::extent::{Extent, ExtentInfo};
use super::handle::{Core, Inner, Reserved};
use crate::error::{Error, Result, Structure};
use crate::format::{HeaderKind, LeafAddress, PAGE_HEADER_BYTES, PageHeader};
use crate::space::Release;

fn invalid(extent: &Extent, reason: &'static str) -> Error {
    Error::InvalidExtent { offset: extent.offset, len: extent.len, reason }
}

impl Inner {
    /// The metadata block with the header of the page at `offset`, when there is such a page below the frontier.
    pub(super) fn header_leaf(&self, core: &Core, offset: u64) -> Option<LeafAddress> {
        let (segment, page) = self.layout().page_at(offset)?;
        core.space.segment_numbers().contains(&segment).then(|| self.layout().header_place(segment, page).0)
    }

    /// Reads a page header. The block should be in memory already, or this waits for the device.
    pub(super) fn read_header(&self, segment: u32, page: u32) -> Result<PageHeader> {
        let (leaf, offset) = self.layout().header_place(segment, page);
        let block = self.journal.read_leaf(leaf)?;
        let end = self.layout().usable_range(segment).end;
        block
            .get(offset as usize..)
            .and_then(|rest| rest.first_chunk::<PAGE_HEADER_BYTES>())
            .ok_or("short block")
            .and_then(PageHeader::decode)
            .and_then(|header| {
                let fits =
                    header.pages <= end.saturating_sub(page) && page.is_multiple_of(header.pages.max(1));
                if fits { Ok(header) } else { Err("extent misaligned, or beyond its segment") }
            })
            .map_err(|reason| {
                let offset = self.journal.leaf_offset(leaf) + u64::from(offset);
                Error::corrupt(Structure::PageHeader, offset, reason)
            })
    }

    /// The committed extent that a handle means, and its owner.
    pub(super) fn find_committed(&self, core: &Core, extent: &Extent) -> Result<(Release, u64)> {
        let layout = self.layout();
        let (segment, page) = layout
            .page_at(extent.offset)
            .filter(|(segment, _)| core.space.segment_numbers().contains(segment))
            .ok_or_else(|| invalid(extent, "no extent can start there"))?;
        let header = self.read_header(segment, page)?;
        if header.kind == HeaderKind::None {
            let maps = core.space.segment(segment).and_then(|segment| segment.maps.as_ref());
            let in_use = maps.is_some_and(|maps| !maps.committed.is_free(page));
            return Err(if in_use {
                invalid(extent, "the offset is inside an extent")
            } else if header.generation == 0 {
                invalid(extent, "no extent ever started there")
            } else {
                Error::NotAllocated { offset: extent.offset, reason: "it was freed" }
            });
        }
        if header.generation != extent.generation {
            return Err(Error::NotAllocated {
                offset: extent.offset,
                reason: "it was freed and the space used again",
            });
        }
        if u64::from(header.pages) * u64::from(layout.page_bytes()) != extent.len {
            return Err(invalid(extent, "the length is another one"));
        }
        let maps = core.space.segment(segment).and_then(|segment| segment.maps.as_ref());
        if maps.is_some_and(|maps| !maps.committed.is_run_used(page, header.pages)) {
            let offset = self.journal.leaf_offset(layout.bitmap_leaf(segment, 0));
            return Err(Error::corrupt(Structure::Bitmap, offset, "pages of an extent are not in use"));
        }
        Ok((Release { segment, page, pages: header.pages, generation: header.generation }, header.owner))
    }

    /// The extent that starts at `offset`, whatever its generation.
    pub(super) fn find_at(&self, core: &Core, offset: u64) -> Result<ExtentInfo> {
        if let Some(reserved) = core.reserved.get(&offset) {
            return Ok(ExtentInfo { extent: reserved.extent, owner: reserved.owner });
        }
        let unknown = Extent { offset, len: 0, generation: 0 };
        let Some((segment, page)) = self
            .layout()
            .page_at(offset)
            .filter(|(segment, _)| core.space.segment_numbers().contains(segment))
        else {
            return Err(invalid(&unknown, "no extent can start there"));
        };
        let header = self.read_header(segment, page)?;
        let len = u64::from(header.pages) * u64::from(self.layout().page_bytes());
        let extent = Extent { offset, len, generation: header.generation };
        if header.kind == HeaderKind::None {
            return Err(self
                .find_committed(core, &unknown)
                .err()
                .unwrap_or(Error::Internal("header changed")));
        }
        if core.claimed.contains(&offset) {
            return Err(Error::NotAllocated { offset, reason: "an open transaction frees it" });
        }
        Ok(ExtentInfo { extent, owner: header.owner })
    }

    /// The extent, committed or reserved, that holds a range of the device.
    pub(super) fn find_containing(&self, core: &Core, offset: u64, len: u64) -> Result<Extent> {
        let range = Extent { offset, len, generation: 0 };
        let end = offset.checked_add(len).ok_or_else(|| invalid(&range, "the range is beyond the device"))?;
        let page_bytes = u64::from(self.layout().page_bytes());
        // A run of 2^k pages starts at a multiple of its length.
        for order in 0..=self.layout().max_order() {
            let start = offset & !((page_bytes << order) - 1);
            let found = match core.reserved.get(&start) {
                Some(reserved) => Some(reserved.extent),
                None => match self.layout().page_at(start) {
                    Some((segment, page)) if core.space.segment_numbers().contains(&segment) => {
                        let header = self.read_header(segment, page)?;
                        let len = u64::from(header.pages) * page_bytes;
                        (header.kind != HeaderKind::None).then_some(Extent {
                            offset: start,
                            len,
                            generation: header.generation,
                        })
                    }
                    _ => None,
                },
            };
            if let Some(extent) = found
                && extent.end() >= end
            {
                return Ok(extent);
            }
        }
        Err(invalid(&range, "the range is not inside one extent"))
    }

    /// A handle's reservation, if it is of a transaction that is still open.
    pub(super) fn find_reserved<'a>(&self, core: &'a Core, extent: &Extent) -> Option<&'a Reserved> {
        core.reserved.get(&extent.offset).filter(|reserved| reserved.extent == *extent)
    }

    /// Checks that a handle may be read or written directly, in this range.
    pub(super) fn check_access(&self, core: &Core, extent: &Extent, within: u64, len: u64) -> Result<()> {
        if self.find_reserved(core, extent).is_none() {
            self.find_committed(core, extent)?;
        }
        match within.checked_add(len) {
            Some(end) if end <= extent.len => Ok(()),
            _ => Err(Error::InvalidExtent {
                offset: extent.offset.saturating_add(within),
                len,
                reason: "the range ends beyond the extent",
            }),
        }
    }
}
