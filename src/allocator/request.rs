//! The front door: which role a request goes to.

use super::extent::AllocRequest;
use crate::error::{Error, Result};
use crate::format::{ItemClass, Layout};
use crate::space::{Exactly, Request, Wanted};

impl AllocRequest {
    /// Checks the request against itself.
    fn validate(&self) -> Result<()> {
        if self.bytes == 0 {
            return Err(Error::InvalidSize("an extent has at least one byte".to_owned()));
        }
        if !self.align_bytes.is_power_of_two() {
            return Err(Error::InvalidRequest("an alignment is a power of two"));
        }
        if !(1..=Self::MAX_EXTENTS).contains(&self.max_extents) {
            return Err(Error::InvalidRequest("an allocation has 1 to 8 extents"));
        }
        if self.max_extents > 1 && (self.power_of_two || self.align_bytes > 1 || self.at.is_some()) {
            return Err(Error::InvalidRequest(
                "several extents go with neither an alignment, nor a power of two, nor a given place",
            ));
        }
        if self.power_of_two && self.align_bytes > 1 {
            return Err(Error::InvalidRequest("a power of two is aligned to its own length already"));
        }
        Ok(())
    }

    /// There is no place for it now.
    pub(super) fn no_run(&self) -> Error {
        self.no_space(if self.at.is_some() {
            "not all of it is free where it was asked for"
        } else {
            "no free run is long enough"
        })
    }

    pub(super) fn no_space(&self, reason: &'static str) -> Error {
        Error::NoSpace { requested: self.bytes, reason }
    }

    /// What is wanted of space.
    ///
    /// # Errors
    /// [`Error::InvalidSize`], [`Error::InvalidRequest`], and [`Error::NoSpace`] for what no state of the store could
    /// give.
    pub(super) fn resolve(&self, layout: &Layout) -> Result<Request> {
        self.validate()?;
        let page_bytes = u64::from(layout.page_bytes());
        if self.bytes > layout.device_bytes() {
            return Err(self.no_space("the device is smaller"));
        }
        if self.align_bytes > layout.segment_bytes() {
            return Err(self.no_space("a segment is smaller than the alignment"));
        }
        let at = self.at.map(|offset| self.place_at(layout, offset)).transpose()?;
        let near = self.near.and_then(|extent| {
            // Behind the last byte of a segment there is another one: then the hint is just the segment.
            let (segment, _) = layout.page_at(extent.offset / page_bytes * page_bytes)?;
            let behind = extent.end().checked_next_multiple_of(page_bytes);
            let behind = behind.and_then(|end| layout.page_at(end));
            let behind = behind.filter(|(number, _)| *number == segment);
            Some(behind.map_or(Exactly { segment, page: 0 }, |(segment, page)| Exactly { segment, page }))
        });
        let request = |wanted| Ok(Request { wanted, at, near, group: self.group });
        let pages = self.bytes.div_ceil(page_bytes);
        if self.bytes > layout.segment_bytes() {
            if self.power_of_two {
                return Err(self.no_space("a segment is smaller, and no power of two is larger"));
            }
            if at.is_some() {
                return Err(self.no_space("a segment is smaller, and a span cannot be put at a given place"));
            }
            let per_segment = u64::from(layout.pages_per_segment());
            let (segments, tail) = (pages / per_segment, pages % per_segment);
            let segments = u32::try_from(segments).ok().filter(|&count| count <= layout.segment_count());
            return request(Wanted::Span {
                segments: segments.ok_or_else(|| self.no_space("the device is smaller"))?,
                tail_pages: u32::try_from(tail).unwrap_or(0),
            });
        }
        if self.power_of_two {
            let order = pages.next_power_of_two().ilog2();
            return request(Wanted::Buddy { order: u8::try_from(order).unwrap_or(u8::MAX) });
        }
        let tagged = self.owner != 0;
        let class =
            ItemClass::for_bytes(self.bytes).filter(|&class| layout.region_layout(class, tagged).is_some());
        if let Some(class) = class.filter(|_| self.align_bytes == 1 && at.is_none()) {
            return request(Wanted::Item { class, tagged });
        }
        let align = u32::try_from(self.align_bytes.div_ceil(page_bytes)).unwrap_or(1);
        request(Wanted::Run { pages: u32::try_from(pages).unwrap_or(u32::MAX), align })
    }

    fn place_at(&self, layout: &Layout, offset: u64) -> Result<Exactly> {
        let invalid = |reason| Error::InvalidExtent { offset, len: self.bytes, reason };
        if !offset.is_multiple_of(self.align_bytes) {
            return Err(invalid("the place is not aligned as asked for"));
        }
        let (segment, page) = layout.page_at(offset).ok_or_else(|| invalid("no extent can start there"))?;
        let pages = self.bytes.div_ceil(layout.page_bytes().into());
        if self.power_of_two && !u64::from(page).is_multiple_of(pages.next_power_of_two()) {
            return Err(invalid("a power of two is aligned to its length"));
        }
        Ok(Exactly { segment, page })
    }
}
