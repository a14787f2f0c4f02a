//! The best fit over the runs of all attached segments.
//!
//! Invariants:
//! - `long` has exactly the long runs of the attached segments.
//! - `tally` counts exactly the runs of the attached segments.
//! - A call that is refused changes nothing.

use std::ops::Range;

use super::{Fit, Histogram, LONG, RunMap, histogram::Tally, long::LongRuns, ones, segments::Segments};

/// The maps of all attached segments, and an index over their runs.
#[derive(Clone, Debug, Default)]
pub struct RunIndex {
    segments: Segments,
    /// The long runs as numbers, see [`pack`].
    long: LongRuns,
    tally: Tally,
}

impl RunIndex {
    /// How many segments there can be: their numbers are less than this.
    pub const MAX_SEGMENTS: u32 = Segments::MAX;

    /// Adds a segment, instead of the one that was attached under the same number. One whose number is not below
    /// [`Self::MAX_SEGMENTS`] is left out. The call takes as long as counting the runs of the map.
    ///
    /// Memory: 8 bytes for every 64 numbers up to the highest one that was ever attached, and some 6 KiB for every 64
    /// of which at least one is attached.
    pub fn attach(&mut self, segment: u32, map: RunMap) {
        if segment >= Self::MAX_SEGMENTS {
            return;
        }
        self.detach(segment);
        map.long(0).for_each(|(len, page)| {
            self.long.insert(pack(len, segment, page));
        });
        map.free_runs().for_each(|(_, len)| self.tally.add(len));
        self.segments.attach(segment, map);
    }

    /// Removes a segment, and returns its map if it was attached. The call takes as long as counting its runs.
    pub fn detach(&mut self, segment: u32) -> Option<RunMap> {
        let map = self.segments.detach(segment)?;
        map.long(0).for_each(|(len, page)| {
            self.long.remove(pack(len, segment, page));
        });
        map.free_runs().for_each(|(_, len)| self.tally.remove(len));
        Some(map)
    }

    /// The map of an attached segment.
    #[must_use]
    #[inline]
    pub fn map(&self, segment: u32) -> Option<&RunMap> {
        self.segments.map(segment)
    }

    /// The numbers of the attached segments, in ascending order.
    pub fn attached(&self) -> impl Iterator<Item = u32> {
        self.segments.maps().map(|(segment, _)| segment)
    }

    /// The shortest run of at least `pages` pages; among equals that of the lowest segment, and in it the lowest one.
    /// Nothing for no pages.
    #[must_use]
    pub fn best_fit(&self, pages: u32) -> Option<Fit> {
        match self.short_fit(pages) {
            Some((segment, len)) => {
                let page = self.map(segment)?.first_short(len)?;
                Some(Fit { segment, page, len })
            }
            None if pages == 0 => None,
            None => self.long_fit(pages),
        }
    }

    /// The segment and the length of the best fit, if that is a short run.
    #[inline]
    fn short_fit(&self, pages: u32) -> Option<(u32, u32)> {
        // There is no run of length 0, but it would be taken for one of any length.
        let lengths = self.segments.lengths() & u64::MAX.checked_shl(pages).unwrap_or(0);
        if lengths == 0 || pages == 0 {
            return None;
        }
        let len = lengths.trailing_zeros();
        Some((self.segments.first(len), len))
    }

    /// The shortest run of at least `pages` pages in one segment; among equals the lowest one. Nothing for no pages.
    #[must_use]
    pub fn best_fit_in(&self, segment: u32, pages: u32) -> Option<Fit> {
        let (page, len) = self.map(segment).filter(|_| pages > 0)?.best_fit(pages)?;
        Some(Fit { segment, page, len })
    }

    /// The longest run of all; among equals that of the lowest segment, and in it the lowest one.
    #[must_use]
    pub fn longest(&self) -> Option<Fit> {
        let longest = self.long.last().map(|run| unpack(run).len);
        self.best_fit(longest.or_else(|| self.segments.lengths().checked_ilog2())?)
    }

    /// A place for `pages` pages whose first page is a multiple of `align`, counted from the start of the segment.
    /// Nothing for no pages, and if `align` is no power of two.
    ///
    /// It lies at the first such page of the best fit for `pages + align - 1` pages, which always has one. If there is
    /// no run of that length, it lies in the shortest run that has one, among equals in that of the lowest segment,
    /// and in it in the lowest one. That search may look at every run of `pages` to `pages + align - 2` pages.
    #[must_use]
    pub fn aligned_fit(&self, pages: u32, align: u32) -> Option<Fit> {
        if pages == 0 || !align.is_power_of_two() {
            return None;
        }
        let within = |run: Fit| {
            let page = run.page.next_multiple_of(align);
            let len = (run.page + run.len).checked_sub(page).filter(|&len| len >= pages)?;
            Some(Fit { page, len, ..run })
        };
        let ample = self.best_fit(pages.saturating_add(align - 1)).and_then(within);
        ample.or_else(|| self.runs(pages).find_map(within))
    }

    /// Marks `pages` pages of the [best fit](Self::best_fit) for them as used, and returns segment and first page: short
    /// stretches come from the beginning of a run and long ones from its end, so that each kind has its own kind beside
    /// it.
    #[inline]
    pub fn take_best(&mut self, pages: u32) -> Option<(u32, u32)> {
        let Some((segment, len)) = self.short_fit(pages) else { return self.take_long(pages) };
        let map = self.segments.map_mut(segment)?;
        let before = map.short_lengths();
        let page = map.take_short(len, pages)?;
        let after = map.short_lengths();
        self.segments.note(segment, before ^ after, after);
        self.tally.remove(len);
        self.tally.add(len - pages);
        Some((segment, page))
    }

    /// The same where only long runs are long enough.
    fn take_long(&mut self, pages: u32) -> Option<(u32, u32)> {
        if pages == 0 {
            return None;
        }
        let Fit { segment, page: start, len } = self.long_fit(pages)?;
        let page = if pages >= LONG { start + (len - pages) } else { start };
        let map = self.segments.map_mut(segment)?;
        let (run, taken) = (start..start + len, page..page + pages);
        let before = map.short_lengths();
        map.take_part(&run, &taken);
        let after = map.short_lengths();
        self.segments.note(segment, before ^ after, after);
        self.took(segment, &run, &taken);
        Some((segment, page))
    }

    /// Pages of a run are not free any more.
    #[inline]
    fn took(&mut self, segment: u32, run: &Range<u32>, taken: &Range<u32>) {
        self.remove(segment, run);
        self.insert(segment, &(run.start..taken.start));
        self.insert(segment, &(taken.end..run.end));
    }

    /// Marks the `pages` pages from `page` on as used. Refused, with false, if the segment is not attached, if there
    /// are none, or if one of them is outside the usable range or in use.
    #[must_use]
    pub fn take(&mut self, segment: u32, page: u32, pages: u32) -> bool {
        let Some(map) = self.segments.map_mut(segment) else { return false };
        let before = map.short_lengths();
        let Some(run) = map.take(page, pages) else { return false };
        let after = map.short_lengths();
        self.segments.note(segment, before ^ after, after);
        self.took(segment, &run, &(page..page + pages));
        true
    }

    /// Marks the `pages` pages from `page` on as free. Refused, with false, if the segment is not attached, if there
    /// are none, or if one of them is outside the usable range or free.
    #[must_use]
    pub fn give(&mut self, segment: u32, page: u32, pages: u32) -> bool {
        let Some(map) = self.segments.map_mut(segment) else { return false };
        let before = map.short_lengths();
        let Some(run) = map.give(page, pages) else { return false };
        let after = map.short_lengths();
        self.segments.note(segment, before ^ after, after);
        let (left, right) = (run.start..page, page + pages..run.end);
        self.remove(segment, &left);
        self.remove(segment, &right);
        self.insert(segment, &run);
        true
    }

    /// The free runs of all attached segments by length. It is kept up to date, so the call costs the same whatever
    /// their number.
    #[must_use]
    pub fn histogram(&self) -> Histogram {
        self.tally.histogram()
    }

    /// Bytes of the bits of all attached segments. The call looks at each of them.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.segments.maps().map(|(_, map)| map.memory_bytes()).sum()
    }

    /// Bytes of everything else, for the ordered sets as an estimate. The call looks at each attached segment.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        let maps = self.segments.maps().map(|(_, map)| map.index_bytes() - size_of::<RunMap>());
        let own = size_of::<Self>() - size_of::<Segments>() + self.long.len() * size_of::<u64>() * 3 / 2;
        own + self.segments.index_bytes() + maps.sum::<usize>()
    }

    /// The runs of at least `pages` pages, ordered by length, segment and page.
    fn runs(&self, pages: u32) -> impl Iterator<Item = Fit> {
        let lengths = self.segments.lengths() & u64::MAX.checked_shl(pages).unwrap_or(0);
        let short = ones(lengths).flat_map(|len| {
            let runs = move |map: &'_ RunMap| map.short(len).collect::<Vec<_>>();
            self.segments.having(len).flat_map(move |(segment, map)| {
                runs(map).into_iter().map(move |page| Fit { segment, page, len })
            })
        });
        short.chain(self.long(pages))
    }

    /// The long runs of at least `pages` pages, ordered by length, segment and page.
    #[inline]
    fn long(&self, pages: u32) -> impl Iterator<Item = Fit> {
        self.long.from(pack(pages.min(MORE_THAN_ANY), 0, 0)).map(unpack)
    }

    /// The first of these.
    #[inline]
    fn long_fit(&self, pages: u32) -> Option<Fit> {
        self.long.first_from(pack(pages.min(MORE_THAN_ANY), 0, 0)).map(unpack)
    }

    #[inline]
    fn insert(&mut self, segment: u32, run: &Range<u32>) {
        let len = run.end - run.start;
        self.tally.add(len);
        if len >= LONG {
            self.long.insert(pack(len, segment, run.start));
        }
    }

    #[inline]
    fn remove(&mut self, segment: u32, run: &Range<u32>) {
        let len = run.end - run.start;
        self.tally.remove(len);
        if len >= LONG {
            self.long.remove(pack(len, segment, run.start));
        }
    }
}

/// No run has so many pages, and more of them might not fit into the number.
const MORE_THAN_ANY: u32 = RunMap::MAX_PAGES + 1;

/// Bits of a page, and of a segment, in a long run as a number.
const PAGE_BITS: u32 = RunMap::MAX_PAGES.ilog2();
const SEGMENT_BITS: u32 = RunIndex::MAX_SEGMENTS.ilog2();

/// A long run as a number. The order of the numbers is that of lengths, then of segments, then of first pages.
#[inline]
fn pack(len: u32, segment: u32, page: u32) -> u64 {
    (u64::from(len) << SEGMENT_BITS | u64::from(segment)) << PAGE_BITS | u64::from(page)
}

/// The run of a number that [`pack`] made.
#[inline]
fn unpack(run: u64) -> Fit {
    let part = |shift: u32, bits: u32| u32::try_from(run >> shift & ((1 << bits) - 1)).unwrap_or(0);
    Fit {
        segment: part(PAGE_BITS, SEGMENT_BITS),
        page: part(0, PAGE_BITS),
        len: part(PAGE_BITS + SEGMENT_BITS, PAGE_BITS + 1),
    }
}
