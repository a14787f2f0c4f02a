//! Changes to an image after which every checksum is right again.

use std::sync::Arc;

use freehold::device::{Device, ManualClock, Port};
use freehold::format::{
    BlockReference, ExtentRecord, GROUP_HEADER_BYTES, GroupHeader, Layout, LeafAddress, Superblock,
    UpdateKind, Witness, block_checksum, decode_payload,
};
use freehold::journal::{ChecksumTree, JournalScan, Ring, SuperblockPair, scan_journal};

use crate::disk::CowDisk;

const CHECKSUM_OF_SUPERBLOCK: std::ops::Range<usize> = 8..12;
const CHECKSUM_OF_GROUP: std::ops::Range<usize> = 4..8;
const ROOT_AT: usize = 160;
const BLOCK: usize = 4096;

fn put(block: &mut [u8], range: std::ops::Range<usize>, bytes: &[u8]) {
    if let Some(place) = block.get_mut(range)
        && place.len() == bytes.len()
    {
        place.copy_from_slice(bytes);
    }
}

/// Changes a copy of the superblock, with blocks of 4 KiB, and seals it.
pub(super) fn reseal_superblock(
    disk: &Arc<CowDisk>,
    copy: usize,
    change: impl FnOnce(&mut [u8]),
) -> Result<(), String> {
    let address = (2 * copy * BLOCK) as u64;
    let mut block = vec![0; BLOCK];
    disk.read_at(address, &mut block).map_err(|error| error.to_string())?;
    change(&mut block);
    put(&mut block, CHECKSUM_OF_SUPERBLOCK, &[0; 4]);
    let sum = crc32c::crc32c_append(crc32c::crc32c(&address.to_le_bytes()), &block);
    put(&mut block, CHECKSUM_OF_SUPERBLOCK, &sum.to_le_bytes());
    disk.poke(address, &block).map_err(|error| error.to_string())
}

/// Changes the header of a record, if it lies in this block.
pub(super) fn put_header(layout: &Layout, record: &ExtentRecord, leaf: u64, block: &mut [u8]) {
    let (segment, page) = layout.page_in_segment(record.page);
    let place = u32::try_from(segment).ok().map(|segment| layout.header_place(segment, page));
    let Some((_, offset)) = place.filter(|(address, _)| address.0 == leaf) else { return };
    if let Some(header) = block.get_mut(offset as usize..).and_then(|rest| rest.first_chunk_mut()) {
        record.change.apply_to_header(header);
    }
}

/// A store that is about to be forged.
pub(super) struct Forge {
    disk: Arc<CowDisk>,
    port: Port,
    pub(super) superblock: Superblock,
    pub(super) scan: JournalScan,
}

impl Forge {
    /// The store on a disk, which must be good still.
    pub(super) fn of(disk: &Arc<CowDisk>) -> Result<Self, String> {
        let port = Port::new(Arc::clone(disk) as Arc<dyn Device>, Arc::new(ManualClock::default()), false);
        let pair = SuperblockPair::read(&port).map_err(|error| error.to_string())?;
        let superblock = pair.current().clone();
        let scan = scan_journal(&port, &superblock).map_err(|error| error.to_string())?;
        Ok(Self { disk: Arc::clone(disk), port, superblock, scan })
    }

    /// A metadata block as of the last checkpoint.
    pub(super) fn leaf(&self, leaf: u64) -> Vec<u8> {
        let Superblock { layout, store_id, root, generation, .. } = &self.superblock;
        let mut tree = ChecksumTree::new(Arc::new(layout.clone()), *store_id, *root, *generation);
        tree.read_leaf(&self.port, LeafAddress(leaf)).unwrap_or_else(|_| vec![0; BLOCK])
    }

    /// A block of page headers as the journal leaves it.
    pub(super) fn headers(&self, leaf: u64) -> Vec<u8> {
        let layout = &self.superblock.layout;
        let mut block = self.leaf(leaf);
        for group in &self.scan.groups {
            let length = usize::try_from(group.header.length).unwrap_or(0);
            let payload = group.bytes.get(GROUP_HEADER_BYTES..length).unwrap_or_default();
            let payload =
                decode_payload(payload, group.header.updates, layout.block_bytes()).unwrap_or_default();
            for record in payload.extents.iter().flat_map(|update| &update.records) {
                put_header(layout, record, leaf, &mut block);
            }
            let of_block = |kind, address| kind == UpdateKind::Metadata && address == leaf;
            for update in payload.blocks.iter().filter(|update| of_block(update.kind, update.address)) {
                // What does not fit is refused by whoever reads it.
                let _ = update.patches.iter().all(|patch| patch.apply(&mut block));
            }
        }
        block
    }

    fn root_block(&self) -> (u64, Vec<u8>) {
        let layout = &self.superblock.layout;
        let offset = layout.slot(layout.interior().len(), 0, self.superblock.root.slot()).offset;
        (offset, self.port.read_vec(offset, BLOCK).unwrap_or_else(|_| vec![0; BLOCK]))
    }

    /// Changes the root of the checksum tree, which is the only block above the leaves, and seals it and the superblock.
    pub(super) fn change_root(&mut self, change: impl FnOnce(&mut [u8])) -> Result<(), String> {
        let (offset, mut block) = self.root_block();
        change(&mut block);
        let tag = self.superblock.root.tag();
        self.disk.poke(offset, &block).map_err(|error| error.to_string())?;
        self.superblock.root =
            BlockReference::new(block_checksum(&self.superblock.store_id, offset, tag, &block), tag);
        let root = self.superblock.root.encode();
        (0..2).try_for_each(|copy| {
            reseal_superblock(&self.disk, copy, |block| put(block, ROOT_AT..ROOT_AT + 8, &root))
        })
    }

    /// Gives a metadata block another content, sealed up to the superblock.
    pub(super) fn replace_leaf(&mut self, leaf: u64, content: &[u8]) -> Result<(), String> {
        let index = usize::try_from(leaf).unwrap_or(0) * 8;
        let (_, root) = self.root_block();
        let old = root.get(index..).and_then(|rest| rest.first_chunk()).and_then(BlockReference::decode);
        let slot = old.filter(|old| old.is_present()).map_or(0, BlockReference::slot);
        let tag = BlockReference::tag_for(slot, self.superblock.generation);
        let offset = self.superblock.layout.slot(0, leaf, slot).offset;
        self.disk.poke(offset, content).map_err(|error| error.to_string())?;
        let sum = block_checksum(&self.superblock.store_id, offset, tag, content);
        let reference = BlockReference::new(sum, tag).encode();
        self.change_root(|block| put(block, index..index + 8, &reference))
    }

    /// Changes a group of the journal, counted from the tail, and seals it.
    pub(super) fn change_group(
        &mut self,
        number: usize,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<(), String> {
        let Some(group) = self.scan.groups.get(number) else { return Ok(()) };
        let mut bytes = group.bytes.clone();
        change(&mut bytes);
        put(&mut bytes, CHECKSUM_OF_GROUP, &[0; 4]);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&self.superblock.store_id), &bytes);
        put(&mut bytes, CHECKSUM_OF_GROUP, &sum.to_le_bytes());
        self.write_group(group.header.position, &bytes)
    }

    fn write_group(&self, position: u64, bytes: &[u8]) -> Result<(), String> {
        let ring = Ring::new(&self.port, &self.superblock.layout);
        ring.write(position, bytes).map_err(|error| error.to_string())
    }

    /// Puts one more group behind the end of the journal; its payload begins behind room for the header.
    pub(super) fn append_group(
        &mut self,
        (mut bytes, length, updates): (Vec<u8>, u32, u32),
        change: impl FnOnce(&mut GroupHeader),
    ) -> Result<(), String> {
        debug_assert!(bytes.len() >= GROUP_HEADER_BYTES);
        let mut header = GroupHeader {
            length,
            transactions: 1,
            epoch: self.superblock.epoch,
            position: self.scan.end_position,
            first_lsn: self.scan.last_lsn + 1,
            durable_lsn: self.scan.last_lsn,
            updates,
        };
        let room =
            self.superblock.tail_position + self.superblock.layout.ring_bytes() - self.scan.end_position;
        if bytes.len() as u64 > room {
            return Ok(());
        }
        change(&mut header);
        header.seal(&self.superblock.store_id, &mut bytes);
        self.write_group(self.scan.end_position, &bytes)
    }

    /// Writes a witness.
    pub(super) fn witness(&self, copy: usize, witness: &Witness) -> Result<(), String> {
        let offset = self.superblock.layout.witness_offset(copy);
        let block = witness.encode(&self.superblock.store_id, offset, BLOCK);
        self.disk.poke(offset, &block).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Ending, Sample};
    use super::super::trial::Outcome;
    use super::*;
    use crate::harness::Damage;

    /// What is forged into what it was must be accepted: only then do forged images get behind the checksums.
    #[test]
    fn what_is_sealed_is_accepted() {
        let sample = Sample::usual(Ending::Crashed).unwrap();
        let disk = sample.disk();
        let mut forge = Forge::of(&disk).unwrap();
        for leaf in 0..forge.superblock.layout.leaf_count() {
            let content = forge.leaf(leaf);
            forge.replace_leaf(leaf, &content).unwrap();
        }
        for group in 0..forge.scan.groups.len() {
            forge.change_group(group, |_| {}).unwrap();
        }
        reseal_superblock(&disk, 0, |_| {}).unwrap();
        let judged = sample.trial().judge(Arc::clone(&disk) as Arc<dyn Device>, Damage::None);
        assert!(matches!(judged, Ok(Outcome::Opened(found)) if found.whole));
        // And a change of a byte behind the seals is seen by whoever reads it; here nothing in the journal goes over it.
        let sample = Sample::usual(Ending::Closed).unwrap();
        let disk = sample.disk();
        let mut forge = Forge::of(&disk).unwrap();
        let mut content = forge.leaf(0);
        content[0] ^= 1;
        forge.replace_leaf(0, &content).unwrap();
        assert!(sample.trial().judge(disk as Arc<dyn Device>, Damage::None).is_err());
    }
}
