//! One bit per page, and what can be read from the bits of a few words.
//!
//! Pages are below the number that the bits were made for, where nothing else is said. Callers see to that.

#![expect(
    clippy::indexing_slicing,
    reason = "hot path: pairs and words are those of pages that callers checked"
)]

use std::ops::Range;

use super::{
    FANOUT as WORD,
    pair::{self, Pair, Starts},
};

/// One bit per page, 1 for free, page 0 in the lowest bit of the first word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits(pub(super) Box<[Pair]>);

impl Bits {
    /// Bits of `page_count` pages, of which those in `free` are free.
    pub(super) fn new(page_count: u32, free: &Range<u32>) -> Self {
        let pairs = page_count.div_ceil(pair::PAGES) as usize;
        let mut bits = Self(vec![Pair::USED; pairs].into_boxed_slice());
        pieces(free).for_each(|(word, mask)| *bits.word_mut(word) = mask);
        bits
    }

    /// One word, or 0 past the last pair.
    #[inline]
    pub(super) fn word(&self, word: u32) -> u64 {
        self.0.get((word / pair::WORDS) as usize).map_or(0, |pair| pair.0[(word % pair::WORDS) as usize])
    }

    /// One word, to be changed.
    #[inline]
    pub(super) fn word_mut(&mut self, word: u32) -> &mut u64 {
        &mut self.0[(word / pair::WORDS) as usize].0[(word % pair::WORDS) as usize]
    }

    /// Where in a pair runs of exactly `len` pages start, which is a short length.
    #[inline]
    pub(super) fn starts(&self, pair: u32, len: u32) -> Starts {
        let here = &self.0[pair as usize];
        let Pair([first, last]) = *here;
        // The words next to the pair are rarely needed, and may lie in other cache lines.
        let before = match (pair * pair::WORDS).checked_sub(1) {
            Some(below) if first & 1 == 1 => self.word(below) >> (WORD - 1),
            _ => 0,
        };
        let after = if last >> (WORD - 1) == 1 { self.word((pair + 1) * pair::WORDS) } else { 0 };
        Starts::new(before, here, after, len)
    }

    /// Whether no page of a range that is not empty is free.
    #[inline]
    pub(super) fn all_used(&self, range: &Range<u32>) -> bool {
        all_pieces(range, |word, mask| self.word(word) & mask == 0)
    }

    /// The run that the pages of a range would be part of if they were free, where one word tells: nothing if the run, or
    /// the page on either side of it, lies in other words, or if a page of the range is free already.
    #[inline]
    pub(super) fn run_in_word(&self, range: &Range<u32>) -> Option<Range<u32>> {
        let (word, from) = (range.start / WORD, range.start % WORD);
        let to = range.end - word * WORD;
        if to >= WORD {
            return None;
        }
        let bits = self.word(word);
        let (below, above) = ((1 << from) - 1, u64::MAX << to);
        let (left, right) = (!bits & below, !bits & above);
        if bits & !(below | above) != 0 || left == 0 || right == 0 {
            return None;
        }
        Some(word * WORD + WORD - left.leading_zeros()..word * WORD + right.trailing_zeros())
    }

    /// The first page of `range` that is free, or used, or else the end of the range.
    pub(super) fn next(&self, range: Range<u32>, free: bool) -> u32 {
        let sought = |(word, mask): (u32, u64)| {
            let bits = self.word(word);
            (word, (if free { bits } else { !bits }) & mask)
        };
        let mut found = pieces(&range).map(sought).filter(|&(_, pages)| pages != 0);
        found.next().map_or(range.end, |(word, pages)| word * WORD + pages.trailing_zeros())
    }
}

/// Whether `holds` is true for all words that hold the pages of `range`, each with the mask of those pages. They are
/// asked in ascending order, up to the first for which it is not. The range is not empty.
#[inline]
pub(super) fn all_pieces(range: &Range<u32>, mut holds: impl FnMut(u32, u64) -> bool) -> bool {
    let (first, last) = (range.start / WORD, (range.end - 1) / WORD);
    let from = u64::MAX << (range.start % WORD);
    let to = u64::MAX >> (WORD - 1 - (range.end - 1) % WORD);
    if first == last {
        return holds(first, from & to);
    }
    holds(first, from) && (first + 1..last).all(|word| holds(word, u64::MAX)) && holds(last, to)
}

/// The words that hold the pages of `range`, each with the mask of those pages.
fn pieces(range: &Range<u32>) -> impl Iterator<Item = (u32, u64)> + use<> {
    let Range { start, end } = *range;
    (start / WORD..end.div_ceil(WORD)).map(move |word| {
        let low = start.saturating_sub(word * WORD);
        let high = (end - word * WORD).min(WORD);
        (word, u64::MAX << low & u64::MAX >> (WORD - high))
    })
}
