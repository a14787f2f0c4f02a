//! Spans: whole segments in a row, and a tail behind them.

use super::super::PictureExtent;
use super::super::flaw::Flaw;
use super::Count;
use super::record::{Record, Sums};
use super::segment::{Header, Kind, Segment};

/// A span whose last segments were not seen yet.
pub(super) struct Span {
    first: usize,
    /// Behind its last whole segment.
    pub end: usize,
    pub tail_pages: usize,
    generation: u32,
}

impl Span {
    /// Whether a tail's header is that of this span.
    pub(super) fn has_tail(&self, header: &Header) -> bool {
        header.page == 0
            && header.pages == self.tail_pages
            && header.generation == self.generation
            && header.owner == self.first as u64
    }
}

/// Checks the first segment of a span.
pub(super) fn check(
    segment: &Segment<'_>,
    record: &Record,
    frontier: usize,
    count: &mut Count,
) -> Result<Span, Flaw> {
    let layout = segment.layout;
    if !segment.bitmap.is_empty() {
        return Err(segment.flaw("it is the first of a span, but has bits in its bitmap"));
    }
    let mut first = None;
    segment.each_header(record, |header| {
        if header.kind != Kind::Span || header.page != 0 {
            return Err(segment.page_flaw(header.page, "its segment has room for the header of a span only"));
        }
        first = Some(header);
        Ok(())
    })?;
    let Some(header) = first else {
        return Err(segment.flaw("it is the first of a span, but has no header of one"));
    };
    // Never more than there are segments: so many fit into a `usize`.
    let segments = usize::try_from(record.sums.capacity).unwrap_or(usize::MAX);
    let end = segment.number.saturating_add(segments);
    if segments == 0 || end.saturating_add(usize::from(header.pages > 0)) > frontier {
        return Err(segment.flaw("its span has no whole segment, or reaches past the frontier"));
    }
    // The first page has a header, so that all segments but the last one are wholly usable.
    if layout.usable_of(end - 1).len() < layout.pages_of_segment {
        return Err(segment.flaw("its span has pages that cannot be used"));
    }
    if header.pages >= layout.pages_of_segment {
        return Err(segment.flaw("the tail of its span is a whole segment"));
    }
    record.agrees(
        segment.number,
        &Sums {
            used_pages: layout.pages_of_segment as u64,
            extents: 1,
            slack: header.slack_bytes(layout.page_bytes),
            capacity: record.sums.capacity,
            ..Sums::default()
        },
    )?;
    let whole_bytes = (segments * layout.pages_of_segment) as u64 * layout.page_bytes;
    count.extents.push(PictureExtent {
        offset: segment.offset(0),
        len: whole_bytes + header.pages as u64 * layout.page_bytes,
        generation: header.generation,
        owner: header.owner,
    });
    // The tail's pages are counted where they lie.
    count.used_bytes += whole_bytes;
    Ok(Span { first: segment.number, end, tail_pages: header.pages, generation: header.generation })
}
