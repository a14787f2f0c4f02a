//! The blocks that replay changes, in memory: where each stands, and what the groups so far have made of it.

use rustc_hash::FxHashMap;

use super::append::{BitsChange, set_bits};
use super::decoded::HeaderChange;
use super::overlay::BlockId;
use crate::format::{LeafAddress, PAGE_HEADER_BYTES, Patch, UpdateKind, header_digest, headers_digest};

/// A block as groups made it.
#[derive(Debug)]
// What changes with each extent comes first, in one cache line.
#[repr(C, align(64))]
pub(super) struct ReplayedBlock {
    pub(super) content: Vec<u8>,
    /// Of page headers: their digest, once it is known.
    digest: Option<u64>,
    /// Last LSN of the last group that changed headers or bits in it.
    extents_lsn: u64,
    /// What the block must be after the last group that changed it; what became of extents in it was compared when that group was
    /// applied.
    pub(super) checksum: Option<u32>,
    pub(super) id: BlockId,
    /// Last LSN of the last group that had an update of it.
    update_lsn: u64,
    /// Where that one lies.
    pub(super) group_offset: u64,
}

/// The group that is being applied.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GroupPlace {
    /// Its last LSN.
    pub(super) lsn: u64,
    /// Its offset on the device.
    pub(super) offset: u64,
}

impl ReplayedBlock {
    pub(super) fn new(id: BlockId, content: Vec<u8>) -> Self {
        Self { content, digest: None, extents_lsn: 0, checksum: None, id, update_lsn: 0, group_offset: 0 }
    }

    /// Last LSN of the last group that changed it; zero if none did.
    pub(super) fn lsn(&self) -> u64 {
        self.update_lsn.max(self.extents_lsn)
    }

    /// Changes a header, for the group that ends with this LSN. Returns by what the digest of all blocks that the group changes
    /// differs for it.
    #[inline]
    pub(super) fn change_header(&mut self, change: &HeaderChange, lsn: u64) -> Option<u64> {
        let place = change.offset as usize;
        let before = match self.digest {
            Some(digest) => digest,
            None => headers_digest(change.page - (place / PAGE_HEADER_BYTES) as u64, &self.content),
        };
        let header = self.content.get_mut(place..)?.first_chunk_mut()?;
        let difference = header_digest(change.page, header) ^ change.apply(header);
        self.digest = Some(before ^ difference);
        Some(if self.begins(lsn) { before ^ difference } else { difference })
    }

    /// Changes some bits; returns whether the group did not change any of them before.
    #[inline]
    pub(super) fn change_bits(&mut self, BitsChange { first, count, set }: BitsChange, lsn: u64) -> bool {
        set_bits(&mut self.content, first, count, set);
        self.begins(lsn)
    }

    #[inline]
    fn begins(&mut self, lsn: u64) -> bool {
        // One checksum is of before, and the group may have another.
        self.checksum = None;
        std::mem::replace(&mut self.extents_lsn, lsn) != lsn
    }

    /// The group says what becomes of it, byte by byte.
    pub(super) fn begin(&mut self, kind: UpdateKind) {
        self.digest = None;
        // The image of a block is what differs from zeros.
        if kind == UpdateKind::CallerImage {
            self.content.fill(0);
        }
    }

    /// Applies a patch; returns whether it fits.
    #[inline]
    pub(super) fn patch(&mut self, patch: &Patch<'_>) -> bool {
        patch.apply(&mut self.content)
    }

    /// That was all that the group does to it.
    pub(super) fn conclude(&mut self, checksum_after: u32, group: GroupPlace) {
        self.checksum = Some(checksum_after);
        (self.update_lsn, self.group_offset) = (group.lsn, group.offset);
    }
}

/// Metadata blocks whose places are found without the map.
const RECENT: usize = 2048;
const NO_LEAF: u64 = u64::MAX;

/// All of them. In front of the map is a table of those that were asked for last, for groups change few blocks again and again.
#[derive(Debug)]
pub(super) struct ReplayedBlocks {
    blocks: Vec<ReplayedBlock>,
    places: FxHashMap<BlockId, u32>,
    recent: Box<[(u64, u32)]>,
}

impl ReplayedBlocks {
    pub(super) fn new() -> Self {
        Self { blocks: Vec::new(), places: FxHashMap::default(), recent: vec![(NO_LEAF, 0); RECENT].into() }
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn get(&self, place: u32) -> Option<&ReplayedBlock> {
        self.blocks.get(place as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut ReplayedBlock> {
        self.blocks.get_mut(place as usize)
    }

    /// The place of a block.
    pub(super) fn find(&self, id: BlockId) -> Option<u32> {
        self.places.get(&id).copied()
    }

    /// The place of a metadata block.
    #[inline]
    pub(super) fn find_leaf(&mut self, leaf: LeafAddress) -> Option<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "only low bits count")]
        let recent = self.recent.get_mut(leaf.0 as usize % RECENT)?;
        if recent.0 == leaf.0 && leaf.0 != NO_LEAF {
            return Some(recent.1);
        }
        let place = *self.places.get(&BlockId::Metadata(leaf.0))?;
        *recent = (leaf.0, place);
        Some(place)
    }

    /// Takes a block in; returns its place.
    pub(super) fn push(&mut self, block: ReplayedBlock) -> u32 {
        let place = u32::try_from(self.blocks.len()).unwrap_or(u32::MAX);
        self.places.insert(block.id, place);
        self.blocks.push(block);
        place
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ReplayedBlock> {
        self.blocks.iter()
    }

    pub(super) fn into_blocks(self) -> Vec<ReplayedBlock> {
        self.blocks
    }
}
