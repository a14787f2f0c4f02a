//! Reserving: in memory only. Picks the role, then the place.

mod item;
mod pages;
mod span;
mod within;

use std::collections::BTreeSet;

use super::counters::Held;
use super::place::{Place, Reservation};
use super::segment::Content;
use super::table::Space;
use crate::format::{HeaderKind, ItemClass};

/// The kind of space that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A power of two of pages, aligned to its length.
    Buddy {
        /// 2^order pages.
        order: u8,
    },
    /// A run of pages.
    Run {
        /// How many.
        pages: u32,
        /// It starts at a multiple of so many pages, a power of two.
        align: u32,
    },
    /// An item smaller than a page.
    Item {
        /// Its size.
        class: ItemClass,
        /// Whether an owner tag goes with it.
        tagged: bool,
    },
    /// Whole segments and some pages behind them.
    Span {
        /// How many whole ones, at least one.
        segments: u32,
        /// Pages behind them, less than a segment.
        tail_pages: u32,
    },
}

/// A place that was asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exactly {
    /// Segment number.
    pub segment: u32,
    /// First page, counted in the segment.
    pub page: u32,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The kind.
    pub wanted: Wanted,
    /// Nowhere but here.
    pub at: Option<Exactly>,
    /// Best at this place or behind it, else in this segment, else anywhere.
    pub near: Option<Exactly>,
    /// Best in the segment in which others of this lifetime lie.
    pub group: Option<u32>,
}

/// What came of trying to reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// Done.
    Reserved(Reservation),
    /// This segment must be loaded first.
    Load(u32),
    /// The head of this region of a segment must be loaded first.
    LoadRegion(u32, u32),
    /// Segments beyond the frontier, up to this one, must be taken into memory first.
    Open(u32),
    /// There is no place for it.
    Full,
}

impl Space {
    /// Reserves what is asked for, in the role made for it, or in another that can hold it when there is no room.
    ///
    /// The segments of `tried` were loaded for this request, and [have no place for it](Self::reserve_within). Those that
    /// were dropped since are not asked for again, or the search would have no end without memory for all of them.
    pub fn reserve(&mut self, request: &Request, tried: &BTreeSet<u32>) -> Reserve {
        if let Some(at) = request.at {
            return match request.wanted {
                Wanted::Buddy { order } => self.reserve_at(at, 1 << order, HeaderKind::Buddy),
                Wanted::Run { pages, .. } => self.reserve_at(at, pages, HeaderKind::Extent),
                Wanted::Item { .. } | Wanted::Span { .. } => Reserve::Full,
            };
        }
        match request.wanted {
            Wanted::Buddy { order } => self.reserve_buddy(order, tried),
            Wanted::Run { pages, align } => self.reserve_run(pages, align, request, tried),
            Wanted::Item { class, tagged } => self.reserve_item(class, tagged, tried),
            Wanted::Span { segments, tail_pages } => self.reserve_span(segments, tail_pages, tried),
        }
    }

    /// Gives a reservation back, as if it had never been.
    pub fn unreserve(&mut self, reservation: &Reservation) {
        match reservation.place {
            Place::Run { segment, page, pages, .. } => {
                self.give_pages(segment, page, pages);
                self.hold_pages(segment, pages, 0);
            }
            Place::Item { segment, region, index, .. } => {
                self.change_region(segment, region, |region| {
                    region.give(index);
                    region.reserved = region.reserved.saturating_sub(1);
                });
            }
            Place::Span { segment, segments, tail_pages } => {
                self.leave_span(segment, segments);
                if tail_pages > 0 {
                    self.give_pages(segment + segments, 0, tail_pages);
                    self.hold_pages(segment + segments, tail_pages, 0);
                }
                let pages = self.layout().pages_per_segment();
                for number in segment..segment + segments {
                    self.hold_pages(number, pages, 0);
                }
            }
        }
    }

    /// Reserves the pages behind a run. False if they are not free.
    pub fn reserve_growth(&mut self, segment: u32, page: u32, pages: u32) -> bool {
        let taken = self.take_pages(segment, page, pages);
        if taken {
            self.hold_pages(segment, 0, pages);
        }
        taken
    }

    /// Gives the pages behind a run back.
    pub fn unreserve_growth(&mut self, segment: u32, page: u32, pages: u32) {
        self.give_pages(segment, page, pages);
        self.hold_pages(segment, pages, 0);
    }

    /// Counts reserved pages of a segment.
    #[inline]
    pub(super) fn hold_pages(&mut self, number: u32, before: u32, after: u32) {
        let page_bytes = u64::from(self.layout().page_bytes());
        let held = |pages: u32| Held { reserved: u64::from(pages) * page_bytes, pending: 0 };
        self.counters.count_held(held(before), held(after));
        let Some(segment) = self.segment_mut(number) else { return };
        segment.reserved_pages = (segment.reserved_pages + after).saturating_sub(before);
        if !segment.is_in_place() {
            self.reindex_changed(number);
        }
    }

    /// Takes pages out of what may be handed out. False if they are not there.
    pub(super) fn take_pages(&mut self, number: u32, page: u32, pages: u32) -> bool {
        let Some(segment) = self.segment_mut(number) else { return false };
        match &mut segment.content {
            Content::Buddy(map) => map.set_used(page, pages),
            Content::Runs => self.runs.take(number, page, pages),
            Content::Slab(_) => self.slab_runs.take(number, page, pages),
            _ => false,
        }
    }

    /// Makes pages available again.
    #[inline]
    pub(super) fn give_pages(&mut self, number: u32, page: u32, pages: u32) {
        let Some(segment) = self.segment_mut(number) else { return };
        let given = match &mut segment.content {
            Content::Buddy(map) => map.set_free(page, pages),
            Content::Runs => self.runs.give(number, page, pages),
            Content::Slab(_) => self.give_in_slab(number, page, pages),
            _ => false,
        };
        debug_assert!(given, "pages {page}+{pages} of segment {number} were not in use");
    }

    fn give_in_slab(&mut self, number: u32, page: u32, pages: u32) -> bool {
        let given = self.slab_runs.give(number, page, pages);
        if self.has_region_room(number) {
            self.index.roomy.insert(number);
        }
        given
    }

    /// The reservation of a run that was just taken.
    #[inline]
    pub(super) fn reserved_run(&mut self, number: u32, page: u32, pages: u32, kind: HeaderKind) -> Reserve {
        self.clock += 1;
        let (clock, bytes) = (self.clock, u64::from(pages) * u64::from(self.layout().page_bytes()));
        let Some(segment) = self.segment_mut(number) else { return Reserve::Full };
        segment.reserved_pages += pages;
        segment.last_used = clock;
        let generation = segment.next_generation();
        let in_place = segment.is_in_place();
        self.counters.reserved_bytes += bytes;
        if !in_place {
            self.reindex_changed(number);
        }
        Reserve::Reserved(Reservation {
            place: Place::Run { segment: number, page, pages, kind },
            generation,
        })
    }
}
