//! The checksum of a block, carried on over what changes of it: a group often changes some bytes of many blocks, and reading
//! each of them once more took most of the time of a small group.

use std::ops::Range;

use crate::format::{Aligned, CARRIED_WORD, carried_crc, mixed_checksum};

/// Changes between two groups that are carried over; with more of them a pass over the block is as quick.
const MOST_CHANGES: u32 = 5;
/// The most words that one change is carried over in.
const MOST_WORDS: usize = 8;

/// What is known of the CRC-32C of a block's content. Whoever changes the content does so by [`change`](Self::change), or before
/// the first [`checksum`](Self::checksum) was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CarriedCrc {
    crc: Option<u32>,
    changes: u32,
}

impl CarriedCrc {
    /// So many changes are about to come. Too many are not begun with.
    #[inline]
    pub(super) fn announce(&mut self, changes: usize) {
        if self.changes as usize + changes > MOST_CHANGES as usize {
            self.crc = None;
        }
    }

    /// The content changes otherwise.
    #[inline]
    pub(super) fn forget(&mut self) {
        self.crc = None;
    }

    /// Has `change` change bytes of `content`, none outside of `range`.
    pub(super) fn change<T>(
        &mut self,
        content: &mut [u8],
        range: Range<u32>,
        change: impl FnOnce(&mut [u8]) -> T,
    ) -> T {
        let Some(crc) = self.crc.take() else { return change(content) };
        self.changes += 1;
        let words = range.start as usize / CARRIED_WORD..(range.end as usize).div_ceil(CARRIED_WORD);
        let (all, rest) = content.as_chunks::<CARRIED_WORD>();
        let behind = all.len().checked_sub(words.end);
        let (Some(before), Some(behind), true) = (all.get(words.clone()), behind, rest.is_empty()) else {
            return change(content);
        };
        if self.changes > MOST_CHANGES || before.len() > MOST_WORDS {
            return change(content);
        }
        let mut difference = Aligned([[0; CARRIED_WORD]; MOST_WORDS]);
        difference.0.iter_mut().zip(before).for_each(|(word, before)| *word = *before);
        let result = change(content);
        let after = content.as_chunks::<CARRIED_WORD>().0.get(words).unwrap_or_default();
        for (word, after) in difference.0.iter_mut().zip(after) {
            *word = (u64::from_le_bytes(*word) ^ u64::from_le_bytes(*after)).to_le_bytes();
        }
        let difference = difference.0.get(..after.len()).unwrap_or_default();
        self.crc = carried_crc(crc, difference.as_flattened(), behind);
        result
    }

    /// What [`content_checksum`](crate::format::content_checksum) says of the content. From here on its changes are carried
    /// over.
    pub(super) fn checksum(&mut self, content: &[u8]) -> u32 {
        let crc = self.crc.unwrap_or_else(|| crc32c::crc32c(content));
        debug_assert_eq!(crc, crc32c::crc32c(content), "a change was not carried over");
        *self = Self { crc: Some(crc), changes: 0 };
        mixed_checksum(crc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::content_checksum;
    use quickcheck::quickcheck;

    quickcheck! {
        /// Groups of changes, most of them small, some of them too many or too long, in blocks of several sizes.
        fn a_checksum_is_that_of_the_content(words: u16, groups: Vec<Vec<(u16, u8, u8)>>) -> bool {
            let len = 1 + usize::from(words) % 5000;
            let mut content = vec![7; len];
            let mut carried = CarriedCrc::default();
            groups.into_iter().all(|group| {
                for (start, length, byte) in group {
                    let start = usize::from(start) % len;
                    let end = (start + usize::from(length) % 80).min(len);
                    let range = u32::try_from(start).unwrap_or(0)..u32::try_from(end).unwrap_or(0);
                    carried.change(&mut content, range, |content| content[start..end].fill(byte));
                }
                carried.checksum(&content) == content_checksum(&content)
            })
        }
    }

    #[test]
    fn small_changes_are_carried_over_and_more_of_them_are_not() {
        let mut content = vec![0; 4096];
        let mut carried = CarriedCrc::default();
        carried.checksum(&content);
        for at in 0..MOST_CHANGES {
            carried.change(&mut content, at * 64..at * 64 + 16, |content| content[at as usize * 64] = 1);
            assert!(carried.crc.is_some());
        }
        carried.change(&mut content, 0..1, |content| content[0] = 2);
        assert!(carried.crc.is_none());
        assert_eq!(carried.checksum(&content), content_checksum(&content));
    }
}
