//! The bitmap and the page headers of one segment.

use super::super::bytes::{is_zero, u32_at, u64_at};
use super::super::flaw::Flaw;
use super::super::layout::Layout;
use super::bitmap::Bitmap;
use super::record::Record;

pub(in super::super) const HEADER: usize = 16;
/// The bits of a header's shape: the kind, then the length in pages, then the slack.
const KIND_BITS: u32 = 4;
const PAGES_BITS: u32 = 19;

/// A segment of the device.
pub(super) struct Segment<'a> {
    pub number: usize,
    pub layout: &'a Layout,
    pub bitmap: Bitmap<'a>,
    headers: &'a [u8],
}

/// What starts at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Buddy,
    Extent,
    Region,
    Span,
    Tail,
}

/// A page header of something that is in use.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Header {
    /// Counted from the start of the segment.
    pub page: usize,
    pub owner: u64,
    pub generation: u32,
    pub kind: Kind,
    pub pages: usize,
    /// In units that depend on the kind.
    slack: u32,
}

impl Header {
    /// Reads what starts at a page, if something does.
    ///
    /// # Errors
    /// What is wrong with the header in itself.
    pub(in super::super) fn read(page: usize, bytes: &[u8; HEADER]) -> Result<Option<Self>, &'static str> {
        let (owner, generation, shape) = (u64_at(bytes, 0), u32_at(bytes, 8), u32_at(bytes, 12));
        let kind = match shape & ((1 << KIND_BITS) - 1) {
            0 if owner != 0 || shape != 0 => {
                return Err("nothing starts here, but the header has an owner or a shape");
            }
            0 => return Ok(None),
            1 => Kind::Buddy,
            2 => Kind::Extent,
            3 => Kind::Region,
            4 => Kind::Span,
            5 => Kind::Tail,
            _ => return Err("its header is of no known kind"),
        };
        if generation == 0 {
            return Err("something starts here that has no generation");
        }
        let pages = (shape >> KIND_BITS & ((1 << PAGES_BITS) - 1)) as usize;
        let slack = shape >> (KIND_BITS + PAGES_BITS);
        if slack != 0 && matches!(kind, Kind::Region | Kind::Tail) {
            return Err("its header has slack, but is of a kind that has none");
        }
        Ok(Some(Self { page, owner, generation, kind, pages, slack }))
    }

    /// What was allocated and not asked for, in bytes.
    pub(super) fn slack_bytes(&self, page_bytes: u64) -> u64 {
        let unit = match self.kind {
            Kind::Buddy => self.pages as u64 * page_bytes / 512,
            Kind::Extent | Kind::Span => page_bytes / 512,
            Kind::Region | Kind::Tail => 0,
        };
        u64::from(self.slack) * unit
    }
}

impl<'a> Segment<'a> {
    pub(super) fn new(layout: &'a Layout, leaves: &'a [u8], number: usize) -> Self {
        Self {
            number,
            layout,
            bitmap: Bitmap {
                bytes: leaves.get(layout.bitmap(number)).unwrap_or_default(),
                usable: layout.usable_of(number),
            },
            headers: leaves.get(layout.headers(number)).unwrap_or_default(),
        }
    }

    /// Whether bitmap and headers are as they were when the store was made.
    pub(super) fn is_untouched(&self) -> bool {
        self.bitmap.is_empty() && is_zero(self.headers)
    }

    /// A page of the segment, counted from the start of the device.
    pub(super) const fn page_of_device(&self, page: usize) -> u64 {
        (self.number * self.layout.pages_of_segment + page) as u64
    }

    /// Where a page of the segment lies on the device.
    pub(super) const fn offset(&self, page: usize) -> u64 {
        self.page_of_device(page) * self.layout.page_bytes
    }

    pub(super) fn flaw(&self, what: &'static str) -> Flaw {
        Flaw::segment(self.number, what)
    }

    pub(super) fn page_flaw(&self, page: usize, what: &'static str) -> Flaw {
        Flaw::page(self.page_of_device(page), what)
    }

    /// Checks a segment that nothing is in use in, or of which a span that begins before it has all.
    pub(super) fn check_empty(&self, record: &Record) -> Result<(), Flaw> {
        if !self.bitmap.is_empty() {
            return Err(self.flaw("it has no role, but pages in use"));
        }
        self.each_header(record, |header| Err(self.page_flaw(header.page, "its segment has no role")))
    }

    /// Calls for the header of each thing that is in use, by page. All headers are checked to be right in themselves.
    pub(super) fn each_header(
        &self,
        record: &Record,
        mut visit: impl FnMut(Header) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        let (headers, behind) =
            self.headers.split_at(self.headers.len().min(self.layout.pages_of_segment * HEADER));
        if !is_zero(behind) {
            return Err(self.flaw("there is a header behind its last page"));
        }
        let headers = headers.as_chunks::<HEADER>().0.iter();
        for (page, header) in headers.enumerate().filter(|(_, header)| u128::from_le_bytes(**header) != 0) {
            if let Some(header) = self.header(page, header, record)? {
                visit(header)?;
            }
        }
        Ok(())
    }

    fn header(&self, page: usize, bytes: &[u8; HEADER], record: &Record) -> Result<Option<Header>, Flaw> {
        let flaw = |what| self.page_flaw(page, what);
        if !self.bitmap.usable.contains(&page) {
            return Err(flaw("it cannot be used, but has a header"));
        }
        if u32_at(bytes, 8) > record.generation {
            return Err(flaw("its generation is above that of its segment"));
        }
        Header::read(page, bytes).map_err(flaw)
    }
}

/// Puts what the headers of a segment describe next to each other, against the bitmap.
pub(super) struct Cover<'a> {
    segment: &'a Segment<'a>,
    /// Behind the last page so far.
    end: usize,
    pages: usize,
}

impl<'a> Cover<'a> {
    pub(super) const fn of(segment: &'a Segment<'a>) -> Self {
        Self { segment, end: 0, pages: 0 }
    }

    /// Takes the pages of the next header.
    pub(super) fn add(&mut self, header: &Header) -> Result<(), Flaw> {
        let flaw = |what| Err(self.segment.page_flaw(header.page, what));
        let end = header.page + header.pages;
        if header.pages == 0 || end > self.segment.bitmap.usable.end {
            return flaw("its header has a length that cannot be");
        }
        if header.page < self.end {
            return flaw("it lies in what starts before it");
        }
        if !self.segment.bitmap.covers(header.page..end) {
            return flaw("what starts here has pages that are not in use");
        }
        self.end = end;
        self.pages += header.pages;
        Ok(())
    }

    /// The number of pages in use, all of which belong to something.
    pub(super) fn finish(self) -> Result<usize, Flaw> {
        match self.segment.bitmap.count() {
            None => Err(self.segment.flaw("pages that cannot be used are in use")),
            Some(used) if used != self.pages => {
                Err(self.segment.flaw("pages are in use that belong to nothing"))
            }
            Some(used) => Ok(used),
        }
    }
}
