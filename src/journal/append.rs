//! Appending: a transaction's bytes go into the overlay and are noted in the open group.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::engine::{Journal, State};
use super::marks::Marks;
use super::outcome::Ticket;
use super::overlay::{BlockId, OverlayBlock};
use super::ring::RingPermit;
use crate::error::Result;
use crate::format::{GROUP_HEADER_BYTES, LeafAddress, PayloadEncoder};

/// A change of part of a metadata block.
#[derive(Clone, Debug)]
pub enum MetadataChange {
    /// New bytes.
    Bytes {
        /// Offset in the block.
        offset: u32,
        /// What stands there from now on.
        bytes: SmallVec<[u8; 32]>,
    },
    /// A run of bits, least significant bit of each byte first.
    Bits {
        /// First bit in the block.
        first: u32,
        /// How many.
        count: u32,
        /// Set or cleared.
        set: bool,
    },
}

/// A change of a metadata block.
#[derive(Clone, Debug)]
pub struct MetadataWrite {
    /// Which block.
    pub leaf: LeafAddress,
    /// What changes.
    pub change: MetadataChange,
}

impl MetadataChange {
    /// Changes the block, and marks what is not what it was. Whether anything is.
    fn apply(&self, block: &mut [u8], marks: &mut Marks) -> bool {
        match self {
            Self::Bytes { offset, bytes } => marks.overwrite(block, *offset, bytes),
            Self::Bits { first, count, set } => {
                set_bits(block, *first, *count, *set);
                marks.add(first / 8, (first + count).div_ceil(8));
                *count > 0
            }
        }
    }
}

fn set_bits(block: &mut [u8], first: u32, count: u32, set: bool) {
    let end = first + count;
    let mut bit = first;
    while bit < end {
        let Some(byte) = block.get_mut(bit as usize / 8) else {
            return;
        };
        let within = bit % 8;
        let bits = (8 - within).min(end - bit);
        #[expect(clippy::cast_possible_truncation, reason = "at most eight bits, shifted within a byte")]
        let mask = (((1_u32 << bits) - 1) << within) as u8;
        if set {
            *byte |= mask;
        } else {
            *byte &= !mask;
        }
        bit += bits;
    }
}

/// A transaction as the journal sees it.
pub struct Record<'a> {
    /// Changes of metadata blocks, all of which are resident.
    pub metadata: Vec<MetadataWrite>,
    /// Journaled bytes of the caller: offset on the device, content.
    pub caller: Vec<(u64, Vec<u8>)>,
    /// The blocks under `caller` that were not in the overlay, as read from the device.
    pub bases: FxHashMap<u64, Vec<u8>>,
    /// Ring space, claimed for [`Journal::record_bound`].
    pub permit: RingPermit<'a>,
}

/// The right to append. While it is held, nothing is appended by others and no snapshot is taken.
pub struct Appender<'a> {
    journal: &'a Journal,
    state: MutexGuard<'a, State>,
}

impl Appender<'_> {
    /// Whether a block can be changed without reading it first.
    #[must_use]
    pub fn is_resident(&self, id: BlockId) -> bool {
        self.journal.overlay.contains(id)
    }

    /// Whether a block can be changed as it is: it is here, and both its slots are physically there.
    #[must_use]
    pub fn is_ready(&self, leaf: LeafAddress) -> bool {
        self.journal.overlay.is_ready(leaf)
    }

    /// Applies a record to the overlay and adds it to the open group. Returns where its outcome arrives, and whether the
    /// caller has to see to it that the group gets written ([`Journal::start_driving`]).
    ///
    /// All blocks must be [resident](Self::is_resident) or among the bases; where one is not, the store stops.
    ///
    /// # Errors
    /// Nothing is changed when the group before cannot be closed.
    pub fn append(mut self, record: Record<'_>) -> Result<(Ticket, bool)> {
        let journal = self.journal;
        let state = &mut *self.state;
        let granule = journal.layout.ring_granule_bytes() as usize;
        let granules = record.permit.take();
        let max_group = usize::try_from(journal.max_transaction_bytes()).unwrap_or(usize::MAX);
        if !state.open.is_empty() && (state.open.granules + granules) * granule > max_group {
            journal.close_open_group(state)?;
        }
        let lsn = state.next_lsn;
        state.next_lsn += 1;
        if state.open.is_empty() {
            state.open.first_lsn = lsn;
            state.open.since = journal.now();
        }
        state.open.transactions += 1;
        state.open.granules += granules;
        let ticket = state.open.teller.ticket(lsn);

        if state.dirty.is_empty() {
            state.dirty_since = journal.port.clock().monotonic();
        }
        let mut metadata = record.metadata;
        // Each block is looked up once. Changes of the same bytes keep their order.
        metadata.sort_by_key(|write| write.leaf);
        for of_one_block in metadata.chunk_by(|write, next| write.leaf == next.leaf) {
            journal.apply_metadata(state, lsn, of_one_block);
        }
        let mut bases = record.bases;
        for (offset, bytes) in &record.caller {
            journal.apply_caller_write(state, lsn, *offset, bytes, &mut bases);
        }
        journal.dirty_blocks.store(state.dirty.len(), Ordering::Relaxed);
        let must_drive = !state.driving;
        state.driving = true;
        Ok((ticket, must_drive))
    }
}

impl State {
    /// Notes that the transaction with this LSN changed a block; `first`: as the first one of its group.
    fn note_change(&mut self, id: BlockId, block: &mut OverlayBlock, lsn: u64, first: bool) {
        block.lsn = lsn;
        block.dirty = true;
        if block.dirty_round != self.round {
            block.dirty_round = self.round;
            self.dirty.insert(id);
        }
        if first {
            self.open.touched.push(id);
        }
    }

    /// A block that was there is not there any more. Closing the group fails for it, and the store stops.
    fn note_missing(&mut self, id: BlockId) {
        self.open.touched.push(id);
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

    /// Applies changes of one metadata block.
    fn apply_metadata(&self, state: &mut State, lsn: u64, writes: &[MetadataWrite]) {
        let Some(id) = writes.first().map(|write| BlockId::Metadata(write.leaf.0)) else { return };
        let changed = self.overlay.change(id, |block| {
            let first = block.touch.begin(state.open.first_lsn);
            let content = Arc::make_mut(&mut block.content);
            let mut differs = false;
            for write in writes {
                differs |= write.change.apply(content, &mut block.touch.marks);
            }
            if differs {
                state.note_change(id, block, lsn, first);
            } else if first {
                block.touch.forget();
            }
        });
        if changed.is_none() {
            state.note_missing(id);
        }
    }

    fn apply_caller_write(
        &self,
        state: &mut State,
        lsn: u64,
        offset: u64,
        bytes: &[u8],
        bases: &mut FxHashMap<u64, Vec<u8>>,
    ) {
        let block_bytes = u64::from(self.layout.block_bytes());
        let mut rest = bytes;
        for number in blocks(offset, bytes.len(), block_bytes) {
            let id = BlockId::Caller(number);
            let within = offset.saturating_sub(number * block_bytes);
            let len = usize::try_from(block_bytes - within).unwrap_or(0).min(rest.len());
            let (part, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            rest = after;
            if !self.overlay.contains(id)
                && let Some(base) = bases.remove(&number)
            {
                self.overlay.insert_caller(id, base);
            }
            let start = usize::try_from(within).unwrap_or(0);
            let range = start..start + part.len();
            let changed = self.overlay.change(id, |block| {
                if let Some(target) = Arc::make_mut(&mut block.content).get_mut(range.clone()) {
                    target.copy_from_slice(part);
                }
                let first = block.touch.begin(state.open.first_lsn);
                block.touch.image |= block.image_round != state.round;
                block.image_round = state.round;
                let place = |at: usize| u32::try_from(at).unwrap_or(0);
                block.touch.marks.add(place(range.start), place(range.end));
                state.note_change(id, block, lsn, first);
            });
            if changed.is_none() {
                state.note_missing(id);
            }
        }
    }

    /// Begins to append.
    ///
    /// # Errors
    /// [`Error::Poisoned`](crate::Error::Poisoned) after a failure, [`Error::Closed`](crate::Error::Closed) after closing,
    /// [`Error::ReadOnly`](crate::Error::ReadOnly).
    pub fn appender(&self) -> Result<Appender<'_>> {
        let state = self.lock(&self.state);
        self.check_open(&state)?;
        Ok(Appender { journal: self, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn bits_match_a_model(first: u16, count: u16, set: bool) -> bool {
            let (first, count) = (u32::from(first % 500), u32::from(count % 300));
            let mut block = vec![if set { 0 } else { 0xff }; 128];
            set_bits(&mut block, first, count, set);
            (0..1024_u32).all(|bit| {
                let is_set = block[bit as usize / 8] >> (bit % 8) & 1 == 1;
                is_set == ((first..first + count).contains(&bit) == set)
            })
        }
    }
}
