//! The bits of a segment's pages.

use std::ops::Range;

use super::super::bytes::{is_zero, rest, u64_at};

const WORD: usize = 64;

pub(super) struct Bitmap<'a> {
    pub bytes: &'a [u8],
    /// The pages that can be used, counted from the start of the segment.
    pub usable: Range<usize>,
}

impl Bitmap<'_> {
    pub(super) fn is_empty(&self) -> bool {
        is_zero(self.bytes)
    }

    fn word(&self, number: usize) -> u64 {
        u64_at(self.bytes, number * 8)
    }

    /// The number of pages in use; none when one of them cannot be used.
    pub(super) fn count(&self) -> Option<usize> {
        let words = self.usable.end.div_ceil(WORD);
        let mut used = 0;
        for number in 0..words {
            let word = self.word(number);
            if word & !mask(&self.usable, number) != 0 {
                return None;
            }
            used += word.count_ones() as usize;
        }
        is_zero(rest(self.bytes, words * 8)).then_some(used)
    }

    /// Whether all these pages are in use.
    pub(super) fn covers(&self, pages: Range<usize>) -> bool {
        (pages.start / WORD..pages.end.div_ceil(WORD)).all(|number| {
            let mask = mask(&pages, number);
            self.word(number) & mask == mask
        })
    }

    /// The free pages of each word.
    fn free(&self) -> impl Iterator<Item = u64> {
        (0..self.usable.end.div_ceil(WORD)).map(|number| !self.word(number) & mask(&self.usable, number))
    }

    /// The length of the longest free run.
    pub(super) fn longest(&self) -> usize {
        let (mut longest, mut open) = (0, 0);
        for free in self.free() {
            if free == u64::MAX {
                open += WORD;
                continue;
            }
            open += free.trailing_ones() as usize;
            longest = longest.max(open).max(longest_within(free));
            open = free.leading_ones() as usize;
        }
        longest.max(open)
    }

    /// The order of the largest free run of a power of two that is aligned to its length.
    pub(super) fn largest_aligned(&self) -> Option<u32> {
        let mut largest = None;
        // Words in a row that are wholly free.
        let mut whole = 0usize;
        for (free, number) in self.free().zip(1usize..) {
            largest = largest.max(largest_within(free));
            whole = if free == u64::MAX { whole + 1 } else { 0 };
            // An aligned run of words ends behind this one for each power of two that divides the words so far.
            let order = whole.checked_ilog2().map(|most| most.min(number.trailing_zeros()));
            largest = largest.max(order.map(|order| order + WORD.ilog2()));
        }
        largest
    }
}

/// The bits of a word that lie in the range.
fn mask(pages: &Range<usize>, word: usize) -> u64 {
    let below = |page: usize| match page.saturating_sub(word * WORD) {
        bits @ 0..WORD => (1 << bits) - 1,
        _ => u64::MAX,
    };
    below(pages.end) & !below(pages.start)
}

/// The length of the longest run of ones.
fn longest_within(mut ones: u64) -> usize {
    let mut length = 0;
    while ones != 0 {
        // Every run loses its last bit.
        ones &= ones >> 1;
        length += 1;
    }
    length
}

/// The order of the largest aligned run of ones.
fn largest_within(mut ones: u64) -> Option<u32> {
    let mut largest = None;
    for order in 0..=6 {
        if ones == 0 {
            break;
        }
        largest = Some(order);
        // Of each pair of runs, the place of the first keeps its bit if both are there.
        let step = 1u32 << order;
        let firsts = match order {
            0 => 0x5555_5555_5555_5555,
            1 => 0x1111_1111_1111_1111,
            2 => 0x0101_0101_0101_0101,
            3 => 0x0001_0001_0001_0001,
            4 => 0x0000_0001_0000_0001,
            _ => 1,
        };
        ones &= ones.checked_shr(step).unwrap_or(0) & firsts;
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// A bitmap of four words with this chance that a page is free, and its free pages.
    fn any(rng: &mut Rng, chance: f64) -> (Vec<u8>, Range<usize>, Vec<bool>) {
        let usable = rng.index(150)..150 + rng.index(107);
        let free: Vec<bool> = (0..256).map(|page| usable.contains(&page) && rng.chance(chance)).collect();
        let mut bytes = vec![0u8; 40];
        for page in usable.clone().filter(|&page| !free[page]) {
            bytes[page / 8] |= 1 << (page % 8);
        }
        (bytes, usable, free)
    }

    #[test]
    fn finds_what_a_look_at_each_page_finds() {
        let mut rng = Rng::new(1);
        for round in 0..4000u32 {
            let chance = [0.1, 0.5, 0.98, 1.0][round as usize % 4];
            let (bytes, usable, free) = any(&mut rng, chance);
            let bitmap = Bitmap { bytes: &bytes, usable: usable.clone() };
            let is_free = |mut pages: Range<usize>| pages.all(|page| free[page]);
            let used = usable.clone().filter(|&page| !free[page]).count();
            assert_eq!(bitmap.count(), Some(used));
            let longest = free.split(|free| !free).map(<[bool]>::len).max().unwrap();
            assert_eq!(bitmap.longest(), longest);
            let aligned = (0..=8u32).rev().find(|&order| {
                (0..256usize).step_by(1 << order).any(|page| is_free(page..page + (1 << order)))
            });
            assert_eq!(bitmap.largest_aligned(), aligned);
            let start = rng.index(256);
            let some = start..start + 1 + rng.index(256 - start);
            let all = some.clone().all(|page| usable.contains(&page) && !free[page]);
            assert_eq!(bitmap.covers(some), all);
        }
    }

    #[test]
    fn counts_no_pages_that_cannot_be_used() {
        let mut bytes = [0; 24];
        bytes[3] = 1;
        let count = |usable: Range<usize>| Bitmap { bytes: &bytes, usable }.count();
        assert_eq!(count(24..25), Some(1));
        assert_eq!(count(25..80), None);
        assert_eq!(count(0..24), None);
        bytes[20] = 1;
        assert_eq!(Bitmap { bytes: &bytes, usable: 0..100 }.count(), None);
    }
}
