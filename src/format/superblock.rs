//! The superblock: identity, geometry, feature bits, and the checkpoint that recovery starts from.

use off64::int::{Off64ReadInt, Off64WriteMutInt};

use super::{BLOCK_REFERENCE_BYTES, BlockReference, FORMAT_VERSION, Layout, StoreId, is_zero};
use crate::error::Error;
use crate::media::Medium;

const MAGIC: [u8; 8] = *b"FREEHOLD";

/// Counters that only grow are kept far from overflow, so that no sum of them needs a check.
pub const COUNTERS_END: u64 = 1 << 62;

/// Says what the block is; with `OFFSETOF_VERSION` the only fields that every version keeps in place.
const OFFSETOF_MAGIC: u64 = 0;
/// CRC-32C over the copy's address and the whole block with this field zero. Guards against tears and rot (F4, F17).
const OFFSETOF_CHECKSUM: u64 = OFFSETOF_MAGIC + 8;
/// Refused when newer than the build (F27).
const OFFSETOF_VERSION: u64 = OFFSETOF_CHECKSUM + 4;
/// Random per `format`; mixed into all checksums, so that blocks of another store never match (F24).
const OFFSETOF_STORE_ID: u64 = OFFSETOF_VERSION + 4;
const OFFSETOF_COMPATIBLE: u64 = OFFSETOF_STORE_ID + 16;
const OFFSETOF_INCOMPATIBLE: u64 = OFFSETOF_COMPATIBLE + 8;
const OFFSETOF_READ_ONLY_COMPATIBLE: u64 = OFFSETOF_INCOMPATIBLE + 8;
/// Grows with each write of any copy; the highest valid one counts (F7, F17).
const OFFSETOF_SEQUENCE: u64 = OFFSETOF_READ_ONLY_COMPATIBLE + 8;
/// New at each writable open; groups of other epochs never match (rule 8, F23).
const OFFSETOF_EPOCH: u64 = OFFSETOF_SEQUENCE + 8;
const OFFSETOF_STATE: u64 = OFFSETOF_EPOCH + 8;
const OFFSETOF_MEDIUM: u64 = OFFSETOF_STATE + 1;
const OFFSETOF_RESERVED_0: u64 = OFFSETOF_MEDIUM + 1;
/// Compared with the device's length (F25).
const OFFSETOF_DEVICE_BYTES: u64 = OFFSETOF_RESERVED_0 + 6;
const OFFSETOF_SECTOR_BYTES: u64 = OFFSETOF_DEVICE_BYTES + 8;
const OFFSETOF_BLOCK_BYTES: u64 = OFFSETOF_SECTOR_BYTES + 4;
const OFFSETOF_PAGE_BYTES: u64 = OFFSETOF_BLOCK_BYTES + 4;
const OFFSETOF_RING_GRANULE_BYTES: u64 = OFFSETOF_PAGE_BYTES + 4;
const OFFSETOF_SEGMENT_BYTES: u64 = OFFSETOF_RING_GRANULE_BYTES + 4;
const OFFSETOF_RING_BYTES: u64 = OFFSETOF_SEGMENT_BYTES + 8;
const OFFSETOF_CREATED: u64 = OFFSETOF_RING_BYTES + 8;
/// Where replay starts in the journal: a position that only grows; modulo the ring's size it is a place.
const OFFSETOF_TAIL_POSITION: u64 = OFFSETOF_CREATED + 8;
/// The last LSN whose effects are in the metadata that `root` refers to.
const OFFSETOF_TAIL_LSN: u64 = OFFSETOF_TAIL_POSITION + 8;
/// No LSN from here on was ever used (bug 23: a reused transaction number).
const OFFSETOF_NEXT_LSN: u64 = OFFSETOF_TAIL_LSN + 8;
/// Number of the last checkpoint; part of the tags in the checksum tree.
const OFFSETOF_GENERATION: u64 = OFFSETOF_NEXT_LSN + 8;
/// Checksum and slot of the checksum tree's root (F18, F20, F21, F22).
const OFFSETOF_ROOT: u64 = OFFSETOF_GENERATION + 8;
const END: usize = super::index(OFFSETOF_ROOT) + BLOCK_REFERENCE_BYTES;
const _: () = assert!(END == 168 && END <= super::MIN_BLOCK_BYTES as usize);
pub(super) const FIELDS: &[super::Field] = super::fields::fields!("magic" OFFSETOF_MAGIC, "checksum" OFFSETOF_CHECKSUM, "version" OFFSETOF_VERSION, "store_id" OFFSETOF_STORE_ID, "compatible" OFFSETOF_COMPATIBLE, "incompatible" OFFSETOF_INCOMPATIBLE, "read_only_compatible" OFFSETOF_READ_ONLY_COMPATIBLE, "sequence" OFFSETOF_SEQUENCE, "epoch" OFFSETOF_EPOCH, "state" OFFSETOF_STATE, "medium" OFFSETOF_MEDIUM, "reserved" OFFSETOF_RESERVED_0, "device_bytes" OFFSETOF_DEVICE_BYTES, "sector_bytes" OFFSETOF_SECTOR_BYTES, "block_bytes" OFFSETOF_BLOCK_BYTES, "page_bytes" OFFSETOF_PAGE_BYTES, "ring_granule_bytes" OFFSETOF_RING_GRANULE_BYTES, "segment_bytes" OFFSETOF_SEGMENT_BYTES, "ring_bytes" OFFSETOF_RING_BYTES, "created_unix_seconds" OFFSETOF_CREATED, "tail_position" OFFSETOF_TAIL_POSITION, "tail_lsn" OFFSETOF_TAIL_LSN, "next_lsn" OFFSETOF_NEXT_LSN, "generation" OFFSETOF_GENERATION, "root" OFFSETOF_ROOT; END as u64);

/// Whether the store was closed in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// Closed in order; the journal holds nothing after the tail.
    Clean,
    /// Opened for writing and not closed since.
    Open,
}

/// The logical content of a superblock; the copies differ only in sequence and checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The store's identity.
    pub store_id: StoreId,
    /// Features that an older build may ignore.
    pub compatible: u64,
    /// Features that an older build must not touch the store without.
    pub incompatible: u64,
    /// Features without which an older build may still read.
    pub read_only_compatible: u64,
    /// Sequence of this write.
    pub sequence: u64,
    /// Recovery epoch.
    pub epoch: u64,
    /// Closed in order, or not.
    pub state: StoreState,
    /// The medium that the sizes were chosen for.
    pub medium: Medium,
    /// Where everything lies.
    pub layout: Layout,
    /// Seconds since 1970 at `format`.
    pub created_unix_seconds: u64,
    /// Where replay starts.
    pub tail_position: u64,
    /// The last LSN at or before the tail.
    pub tail_lsn: u64,
    /// The first LSN that was certainly never used.
    pub next_lsn: u64,
    /// Number of the last checkpoint.
    pub generation: u64,
    /// Root of the checksum tree.
    pub root: BlockReference,
}

/// Why a block is not a usable superblock.
#[derive(Clone, Debug)]
pub enum SuperblockError {
    /// The place is all zeros, as formatting leaves it before it writes the copy.
    Blank,
    /// The magic is not there.
    NoMagic,
    /// The magic is there, the rest is not what was written. The version is given because a newer format may have
    /// another checksum rule.
    Damaged {
        /// The version field as found.
        version: u32,
        /// In what way.
        reason: String,
    },
    /// A good superblock that this build must not use.
    Refused(Error),
}

fn checksum(address: u64, block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&address.to_le_bytes()), block)
}

impl Superblock {
    /// Whether two copies mean the same.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        Self { sequence: 0, ..self.clone() } == Self { sequence: 0, ..other.clone() }
    }

    /// Encodes a whole block for the copy at `address`.
    #[must_use]
    pub fn encode(&self, address: u64) -> Vec<u8> {
        let layout = &self.layout;
        let mut block = vec![0; layout.block_bytes() as usize];
        let state = match self.state {
            StoreState::Clean => 1,
            StoreState::Open => 2,
        };
        for (at, bytes) in [
            (OFFSETOF_MAGIC, &MAGIC[..]),
            (OFFSETOF_STORE_ID, &self.store_id),
            (OFFSETOF_STATE, &[state, self.medium.code()]),
            (OFFSETOF_ROOT, &self.root.encode()),
        ] {
            off64::Off64WriteMut::write_at(&mut block[..], at, bytes);
        }
        block.write_u32_le_at(OFFSETOF_VERSION, FORMAT_VERSION);
        block.write_u64_le_at(OFFSETOF_COMPATIBLE, self.compatible);
        block.write_u64_le_at(OFFSETOF_INCOMPATIBLE, self.incompatible);
        block.write_u64_le_at(OFFSETOF_READ_ONLY_COMPATIBLE, self.read_only_compatible);
        block.write_u64_le_at(OFFSETOF_SEQUENCE, self.sequence);
        block.write_u64_le_at(OFFSETOF_EPOCH, self.epoch);
        block.write_u64_le_at(OFFSETOF_DEVICE_BYTES, layout.device_bytes());
        block.write_u32_le_at(OFFSETOF_SECTOR_BYTES, layout.sector_bytes());
        block.write_u32_le_at(OFFSETOF_BLOCK_BYTES, layout.block_bytes());
        block.write_u32_le_at(OFFSETOF_PAGE_BYTES, layout.page_bytes());
        block.write_u32_le_at(OFFSETOF_RING_GRANULE_BYTES, layout.ring_granule_bytes());
        block.write_u64_le_at(OFFSETOF_SEGMENT_BYTES, layout.segment_bytes());
        block.write_u64_le_at(OFFSETOF_RING_BYTES, layout.ring_bytes());
        block.write_u64_le_at(OFFSETOF_CREATED, self.created_unix_seconds);
        block.write_u64_le_at(OFFSETOF_TAIL_POSITION, self.tail_position);
        block.write_u64_le_at(OFFSETOF_TAIL_LSN, self.tail_lsn);
        block.write_u64_le_at(OFFSETOF_NEXT_LSN, self.next_lsn);
        block.write_u64_le_at(OFFSETOF_GENERATION, self.generation);
        let sum = checksum(address, &block);
        block.write_u32_le_at(OFFSETOF_CHECKSUM, sum);
        block
    }

    /// The block size that the bytes claim, to know how much to read before decoding.
    #[must_use]
    pub fn claimed_block_bytes(front: &[u8]) -> Option<u32> {
        let magic = front.get(..MAGIC.len())?;
        (magic == MAGIC && front.len() >= END).then(|| front.read_u32_le_at(OFFSETOF_BLOCK_BYTES))
    }

    /// Decodes the copy at `address` from a whole block.
    pub fn decode(block: &[u8], address: u64) -> Result<Self, SuperblockError> {
        if block.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(SuperblockError::NoMagic);
        }
        if block.len() < END {
            return Err(SuperblockError::Damaged { version: 0, reason: "short block".to_owned() });
        }
        let version = block.read_u32_le_at(OFFSETOF_VERSION);
        let damaged = |reason: &str| SuperblockError::Damaged { version, reason: reason.to_owned() };
        let mut copy = block.to_vec();
        copy.write_u32_le_at(OFFSETOF_CHECKSUM, 0);
        if checksum(address, &copy) != block.read_u32_le_at(OFFSETOF_CHECKSUM) {
            return Err(damaged("checksum mismatch"));
        }
        // From here on the bytes are what some build wrote.
        if version != FORMAT_VERSION && version != 0 {
            return Err(SuperblockError::Refused(Error::UnsupportedVersion {
                found: version,
                supported: FORMAT_VERSION,
            }));
        }
        if version == 0 {
            return Err(damaged("format version 0"));
        }
        let incompatible = block.read_u64_le_at(OFFSETOF_INCOMPATIBLE);
        let unknown = incompatible & !super::KNOWN_INCOMPATIBLE;
        if unknown != 0 {
            return Err(SuperblockError::Refused(Error::UnsupportedFeatures {
                kind: "incompatible",
                bits: unknown,
            }));
        }
        let reserved = block.get(super::index(OFFSETOF_RESERVED_0)..super::index(OFFSETOF_DEVICE_BYTES));
        if !reserved.is_some_and(is_zero) || !block.get(END..).is_some_and(is_zero) {
            return Err(damaged("reserved bytes are not zero"));
        }
        let state = match block.get(super::index(OFFSETOF_STATE)) {
            Some(1) => StoreState::Clean,
            Some(2) => StoreState::Open,
            _ => return Err(damaged("unknown state")),
        };
        let medium = block.get(super::index(OFFSETOF_MEDIUM)).and_then(|&code| Medium::from_code(code));
        let layout = Layout::from_sizes(
            block.read_u64_le_at(OFFSETOF_DEVICE_BYTES),
            block.read_u32_le_at(OFFSETOF_SECTOR_BYTES),
            block.read_u32_le_at(OFFSETOF_BLOCK_BYTES),
            block.read_u32_le_at(OFFSETOF_PAGE_BYTES),
            block.read_u32_le_at(OFFSETOF_RING_GRANULE_BYTES),
            block.read_u64_le_at(OFFSETOF_SEGMENT_BYTES),
            block.read_u64_le_at(OFFSETOF_RING_BYTES),
        )
        .map_err(|error| damaged(&error.to_string()))?;
        if layout.block_bytes() as usize != block.len() {
            return Err(damaged("block size does not match"));
        }
        let tail_position = block.read_u64_le_at(OFFSETOF_TAIL_POSITION);
        let tail_lsn = block.read_u64_le_at(OFFSETOF_TAIL_LSN);
        let next_lsn = block.read_u64_le_at(OFFSETOF_NEXT_LSN);
        let generation = block.read_u64_le_at(OFFSETOF_GENERATION);
        let sequence = block.read_u64_le_at(OFFSETOF_SEQUENCE);
        let epoch = block.read_u64_le_at(OFFSETOF_EPOCH);
        if tail_position % u64::from(layout.ring_granule_bytes()) != 0
            || tail_lsn >= next_lsn
            || [tail_position, next_lsn, generation, sequence, epoch]
                .into_iter()
                .any(|counter| counter >= COUNTERS_END)
        {
            return Err(damaged("checkpoint fields out of range"));
        }
        let store_id = block
            .get(super::index(OFFSETOF_STORE_ID)..)
            .and_then(|rest| rest.first_chunk::<16>())
            .ok_or_else(|| damaged("short block"))?;
        let root = block
            .get(super::index(OFFSETOF_ROOT)..)
            .and_then(|rest| rest.first_chunk::<BLOCK_REFERENCE_BYTES>())
            .and_then(BlockReference::decode)
            .ok_or_else(|| damaged("bad root reference"))?;
        Ok(Self {
            store_id: *store_id,
            compatible: block.read_u64_le_at(OFFSETOF_COMPATIBLE),
            incompatible,
            read_only_compatible: block.read_u64_le_at(OFFSETOF_READ_ONLY_COMPATIBLE),
            sequence,
            epoch,
            state,
            medium: medium.ok_or_else(|| damaged("unknown medium"))?,
            layout,
            created_unix_seconds: block.read_u64_le_at(OFFSETOF_CREATED),
            tail_position,
            tail_lsn,
            next_lsn,
            generation,
            root,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock {
            store_id: [9; 16],
            compatible: 0,
            incompatible: 0,
            read_only_compatible: 0,
            sequence: 4,
            epoch: 2,
            state: StoreState::Open,
            medium: Medium::Nvme,
            layout: Layout::from_sizes(1 << 20, 512, 4096, 4096, 512, 65536, 65536).unwrap(),
            created_unix_seconds: 1_700_000_000,
            tail_position: 1536,
            tail_lsn: 40,
            next_lsn: 41,
            generation: 7,
            root: BlockReference::new(1, BlockReference::tag_for(1, 7)),
        }
    }

    #[test]
    fn round_trip() {
        let superblock = sample();
        let block = superblock.encode(8192);
        assert_eq!(Superblock::decode(&block, 8192).unwrap(), superblock);
        assert_eq!(Superblock::claimed_block_bytes(&block), Some(4096));
    }

    #[test]
    fn every_flip_and_the_wrong_place_are_noticed() {
        let block = sample().encode(0);
        assert!(Superblock::decode(&block, 8192).is_err());
        for at in 0..block.len() {
            let mut bad = block.clone();
            bad[at] ^= 1;
            assert!(Superblock::decode(&bad, 0).is_err(), "byte {at}");
        }
        assert!(Superblock::decode(&block[..100], 0).is_err());
    }

    #[test]
    fn newer_versions_and_unknown_features_are_refused_by_name() {
        let mut block = Superblock { incompatible: 1 << 40, ..sample() }.encode(0);
        assert!(matches!(
            Superblock::decode(&block, 0),
            Err(SuperblockError::Refused(Error::UnsupportedFeatures { bits, .. })) if bits == 1 << 40
        ));
        block.write_u32_le_at(OFFSETOF_VERSION, 99);
        block.write_u32_le_at(OFFSETOF_CHECKSUM, 0);
        let sum = checksum(0, &block);
        block.write_u32_le_at(OFFSETOF_CHECKSUM, sum);
        assert!(matches!(
            Superblock::decode(&block, 0),
            Err(SuperblockError::Refused(Error::UnsupportedVersion { found: 99, supported: FORMAT_VERSION }))
        ));
    }
}
