//! Runs of pages: best fit among the exact runs; the buddy system for powers of two.

use std::collections::BTreeSet;

use super::{Exactly, Request, Reserve};
use crate::format::{HeaderKind, Role};
use crate::space::cold::longest_run;
use crate::space::index::ByClass;
use crate::space::runs::RunIndex;
use crate::space::segment::Content;
use crate::space::table::Space;

/// The smallest power of two that is not smaller, as an order.
fn order_of(pages: u32) -> u8 {
    u8::try_from(pages.max(1).next_power_of_two().trailing_zeros()).unwrap_or(u8::MAX)
}

#[inline]
fn take_fit(runs: &mut RunIndex, pages: u32, align: u32) -> Option<(u32, u32)> {
    if align <= 1 {
        return runs.take_best(pages);
    }
    let fit = runs.aligned_fit(pages, align)?;
    runs.take(fit.segment, fit.page, pages).then_some((fit.segment, fit.page))
}

impl Space {
    /// An exact run: the shortest free one that is long enough, the lowest address among equals. Segments that are
    /// loaded come first, then those that are not, then empty ones, then the frontier, then those of role `slab`, then
    /// those of role `buddy`.
    pub(super) fn reserve_run(
        &mut self,
        pages: u32,
        align: u32,
        request: &Request,
        tried: &BTreeSet<u32>,
    ) -> Reserve {
        if pages == 0 || pages > self.layout().pages_per_segment() {
            return Reserve::Full;
        }
        let hinted = request.near.is_some() || request.group.is_some();
        let near = if hinted && align <= 1 { self.fit_hinted(request, pages) } else { None };
        let taken = match near {
            Some((number, page)) => self.runs.take(number, page, pages).then_some((number, page)),
            None => take_fit(&mut self.runs, pages, align),
        };
        if let Some((number, page)) = taken {
            if let Some(group) = request.group {
                self.remember_group(group, number);
            }
            return self.reserved_run(number, page, pages, HeaderKind::Extent);
        }
        if let Some(number) = self.cold_with_run(&self.index.cold_extent, pages, tried) {
            return Reserve::Load(number);
        }
        if let Some(number) = self.empty_segment(pages, align) {
            return if self.adopt(number, Role::Extent) {
                self.reserve_run(pages, align, request, tried)
            } else {
                Reserve::Full
            };
        }
        if self.memory_frontier() < self.layout().segment_count() {
            return Reserve::Open(self.memory_frontier());
        }
        if let Some((number, page)) = take_fit(&mut self.slab_runs, pages, align) {
            return self.reserved_run(number, page, pages, HeaderKind::Extent);
        }
        if let Some(number) = self.cold_with_run(&self.index.cold_slab_runs, pages, tried) {
            return Reserve::Load(number);
        }
        self.reserve_in_buddy(pages, align.max(1), tried)
    }

    /// A segment that is not loaded and may have the run. One that was loaded before and has it not is passed over, or two
    /// of them might drive each other out of memory for ever.
    fn cold_with_run(&self, cold: &ByClass, pages: u32, tried: &BTreeSet<u32>) -> Option<u32> {
        let may = |number: &&u32| {
            let known = self.segment(**number).and_then(|segment| segment.known_longest);
            !tried.contains(number) && known.is_none_or(|longest| longest >= pages)
        };
        let class = u8::try_from(pages.ilog2()).unwrap_or(u8::MAX);
        cold.from(class).find_map(|segments| segments.iter().find(may)).copied()
    }

    /// Near the place of a request, or where others of its group lie.
    fn fit_hinted(&self, request: &Request, pages: u32) -> Option<(u32, u32)> {
        let near = request.near.or_else(|| {
            let segment = self.groups.get(&request.group?).copied()?;
            Some(Exactly { segment, page: 0 })
        });
        self.fit_near(near?, pages)
    }

    /// At this very place, or where it fits best in the same segment.
    fn fit_near(&self, near: Exactly, pages: u32) -> Option<(u32, u32)> {
        let map = self.runs.map(near.segment)?;
        let end = near.page.checked_add(pages)?;
        if near.page > 0 && end <= map.page_count() && map.is_run_free(near.page, pages) {
            return Some((near.segment, near.page));
        }
        self.runs.best_fit_in(near.segment, pages).map(|fit| (fit.segment, fit.page))
    }

    /// Hints are hints: when there are too many groups, all are forgotten.
    fn remember_group(&mut self, group: u32, number: u32) {
        const MOST: usize = 4096;
        if self.groups.len() >= MOST && !self.groups.contains_key(&group) {
            self.groups.clear();
        }
        self.groups.insert(group, number);
    }

    /// The lowest empty segment in which an aligned run has room.
    fn empty_segment(&self, pages: u32, align: u32) -> Option<u32> {
        self.index.empty.iter().copied().find(|&number| {
            let usable = self.layout().usable_range(number);
            let start = usable.start.next_multiple_of(align.max(1));
            start.checked_add(pages).is_some_and(|end| end <= usable.end)
        })
    }

    /// 2^order pages, aligned to their length.
    pub(super) fn reserve_buddy(&mut self, order: u8, tried: &BTreeSet<u32>) -> Reserve {
        if order > self.layout().max_order() {
            return Reserve::Full;
        }
        let pages = 1 << order;
        if let taken @ Reserve::Reserved(_) = self.take_in_buddy(order, pages, HeaderKind::Buddy) {
            return taken;
        }
        if let Some(number) = self.index.cold_buddy.best(order) {
            return Reserve::Load(number);
        }
        if let Some(number) = self.empty_segment(pages, pages) {
            return if self.adopt(number, Role::Buddy) {
                self.reserve_buddy(order, tried)
            } else {
                Reserve::Full
            };
        }
        if self.memory_frontier() < self.layout().segment_count() {
            return Reserve::Open(self.memory_frontier());
        }
        // Nothing is left but the segments of exact runs, and those with regions.
        if let Some((number, page)) = take_fit(&mut self.runs, pages, pages) {
            return self.reserved_run(number, page, pages, HeaderKind::Buddy);
        }
        if let Some(number) = self.cold_with_run(&self.index.cold_extent, pages, tried) {
            return Reserve::Load(number);
        }
        if let Some((number, page)) = take_fit(&mut self.slab_runs, pages, pages) {
            return self.reserved_run(number, page, pages, HeaderKind::Buddy);
        }
        self.cold_with_run(&self.index.cold_slab_runs, pages, tried).map_or(Reserve::Full, Reserve::Load)
    }

    /// An exact run in a segment of role `buddy`: an aligned block whose end is given back at once, or else any free
    /// pages in a row.
    fn reserve_in_buddy(&mut self, pages: u32, align: u32, tried: &BTreeSet<u32>) -> Reserve {
        let order = order_of(pages).max(order_of(align));
        if let taken @ Reserve::Reserved(_) = self.take_in_buddy(order, pages, HeaderKind::Extent) {
            return taken;
        }
        if let Some(number) = self.index.cold_buddy.best(order) {
            return Reserve::Load(number);
        }
        // Of 2^(k + 1) - 1 pages in a row 2^k are a block.
        let order = u8::try_from((pages + 1).ilog2() - 1).unwrap_or(u8::MAX);
        let loaded: Vec<u32> = self.index.buddy.from(order).flatten().copied().collect();
        for number in loaded {
            if let taken @ Reserve::Reserved(_) = self.run_within(number, pages, align, HeaderKind::Extent) {
                return taken;
            }
        }
        let may = |number: &&u32| {
            let known = self.segment(**number).and_then(|segment| segment.known_run);
            !tried.contains(number) && known.is_none_or(|longest| longest >= pages)
        };
        self.index.cold_buddy.from(order).flatten().find(may).copied().map_or(Reserve::Full, Reserve::Load)
    }

    fn take_in_buddy(&mut self, order: u8, pages: u32, kind: HeaderKind) -> Reserve {
        let Some(number) = self.index.buddy.best(order) else { return Reserve::Full };
        let Some(segment) = self.segment_mut(number) else { return Reserve::Full };
        let Content::Buddy(map) = &mut segment.content else { return Reserve::Full };
        let Some(page) = map.take(order) else { return Reserve::Full };
        if pages < 1 << order {
            let given = map.set_free(page + pages, (1 << order) - pages);
            debug_assert!(given, "the end of a block was not in use");
        }
        self.reserved_run(number, page, pages, kind)
    }

    /// At this place and nowhere else.
    pub(super) fn reserve_at(&mut self, at: Exactly, pages: u32, kind: HeaderKind) -> Reserve {
        let Exactly { segment: number, page } = at;
        if number >= self.memory_frontier() && number < self.layout().segment_count() {
            return Reserve::Open(number);
        }
        let Some(segment) = self.segment(number) else { return Reserve::Full };
        if segment.is_cold() {
            return match segment.record.role {
                Role::Extent | Role::Buddy | Role::Slab => Reserve::Load(number),
                _ => Reserve::Full,
            };
        }
        let role = if kind == HeaderKind::Buddy { Role::Buddy } else { Role::Extent };
        let fits = !matches!(segment.content, Content::Absent | Content::Span(_));
        if !fits && !self.adopt(number, role) {
            return Reserve::Full;
        }
        if self.take_pages(number, page, pages) {
            self.reserved_run(number, page, pages, kind)
        } else {
            Reserve::Full
        }
    }

    /// The longest run of pages that can be had at once; a segment that has to be loaded to know comes first.
    ///
    /// # Errors
    /// The segment that has to be loaded.
    pub fn longest_run(&self) -> Result<u32, u32> {
        let usable = |number: u32| u32::try_from(self.layout().usable_range(number).len()).unwrap_or(0);
        let empty = self.index.empty.iter().map(|&number| usable(number)).max().unwrap_or(0);
        // Of many untouched segments all but the last are whole.
        let beyond = (self.memory_frontier()..self.layout().segment_count()).take(2).map(usable).max();
        let loaded = self.longest_loaded_run();
        let mut longest = loaded.max(empty).max(beyond.unwrap_or(0));
        let cold = self.index.cold_extent.descending().chain(self.index.cold_slab_runs.descending());
        for (class, segments) in cold {
            if (2_u64 << class) <= u64::from(longest) + 1 {
                continue;
            }
            for &number in segments {
                match self.segment(number).and_then(|segment| segment.known_longest) {
                    Some(known) => longest = longest.max(known),
                    None => return Err(number),
                }
            }
        }
        // Where no block is larger than 2^k pages, a run has at most 2^(k + 2) - 2.
        for (class, segments) in self.index.buddy.descending() {
            for &number in segments {
                if (4 << class) - 2 <= longest {
                    break;
                }
                if let Some(Content::Buddy(map)) = self.segment(number).map(|segment| &segment.content) {
                    longest = longest.max(longest_run(map));
                }
            }
        }
        for (class, segments) in self.index.cold_buddy.descending() {
            for &number in segments {
                if (4 << class) - 2 <= longest {
                    break;
                }
                match self.segment(number).and_then(|segment| segment.known_run) {
                    Some(known) => longest = longest.max(known),
                    None => return Err(number),
                }
            }
        }
        Ok(longest)
    }
}
