//! Appending: what the transactions of a group change goes into the overlay, and is noted for the group.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustc_hash::{FxHashMap, FxHashSet};

use super::carried::CarriedCrc;
use super::engine::Journal;
use super::extents::ExtentsMade;
use super::group::{Group, Scratch, Touch};
use super::overlay::{BlockId, OverlayBlock};
use crate::device::Port;
use crate::format::{GROUP_HEADER_BYTES, LeafAddress, PayloadEncoder};

/// Blocks of the caller as they are before a transaction, by number.
pub type Bases = FxHashMap<u64, Arc<Vec<u8>>>;

/// What was changed since the last snapshot, and by the group that is being made.
#[derive(Debug)]
pub(super) struct Changes {
    /// First LSN of the group that is being made: no other has it.
    pub(super) group: u64,
    /// Blocks that it changed, each once. What it changed of them stands in the overlay.
    pub(super) touched: Vec<BlockId>,
    /// What it made of extents.
    pub(super) extents: ExtentsMade,
    /// A block that it changes was not there.
    pub(super) missing: bool,
    /// For encoding it.
    pub(super) scratch: Scratch,
    /// For sorting changes of bits.
    pub(super) bits: Vec<(LeafAddress, BitsChange)>,
    pub(super) dirty: FxHashSet<BlockId>,
    /// Grows with each snapshot. A block that was last noted as dirty in an earlier round is not in `dirty`; a block of a
    /// caller whose last image is of an earlier round needs a new one.
    pub(super) round: u64,
}

impl Default for Changes {
    fn default() -> Self {
        // No block has an image yet.
        Self {
            group: 0,
            touched: Vec::new(),
            extents: ExtentsMade::default(),
            missing: false,
            scratch: Scratch::default(),
            bits: Vec::new(),
            dirty: FxHashSet::default(),
            round: 1,
        }
    }
}

impl Changes {
    /// Blocks that a checkpoint would have to write.
    pub(super) fn dirty_blocks(&self) -> usize {
        self.dirty.len()
    }

    /// Notes that a group, which ends with this LSN, changed a block; `first`: for the first time.
    fn note(&mut self, id: BlockId, block: &mut OverlayBlock, lsn: u64, first: bool) {
        self.note_dirty(id, block, lsn);
        if first {
            self.touched.push(id);
        }
    }

    /// Notes that a group, which ends with this LSN, changed a block, and says how in another way than by an update of it.
    pub(super) fn note_dirty(&mut self, id: BlockId, block: &mut OverlayBlock, lsn: u64) {
        block.lsn = lsn;
        block.dirty = true;
        if block.dirty_round != self.round {
            block.dirty_round = self.round;
            self.dirty.insert(id);
        }
    }

    /// A block that was there is not there any more. The group is not written, and the store stops.
    pub(super) fn note_missing(&mut self) {
        self.missing = true;
    }
}

/// A run of bits of a metadata block that is set or cleared, the least significant bit of each byte first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BitsChange {
    /// The first of them, counted in the block.
    pub(super) first: u32,
    /// How many.
    pub(super) count: u32,
    /// Whether they are set.
    pub(super) set: bool,
}

/// Takes what the transactions of one group change. Nobody else appends meanwhile, and no snapshot is taken.
///
/// Blocks that are changed must be here: metadata blocks in the overlay, those of the caller there or among the bases.
/// Where one is not, the store stops.
pub struct Appender<'a> {
    pub(super) journal: &'a Journal,
    pub(super) changes: &'a mut Changes,
    pub(super) last_lsn: u64,
}

impl<'a> Appender<'a> {
    pub(super) fn new(journal: &'a Journal, changes: &'a mut Changes, group: &Group) -> Self {
        changes.group = group.first_lsn;
        changes.touched.clear();
        changes.extents.clear();
        changes.missing = false;
        Self { journal, changes, last_lsn: group.last_lsn() }
    }

    /// LSN of the last transaction of the group.
    #[must_use]
    pub fn last_lsn(&self) -> u64 {
        self.last_lsn
    }

    /// The journal's port.
    #[must_use]
    pub fn port(&self) -> &Port {
        &self.journal.port
    }

    /// Puts bytes into a metadata block.
    pub fn bytes(&mut self, leaf: LeafAddress, offset: u32, bytes: &[u8]) {
        self.many_bytes(leaf, std::iter::once((offset, bytes)));
    }

    /// Puts bytes into a metadata block, each at its offset, one after the other.
    pub fn many_bytes<'b>(
        &mut self,
        leaf: LeafAddress,
        changes: impl ExactSizeIterator<Item = (u32, &'b [u8])>,
    ) {
        self.metadata(leaf, |touch, crc, content| {
            crc.announce(changes.len());
            let mut changed = false;
            for (offset, bytes) in changes {
                let end = offset.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                changed |=
                    crc.change(content, offset..end, |content| touch.marks.overwrite(content, offset, bytes));
            }
            changed
        });
    }

    /// Sets or clears runs of bits of a metadata block, one after the other. What changes is said elsewhere: the group has an
    /// update of the block for its checksum.
    pub(super) fn many_bits(
        &mut self,
        leaf: LeafAddress,
        changes: impl ExactSizeIterator<Item = BitsChange>,
    ) {
        self.metadata(leaf, |_, crc, content| {
            crc.announce(changes.len());
            for BitsChange { first, count, set } in changes {
                crc.change(content, first / 8..(first + count).div_ceil(8), |content| {
                    set_bits(content, first, count, set);
                });
            }
            true
        });
    }

    /// Changes a metadata block; `change` says whether anything is not what it was.
    fn metadata(
        &mut self,
        leaf: LeafAddress,
        change: impl FnOnce(&mut Touch, &mut CarriedCrc, &mut [u8]) -> bool,
    ) {
        let (id, lsn) = (BlockId::Metadata(leaf.0), self.last_lsn);
        let changes = &mut *self.changes;
        let changed = self.journal.overlay.change(id, |block| {
            let first = block.touch.begin(changes.group);
            let content = Arc::make_mut(&mut block.content);
            block.digest = None;
            if change(&mut block.touch, &mut block.crc, content) {
                changes.note(id, block, lsn, first);
            } else if first {
                block.touch.forget();
            }
        });
        if changed.is_none() {
            changes.note_missing();
        }
    }

    /// Puts bytes into the caller's space, at this offset of the device. `base_of` has the blocks under them as they are, for
    /// those that are not in the overlay.
    pub fn caller<'b>(
        &mut self,
        offset: u64,
        bytes: &[u8],
        mut base_of: impl FnMut(u64) -> Option<&'b Arc<Vec<u8>>>,
    ) {
        let (journal, lsn) = (self.journal, self.last_lsn);
        let changes = &mut *self.changes;
        let block_bytes = u64::from(journal.layout.block_bytes());
        let mut rest = bytes;
        for number in blocks(offset, bytes.len(), block_bytes) {
            let id = BlockId::Caller(number);
            let within = offset.saturating_sub(number * block_bytes);
            let len = usize::try_from(block_bytes - within).unwrap_or(0).min(rest.len());
            let (part, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            rest = after;
            if !journal.overlay.contains(id)
                && let Some(base) = base_of(number)
            {
                journal.overlay.insert_caller(id, Arc::clone(base));
            }
            let start = usize::try_from(within).unwrap_or(0);
            let range = start..start + part.len();
            let changed = journal.overlay.change(id, |block| {
                let place = |at: usize| u32::try_from(at).unwrap_or(0);
                let marked = place(range.start)..place(range.end);
                let content = Arc::make_mut(&mut block.content);
                block.crc.change(content, marked.clone(), |content| {
                    if let Some(target) = content.get_mut(range) {
                        target.copy_from_slice(part);
                    }
                });
                let first = block.touch.begin(changes.group);
                block.touch.image |= block.image_round != changes.round;
                block.image_round = changes.round;
                block.touch.marks.add(marked.start, marked.end);
                changes.note(id, block, lsn, first);
            });
            if changed.is_none() {
                changes.note_missing();
            }
        }
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        let (journal, dirty) = (self.journal, self.changes.dirty_blocks());
        if dirty > 0 && journal.dirty_blocks.swap(dirty, Ordering::Relaxed) == 0 {
            journal.note_dirty_since();
        }
    }
}

/// Sets or clears a run of bits. Those that lie outside of the block are left out.
pub(super) fn set_bits(block: &mut [u8], first: u32, count: u32, set: bool) {
    if count == 0 {
        return;
    }
    let end = first.saturating_add(count);
    let (start, last) = (first as usize / 8, (end as usize - 1) / 8);
    // Bits in front of the run, and behind it.
    let before = !(0xff_u8 << (first % 8));
    let behind = if end.is_multiple_of(8) { 0 } else { 0xff_u8 << (end % 8) };
    let mut put = |at: usize, kept: u8| {
        if let Some(byte) = block.get_mut(at) {
            *byte = if set { *byte | !kept } else { *byte & kept };
        }
    };
    if start == last {
        return put(start, before | behind);
    }
    put(start, before);
    put(last, behind);
    let within = block.len();
    if let Some(whole) = block.get_mut(start + 1..last.min(within)) {
        whole.fill(if set { 0xff } else { 0 });
    }
}

/// Numbers of the blocks under a range.
pub(super) fn blocks(offset: u64, len: usize, block_bytes: u64) -> std::ops::Range<u64> {
    offset / block_bytes..(offset + len as u64).div_ceil(block_bytes)
}

impl Journal {
    /// The most journal bytes that a record can need, group header included.
    #[must_use]
    pub fn record_bound(&self, metadata_changes: usize, metadata_bytes: usize, caller: &[(u64, u64)]) -> u64 {
        let block_bytes = u64::from(self.layout.block_bytes());
        let images: usize = caller
            .iter()
            .map(|&(offset, len)| {
                blocks(offset, usize::try_from(len).unwrap_or(usize::MAX), block_bytes).count()
            })
            .sum();
        let image = PayloadEncoder::update_bound(1, self.layout.block_bytes() as usize);
        let metadata = metadata_changes * PayloadEncoder::update_bound(1, 0) + metadata_bytes;
        (GROUP_HEADER_BYTES + metadata + images * image) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn bits_match_a_model(first: u16, count: u16, set: bool) -> bool {
            let (first, count) = (u32::from(first % 1100), u32::from(count % 300));
            let mut block = vec![if set { 0 } else { 0xff }; 128];
            set_bits(&mut block, first, count, set);
            (0..1024_u32).all(|bit| {
                let is_set = block[bit as usize / 8] >> (bit % 8) & 1 == 1;
                is_set == ((first..first + count).contains(&bit) == set)
            })
        }
    }
}
