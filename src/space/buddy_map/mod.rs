//! Which pages of one segment are free, and where the naturally aligned power-of-two runs among them are.
//!
//! This is the buddy system (K. C. Knowlton, "A fast storage allocator", CACM 8(10), 1965; D. E. Knuth, "The Art of
//! Computer Programming", vol. 1, sec. 2.5) without its free lists: the blocks follow from one bit per page, so
//! splitting and merging are no actions of their own. A free block of order `k` is `2^k` free pages that start at a
//! multiple of `2^k`, counted from page 0 of the segment. It is *maximal* if the block of order `k + 1` around it is
//! not wholly free or reaches past the segment.
//!
//! Invariants:
//! - A bit is 1 if and only if its page is free. Pages outside the usable range are never free, which also holds for
//!   the padding of the last words.
//! - `free` is the number of bits that are 1.
//! - Words come in whole groups of eight, at least one group.
//! - The summary equals the one that is computed from the bits alone. A node's mask has bit `k` set exactly where a
//!   free block of order `k` lies inside the node's span and is maximal within that span, so a wholly free node has
//!   exactly the bit of its own order.
//! - A call that is refused changes nothing.
//!
//! Memory: one bit per page, and one mask of 32 bits per 512 pages, per 4096 pages and so on up to one root: 7.2 %
//! of the bits in a map of 2^18 pages.

#![expect(
    clippy::indexing_slicing,
    reason = "hot path: words and nodes are indexed by pages that were checked against the usable range, or by \
              positions that the masks of the level above prove to exist"
)]

mod summary;

use std::ops::Range;

use summary::{FANOUT, Summary};

/// The pages of one word.
const WORD: u32 = u64::BITS;

/// The free pages of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuddyMap {
    /// One bit per page, 1 for free, page 0 in the lowest bit of the first word.
    bits: Box<[u64]>,
    summary: Summary,
    /// The pages that may ever be free.
    usable: Range<u32>,
    free: u32,
}

impl BuddyMap {
    /// The order of the largest block that a map can hold: `2^18` pages.
    pub const MAX_ORDER: u8 = 18;
    /// The largest number of pages that a map can cover.
    pub const MAX_PAGES: u32 = 1 << Self::MAX_ORDER;

    /// A map of `page_count` pages in which all pages of `usable` are free. Parts of either that lie past
    /// [`Self::MAX_PAGES`], and parts of `usable` past `page_count`, are left out: such pages are never free.
    #[must_use]
    pub fn new(page_count: u32, usable: Range<u32>) -> Self {
        let page_count = page_count.min(Self::MAX_PAGES);
        let end = usable.end.min(page_count);
        let usable = usable.start.min(end)..end;
        let words = (page_count.div_ceil(WORD) as usize).next_multiple_of(FANOUT).max(FANOUT);
        let mut bits = vec![0; words].into_boxed_slice();
        pieces(usable.clone()).for_each(|(word, mask)| bits[word] = mask);
        Self { summary: Summary::of(&bits), bits, free: end - usable.start, usable }
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
            return Err(
                u32::try_from(used.len()).map_or(page_count, |len| len.saturating_mul(8).min(page_count))
            );
        }
        let mut map = Self::new(page_count, usable);
        for ((word, bits), bytes) in (0..).zip(&mut map.bits).zip(used.chunks(size_of::<u64>())) {
            let used = bytes.iter().rev().fold(0, |used, &byte| used << 8 | u64::from(byte));
            let misplaced = used & !*bits;
            if misplaced != 0 {
                return Err(word * WORD + misplaced.trailing_zeros());
            }
            *bits &= !used;
            map.free -= used.count_ones();
        }
        map.summary = Summary::of(&map.bits);
        Ok(map)
    }

    /// The order of the largest free block, or nothing if no page is free.
    #[must_use]
    pub fn largest_order(&self) -> Option<u8> {
        self.summary.orders().checked_ilog2().and_then(|order| u8::try_from(order).ok())
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
        self.run(page, pages)
            .is_some_and(|run| pieces(run).all(|(word, mask)| self.bits[word] & mask == mask))
    }

    /// Whether the `pages` pages from `page` on are all usable and in use. False for a run of no pages.
    #[must_use]
    pub fn is_run_used(&self, page: u32, pages: u32) -> bool {
        self.run(page, pages).is_some_and(|run| pieces(run).all(|(word, mask)| self.bits[word] & mask == 0))
    }

    /// Where `2^order` pages should be taken: the first page of the lowest maximal free block among those of the
    /// smallest order that suffices.
    #[must_use]
    pub fn find(&self, order: u8) -> Option<u32> {
        self.summary.find(&self.bits, u32::from(order))
    }

    /// Takes the `2^order` pages that [`Self::find`] names, and returns the first of them.
    pub fn take(&mut self, order: u8) -> Option<u32> {
        let page = self.find(order)?;
        // A block was found, so `order` is at most the largest there is.
        let pages = 1 << order;
        self.flip(page..page + pages);
        self.free -= pages;
        Some(page)
    }

    /// Marks the `pages` pages from `page` on as used. Refused, with false, if there are none, or if one of them is
    /// outside the usable range or in use.
    #[must_use]
    pub fn set_used(&mut self, page: u32, pages: u32) -> bool {
        let accepted = self.is_run_free(page, pages);
        if accepted {
            self.flip(page..page + pages);
            self.free -= pages;
        }
        accepted
    }

    /// Marks the `pages` pages from `page` on as free. Refused, with false, if there are none, or if one of them is
    /// outside the usable range or free.
    #[must_use]
    pub fn set_free(&mut self, page: u32, pages: u32) -> bool {
        let accepted = self.is_run_used(page, pages);
        if accepted {
            self.flip(page..page + pages);
            self.free += pages;
        }
        accepted
    }

    /// The longest runs of used pages in the usable range, as first page and number of pages, in ascending order.
    pub fn used_runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.runs(false)
    }

    /// The longest runs of free pages, as first page and number of pages, in ascending order.
    pub fn free_runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.runs(true)
    }

    /// Bytes that the map holds on the heap: bits and summary.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.bits) + self.summary.memory_bytes()
    }

    /// The run as a range, if it is not empty and lies in the usable range.
    fn run(&self, page: u32, pages: u32) -> Option<Range<u32>> {
        let end = page.checked_add(pages)?;
        (pages > 0 && page >= self.usable.start && end <= self.usable.end).then_some(page..end)
    }

    /// Turns over the state of all pages of `run`, which is not empty and lies in the usable range.
    fn flip(&mut self, run: Range<u32>) {
        let (first, last) = (run.start / WORD, (run.end - 1) / WORD);
        pieces(run).for_each(|(word, mask)| self.bits[word] ^= mask);
        self.summary.update(&self.bits, first as usize, last as usize);
    }

    fn runs(&self, free: bool) -> impl Iterator<Item = (u32, u32)> {
        let mut from = self.usable.start;
        std::iter::from_fn(move || {
            let start = self.next(from, free);
            from = self.next(start, !free);
            (start < from).then_some((start, from - start))
        })
    }

    /// The first page at or after `from` that is free, or used, or else the end of the usable range.
    fn next(&self, from: u32, free: bool) -> u32 {
        let sought =
            |(word, mask): (usize, u64)| (if free { self.bits[word] } else { !self.bits[word] }) & mask;
        let rest = from..self.usable.end;
        let mut found = (from / WORD..).zip(pieces(rest).map(sought)).filter(|&(_, pages)| pages != 0);
        found.next().map_or(self.usable.end, |(word, pages)| word * WORD + pages.trailing_zeros())
    }
}

/// The words that hold the pages of `run`, each with the mask of those pages.
fn pieces(run: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    (run.start / WORD..run.end.div_ceil(WORD)).map(move |word| {
        let low = run.start.saturating_sub(word * WORD);
        let high = (run.end - word * WORD).min(WORD);
        (word as usize, u64::MAX << low & u64::MAX >> (WORD - high))
    })
}

#[cfg(test)]
mod tests;
