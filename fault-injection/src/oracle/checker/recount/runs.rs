//! Segments with runs of pages: roles `buddy` and `extent`.

use super::super::PictureExtent;
use super::super::flaw::Flaw;
use super::Count;
use super::record::{Record, Role, Sums};
use super::segment::{Cover, Header, Kind, Segment};
use super::spans::Span;

/// Checks a segment of runs, in which the tail of a span may lie.
pub(super) fn check(
    segment: &Segment<'_>,
    record: &Record,
    mut tail: Option<Span>,
    count: &mut Count,
) -> Result<(), Flaw> {
    let page_bytes = segment.layout.page_bytes;
    let mut cover = Cover::of(segment);
    let mut sums = Sums::default();
    segment.each_header(record, |header| {
        match header.kind {
            Kind::Buddy | Kind::Extent => add(segment, &header, &mut sums, count)?,
            Kind::Tail => take_tail(segment, &header, &mut tail)?,
            Kind::Region | Kind::Span => {
                return Err(
                    segment.page_flaw(header.page, "its header is of a kind that its segment's role has not")
                );
            }
        }
        cover.add(&header)
    })?;
    if tail.is_some() {
        return Err(segment.flaw("the tail of a span should lie in it, but does not"));
    }
    let used = cover.finish()?;
    sums.used_pages = used as u64;
    record.agrees(segment.number, &sums)?;
    check_class(segment, record, used)?;
    count.used_bytes += used as u64 * page_bytes;
    Ok(())
}

/// Takes a run.
pub(super) fn add(
    segment: &Segment<'_>,
    header: &Header,
    sums: &mut Sums,
    count: &mut Count,
) -> Result<(), Flaw> {
    if header.kind == Kind::Buddy && !is_aligned(header) {
        return Err(segment.page_flaw(header.page, "a buddy is of a length or at a place that cannot be"));
    }
    let page_bytes = segment.layout.page_bytes;
    sums.extents += 1;
    sums.slack += header.slack_bytes(page_bytes);
    count.extents.push(PictureExtent {
        offset: segment.offset(header.page),
        len: header.pages as u64 * page_bytes,
        generation: header.generation,
        owner: header.owner,
    });
    Ok(())
}

/// Takes the tail of the span that ends here.
pub(super) fn take_tail(segment: &Segment<'_>, header: &Header, tail: &mut Option<Span>) -> Result<(), Flaw> {
    match tail.take() {
        Some(span) if span.has_tail(header) => Ok(()),
        _ => Err(segment.page_flaw(header.page, "it is the tail of no span that knows of it")),
    }
}

/// Whether a buddy is a power of two, and lies where it may.
fn is_aligned(header: &Header) -> bool {
    header.pages.is_power_of_two() && header.page.is_multiple_of(header.pages)
}

/// Checks that the class bounds the free runs.
fn check_class(segment: &Segment<'_>, record: &Record, used: usize) -> Result<(), Flaw> {
    let is_full = used == segment.bitmap.usable.len();
    let Some(order) = u32::from(record.class).checked_sub(1) else {
        return if is_full { Ok(()) } else { Err(segment.flaw("it has free pages, but no class")) };
    };
    if is_full {
        return Err(segment.flaw("it has a class, but no free pages"));
    }
    if order > segment.layout.pages_of_segment.ilog2() {
        return Err(segment.flaw("its class is above that of a whole segment"));
    }
    let is_bound = match record.role {
        Role::Buddy => segment.bitmap.largest_aligned() <= Some(order),
        _ => segment.bitmap.longest() < 2 << order,
    };
    if is_bound { Ok(()) } else { Err(segment.flaw("its class does not bound its free runs")) }
}
