//! One segment: its bitmap, its page headers and its record against each other.

use std::ops::{AddAssign, Range};
use std::sync::Arc;

use super::super::finding::{FindingKind, Findings};
use super::super::source::Source;
use crate::error::Result;
use crate::format::{HeaderKind, Layout, PAGE_HEADER_BYTES, PageHeader, Role, SegmentRecord, is_zero};

/// What a recount gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Pages in use by the bitmap.
    pub(super) used_pages: u64,
    /// Extents by the headers.
    pub(super) extents: u64,
    /// Pages in use that no extent covers.
    pub(super) leaked_pages: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.used_pages += other.used_pages;
        self.extents += other.extents;
        self.leaked_pages += other.leaked_pages;
    }
}

/// A segment as far as it has been read.
struct Recount<'a> {
    number: u32,
    layout: Arc<Layout>,
    usable: Range<u32>,
    record: Option<&'a SegmentRecord>,
    findings: &'a mut Findings,
    /// By page; `None` when a block of the bitmap is damaged.
    used: Option<Vec<bool>>,
    /// Pages that an extent covers.
    covered: Vec<bool>,
    /// The first page whose header cannot be read. From here on a page without a header may be part of an extent.
    unknown_from: Option<u32>,
    extents: u64,
}

pub(super) fn check(
    source: &mut Source,
    number: u32,
    record: Option<&SegmentRecord>,
    findings: &mut Findings,
) -> Result<Totals> {
    let layout = Arc::clone(&source.layout);
    let mut recount = Recount {
        number,
        usable: layout.usable_range(number),
        record,
        findings,
        used: Some(vec![false; layout.pages_per_segment() as usize]),
        covered: vec![false; layout.pages_per_segment() as usize],
        unknown_from: None,
        extents: 0,
        layout,
    };
    recount.read_bitmap(source)?;
    recount.read_headers(source)?;
    let leaked_pages = recount.find_leaks();
    recount.compare_record(source)?;
    let used = recount.used.iter().flatten().filter(|&&used| used).count();
    Ok(Totals { used_pages: used as u64, extents: recount.extents, leaked_pages })
}

/// The order of the largest free, naturally aligned run: pairs of free halves make free wholes.
fn largest_free_order(mut free: Vec<bool>) -> Option<u8> {
    let mut largest = None;
    for order in 0_u8.. {
        if !free.contains(&true) {
            break;
        }
        largest = Some(order);
        if free.len() < 2 {
            break;
        }
        free = free.chunks(2).map(|pair| pair == [true, true]).collect();
    }
    largest
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
        if let Some(record) = self.record.filter(|record| header.generation > record.generation) {
            let message =
                format!("{place}: generation {} above the record's {}", header.generation, record.generation);
            self.findings.add(FindingKind::Generation, offset, message);
        }
        if header.kind == HeaderKind::None {
            return;
        }
        self.extents += 1;
        if !page.is_multiple_of(header.pages) {
            let message =
                format!("{place}: an extent of {} pages is not aligned to its length", header.pages);
            self.findings.add(FindingKind::PageHeader, offset, message);
        }
        let end = page.saturating_add(header.pages);
        if end > self.usable.end {
            let message = format!("{place}: an extent of {} pages reaches outside the segment", header.pages);
            self.findings.add(FindingKind::PageHeader, offset, message);
        }
        let range = page as usize..end.min(self.usable.end) as usize;
        if let Some(used) = self.used.as_ref().and_then(|used| used.get(range.clone())) {
            let free = used.iter().filter(|&&used| !used).count();
            if free > 0 {
                let message =
                    format!("{place}: {free} of the extent's {} pages are free in the bitmap", header.pages);
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

    fn compare_record(&mut self, source: &mut Source) -> Result<()> {
        let Some(record) = self.record else { return Ok(()) };
        let number = self.number;
        let (_, offset) = source.record(number)?;
        let mut add =
            |kind, message: String| self.findings.add(kind, offset, format!("segment {number}: {message}"));
        if record.role == Role::Unused && (record.used_pages > 0 || record.extents > 0 || self.extents > 0) {
            add(FindingKind::Role, "has no role, and extents".to_owned());
        }
        if record.class.is_some_and(|class| class > self.layout.max_order()) {
            add(FindingKind::SegmentRecord, "class beyond the segment".to_owned());
        }
        if self.unknown_from.is_none() && u64::from(record.extents) != self.extents {
            add(
                FindingKind::Count,
                format!("{} extents by the headers, {} by the record", self.extents, record.extents),
            );
        }
        let Some(used) = &self.used else { return Ok(()) };
        let used_pages = used.iter().filter(|&&used| used).count();
        if record.used_pages as usize != used_pages {
            let message =
                format!("{used_pages} pages in use by the bitmap, {} by the record", record.used_pages);
            add(FindingKind::Count, message);
        }
        let free = (0_u32..).zip(used).map(|(page, used)| self.usable.contains(&page) && !used).collect();
        let class = largest_free_order(free);
        if class != record.class {
            let words =
                |class: Option<u8>| class.map_or("none".to_owned(), |class| format!("of order {class}"));
            let message = format!(
                "largest free run {} by the bitmap, {} by the record",
                words(class),
                words(record.class)
            );
            add(FindingKind::Class, message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_naturally_aligned() {
        let free = |text: &str| text.bytes().map(|byte| byte == b'.').collect::<Vec<bool>>();
        assert_eq!(largest_free_order(free("xxxxxxxx")), None);
        assert_eq!(largest_free_order(free("x..xx..x")), Some(0));
        assert_eq!(largest_free_order(free("..xx....")), Some(2));
        assert_eq!(largest_free_order(free("xx....xx")), Some(1));
        assert_eq!(largest_free_order(free("........")), Some(3));
    }
}
