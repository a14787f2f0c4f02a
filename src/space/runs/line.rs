//! The free pages of one cache line: eight words of 64 pages.
//!
//! A run that is short and starts in a line ends in it or in the first word of the next one. So the line, the last page
//! before it and the word after it say which short runs start in it.

#![expect(
    clippy::indexing_slicing,
    reason = "hot path: the arrays have as many words as the loops over them, and one more for ends"
)]

use super::{FANOUT as WORD, ones};

/// Words in a line.
pub(super) const WORDS: u32 = 2;
/// Pages in a line.
pub(super) const PAGES: u32 = WORD * WORDS;

/// One bit per page, 1 for free, page 0 in the lowest bit of the first word.
#[repr(align(16))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line(pub(super) [u64; WORDS as usize]);

impl Line {
    /// A line without a free page.
    pub(super) const USED: Self = Self([0; WORDS as usize]);

    /// Whether all pages are free. Words are filled from the first on, so the last one tells most often.
    #[inline]
    pub(super) fn is_whole(&self) -> bool {
        self.0.iter().rev().all(|&word| word == u64::MAX)
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

/// Where in a line runs of one short length start.
pub(super) struct Starts {
    /// The first pages of runs that have the end of a run, not always their own, at the right distance.
    candidates: [u64; WORDS as usize],
    /// The first pages after runs, also those in the word after the line.
    ends: [u64; WORDS as usize + 1],
    len: u32,
}

impl Starts {
    /// Looks for runs of `len` pages, which is a short length, in `line`. The lowest bit of `before` says whether the
    /// last page before the line is free, and `after` is the word after it. Either may be 0 if the first page of the
    /// line, or the last one, is not free.
    #[inline]
    pub(super) fn new(before: u64, line: &Line, after: u64, len: u32) -> Self {
        let mut starts = Self { candidates: line.0, ends: [0; WORDS as usize + 1], len };
        let mut before = before;
        for (at, &word) in line.0.iter().enumerate() {
            let next_to_free = word << 1 | before;
            starts.ends[at] = next_to_free & !word;
            starts.candidates[at] = word & !next_to_free;
            before = word >> (WORD - 1);
        }
        starts.ends[WORDS as usize] = (after << 1 | before) & !after;
        for at in 0..WORDS as usize {
            starts.candidates[at] &=
                starts.ends[at] >> (len % WORD) | starts.ends[at + 1] << ((WORD - len) % WORD);
        }
        starts
    }

    /// Whether there is such a run.
    #[inline]
    pub(super) fn any(self) -> bool {
        self.candidates.iter().fold(0, |all, word| all | word) != 0 && self.first().is_some()
    }

    /// The lowest such run, by its first page counted from the start of the line.
    #[inline]
    pub(super) fn first(self) -> Option<u32> {
        for at in 0..WORDS {
            let (here, next) = (self.ends[at as usize], self.ends[at as usize + 1]);
            let mut candidates = self.candidates[at as usize];
            while candidates != 0 {
                let page = candidates.trailing_zeros();
                if (here >> page | next << 1 << (WORD - 1 - page)).trailing_zeros() == self.len {
                    return Some(at * WORD + page);
                }
                candidates &= candidates - 1;
            }
        }
        None
    }

    /// All such runs, by their first pages counted from the start of the line, in ascending order.
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
