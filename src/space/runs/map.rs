//! The free pages of one segment, as runs.
//!
//! Invariants:
//! - A bit is 1 if and only if its page is free. Pages outside the usable range are never free, which also holds for
//!   the padding of the last pair.
//! - `free` is the number of bits that are 1.
//! - `bins` and `long` equal what is computed from the bits alone: `bins` says in which pairs runs of each short
//!   length start and which pairs are wholly free, `long` has each long run.
//! - A call that is refused changes nothing.

#![expect(
    clippy::indexing_slicing,
    reason = "hot path: pairs are indexed by pages that were checked against the usable range, by pages of runs that \
              are next to such pages, or by pairs that the index above proves to exist"
)]

use std::ops::Range;

use super::{
    FANOUT as WORD, LONG,
    bins::Bins,
    bits::{self, Bits},
    long::LongRuns,
    pair::{self, Pair},
};

/// The free pages of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMap {
    /// One bit per page, 1 for free, page 0 in the lowest bit of the first word.
    bits: Bits,
    bins: Bins,
    /// Each long run as its length, shifted left by 32 bits, and its first page.
    long: LongRuns,
    page_count: u32,
    /// The pages that may ever be free.
    usable: Range<u32>,
    free: u32,
}

impl RunMap {
    /// The largest number of pages that a map can cover.
    pub const MAX_PAGES: u32 = 1 << 18;
    /// How many orders a run can have, from 0 on: the last one is that of a wholly free segment of the largest size.
    pub const ORDERS: usize = Self::MAX_PAGES.ilog2() as usize + 1;

    /// A map of `page_count` pages in which all pages of `usable` are free. Parts of either that lie past
    /// [`Self::MAX_PAGES`], and parts of `usable` past `page_count`, are left out: such pages are never free.
    #[must_use]
    pub fn new(page_count: u32, usable: Range<u32>) -> Self {
        let mut map = Self::all_free(page_count, usable);
        map.build();
        map
    }

    /// A map from a bitmap as it is stored: page `i` is bit `i % 8`, lowest first, of byte `i / 8`, and 1 means used.
    ///
    /// # Errors
    ///
    /// The first page that is out of place: the lowest page outside `usable` whose bit is set; the first page that
    /// `used` should cover but does not, or `page_count` if it is longer than `page_count` bits need;
    /// [`Self::MAX_PAGES`] if `page_count` is larger than that; `page_count` if `usable` ends after it.
    pub fn from_used_bytes(page_count: u32, usable: Range<u32>, used: &[u8]) -> Result<Self, u32> {
        if page_count > Self::MAX_PAGES {
            return Err(Self::MAX_PAGES);
        }
        if usable.end > page_count {
            return Err(page_count);
        }
        if used.len() != page_count.div_ceil(8) as usize {
            let covered = u32::try_from(used.len()).map_or(page_count, |len| len.saturating_mul(8));
            return Err(covered.min(page_count));
        }
        let mut map = Self::all_free(page_count, usable);
        let words = map.bits.0.iter_mut().flat_map(|pair| &mut pair.0);
        for ((word, bits), bytes) in (0..).zip(words).zip(used.chunks(size_of::<u64>())) {
            let used = bytes.iter().rev().fold(0, |used, &byte| used << 8 | u64::from(byte));
            let misplaced = used & !*bits;
            if misplaced != 0 {
                return Err(word * WORD + misplaced.trailing_zeros());
            }
            *bits &= !used;
            map.free -= used.count_ones();
        }
        map.build();
        Ok(map)
    }

    /// How many pages the segment has.
    #[must_use]
    pub const fn page_count(&self) -> u32 {
        self.page_count
    }

    /// The pages that may ever be free.
    #[must_use]
    pub const fn usable(&self) -> Range<u32> {
        self.usable.start..self.usable.end
    }

    /// How many pages are free.
    #[must_use]
    pub const fn free_pages(&self) -> u32 {
        self.free
    }

    /// Whether the page is usable and free.
    #[must_use]
    pub fn is_free(&self, page: u32) -> bool {
        self.is_run_free(page, 1)
    }

    /// Whether the `pages` pages from `page` on are all usable and free. False for a run of no pages.
    #[must_use]
    pub fn is_run_free(&self, page: u32, pages: u32) -> bool {
        self.range(page, pages).is_some_and(|range| self.end_of(page) >= range.end)
    }

    /// Whether the `pages` pages from `page` on are all usable and in use. False for a run of no pages.
    #[must_use]
    pub fn is_run_used(&self, page: u32, pages: u32) -> bool {
        self.range(page, pages).is_some_and(|range| self.bits.all_used(&range))
    }

    /// The run that a free page lies in, or nothing for any other page.
    #[must_use]
    pub fn run_at(&self, page: u32) -> Option<Range<u32>> {
        self.is_free(page).then(|| self.start_of(page)..self.end_of(page))
    }

    /// The length of the longest run in pages, 0 if no page is free.
    #[must_use]
    pub fn longest(&self) -> u32 {
        match self.long.last() {
            Some(run) => unpack(run).0,
            None => self.bins.lengths().checked_ilog2().unwrap_or(0),
        }
    }

    /// The longest runs of used pages in the usable range, as first page and number of pages, in ascending order.
    pub fn used_runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.runs(false)
    }

    /// The runs of free pages, as first page and number of pages, in ascending order.
    pub fn free_runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.runs(true)
    }

    /// Bytes of the bits.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.bits.0)
    }

    /// Bytes of everything else. For the set of long runs it is an estimate.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        size_of::<Self>() + self.bins.heap_bytes() + self.long.len() * size_of::<u64>() * 3 / 2
    }

    /// The short lengths of which there is a run, bit `len` for `len` pages.
    #[inline]
    pub(super) const fn short_lengths(&self) -> u64 {
        self.bins.lengths()
    }

    /// The first page of the lowest run of exactly `len` pages, which is a short length.
    #[inline]
    pub(super) fn first_short(&self, len: u32) -> Option<u32> {
        let pair = self.bins.first(len)?;
        Some(pair * pair::PAGES + self.bits.starts(pair, len).first()?)
    }

    /// The first pages of all runs of exactly `len` pages, which is a short length, in ascending order.
    pub(super) fn short(&self, len: u32) -> impl Iterator<Item = u32> {
        let starts =
            move |pair: u32| self.bits.starts(pair, len).pages().map(move |page| pair * pair::PAGES + page);
        self.bins.pairs(len).flat_map(starts)
    }

    /// Length and first page of the long runs of at least `pages` pages, ordered by both.
    pub(super) fn long(&self, pages: u32) -> impl Iterator<Item = (u32, u32)> {
        self.long.from(pack(pages, 0)).map(unpack)
    }

    /// First page and length of the lowest run among the shortest of at least `pages` pages.
    pub(super) fn best_fit(&self, pages: u32) -> Option<(u32, u32)> {
        let lengths = self.bins.lengths() & u64::MAX.checked_shl(pages).unwrap_or(0);
        if lengths != 0 {
            let len = lengths.trailing_zeros();
            return Some((self.first_short(len)?, len));
        }
        self.long.first_from(pack(pages, 0)).map(unpack).map(|(len, page)| (page, len))
    }

    /// Marks the `pages` pages from `page` on as used, and returns the run that they were part of. Refused, with
    /// nothing, if there are none, or if one of them is outside the usable range or in use.
    #[inline]
    pub(super) fn take(&mut self, page: u32, pages: u32) -> Option<Range<u32>> {
        let taken = self.range(page, pages)?;
        let end = self.end_of(page);
        if end < taken.end {
            return None;
        }
        let run = self.start_of(page)..end;
        self.take_part(&run, &taken);
        Some(run)
    }

    /// Marks pages of a run as used.
    #[inline]
    pub(super) fn take_part(&mut self, run: &Range<u32>, taken: &Range<u32>) {
        self.flip(taken);
        self.free -= taken.end - taken.start;
        self.remove(run.start, run.end - run.start);
        self.insert(run.start, taken.start - run.start);
        self.insert(taken.end, run.end - taken.end);
    }

    /// Marks the first `pages` pages of the lowest run of exactly `len` pages as used, and returns the first of them.
    /// `len` is a short length and not less than `pages`.
    #[inline]
    pub(super) fn take_short(&mut self, len: u32, pages: u32) -> Option<u32> {
        let pair = self.bins.first(len)?;
        let (within, only) = self.bits.starts(pair, len).first_and_only()?;
        let page = pair * pair::PAGES + within;
        self.flip(&(page..page + pages));
        self.free -= pages;
        if only {
            self.bins.remove(len, pair);
        }
        self.insert(page + pages, len - pages);
        Some(page)
    }

    /// Marks the `pages` pages from `page` on as free, and returns the run that they are now part of. Refused, with
    /// nothing, if there are none, or if one of them is outside the usable range or free.
    #[inline]
    pub(super) fn give(&mut self, page: u32, pages: u32) -> Option<Range<u32>> {
        let given = self.range(page, pages)?;
        self.bins.touch(page / pair::PAGES);
        let Range { start, end } = match self.bits.run_in_word(&given) {
            Some(run) => run,
            None if self.bits.all_used(&given) => self.start_of(page)..self.end_of(given.end),
            None => return None,
        };
        self.flip(&given);
        self.free += pages;
        self.remove(start, page - start);
        self.remove(given.end, end - given.end);
        self.insert(start, end - start);
        Some(start..end)
    }

    /// A map with its bits, but without an index above them.
    fn all_free(page_count: u32, usable: Range<u32>) -> Self {
        let page_count = page_count.min(Self::MAX_PAGES);
        let end = usable.end.min(page_count);
        let usable = usable.start.min(end)..end;
        let bits = Bits::new(page_count, &usable);
        let free = end - usable.start;
        Self { bins: Bins::new(bits.0.len()), bits, long: LongRuns::default(), page_count, usable, free }
    }

    /// Makes the index above the bits.
    fn build(&mut self) {
        for (at, pair) in (0..).zip(&self.bits.0) {
            if pair.is_whole() {
                self.bins.set_whole(at, true);
            }
        }
        let mut page = self.bits.next(self.usable.clone(), true);
        while page < self.usable.end {
            let end = self.end_of(page);
            self.insert(page, end - page);
            page = self.bits.next(end..self.usable.end, true);
        }
    }

    /// Adds a run to the index. One of no pages is left out.
    #[inline]
    fn insert(&mut self, start: u32, len: u32) {
        if len >= LONG {
            self.long.insert(pack(len, start));
        } else if len > 0 {
            self.bins.insert(len, start / pair::PAGES);
        }
    }

    /// Removes a run from the index, after its pages changed. One of no pages is left out.
    #[inline]
    fn remove(&mut self, start: u32, len: u32) {
        if len >= LONG {
            self.long.remove(pack(len, start));
        } else if len > 0 && !self.bits.starts(start / pair::PAGES, len).any() {
            self.bins.remove(len, start / pair::PAGES);
        }
    }

    /// The pages as a range, if it is not empty and lies in the usable range.
    #[inline]
    fn range(&self, page: u32, pages: u32) -> Option<Range<u32>> {
        let end = page.checked_add(pages)?;
        (pages > 0 && page >= self.usable.start && end <= self.usable.end).then_some(page..end)
    }

    /// The first page of the free pages directly below `page`, or `page` if the one below is not free.
    #[inline]
    fn start_of(&self, page: u32) -> u32 {
        let (word, below) = (page / WORD, page % WORD);
        let free = (self.bits.word(word) << (WORD - 1 - below) << 1).leading_ones();
        if free < below || word == 0 { page - free } else { self.start_before(word) }
    }

    /// The same for the first page of a word other than the first.
    fn start_before(&self, word: u32) -> u32 {
        let mut start = word;
        while !start.is_multiple_of(pair::WORDS) || start == word {
            let free = self.bits.word(start - 1).leading_ones();
            if free < WORD {
                return start * WORD - free;
            }
            start -= 1;
        }
        let broken = self.bins.broken_before(start / pair::WORDS);
        broken.map_or(0, |at| (at + 1) * pair::PAGES - self.bits.0[at as usize].free_at_end())
    }

    /// The first page at or after `page` that is not free. `page` may be the end of the segment.
    #[inline]
    fn end_of(&self, page: u32) -> u32 {
        let (word, below) = (page / WORD, page % WORD);
        let free = (self.bits.word(word) >> below).trailing_ones();
        if below + free < WORD { page + free } else { self.end_after(word + 1) }
    }

    /// The same for the first page of a word.
    fn end_after(&self, word: u32) -> u32 {
        let mut word = word;
        while !word.is_multiple_of(pair::WORDS) {
            let free = self.bits.word(word).trailing_ones();
            if free < WORD {
                return word * WORD + free;
            }
            word += 1;
        }
        let broken = self.bins.broken_from(word / pair::WORDS);
        broken * pair::PAGES + self.bits.0.get(broken as usize).map_or(0, Pair::free_at_start)
    }

    /// Turns over the state of all pages of a range, which are all free or all used.
    #[inline]
    fn flip(&mut self, range: &Range<u32>) {
        bits::all_pieces(range, |word, mask| {
            let bits = self.bits.word_mut(word);
            let before = *bits;
            *bits ^= mask;
            if *bits == u64::MAX || before == u64::MAX {
                let at = word / pair::WORDS;
                self.bins.set_whole(at, self.bits.0[at as usize].is_whole());
            }
            true
        });
    }

    fn runs(&self, free: bool) -> impl Iterator<Item = (u32, u32)> {
        let mut from = self.usable.start;
        std::iter::from_fn(move || {
            let start = self.bits.next(from..self.usable.end, free);
            from = self.bits.next(start..self.usable.end, !free);
            (start < from).then_some((start, from - start))
        })
    }
}

/// A long run as a number. The order of the numbers is that of lengths, and then of first pages.
#[inline]
fn pack(len: u32, page: u32) -> u64 {
    u64::from(len) << 32 | u64::from(page)
}

/// Length and first page of a number that [`pack`] made.
#[inline]
const fn unpack(run: u64) -> (u32, u32) {
    let [page @ .., a, b, c, d] = run.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(page))
}
