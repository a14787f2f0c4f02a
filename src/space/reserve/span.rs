//! Spans: whole segments in a row, first fit, and the beginning of the next one.

use std::collections::BTreeSet;

use super::Reserve;
use crate::format::{HeaderKind, Role};
use crate::space::place::{Place, Reservation};
use crate::space::segment::Content;
use crate::space::table::Space;

/// Whether the pages behind a span can be had.
enum Tail {
    Free,
    Load(u32),
    Taken,
}

impl Space {
    /// The lowest empty segments in a row, with room for the tail behind them.
    pub(super) fn reserve_span(&mut self, segments: u32, tail_pages: u32, tried: &BTreeSet<u32>) -> Reserve {
        let mut start: Option<u32> = None;
        let mut number = self.segment_numbers().start;
        let count = self.layout().segment_count();
        while number < count {
            // Between two empty segments there is nothing to see.
            if number < self.memory_frontier() && !self.index.empty.contains(&number) {
                start = None;
                let next = self.index.empty.range(number..).next().copied();
                number = next.unwrap_or_else(|| self.memory_frontier());
                continue;
            }
            if !self.layout().is_whole(number) {
                start = None;
                number += 1;
                continue;
            }
            let first = *start.get_or_insert(number);
            number += 1;
            // Beyond the frontier all segments but the last are whole and empty.
            if first >= self.memory_frontier() {
                number = number.max(first.saturating_add(segments).min(count));
            }
            if number - first < segments || !self.layout().is_whole(number - 1) {
                continue;
            }
            match self.tail(first + segments, tail_pages, tried) {
                Tail::Free => return self.take_span(first, segments, tail_pages),
                Tail::Load(segment) => return Reserve::Load(segment),
                Tail::Taken => start = Some(first + 1),
            }
        }
        Reserve::Full
    }

    fn tail(&self, number: u32, pages: u32, tried: &BTreeSet<u32>) -> Tail {
        let free = |free: bool| if free { Tail::Free } else { Tail::Taken };
        if pages == 0 {
            return Tail::Free;
        }
        let usable = self.layout().usable_range(number);
        if number >= self.layout().segment_count() || usable.start > 0 || usable.end < pages {
            return Tail::Taken;
        }
        let Some(segment) = self.segment(number) else { return Tail::Free };
        match &segment.content {
            _ if segment.is_empty() => Tail::Free,
            Content::Runs | Content::Slab(_) => {
                free(self.run_map(number).is_some_and(|map| map.is_run_free(0, pages)))
            }
            Content::Buddy(map) => free(map.is_run_free(0, pages)),
            Content::Absent
                if matches!(segment.record.role, Role::Extent | Role::Buddy | Role::Slab)
                    && !tried.contains(&number) =>
            {
                Tail::Load(number)
            }
            _ => Tail::Taken,
        }
    }

    pub(super) fn take_span(&mut self, first: u32, segments: u32, tail_pages: u32) -> Reserve {
        let last = first + segments - u32::from(tail_pages == 0);
        if last >= self.memory_frontier() {
            return Reserve::Open(last);
        }
        if tail_pages > 0 {
            let number = first + segments;
            let page_role = self.segment(number).is_some_and(|segment| {
                matches!(segment.content, Content::Runs | Content::Buddy(_) | Content::Slab(_))
            });
            if !page_role && !self.adopt(number, Role::Extent) {
                return Reserve::Full;
            }
            if !self.take_pages(number, 0, tail_pages) {
                return Reserve::Full;
            }
            self.hold_pages(number, 0, tail_pages);
        }
        let pages = self.layout().pages_per_segment();
        for number in first..first + segments {
            self.drop_content(number);
            self.set_content(number, Content::Span(first));
            self.hold_pages(number, 0, pages);
        }
        // The tail's header has the same generation: it must be new in both segments.
        let tail = self.segment(first + segments).filter(|_| tail_pages > 0);
        let newest = tail.map_or(0, |segment| segment.last_generation);
        let Some(head) = self.segment_mut(first) else { return Reserve::Full };
        head.last_generation = head.last_generation.max(newest);
        let generation = head.next_generation();
        if tail_pages > 0
            && let Some(segment) = self.segment_mut(first + segments)
        {
            segment.last_generation = generation;
        }
        Reserve::Reserved(Reservation {
            place: Place::Span { segment: first, segments, tail_pages },
            generation,
        })
    }

    pub(super) fn is_tail_free(&self, number: u32, pages: u32) -> bool {
        matches!(self.tail(number, pages, &BTreeSet::new()), Tail::Free)
    }

    /// The segments of a span are empty again.
    pub(in crate::space) fn leave_span(&mut self, first: u32, segments: u32) {
        for number in first..first + segments {
            self.set_content(number, Content::Absent);
        }
    }

    /// The kind of header that the tail of a span has.
    pub(in crate::space) const TAIL_KIND: HeaderKind = HeaderKind::SpanTail;
}
