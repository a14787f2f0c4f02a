//! The superblock's copies, the choice between them, and the witness.

use freehold::device::Device;

use super::bytes::{block_checksum, crc_of, index, is_zero, part, read, rest, u32_at, u64_at};
use super::flaw::Flaw;

const MAGIC: &[u8; 8] = b"FREEHOLD";
const WITNESS_MAGIC: &[u8; 4] = b"FHWT";
const LEAST_BLOCK: u64 = 4 << 10;
const LARGEST_BLOCK: u64 = 64 << 10;
const LEAST_DEVICE: u64 = 256 << 10;

/// The incompatible feature that is known: groups may have updates of extents.
const EXTENTS: u64 = 1;

/// A reference to a block of the checksum tree, or to a leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reference {
    pub checksum: u32,
    pub tag: u32,
}

impl Reference {
    pub(super) fn read(bytes: &[u8], at: usize) -> Self {
        Self { checksum: u32_at(bytes, at), tag: u32_at(bytes, at + 4) }
    }

    pub(super) fn is_zero(self) -> bool {
        self == Self::default()
    }

    pub(super) const fn is_written(self) -> bool {
        self.tag >> 31 == 1
    }

    pub(super) fn slot(self) -> u64 {
        u64::from(self.tag >> 30 & 1)
    }

    /// The checkpoint that wrote the child, modulo 2^30.
    pub(super) fn checkpoint(self) -> u64 {
        u64::from(self.tag & ((1 << 30) - 1))
    }
}

/// One copy whose checksum holds.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    /// Where the copy lies.
    pub at: u64,
    pub version: u32,
    pub store_id: [u8; 16],
    pub incompatible: u64,
    pub sequence: u64,
    pub epoch: u64,
    pub state: u8,
    pub medium: u8,
    pub device_bytes: u64,
    pub sector_bytes: u64,
    pub block_bytes: u64,
    pub page_bytes: u64,
    pub granule: u64,
    pub segment_bytes: u64,
    pub ring_bytes: u64,
    pub tail_position: u64,
    pub tail_lsn: u64,
    pub next_lsn: u64,
    pub generation: u64,
    pub root: Reference,
    reserved_are_zero: bool,
}

impl Superblock {
    /// The copy in this block; none when its magic, checksum or block size says that it is none.
    fn decode(block: &[u8], at: u64) -> Option<Self> {
        let sum = crc_of(&[&at.to_le_bytes(), part(block, 0, 8), &[0; 4], rest(block, 12)]);
        let size = u64::from(u32_at(block, 92));
        if !block.starts_with(MAGIC) || u32_at(block, 8) != sum || size != block.len() as u64 {
            return None;
        }
        let byte = |at: usize| block.get(at).copied().unwrap_or(0);
        Some(Self {
            at,
            version: u32_at(block, 12),
            store_id: rest(block, 16).first_chunk().copied()?,
            incompatible: u64_at(block, 40),
            sequence: u64_at(block, 56),
            epoch: u64_at(block, 64),
            state: byte(72),
            medium: byte(73),
            device_bytes: u64_at(block, 80),
            sector_bytes: u32_at(block, 88).into(),
            block_bytes: size,
            page_bytes: u32_at(block, 96).into(),
            granule: u32_at(block, 100).into(),
            segment_bytes: u64_at(block, 104),
            ring_bytes: u64_at(block, 112),
            tail_position: u64_at(block, 128),
            tail_lsn: u64_at(block, 136),
            next_lsn: u64_at(block, 144),
            generation: u64_at(block, 152),
            root: Reference::read(block, 160),
            reserved_are_zero: is_zero(part(block, 74, 6)) && is_zero(rest(block, 168)),
        })
    }

    /// Whether groups may have updates of extents.
    pub(super) const fn has_extents(&self) -> bool {
        self.incompatible & EXTENTS != 0
    }

    /// Whether every field may be what it is, on a device of this length.
    fn check(&self, device_len: u64) -> Result<(), Flaw> {
        if self.version != 2 {
            return Err(Flaw::Unsupported { what: "version" });
        }
        if self.incompatible & !EXTENTS != 0 {
            return Err(Flaw::Unsupported { what: "feature" });
        }
        let within = |value: u64, least: u64, most: u64| (least..=most).contains(&value);
        let power = |value: u64, least: u64, most: u64| value.is_power_of_two() && within(value, least, most);
        let rules = [
            (self.reserved_are_zero, "reserved bytes are not zero"),
            (within(self.state.into(), 1, 2), "the state is unknown"),
            (within(self.medium.into(), 1, 4), "the medium is unknown"),
            (within(self.device_bytes, LEAST_DEVICE, device_len), "the device is too short"),
            (power(self.sector_bytes, 512, LARGEST_BLOCK), "the sector size cannot be"),
            (power(self.granule, self.sector_bytes, LARGEST_BLOCK), "the granule cannot be"),
            (
                self.block_bytes == self.sector_bytes.max(self.granule).max(LEAST_BLOCK),
                "the block is not the largest",
            ),
            (power(self.page_bytes, self.block_bytes, 16 << 20), "the page size cannot be"),
            (power(self.segment_bytes, 8 * self.page_bytes, 1 << 30), "the segment size cannot be"),
            (within(self.ring_bytes, 32 << 10, 4 << 30), "the ring's size cannot be"),
            (self.ring_bytes.is_multiple_of(self.block_bytes), "the ring is not made of blocks"),
            (self.tail_position.is_multiple_of(self.granule.max(1)), "the tail is not at a granule"),
            (self.tail_position < u64::MAX / 2, "the tail is past all positions"),
            (self.epoch <= self.sequence, "the epoch is none of a sequence so far"),
            (self.tail_lsn < self.next_lsn, "the tail's LSN was never used"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(Flaw::superblock(self.at, what)),
            None => Ok(()),
        }
    }
}

/// The beginning of the device: superblocks and witnesses.
pub(super) struct Front {
    pub superblock: Superblock,
    /// Everything up to the ring.
    bytes: Vec<u8>,
}

/// A note that belongs to the epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Witness {
    pub durable_lsn: u64,
    pub position: u64,
}

/// The sizes that a block can have.
fn sizes() -> impl Iterator<Item = u64> {
    (12..=16).map(|shift| 1 << shift)
}

impl Front {
    /// Finds the copy in force.
    pub(super) fn read(device: &dyn Device) -> Result<Self, Flaw> {
        let device_len = device.geometry().len_bytes;
        if device_len < LEAST_DEVICE {
            return Err(Flaw::NotFormatted);
        }
        let mut bytes = vec![0; index(4 * LEAST_BLOCK)];
        read(device, 0, &mut bytes)?;
        let stored = u64::from(u32_at(&bytes, 92));
        let mut traces = bytes.starts_with(MAGIC);
        let mut first = None;
        if traces && sizes().any(|size| size == stored) {
            widen(device, &mut bytes, stored)?;
            first = Superblock::decode(part(&bytes, 0, index(stored)), 0);
        }
        let known = first.as_ref().map(|copy| copy.block_bytes);
        let mut second = None;
        for size in sizes().filter(|&size| known.is_none_or(|known| known == size)) {
            widen(device, &mut bytes, 4 * size)?;
            let block = part(&bytes, index(2 * size), index(size));
            traces |= block.starts_with(MAGIC);
            second = second.or_else(|| Superblock::decode(block, 2 * size));
        }
        let superblock = match (first, second) {
            (Some(first), Some(second)) if first.sequence == second.sequence => {
                return Err(Flaw::superblock(second.at, "both copies have one sequence"));
            }
            (Some(first), Some(second)) if first.sequence > second.sequence => first,
            (_, Some(copy)) | (Some(copy), None) => copy,
            (None, None) if traces => return Err(Flaw::Damaged { what: "superblock", offset: 0 }),
            (None, None) => return Err(Flaw::NotFormatted),
        };
        superblock.check(device_len)?;
        Ok(Self { superblock, bytes })
    }

    /// The note of this epoch that knows most.
    pub(super) fn witness(&self) -> Result<Option<Witness>, Flaw> {
        let notes = [self.witness_at(1)?, self.witness_at(3)?];
        Ok(notes.into_iter().flatten().max_by_key(|note| note.durable_lsn))
    }

    fn witness_at(&self, block_number: u64) -> Result<Option<Witness>, Flaw> {
        let Superblock { block_bytes, store_id, epoch, .. } = &self.superblock;
        let at = block_number * block_bytes;
        let block = part(&self.bytes, index(at), index(*block_bytes));
        if !block.starts_with(WITNESS_MAGIC)
            || u32_at(block, 4)
                != block_checksum(store_id, at, 0, &[part(block, 0, 4), &[0; 4], rest(block, 8)])
        {
            return Ok(None);
        }
        if !is_zero(rest(block, 32)) {
            let what = "reserved bytes are not zero";
            return Err(Flaw::Inconsistent { structure: "witness", number: at, what });
        }
        let note = Witness { durable_lsn: u64_at(block, 16), position: u64_at(block, 24) };
        Ok((u64_at(block, 8) == *epoch).then_some(note))
    }
}

/// Makes sure that so many bytes of the beginning are there.
fn widen(device: &dyn Device, bytes: &mut Vec<u8>, len: u64) -> Result<(), Flaw> {
    let known = bytes.len();
    if index(len) > known {
        bytes.resize(index(len), 0);
        read(device, known as u64, bytes.get_mut(known..).unwrap_or_default())?;
    }
    Ok(())
}
