//! Images that are changed below their checksums, and sealed again.

use std::sync::Arc;

use freehold::device::Device;

use super::super::bytes::{block_checksum, content_checksum, crc_of, index};
use super::super::layout::Layout;
use super::super::superblock::{Front, Reference, Superblock};
use super::super::{Flaw, Picture, examine};
use crate::disk::{CowBase, CowDisk, SimDisk};

/// An image under change. The checksum tree has one level, as in all small stores.
#[derive(Clone)]
pub(super) struct Forge {
    pub bytes: Vec<u8>,
    pub superblock: Superblock,
    pub layout: Layout,
}

/// A group to be written. What is left alone fits the journal.
pub(super) struct Forged {
    pub transactions: u32,
    pub first_lsn: u64,
    pub durable_lsn: u64,
    pub updates: u32,
    pub reserved: u8,
    pub padding: u8,
    pub payload: Vec<u8>,
}

impl Forge {
    pub(super) fn of(disk: &SimDisk) -> Self {
        let mut bytes = vec![0; index(disk.geometry().len_bytes)];
        disk.read_at(0, &mut bytes).unwrap();
        let superblock = Front::read(disk).unwrap().superblock;
        let layout = Layout::of(&superblock).unwrap();
        assert_eq!(layout.levels.len(), 2);
        Self { bytes, superblock, layout }
    }

    pub(super) fn examine(&self) -> Result<Picture, Flaw> {
        examine(&self.disk())
    }

    pub(super) fn disk(&self) -> CowDisk {
        CowDisk::new(Arc::new(CowBase::new(self.bytes.clone().into(), 512)), 512, 4096)
    }

    /// Asserts that the image is refused with these words.
    #[track_caller]
    pub(super) fn refused(&self, words: &str) {
        let flaw = self.examine().expect_err(words).to_string();
        assert!(flaw.contains(words), "{flaw}, and not {words}");
    }

    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn flip(&mut self, at: u64) {
        self.bytes[index(at)] ^= 1;
    }

    fn block(&self, at: u64) -> &[u8] {
        &self.bytes[index(at)..index(at) + self.layout.block]
    }

    /// Changes the copy at this offset.
    pub(super) fn change_copy(&mut self, copy: u64, field: usize, bytes: &[u8]) {
        let at = index(copy);
        self.put(at + field, bytes);
        self.put(at + 8, &[0; 4]);
        let checksum = crc_of(&[&copy.to_le_bytes(), self.block(copy)]);
        self.put(at + 8, &checksum.to_le_bytes());
    }

    /// Changes the copy in force.
    pub(super) fn change_superblock(&mut self, field: usize, bytes: &[u8]) {
        self.change_copy(self.superblock.at, field, bytes);
    }

    /// Where the slot of a child lies.
    fn slot(&self, level: usize, number: usize, reference: Reference) -> u64 {
        let slot = 2 * number as u64 + reference.slot();
        self.layout.levels[level].offset + slot * self.layout.block as u64
    }

    pub(super) fn root_at(&self) -> u64 {
        self.slot(0, 0, self.superblock.root)
    }

    fn reference(&self, leaf: usize) -> Reference {
        Reference::read(&self.bytes, index(self.root_at()) + leaf * 8)
    }

    pub(super) fn leaf_at(&self, leaf: usize) -> u64 {
        self.slot(1, leaf, self.reference(leaf))
    }

    /// The content of a leaf in place.
    pub(super) fn leaf(&self, leaf: usize) -> Vec<u8> {
        self.block(self.leaf_at(leaf)).to_vec()
    }

    /// Changes the root block and seals what is above it.
    pub(super) fn change_root(&mut self, at: usize, bytes: &[u8]) {
        let root = self.root_at();
        self.put(index(root) + at, bytes);
        let tag = self.superblock.root.tag;
        let checksum = block_checksum(&self.superblock.store_id, root, tag, &[self.block(root)]);
        self.change_superblock(160, &checksum.to_le_bytes());
    }

    /// Changes a leaf and seals what is above it. A leaf that was never written is written.
    pub(super) fn change_leaf(&mut self, leaf: usize, at: usize, bytes: &[u8]) {
        let mut reference = self.reference(leaf);
        let offset = self.slot(1, leaf, reference);
        if reference.is_zero() {
            reference.tag = 1 << 31;
            self.put(index(offset), &vec![0; self.layout.block]);
        }
        self.put(index(offset) + at, bytes);
        let content = self.block(offset);
        let checksum = block_checksum(&self.superblock.store_id, offset, reference.tag, &[content]);
        let [a, b, c, d] = checksum.to_le_bytes();
        let [e, f, g, h] = reference.tag.to_le_bytes();
        self.change_root(leaf * 8, &[a, b, c, d, e, f, g, h]);
    }

    /// Changes the segment table.
    pub(super) fn change_record(&mut self, segment: usize, at: usize, bytes: &[u8]) {
        self.change_leaf(1, segment * 32 + at, bytes);
    }

    /// Changes the header of a page, which is counted from the start of the device.
    pub(super) fn change_header(&mut self, page: u64, at: usize, bytes: &[u8]) {
        let (segment, within) = self.place(page);
        let leaf = self.layout.headers(segment).start / self.layout.block;
        self.change_leaf(leaf, within * 16 + at, bytes);
    }

    /// Changes the head of the region at this page, which lies in place, and puts the right checksum into its header.
    pub(super) fn change_head(&mut self, page: u64, head_len: usize, at: usize, bytes: &[u8]) {
        let start = index(page * self.superblock.page_bytes);
        self.put(start + at, bytes);
        let checksum = content_checksum(&self.bytes[start..start + head_len]);
        self.change_header(page, 4, &checksum.to_le_bytes());
    }

    /// Inverts the bit of a page, which is counted from the start of the device.
    pub(super) fn flip_bit(&mut self, page: u64) {
        let (segment, within) = self.place(page);
        let leaf = self.layout.bitmap(segment).start / self.layout.block;
        let byte = self.bytes[index(self.leaf_at(leaf)) + within / 8] ^ 1 << (within % 8);
        self.change_leaf(leaf, within / 8, &[byte]);
    }

    pub(super) fn place(&self, page: u64) -> (usize, usize) {
        (index(page) / self.layout.pages_of_segment, index(page) % self.layout.pages_of_segment)
    }

    /// Writes a witness of this epoch.
    pub(super) fn note(&mut self, durable_lsn: u64, position: u64, reserved: u8) {
        let at = self.layout.block as u64;
        let mut block = vec![0; self.layout.block];
        block[..4].copy_from_slice(b"FHWT");
        block[8..16].copy_from_slice(&self.superblock.epoch.to_le_bytes());
        block[16..24].copy_from_slice(&durable_lsn.to_le_bytes());
        block[24..32].copy_from_slice(&position.to_le_bytes());
        block[100] = reserved;
        let checksum = block_checksum(&self.superblock.store_id, at, 0, &[&block]);
        block[4..8].copy_from_slice(&checksum.to_le_bytes());
        self.put(index(at), &block);
    }

    /// Writes a group at a position. The ring must not wrap there.
    pub(super) fn write_group(&mut self, position: u64, group: &Forged) {
        let mut bytes = vec![0; 64];
        bytes[..4].copy_from_slice(b"FHGR");
        bytes[8..12].copy_from_slice(&u32::try_from(64 + group.payload.len()).unwrap().to_le_bytes());
        bytes[12..16].copy_from_slice(&group.transactions.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.superblock.epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&position.to_le_bytes());
        bytes[32..40].copy_from_slice(&group.first_lsn.to_le_bytes());
        bytes[40..48].copy_from_slice(&group.durable_lsn.to_le_bytes());
        bytes[48..52].copy_from_slice(&group.updates.to_le_bytes());
        bytes[63] = group.reserved;
        bytes.extend(&group.payload);
        bytes.resize(bytes.len().next_multiple_of(index(self.superblock.granule)), group.padding);
        self.write_sealed(position, bytes);
    }

    /// Changes the header of a group that takes one granule.
    pub(super) fn change_group(&mut self, position: u64, field: usize, bytes: &[u8]) {
        let at = self.ring_at(position);
        let mut group = self.bytes[at..at + index(self.superblock.granule)].to_vec();
        group[field..field + bytes.len()].copy_from_slice(bytes);
        self.write_sealed(position, group);
    }

    /// Where the group at this position lies in the image.
    pub(super) fn ring_at(&self, position: u64) -> usize {
        index(self.layout.ring_offset + position % self.superblock.ring_bytes)
    }

    fn write_sealed(&mut self, position: u64, mut bytes: Vec<u8>) {
        bytes[4..8].fill(0);
        let checksum = crc_of(&[&self.superblock.store_id, &bytes]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        self.put(self.ring_at(position), &bytes);
    }
}
