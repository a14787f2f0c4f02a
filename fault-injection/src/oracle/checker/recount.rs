//! Counts everything again: bitmaps and heads of regions against page headers, records against all of them.

mod bitmap;
mod items;
mod record;
mod regions;
mod runs;
mod segment;
mod spans;

use std::collections::BTreeMap;

use freehold::device::Device;

use self::record::{RECORD, Record, Role};
use self::regions::Heads;
use self::segment::Segment;
pub(super) use self::segment::{HEADER, Header, Kind};
use self::spans::Span;
use super::PictureExtent;
use super::bytes::{hash_words, index, is_zero, part, rest, u32_at};
use super::flaw::Flaw;
use super::layout::Layout;

/// What leaves and heads say.
pub(super) struct Count {
    pub extents: Vec<PictureExtent>,
    pub used_bytes: u64,
    pub overhead_bytes: u64,
    pub logical: u128,
}

/// Counts a store again. The heads of regions are taken from the caller's blocks, or else from the device.
pub(super) fn recount(
    layout: &Layout,
    leaves: &[u8],
    device: &dyn Device,
    caller: &BTreeMap<u64, Vec<u8>>,
) -> Result<Count, Flaw> {
    let table = leaves.get(layout.table()).unwrap_or_default();
    let (records, behind) = table.split_at(table.len().min(layout.segments * RECORD));
    if !is_zero(behind) {
        return Err(Flaw::segment(layout.segments, "there is a record behind the last segment"));
    }
    let used = frontier(layout, part(leaves, 0, layout.block))?;
    let count = Count {
        extents: Vec::with_capacity(64),
        used_bytes: 0,
        overhead_bytes: 0,
        logical: hash_words(0, leaves),
    };
    let mut walk = Walk {
        frontier: used.end,
        heads: Heads::new(device, caller, layout.block),
        span: None,
        was_used: false,
        count,
    };
    for (number, bytes) in records.as_chunks::<RECORD>().0.iter().enumerate() {
        let segment = Segment::new(layout, leaves, number);
        if used.contains(&number) {
            walk.visit(&segment, bytes)?;
        } else if !is_zero(bytes) || !segment.is_untouched() {
            return Err(Flaw::segment(number, "it was never used, but something is written about it"));
        }
    }
    if walk.was_used == used.is_empty() {
        return Err(state_flaw("the frontier has passed segments of which none was ever used"));
    }
    Ok(walk.count)
}

fn state_flaw(what: &'static str) -> Flaw {
    Flaw::Inconsistent { structure: "leaf", number: 0, what }
}

/// The segments from the first that is ever used to the first that never was.
fn frontier(layout: &Layout, state: &[u8]) -> Result<std::ops::Range<usize>, Flaw> {
    let has_pages = |&number: &usize| !layout.usable_of(number).is_empty();
    let first = (0..layout.segments).find(has_pages).unwrap_or(layout.segments);
    let last = (0..layout.segments).rfind(has_pages).unwrap_or(first);
    if !is_zero(rest(state, 4)) {
        return Err(state_flaw("reserved bytes are not zero"));
    }
    match index(u32_at(state, 0).into()) {
        0 => Ok(first..first),
        frontier if frontier > first && frontier <= last + 1 => Ok(first..frontier),
        _ => Err(state_flaw("the frontier is outside of the segments with pages")),
    }
}

/// A walk over the segments below the frontier, in their order.
struct Walk<'a> {
    frontier: usize,
    heads: Heads<'a>,
    /// The last span so far whose tail was not met yet.
    span: Option<Span>,
    /// Whether something was ever allocated in one of the segments.
    was_used: bool,
    count: Count,
}

impl Walk<'_> {
    fn visit(&mut self, segment: &Segment<'_>, bytes: &[u8; RECORD]) -> Result<(), Flaw> {
        let flaw = |what| Err(Flaw::segment(segment.number, what));
        let record = Record::read(segment.number, bytes)?;
        self.was_used |= record.generation > 0;
        if self.span.as_ref().is_some_and(|span| segment.number < span.end) && record.role != Role::None {
            return flaw("it lies in a span, but has a role of its own");
        }
        let tail = self.span.take_if(|span| segment.number == span.end).filter(|span| span.tail_pages > 0);
        if tail.is_some() && !matches!(record.role, Role::Buddy | Role::Extent | Role::Slab) {
            return flaw("the tail of a span should lie in it, but its role has none");
        }
        match record.role {
            Role::None => segment.check_empty(&record),
            Role::Buddy | Role::Extent => runs::check(segment, &record, tail, &mut self.count),
            Role::Slab => regions::check(segment, &record, tail, &mut self.heads, &mut self.count),
            Role::Span => {
                self.span = Some(spans::check(segment, &record, self.frontier, &mut self.count)?);
                Ok(())
            }
        }
    }
}
