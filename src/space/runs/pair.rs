//! The free pages of two words, 64 pages each.
//!
//! A run that is short and starts in a pair of words ends in it or in the first word of the next one. So the pair, the
//! last page before it and the word after it say which short runs start in it.

use super::FANOUT as WORD;

/// Words in a pair.
pub(super) const WORDS: u32 = 2;
/// Pages in a pair.
pub(super) const PAGES: u32 = WORD * WORDS;

/// One bit per page, 1 for free, page 0 in the lowest bit of the first word.
#[repr(align(16))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair(pub(super) [u64; WORDS as usize]);

impl Pair {
    /// A pair without a free page.
    pub(super) const USED: Self = Self([0; WORDS as usize]);

    /// Whether all pages are free.
    #[inline]
    pub(super) fn is_whole(&self) -> bool {
        self.0.iter().all(|&word| word == u64::MAX)
    }

    /// How many pages are free from the first on.
    pub(super) fn free_at_start(&self) -> u32 {
        let broken = (0..).zip(&self.0).find(|&(_, &word)| word != u64::MAX);
        broken.map_or(PAGES, |(at, word)| at * WORD + word.trailing_ones())
    }

    /// How many pages are free up to the last.
    pub(super) fn free_at_end(&self) -> u32 {
        let broken = (0..).zip(self.0.iter().rev()).find(|&(_, &word)| word != u64::MAX);
        broken.map_or(PAGES, |(at, word)| at * WORD + word.leading_ones())
    }
}

/// Where in a pair the runs of one short length start.
pub(super) struct Starts {
    /// The first pages of runs that have the end of a run, not always their own, at the right distance.
    candidates: u128,
    bits: u128,
    /// The word after the pair.
    after: u64,
    len: u32,
}

impl Starts {
    /// Looks for runs of `len` pages, which is a short length, in `pair`. The lowest bit of `before` says whether the
    /// last page before the pair is free, and `after` is the word after it. Either may be 0 if the first page of the
    /// pair, or the last one, is not free.
    #[inline]
    pub(super) fn new(before: u64, pair: &Pair, after: u64, len: u32) -> Self {
        let [low, high] = pair.0.map(u128::from);
        let bits = high << WORD | low;
        let shifted = bits << 1 | u128::from(before & 1);
        let (starts, ends) = (bits & !shifted, shifted & !bits);
        let last_ends = (after << 1 | u64::from(high >> (WORD - 1) == 1)) & !after;
        let ends = ends >> len | u128::from(last_ends) << WORD << (WORD - len);
        Self { candidates: starts & ends, bits, after, len }
    }

    /// Whether there is such a run.
    #[inline]
    pub(super) fn any(mut self) -> bool {
        self.next().is_some()
    }

    /// The lowest such run, by its first page counted from the start of the pair.
    #[inline]
    pub(super) fn first(mut self) -> Option<u32> {
        self.next()
    }

    /// The same, and whether it is the only one.
    #[inline]
    pub(super) fn first_and_only(mut self) -> Option<(u32, bool)> {
        let first = self.next()?;
        Some((first, self.candidates == 0 || self.next().is_none()))
    }

    /// All such runs, by their first pages counted from the start of the pair, in ascending order.
    #[inline]
    pub(super) fn pages(mut self) -> impl Iterator<Item = u32> {
        std::iter::from_fn(move || self.next())
    }

    /// The lowest run that is left.
    #[inline]
    fn next(&mut self) -> Option<u32> {
        while self.candidates != 0 {
            let page = self.candidates.trailing_zeros();
            self.candidates &= self.candidates - 1;
            let beyond = if page > WORD { self.after << (PAGES - page) } else { 0 };
            if (low(self.bits >> page) | beyond).trailing_ones() == self.len {
                return Some(page);
            }
        }
        None
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low word is meant")]
const fn low(bits: u128) -> u64 {
    bits as u64
}
