//! The overlay: journaled bytes that are not yet in place, by block; and clean metadata blocks, as a cache.
//!
//! An entry is *dirty* while the journal holds changes of it that no completed checkpoint has covered. Dirty entries make
//! a checkpoint due, and then hold commits up, long before they fill the memory; clean ones have a budget. Contents are
//! shared: a checkpoint keeps the version of its snapshot alive while newer changes go into a copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use rustc_hash::FxBuildHasher;

use super::carried::CarriedCrc;
use super::group::Touch;
use crate::format::LeafAddress;

/// What a block is, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockId {
    /// A metadata block, by its number.
    Metadata(u64),
    /// A block of the caller's space, by its number on the device.
    Caller(u64),
}

/// One block.
#[derive(Clone, Debug)]
pub(super) struct OverlayBlock {
    pub(super) content: Arc<Vec<u8>>,
    /// Follows the content.
    pub(super) crc: CarriedCrc,
    /// Last LSN of the last group that changed it since the last completed checkpoint; meaningless when clean.
    pub(super) lsn: u64,
    pub(super) dirty: bool,
    /// The round between two snapshots in which the block was last noted as dirty.
    pub(super) dirty_round: u64,
    /// The round in which the journal last got the whole block of a caller.
    pub(super) image_round: u64,
    /// Its slots are physically there, whichever is the next to be written (rule 14).
    pub(super) prepared: bool,
    /// What the group that is being made has changed of it.
    pub(super) touch: Touch,
    /// Of page headers: their digest, once it is known.
    pub(super) digest: Option<u64>,
}

impl OverlayBlock {
    fn new(content: Arc<Vec<u8>>, dirty: bool) -> Self {
        Self {
            content,
            crc: CarriedCrc::default(),
            lsn: 0,
            dirty,
            dirty_round: 0,
            image_round: 0,
            prepared: false,
            touch: Touch::default(),
            digest: None,
        }
    }
}

/// A concurrent map of blocks. It is a container, not a snapshot: it changes under the writer's lock, and the
/// allocator, which publishes under a lock of its own, sees to it that readers find it whole.
#[derive(Debug, Default)]
pub struct Overlay {
    blocks: DashMap<BlockId, OverlayBlock, FxBuildHasher>,
    ready: ReadyBlocks,
    caller_blocks: AtomicUsize,
}

/// Some of the metadata blocks that are ready to be changed, to be asked without a lock: each block has one slot, which
/// the last one to become ready has. Changes under the lock of the block's shard.
#[derive(Debug)]
struct ReadyBlocks(Box<[AtomicU64]>);

const READY_SLOTS: usize = 4096;
const NO_BLOCK: u64 = u64::MAX;

impl Default for ReadyBlocks {
    fn default() -> Self {
        Self((0..READY_SLOTS).map(|_| AtomicU64::new(NO_BLOCK)).collect())
    }
}

impl ReadyBlocks {
    fn slot(&self, leaf: u64) -> Option<&AtomicU64> {
        #[expect(clippy::cast_possible_truncation, reason = "only low bits count")]
        self.0.get(leaf as usize % READY_SLOTS)
    }

    fn contains(&self, leaf: u64) -> bool {
        self.slot(leaf).is_some_and(|slot| slot.load(Ordering::Acquire) == leaf)
    }

    fn insert(&self, leaf: u64) {
        if let Some(slot) = self.slot(leaf) {
            slot.store(leaf, Ordering::Release);
        }
    }

    fn remove(&self, leaf: u64) {
        if let Some(slot) = self.slot(leaf) {
            // Another block's stays.
            let _ = slot.compare_exchange(leaf, NO_BLOCK, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

impl Overlay {
    /// The content of a block, if it is here.
    #[must_use]
    pub fn get(&self, id: BlockId) -> Option<Arc<Vec<u8>>> {
        if matches!(id, BlockId::Caller(_)) && self.caller_blocks() == 0 {
            return None;
        }
        self.blocks.get(&id).map(|block| Arc::clone(&block.content))
    }

    /// Looks at the content of a block, if it is here. Others who want the block wait meanwhile.
    pub fn look<T>(&self, id: BlockId, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.blocks.get(&id).map(|block| look(&block.content))
    }

    /// Whether a block is here.
    #[must_use]
    pub fn contains(&self, id: BlockId) -> bool {
        self.blocks.contains_key(&id)
    }

    /// Whether a metadata block is here, and its slots are known to be physically there. It stays while somebody is about
    /// to change it; see [`Publisher::spare`](super::Publisher::spare).
    #[must_use]
    pub fn is_ready(&self, leaf: LeafAddress) -> bool {
        self.ready.contains(leaf.0)
            || self.blocks.get(&BlockId::Metadata(leaf.0)).is_some_and(|block| block.prepared)
    }

    /// The slots of a metadata block are physically there.
    pub fn note_prepared(&self, leaf: LeafAddress) {
        self.change(BlockId::Metadata(leaf.0), |block| {
            block.prepared = true;
            self.ready.insert(leaf.0);
        });
    }

    /// Blocks in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Blocks of the caller; all of them are dirty.
    #[must_use]
    pub fn caller_blocks(&self) -> usize {
        self.caller_blocks.load(Ordering::Acquire)
    }

    /// Numbers of the metadata blocks that are here, in order. Walks the whole map: for checkers.
    #[must_use]
    pub fn metadata_blocks(&self) -> Vec<u64> {
        let numbers = self.blocks.iter().filter_map(|entry| match *entry.key() {
            BlockId::Metadata(number) => Some(number),
            BlockId::Caller(_) => None,
        });
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn is_dirty(&self, id: BlockId) -> bool {
        self.blocks.get(&id).is_some_and(|block| block.dirty)
    }

    /// Keeps a clean metadata block, unless the block is here already; returns what is here.
    pub(super) fn insert_clean(&self, id: BlockId, content: Vec<u8>) -> Arc<Vec<u8>> {
        let entry = self.blocks.entry(id).or_insert_with(|| OverlayBlock::new(Arc::new(content), false));
        Arc::clone(&entry.content)
    }

    /// Puts a block of the caller here, as read from the device, about to be changed.
    pub(super) fn insert_caller(&self, id: BlockId, content: Arc<Vec<u8>>) {
        self.blocks.entry(id).or_insert_with(|| {
            self.caller_blocks.fetch_add(1, Ordering::Release);
            OverlayBlock::new(content, true)
        });
    }

    /// Puts a block here as replay has made it; `round` is the one that it is noted as dirty in.
    pub(super) fn put_replayed(&self, id: BlockId, content: Arc<Vec<u8>>, lsn: u64, round: u64) {
        let block = OverlayBlock { lsn, image_round: round, ..OverlayBlock::new(content, true) };
        if self.blocks.insert(id, block).is_none() && matches!(id, BlockId::Caller(_)) {
            self.caller_blocks.fetch_add(1, Ordering::Release);
        }
    }

    /// Changes a block that is here; `None` when it is not.
    pub(super) fn change<T>(&self, id: BlockId, change: impl FnOnce(&mut OverlayBlock) -> T) -> Option<T> {
        self.blocks.get_mut(&id).map(|mut block| change(&mut block))
    }

    /// After a checkpoint: the block is in place as of `lsn`. One that changed since stays dirty. One of the caller that did
    /// not is dropped and returned.
    pub(super) fn settle(&self, id: BlockId, lsn: u64) -> Option<Arc<Vec<u8>>> {
        match id {
            BlockId::Metadata(_) => {
                self.change(id, |block| block.dirty &= block.lsn > lsn);
                None
            }
            BlockId::Caller(_) => {
                let (_, block) = self.blocks.remove_if(&id, |_, block| block.lsn <= lsn)?;
                self.caller_blocks.fetch_sub(1, Ordering::Release);
                Some(block.content)
            }
        }
    }

    /// Drops clean blocks until about `keep` are left in all. Metadata blocks that are spared stay.
    pub(super) fn evict(&self, keep: usize, is_spared: impl Fn(LeafAddress) -> bool) {
        let mut excess = self.blocks.len().saturating_sub(keep);
        self.blocks.retain(|id, block| {
            let mut goes = excess > 0 && !block.dirty;
            if let BlockId::Metadata(leaf) = *id {
                goes = goes && !is_spared(LeafAddress(leaf));
                if goes {
                    self.ready.remove(leaf);
                }
            }
            excess -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_ready_for_as_long_as_it_is_here() {
        let overlay = Overlay::default();
        // Two that share a slot, and one of its own.
        let leaves = [5, 5 + READY_SLOTS as u64, 6].map(LeafAddress);
        for leaf in leaves {
            assert!(!overlay.is_ready(leaf));
            overlay.insert_clean(BlockId::Metadata(leaf.0), vec![0; 16]);
            assert!(!overlay.is_ready(leaf), "whether its slots are there is not known");
            overlay.note_prepared(leaf);
        }
        assert!(leaves.iter().all(|leaf| overlay.is_ready(*leaf)));
        overlay.change(BlockId::Metadata(6), |block| block.dirty = true);
        overlay.evict(0, |leaf| leaf == LeafAddress(7));
        assert_eq!(leaves.map(|leaf| overlay.is_ready(leaf)), [false, false, true]);
        // It comes back as one of which nothing is known.
        overlay.insert_clean(BlockId::Metadata(5), vec![0; 16]);
        overlay.note_prepared(LeafAddress(7));
        assert_eq!([5, 7].map(|leaf| overlay.is_ready(LeafAddress(leaf))), [false, false]);
    }
}
