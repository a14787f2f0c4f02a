//! What the pages of the workload hold: every 8-byte word follows from a tag, so that a lost, foreign or torn sector
//! does not go unnoticed; and room in each sector for bytes that go through the journal.

use std::sync::OnceLock;

use crate::rng::mix;

/// Size of a journaled cell.
pub const CELL_BYTES: usize = 24;
/// Where the cell of each sector begins.
pub const CELL_OFFSET: usize = 64;
/// Payloads are laid out by this unit, whatever the disk's sectors are.
pub const UNIT_BYTES: usize = 512;

const WORD: usize = 8;

fn word(tag: u64, index: usize) -> [u8; WORD] {
    mix(tag ^ (index as u64) << 40).to_le_bytes()
}

/// A page as written directly under `tag`.
#[must_use]
pub fn page(tag: u64, len: usize) -> Vec<u8> {
    (0..len.div_ceil(WORD)).flat_map(|index| word(tag, index)).take(len).collect()
}

/// Length of a page of an extent; that of an item is the item's.
#[must_use]
pub fn part_len(extent: &freehold::Extent, page: usize, page_bytes: usize) -> usize {
    let len = usize::try_from(extent.len).unwrap_or(usize::MAX);
    len.saturating_sub(page * page_bytes).min(page_bytes)
}

/// The bytes of a journaled cell under `tag`.
#[must_use]
pub fn cell(tag: u64) -> [u8; CELL_BYTES] {
    let mut bytes = [0; CELL_BYTES];
    for (chunk, index) in bytes.chunks_exact_mut(WORD).zip(0_usize..) {
        chunk.copy_from_slice(&word(!tag, index));
    }
    bytes
}

/// Offset in a page of a unit's cell.
#[must_use]
pub const fn cell_offset(unit: usize) -> usize {
    unit * UNIT_BYTES + CELL_OFFSET
}

/// What a page must hold.
#[derive(Clone, Debug, Default)]
pub struct PageState {
    /// Tag of the last direct write; none when a direct write never ended, so that the page may hold anything.
    base: Option<u64>,
    /// Journaled cells written since: unit and tag.
    cells: Vec<(usize, u64)>,
    /// The bytes that follow from the above, made when they are first compared: that happens a million times.
    expected: OnceLock<Vec<u8>>,
}

impl PartialEq for PageState {
    fn eq(&self, other: &Self) -> bool {
        (self.base, &self.cells) == (other.base, &other.cells)
    }
}

impl Eq for PageState {}

impl PageState {
    /// A page that was written as a whole.
    #[must_use]
    pub const fn direct(tag: u64) -> Self {
        Self { base: Some(tag), cells: Vec::new(), expected: OnceLock::new() }
    }

    /// A page that is being written.
    #[must_use]
    pub const fn unsettled() -> Self {
        Self { base: None, cells: Vec::new(), expected: OnceLock::new() }
    }

    fn build(&self, tag: u64, len: usize) -> Vec<u8> {
        let mut bytes = page(tag, len);
        for &(unit, tag) in &self.cells {
            let at = cell_offset(unit);
            if let Some(place) = bytes.get_mut(at..at + CELL_BYTES) {
                place.copy_from_slice(&cell(tag));
            }
        }
        bytes
    }

    /// The first word that is not as it must be, as an offset in bytes.
    #[must_use]
    pub fn mismatch(&self, bytes: &[u8]) -> Option<usize> {
        if let Some(tag) = self.base
            && self.expected.get_or_init(|| self.build(tag, bytes.len())) == bytes
        {
            return None;
        }
        for (index, chunk) in bytes.chunks(WORD).enumerate() {
            let at = index * WORD;
            let within = at % UNIT_BYTES;
            if (CELL_OFFSET..CELL_OFFSET + CELL_BYTES).contains(&within) {
                let unit = at / UNIT_BYTES;
                if let Some(&(_, tag)) = self.cells.iter().find(|(other, _)| *other == unit) {
                    if !word(!tag, (within - CELL_OFFSET) / WORD).starts_with(chunk) {
                        return Some(at);
                    }
                    continue;
                }
            }
            if self.base.is_some_and(|tag| !word(tag, index).starts_with(chunk)) {
                return Some(at);
            }
        }
        None
    }

    /// A journaled cell.
    pub fn put(&mut self, unit: usize, tag: u64) {
        self.expected = OnceLock::new();
        match self.cells.iter_mut().find(|(other, _)| *other == unit) {
            Some((_, old)) => *old = tag,
            None => self.cells.push((unit, tag)),
        }
    }

    /// A number that equal states share.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let base = self.base.map_or(1, mix);
        self.cells.iter().fold(base, |sum, &(unit, tag)| sum.wrapping_add(mix(tag ^ (unit as u64) << 48)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        let mut state = PageState::direct(5);
        let mut bytes = page(5, 4096);
        assert_eq!(state.mismatch(&bytes), None);
        state.put(3, 9);
        assert!(state.mismatch(&bytes).is_some());
        let at = cell_offset(3);
        bytes[at..at + CELL_BYTES].copy_from_slice(&cell(9));
        assert_eq!(state.mismatch(&bytes), None);
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(state.mismatch(&bytes), Some(at / 8 * 8));
            bytes[at] ^= 1;
        }
        // An item may end within a word.
        let mut bytes = page(5, 101);
        assert_eq!(bytes.len(), 101);
        state = PageState::direct(5);
        assert_eq!(state.mismatch(&bytes), None);
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(state.mismatch(&bytes), Some(at / 8 * 8));
            bytes[at] ^= 1;
        }
        state = PageState::direct(6);
        assert_eq!(state.mismatch(&page(6, 4096)), None);
    }
}
