//! Which bytes of a block changed: a bit for each.
//!
//! Marking is a matter of a few instructions, in whatever order and however often bytes change; what to journal is worked
//! out once, when the group is encoded.

use smallvec::SmallVec;

const WORD: u32 = 64;
/// Bytes of a block that the usual allocation is for.
const USUAL_BLOCK: usize = 4096;

/// Fewer unchanged bytes than this between two that changed are journaled with them: a patch of its own takes as many.
const MIN_GAP: u32 = 3;

/// Marked bytes of one block.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    words: Vec<u64>,
    /// Which words are not zero.
    used: SmallVec<[u64; 1]>,
}

impl Marks {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        // Most groups have taken all of it.
        if self.used.iter().any(|used| *used != 0) {
            self.words.fill(0);
            self.used.fill(0);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0) && self.used.iter().all(|word| *word == 0)
    }

    /// Marks `start..end`.
    pub(super) fn add(&mut self, start: u32, end: u32) {
        let mut at = start;
        while at < end {
            let bits = (WORD - at % WORD).min(end - at);
            self.or(at / WORD, u64::MAX >> (WORD - bits) << (at % WORD));
            at += bits;
        }
    }

    /// Puts `new` over the part of `block` that begins at `start`, and marks what differs. Whether anything does.
    pub(super) fn overwrite(&mut self, block: &mut [u8], start: u32, new: &[u8]) -> bool {
        let from = start as usize;
        let Some(old) = block.get_mut(from..from + new.len()) else { return false };
        let mut differs = false;
        for (at, (old, new)) in (start..).step_by(WORD as usize).zip(old.chunks(64).zip(new.chunks(64))) {
            let mut unequal = 0;
            for (within, (old, new)) in (0..WORD).step_by(8).zip(old.chunks(8).zip(new.chunks(8))) {
                let bits = word_of(old) ^ word_of(new);
                if bits != 0 {
                    // What lies between is a gap too short, or nearly.
                    let (first, end) = (bits.trailing_zeros() / 8, 8 - bits.leading_zeros() / 8);
                    unequal |= u64::MAX >> (WORD - (end - first)) << (within + first);
                }
            }
            if unequal != 0 {
                differs = true;
                self.add_bits(at, unequal);
            }
        }
        old.copy_from_slice(new);
        differs
    }

    /// Marks the bytes from `start` on that have a bit.
    fn add_bits(&mut self, start: u32, bits: u64) {
        let (word, within) = (start / WORD, start % WORD);
        self.or(word, bits << within);
        let beyond = bits.checked_shr(WORD - within).unwrap_or(0);
        if beyond != 0 {
            self.or(word + 1, beyond);
        }
    }

    fn or(&mut self, word: u32, bits: u64) {
        let at = word as usize;
        if at >= self.words.len() {
            let words = (at + 1).next_multiple_of(USUAL_BLOCK / WORD as usize);
            self.words.resize(words, 0);
            self.used.resize(words.div_ceil(WORD as usize), 0);
        }
        if let (Some(marked), Some(used)) = (self.words.get_mut(at), self.used.get_mut(at / WORD as usize)) {
            *marked |= bits;
            *used |= 1 << (word % WORD);
        }
    }

    /// Takes the marked bytes out, as sorted ranges (start and end) with gaps between them that are worth it; instead of
    /// what is in `ranges`.
    pub(super) fn take_ranges(&mut self, ranges: &mut Vec<(u32, u32)>) {
        ranges.clear();
        for (first, used) in (0_u32..).step_by(WORD as usize).zip(&mut self.used) {
            let mut used = std::mem::take(used);
            while used != 0 {
                let at = first + used.trailing_zeros();
                used &= used - 1;
                let mut marked = self.words.get_mut(at as usize).map_or(0, std::mem::take);
                while marked != 0 {
                    let start = marked.trailing_zeros();
                    let end = start + (marked >> start).trailing_ones();
                    marked &= u64::MAX.checked_shl(end).unwrap_or(0);
                    let (start, end) = (at * WORD + start, at * WORD + end);
                    match ranges.last_mut() {
                        Some((_, last)) if start - *last < MIN_GAP => *last = end,
                        _ => ranges.push((start, end)),
                    }
                }
            }
        }
    }
}

/// Up to eight bytes as a number, the first one lowest.
fn word_of(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    match <[u8; 8]>::try_from(bytes) {
        Ok(whole) => word = whole,
        Err(_) => word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from),
    }
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    /// Whether what is journaled of a block covers what changed, and begins and ends with what was marked; whether gaps
    /// are worth it.
    fn covers(marks: &Marks, model: &[bool]) -> bool {
        let mut ranges = vec![(9, 9)];
        marks.clone().take_ranges(&mut ranges);
        let mut covered = vec![false; model.len()];
        for &(start, end) in &ranges {
            if !(model[start as usize] && model[end as usize - 1]) {
                return false;
            }
            covered[start as usize..end as usize].fill(true);
        }
        let gaps = ranges.windows(2).all(|pair| pair[1].0 >= pair[0].1 + MIN_GAP);
        gaps && model.iter().zip(&covered).all(|(marked, covered)| !marked || *covered)
    }

    quickcheck! {
        fn ranges_are_the_union(parts: Vec<(u16, u8)>) -> bool {
            let mut marks = Marks::default();
            // A block of more than the usual size.
            let mut model = vec![false; 5000];
            for (start, len) in parts {
                let (start, end) = (u32::from(start % 4700), u32::from(start % 4700) + u32::from(len) + 1);
                marks.add(start, end);
                model[start as usize..end as usize].fill(true);
            }
            covers(&marks, &model)
        }

        fn what_differs_is_marked(writes: Vec<(u8, Vec<u8>)>, few: bool) -> bool {
            let mut marks = Marks::default();
            let mut block = vec![1; 600];
            let mut model = vec![false; 600];
            for (start, bytes) in writes {
                // Bytes that are often equal to those that are there.
                let new: Vec<u8> = bytes.iter().take(300).map(|b| if few { b % 2 } else { *b }).collect();
                let (from, to) = (usize::from(start), usize::from(start) + new.len());
                let before = block.clone();
                let differs = marks.overwrite(&mut block, start.into(), &new);
                if block[from..to] != new[..] || differs != (block != before) {
                    return false;
                }
                for at in 0..block.len() {
                    model[at] |= block[at] != before[at];
                }
            }
            covers(&marks, &model)
        }
    }

    #[test]
    fn what_lies_outside_of_the_block_is_left_out() {
        let mut marks = Marks::default();
        assert!(!marks.overwrite(&mut [0; 16], 10, &[1; 8]));
        assert!(marks.is_empty());
    }
}
