//! One segment: its bitmap and its page headers against each other, and both against its record.

use std::ops::{AddAssign, Range};
use std::sync::Arc;

use super::super::finding::{FindingKind, Findings};
use super::super::source::Source;
use super::{Table, record, region};
use crate::error::Result;
use crate::format::{HeaderKind, Layout, PAGE_HEADER_BYTES, PageHeader, Role, SegmentRecord, is_zero};

/// What a recount gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Bytes of extents and items.
    pub(super) allocated_bytes: u64,
    /// Bytes of regions that can be no item.
    pub(super) overhead_bytes: u64,
    /// Extents and items.
    pub(super) extents: u64,
    /// Pages in use that no extent covers.
    pub(super) leaked_pages: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.allocated_bytes += other.allocated_bytes;
        self.overhead_bytes += other.overhead_bytes;
        self.extents += other.extents;
        self.leaked_pages += other.leaked_pages;
    }
}

/// A segment as far as it has been read.
pub(super) struct Recount<'a> {
    pub(super) number: u32,
    pub(super) layout: Arc<Layout>,
    pub(super) table: &'a Table,
    pub(super) usable: Range<u32>,
    pub(super) record: Option<&'a SegmentRecord>,
    pub(super) findings: &'a mut Findings,
    /// By page; `None` when a block of the bitmap is damaged.
    pub(super) used: Option<Vec<bool>>,
    /// Pages that an extent covers.
    covered: Vec<bool>,
    /// The first page whose header cannot be read. From here on a page without a header may be part of an extent.
    pub(super) unknown_from: Option<u32>,
    /// Headers of extents that start here.
    pub(super) extents: u64,
    /// Their bytes, with those of the tail of a span.
    pub(super) extent_bytes: u64,
    pub(super) slack_bytes: u64,
    pub(super) newest: u32,
    /// Regions by number, with their headers.
    pub(super) regions: Vec<(u32, PageHeader)>,
    /// The header of a span that starts here.
    pub(super) span: Option<PageHeader>,
}

pub(super) fn check(
    source: &mut Source,
    table: &Table,
    number: u32,
    findings: &mut Findings,
) -> Result<Totals> {
    let layout = Arc::clone(&source.layout);
    let pages = layout.pages_per_segment() as usize;
    let mut recount = Recount {
        number,
        table,
        usable: layout.usable_range(number),
        record: table.record(number),
        findings,
        used: Some(vec![false; pages]),
        covered: vec![false; pages],
        unknown_from: None,
        extents: 0,
        extent_bytes: 0,
        slack_bytes: 0,
        newest: 0,
        regions: Vec::new(),
        span: None,
        layout,
    };
    recount.read_bitmap(source)?;
    recount.read_headers(source)?;
    let leaked_pages = recount.find_leaks();
    let items = region::check(&mut recount, source)?;
    record::compare(&mut recount, source, &items)?;
    let page_bytes = u64::from(recount.layout.page_bytes());
    let used = recount.used.iter().flatten().filter(|&&used| used).count() as u64;
    let region_bytes = recount.regions.len() as u64 * recount.layout.region_bytes();
    let span = recount.span.and(recount.record).and_then(SegmentRecord::span_segments).unwrap_or(0);
    let extent_bytes = (used.saturating_sub(leaked_pages) * page_bytes).saturating_sub(region_bytes)
        + u64::from(span) * recount.layout.segment_bytes();
    Ok(Totals {
        allocated_bytes: extent_bytes + items.bytes,
        overhead_bytes: region_bytes.saturating_sub(items.capacity_bytes),
        extents: recount.extents + items.count,
        leaked_pages,
    })
}

impl Recount<'_> {
    fn read_bitmap(&mut self, source: &mut Source) -> Result<()> {
        let per_block = self.layout.pages_per_bitmap_block();
        for block in 0..self.layout.bitmap_blocks() {
            let leaf = match source.leaf(self.layout.bitmap_leaf(self.number, block)) {
                Ok(leaf) => leaf,
                Err(error) => {
                    self.findings.damage(&error)?;
                    self.used = None;
                    continue;
                }
            };
            let Some(bytes) = leaf.bytes else { continue };
            let mut stray = None;
            for (at, &byte) in (0_u32..).zip(bytes.iter()).filter(|&(_, &byte)| byte != 0) {
                for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                    let page = block * u64::from(per_block) + u64::from(at) * 8 + bit;
                    let page = u32::try_from(page).ok().filter(|page| self.usable.contains(page));
                    match (page, &mut self.used) {
                        (Some(page), Some(used)) => {
                            if let Some(used) = used.get_mut(page as usize) {
                                *used = true;
                            }
                        }
                        (Some(_), None) => {}
                        (None, _) => stray = stray.or(Some(at)),
                    }
                }
            }
            if let Some(at) = stray {
                let message = format!("segment {}: marks pages that cannot be used", self.number);
                self.findings.add(FindingKind::Bitmap, leaf.offset + u64::from(at), message);
            }
        }
        Ok(())
    }

    fn read_headers(&mut self, source: &mut Source) -> Result<()> {
        let per_block = self.layout.headers_per_block();
        for block in 0..self.layout.header_blocks() {
            let first = u32::try_from(block).unwrap_or(u32::MAX).saturating_mul(per_block);
            let leaf = match source.leaf(self.layout.header_leaf(self.number, block)) {
                Ok(leaf) => leaf,
                Err(error) => {
                    self.findings.damage(&error)?;
                    self.unknown_from.get_or_insert(first);
                    continue;
                }
            };
            let Some(bytes) = leaf.bytes else { continue };
            let offsets = (leaf.offset..).step_by(PAGE_HEADER_BYTES);
            for ((page, bytes), offset) in (first..).zip(bytes.chunks_exact(PAGE_HEADER_BYTES)).zip(offsets) {
                if is_zero(bytes) {
                    continue;
                }
                let Some(header) = bytes.first_chunk().map(PageHeader::decode) else { continue };
                match header {
                    Ok(header) => self.take_header(page, &header, offset),
                    Err(reason) => {
                        self.unknown_from.get_or_insert(page);
                        let message = format!("segment {} page {page}: {reason}", self.number);
                        self.findings.add(FindingKind::PageHeader, offset, message);
                    }
                }
            }
        }
        Ok(())
    }

    fn take_header(&mut self, page: u32, header: &PageHeader, offset: u64) {
        let place = format!("segment {} page {page}", self.number);
        if !self.usable.contains(&page) {
            let message = format!("{place}: a header for a page that cannot be used");
            return self.findings.add(FindingKind::PageHeader, offset, message);
        }
        self.newest = self.newest.max(header.generation);
        if let Some(record) = self.record.filter(|record| header.generation > record.generation) {
            let message =
                format!("{place}: generation {} above the record's {}", header.generation, record.generation);
            self.findings.add(FindingKind::Generation, offset, message);
        }
        let page_bytes = u64::from(self.layout.page_bytes());
        let len = u64::from(header.pages) * page_bytes;
        let role = self.record.map(|record| record.role);
        let fits = match header.kind {
            HeaderKind::None => return,
            HeaderKind::Buddy | HeaderKind::Extent => {
                self.extents += 1;
                self.slack_bytes += header.slack_bytes(len, page_bytes);
                self.extent_bytes += len;
                matches!(role, None | Some(Role::Buddy | Role::Extent | Role::Slab))
            }
            HeaderKind::SpanTail => {
                self.check_tail(&place, page, header, offset);
                self.extent_bytes += len;
                matches!(role, None | Some(Role::Buddy | Role::Extent | Role::Slab))
            }
            HeaderKind::Region => {
                let number = page / self.layout.region_pages();
                let whole = header.pages == self.layout.region_pages()
                    && page.is_multiple_of(header.pages)
                    && self.layout.usable_regions(self.number).contains(&number);
                if !whole {
                    let message = format!("{place}: a region that is not where a region can be");
                    return self.findings.add(FindingKind::PageHeader, offset, message);
                }
                self.regions.push((number, *header));
                matches!(role, None | Some(Role::Slab))
            }
            HeaderKind::Span => {
                self.extents += 1;
                self.slack_bytes += header.slack_bytes(len, page_bytes);
                self.span = Some(*header);
                // Its pages are not in the bitmap.
                if page != 0 || !matches!(role, None | Some(Role::Span)) {
                    let message = format!("{place}: a span starts where none can");
                    self.findings.add(FindingKind::Span, offset, message);
                }
                return;
            }
        };
        if !fits {
            let message = format!("{place}: a {:?} in a segment of another role", header.kind);
            self.findings.add(FindingKind::Role, offset, message);
        }
        if header.kind == HeaderKind::Buddy && !page.is_multiple_of(header.pages) {
            let message =
                format!("{place}: an extent of {} pages is not aligned to its length", header.pages);
            self.findings.add(FindingKind::PageHeader, offset, message);
        }
        self.cover(&place, page, header.pages, offset);
    }

    /// Notes which pages belong to an extent.
    fn cover(&mut self, place: &str, page: u32, pages: u32, offset: u64) {
        let end = page.saturating_add(pages);
        if end > self.usable.end {
            let message = format!("{place}: an extent of {pages} pages reaches outside the segment");
            self.findings.add(FindingKind::PageHeader, offset, message);
        }
        let range = page as usize..end.min(self.usable.end) as usize;
        if let Some(used) = self.used.as_ref().and_then(|used| used.get(range.clone())) {
            let free = used.iter().filter(|&&used| !used).count();
            if free > 0 {
                let message = format!("{place}: {free} of the extent's {pages} pages are free in the bitmap");
                self.findings.add(FindingKind::PageHeader, offset, message);
            }
        }
        if let Some(covered) = self.covered.get_mut(range) {
            if covered.contains(&true) {
                let message = format!("{place}: pages of this extent belong to another one too");
                self.findings.add(FindingKind::Overlap, offset, message);
            }
            covered.fill(true);
        }
    }

    /// The tail of a span fits to its beginning.
    fn check_tail(&mut self, place: &str, page: u32, header: &PageHeader, offset: u64) {
        let head = u32::try_from(header.owner).ok().filter(|head| *head < self.number);
        let record = head.and_then(|head| self.table.record(head));
        let unread = head.is_some_and(|head| (self.table.first..self.table.frontier).contains(&head));
        let reaches = |record: &SegmentRecord| {
            let segments = record.span_segments().unwrap_or(0);
            head.and_then(|head| head.checked_add(segments)) == Some(self.number)
        };
        let fits = match record {
            Some(record) => reaches(record),
            // A record that cannot be read is a finding of its own.
            None => unread,
        };
        if page != 0 || !fits {
            let message = format!("{place}: the tail of a span that does not end here");
            self.findings.add(FindingKind::Span, offset, message);
        }
    }

    /// Pages in use that nobody owns, one finding for each run of them.
    fn find_leaks(&mut self) -> u64 {
        let known = self.unknown_from.unwrap_or(u32::MAX);
        let Some(used) = &self.used else { return 0 };
        let mut leaked = 0;
        let mut run: Option<(u32, u64)> = None;
        let ended = |findings: &mut Findings, layout: &Layout, number: u32, run: Option<(u32, u64)>| {
            if let Some((start, pages)) = run {
                let message = format!("segment {number} page {start}: {pages} pages in use without a header");
                findings.add(FindingKind::Leaked, layout.page_offset(number, start), message);
            }
        };
        for (page, (&used, &covered)) in (0_u32..known).zip(used.iter().zip(&self.covered)) {
            if used && !covered {
                leaked += 1;
                run = Some(run.map_or((page, 1), |(start, pages)| (start, pages + 1)));
            } else {
                ended(self.findings, &self.layout, self.number, run.take());
            }
        }
        ended(self.findings, &self.layout, self.number, run);
        leaked
    }
}
