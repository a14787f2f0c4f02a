//! The segment table: all segments below the frontier.

use std::sync::Arc;

use super::counters::SpaceCounters;
use super::index::Index;
use super::runs::{Histogram, RunIndex, RunMap};
use super::segment::{Content, Segment};
use crate::error::{Error, Result, Structure};
use crate::format::{AllocatorState, Layout, Role, SegmentRecord};

/// All segments below the frontier.
#[derive(Debug)]
pub struct Space {
    layout: Arc<Layout>,
    /// As the journal has it.
    pub(super) state: AllocatorState,
    /// Number of the first entry of `segments`: segments before it lie under the metadata area.
    first: u32,
    pub(super) segments: Vec<Segment>,
    /// Maps of the loaded segments of role `extent`.
    pub(super) runs: RunIndex,
    /// Those of role `slab`: extents go there last.
    pub(super) slab_runs: RunIndex,
    pub(super) index: Index,
    pub(super) counters: SpaceCounters,
    /// Grows with each use of a segment.
    pub(super) clock: u64,
    /// Maps or heads came into memory.
    pub(super) grown: bool,
    /// Where allocations of the same lifetime went last.
    pub(super) groups: std::collections::HashMap<u32, u32>,
}

impl Space {
    /// Takes the tables of a store. `record` gives the record of a segment, as decoded.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when tables contradict themselves; places are filled in by `offset_of`.
    pub fn load(
        layout: Arc<Layout>,
        state: AllocatorState,
        mut record: impl FnMut(u32) -> Result<SegmentRecord>,
        offset_of: impl Fn(Structure, u32) -> u64,
    ) -> Result<Self> {
        let first = layout.first_segment();
        let frontier = state.frontier.max(first);
        if frontier > layout.segment_count() {
            let offset = offset_of(Structure::AllocatorState, 0);
            return Err(Error::corrupt(Structure::AllocatorState, offset, "frontier beyond the device"));
        }
        let mut space = Self {
            state,
            first,
            segments: Vec::with_capacity((frontier - first) as usize),
            runs: RunIndex::default(),
            slab_runs: RunIndex::default(),
            index: Index::default(),
            counters: SpaceCounters::default(),
            clock: 0,
            grown: false,
            groups: std::collections::HashMap::new(),
            layout,
        };
        // The span that the segment at hand is part of: its first segment, and where it ends.
        let mut span: Option<(u32, u32)> = None;
        for number in first..frontier {
            let record = record(number)?;
            let inside = span.filter(|(_, end)| number < *end);
            if let Some(problem) = space.contradiction(number, &record, inside.is_some(), frontier) {
                let offset = offset_of(Structure::SegmentRecord, number);
                return Err(Error::corrupt(Structure::SegmentRecord, offset, problem));
            }
            let own = record.span_segments().map(|segments| (number, number + segments));
            span = own.or(inside);
            let content = span.map_or(Content::Absent, |(head, _)| Content::Span(head));
            space.counters.count_record(&space.layout, None, &record);
            space.segments.push(Segment {
                last_generation: record.generation,
                record,
                content,
                ..Segment::default()
            });
            space.index_new(number);
        }
        Ok(space)
    }

    /// What cannot be true of a record at its place.
    fn contradiction(
        &self,
        number: u32,
        record: &SegmentRecord,
        inside_span: bool,
        frontier: u32,
    ) -> Option<&'static str> {
        let usable = u32::try_from(self.layout.usable_range(number).len()).unwrap_or(u32::MAX);
        let page_bytes = u64::from(self.layout.page_bytes());
        let used_bytes = u64::from(record.used_pages) * page_bytes;
        let max_order = self.layout.max_order();
        match record.role {
            Role::Unused => None,
            _ if inside_span => Some("in the middle of a span"),
            _ if record.used_pages > usable => Some("counts beyond the segment"),
            Role::Buddy | Role::Extent => {
                if record.extents > record.used_pages || u64::from(record.slack_bytes) > used_bytes {
                    Some("counts beyond the segment")
                } else if record.class.is_some_and(|order| order > max_order)
                    || record.class.is_none() != (record.used_pages == usable)
                {
                    Some("class that cannot be")
                } else {
                    None
                }
            }
            Role::Slab => (u64::from(record.capacity_bytes) > used_bytes
                || record.slack_bytes > record.item_bytes)
                .then_some("counts beyond the segment"),
            Role::Span => {
                let segments = record.capacity_bytes;
                let end = number.checked_add(segments).filter(|&end| end <= frontier);
                let whole =
                    end.is_some_and(|end| self.layout.is_whole(number) && self.layout.is_whole(end - 1));
                (!whole || record.used_pages != self.layout.pages_per_segment())
                    .then_some("a span beyond the segments")
            }
        }
    }

    /// Where everything lies.
    #[must_use]
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A record is another one now.
    pub(super) fn count_record(&mut self, old: &SegmentRecord, new: &SegmentRecord) {
        self.counters.count_record(&self.layout, Some(old), new);
    }

    /// Counters over all segments.
    #[must_use]
    pub fn counters(&self) -> &SpaceCounters {
        &self.counters
    }

    /// Free runs of the loaded segments of roles `extent` and `slab`, by length.
    #[must_use]
    pub fn histogram(&self) -> Histogram {
        self.runs.histogram() + self.slab_runs.histogram()
    }

    /// The longest of these runs, in pages.
    #[must_use]
    pub fn longest_loaded_run(&self) -> u32 {
        let longest = [&self.runs, &self.slab_runs].map(|runs| runs.longest().map_or(0, |fit| fit.len));
        longest.into_iter().max().unwrap_or(0)
    }

    /// The pages of a loaded segment of role `extent` or `slab`.
    #[must_use]
    pub fn run_map(&self, number: u32) -> Option<&RunMap> {
        self.runs.map(number).or_else(|| self.slab_runs.map(number))
    }

    /// The pages of all loaded segments of these roles.
    pub fn run_maps(&self) -> impl Iterator<Item = &RunMap> {
        let maps = |runs: &'_ RunIndex| runs.attached().collect::<Vec<_>>();
        let numbers = maps(&self.runs).into_iter().chain(maps(&self.slab_runs));
        numbers.filter_map(|number| self.run_map(number))
    }

    /// The first segment that is not in memory.
    #[must_use]
    pub fn memory_frontier(&self) -> u32 {
        self.first + u32::try_from(self.segments.len()).unwrap_or(u32::MAX)
    }

    /// The first segment beyond the committed frontier.
    #[must_use]
    pub fn committed_frontier(&self) -> u32 {
        self.state.frontier.max(self.first)
    }

    /// Numbers of the segments below the frontier.
    #[must_use]
    pub fn segment_numbers(&self) -> std::ops::Range<u32> {
        self.first..self.memory_frontier()
    }

    /// A segment below the frontier.
    #[must_use]
    #[inline]
    pub fn segment(&self, number: u32) -> Option<&Segment> {
        self.segments.get(number.checked_sub(self.first)? as usize)
    }

    #[inline]
    pub(super) fn segment_mut(&mut self, number: u32) -> Option<&mut Segment> {
        self.segments.get_mut(number.checked_sub(self.first)? as usize)
    }

    /// Notes that a segment is in use now.
    pub(super) fn touch(&mut self, number: u32) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(segment) = self.segment_mut(number) {
            segment.last_used = clock;
        }
    }

    /// An open transaction is going to change something in a loaded segment: it stays loaded. False if it is not loaded.
    pub fn pin(&mut self, number: u32) -> bool {
        let Some(segment) = self.segment_mut(number) else { return false };
        let loaded = !segment.is_cold();
        segment.pins += u32::from(loaded);
        self.reindex(number);
        loaded
    }

    /// Takes one [`pin`](Self::pin) back.
    pub fn unpin(&mut self, number: u32) {
        if let Some(segment) = self.segment_mut(number) {
            segment.pins = segment.pins.saturating_sub(1);
        }
        self.reindex(number);
    }

    /// Takes segments beyond the frontier up to this one into memory. They are committed with what is first allocated in
    /// them.
    pub fn open_segments(&mut self, up_to: u32) {
        while self.memory_frontier() <= up_to && self.memory_frontier() < self.layout.segment_count() {
            let number = self.memory_frontier();
            self.segments.push(Segment::default());
            self.index_new(number);
        }
    }

    /// The segment in which the span that a segment is part of begins.
    #[must_use]
    pub fn span_head(&self, number: u32) -> Option<u32> {
        match self.segment(number)?.content {
            Content::Span(head) => Some(head),
            _ => None,
        }
    }
}
