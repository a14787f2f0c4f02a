//! The free pages of two words, 64 pages each.
//!
//! A run that is short and starts in a pair of words ends in it or in the first word of the next one. So the pair, the
//! last page before it and the word after it say which short runs start in it.

#![expect(
    clippy::indexing_slicing,
    reason = "hot path: the arrays have one place for each word of a pair, and one more for ends"
)]

use super::{FANOUT as WORD, ones};

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
    candidates: [u64; WORDS as usize],
    /// The first pages after runs, also those in the word after the pair.
    ends: [u64; WORDS as usize + 1],
    len: u32,
}

impl Starts {
    /// Looks for runs of `len` pages, which is a short length, in `pair`. The lowest bit of `before` says whether the
    /// last page before the pair is free, and `after` is the word after it. Either may be 0 if the first page of the
    /// pair, or the last one, is not free.
    #[inline]
    pub(super) fn new(before: u64, pair: &Pair, after: u64, len: u32) -> Self {
        let words = &pair.0;
        let below = |at: usize| if at == 0 { before } else { words[at - 1] >> (WORD - 1) };
        let ends: [u64; WORDS as usize] = std::array::from_fn(|at| (words[at] << 1 | below(at)) & !words[at]);
        let last_end = (after << 1 | below(WORDS as usize)) & !after;
        let ends: [u64; WORDS as usize + 1] =
            std::array::from_fn(|at| if at < WORDS as usize { ends[at] } else { last_end });
        let candidates = std::array::from_fn(|at| {
            let starts = words[at] & !(words[at] << 1 | below(at));
            starts & (ends[at] >> (len % WORD) | ends[at + 1] << ((WORD - len) % WORD))
        });
        Self { candidates, ends, len }
    }

    /// Whether there is such a run.
    #[inline]
    pub(super) fn any(self) -> bool {
        self.candidates.iter().fold(0, |all, word| all | word) != 0 && self.first().is_some()
    }

    /// The lowest such run, by its first page counted from the start of the pair.
    #[inline]
    pub(super) fn first(self) -> Option<u32> {
        let [low, high] = self.candidates.map(u128::from);
        let mut candidates = high << WORD | low;
        while candidates != 0 {
            let page = candidates.trailing_zeros();
            let (at, within) = ((page / WORD) as usize, page % WORD);
            let end = self.ends[at] >> within | self.ends[at + 1] << 1 << (WORD - 1 - within);
            if end.trailing_zeros() == self.len {
                return Some(page);
            }
            candidates &= candidates - 1;
        }
        None
    }

    /// All such runs, by their first pages counted from the start of the pair, in ascending order.
    #[inline]
    pub(super) fn pages(self) -> impl Iterator<Item = u32> {
        let Self { candidates, ends, len } = self;
        (0..WORDS).zip(candidates).flat_map(move |(at, candidates)| {
            let (here, next) = (ends[at as usize], ends[at as usize + 1]);
            let end = move |page: u32| (here >> page | next << 1 << (WORD - 1 - page)).trailing_zeros();
            ones(candidates).filter(move |&page| end(page) == len).map(move |page| at * WORD + page)
        })
    }
}
