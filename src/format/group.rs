//! A group: the transactions that one journal write makes durable together. One header, one checksum, accepted or
//! dropped as a whole.
//!
//! ```text
//! +-----------------+----------------------------------------------------+-------------------+
//! | header 64 bytes | extents, then block updates by kind and address     | zeros to granule  |
//! +-----------------+----------------------------------------------------+-------------------+
//! ```
//! What becomes of extents stands in records of its own kind, see [`ExtentChange`]. An update of a block: `kind | device << 3` (varint), address (varint, the difference to the previous update of the same kind and
//! device), number of patches (varint), the patches, then the content checksum of the whole block after this group.
//! A patch: gap to the end of the previous patch (varint), `length << 1 | fill` (varint), then `length` bytes, or one
//! byte that is repeated.

mod decode;
mod encode;
mod extents;

use off64::int::{Off64ReadInt, Off64WriteMutInt};

pub use self::decode::{Payload, PayloadError, PayloadPlace, PayloadReader, PayloadVisitor, decode_payload};
pub use self::encode::PayloadEncoder;
pub use self::extents::{
    ExtentChange, ExtentRecord, ExtentsEncoder, ExtentsUpdate, header_digest, headers_digest,
};
use super::{COUNTERS_END, StoreId, is_zero};

const MAGIC: u32 = u32::from_le_bytes(*b"FHGR");

/// Says what it is.
const OFFSETOF_MAGIC: u64 = 0;
/// Over store id, header, payload and padding, with this field zero. Guards against tears and rot (F2..F5, F16, F19).
const OFFSETOF_CHECKSUM: u64 = OFFSETOF_MAGIC + 4;
/// Header and payload; what the bounds are checked against before anything is read (F28).
const OFFSETOF_LENGTH: u64 = OFFSETOF_CHECKSUM + 4;
/// Transactions in the group: their LSNs follow each other from `first_lsn`.
const OFFSETOF_TRANSACTIONS: u64 = OFFSETOF_LENGTH + 4;
/// The recovery epoch: a dropped tail never matches a later run (rule 8).
const OFFSETOF_EPOCH: u64 = OFFSETOF_TRANSACTIONS + 4;
/// Its own place, counted without wrapping: a group of an earlier lap never matches (F23).
const OFFSETOF_POSITION: u64 = OFFSETOF_EPOCH + 8;
const OFFSETOF_FIRST_LSN: u64 = OFFSETOF_POSITION + 8;
/// Everything up to here was durable before this group was issued: damage below is rot, not a tear (rule 7).
const OFFSETOF_DURABLE_LSN: u64 = OFFSETOF_FIRST_LSN + 8;
const OFFSETOF_UPDATES: u64 = OFFSETOF_DURABLE_LSN + 8;
const OFFSETOF_RESERVED: u64 = OFFSETOF_UPDATES + 4;
const END: u64 = OFFSETOF_RESERVED + 12;
/// Encoded size of a header.
pub const GROUP_HEADER_BYTES: usize = 64;
const _: () = assert!(super::index(END) == GROUP_HEADER_BYTES);
pub(super) const FIELDS: &[super::Field] = super::fields::fields!("magic" OFFSETOF_MAGIC, "checksum" OFFSETOF_CHECKSUM, "length" OFFSETOF_LENGTH, "transactions" OFFSETOF_TRANSACTIONS, "epoch" OFFSETOF_EPOCH, "position" OFFSETOF_POSITION, "first_lsn" OFFSETOF_FIRST_LSN, "durable_lsn" OFFSETOF_DURABLE_LSN, "updates" OFFSETOF_UPDATES, "reserved" OFFSETOF_RESERVED; END);

const KIND_BITS: u64 = 3;
/// Repeating a byte pays off from this length.
const MIN_FILL: usize = 4;

/// A group's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// Bytes of header and payload.
    pub length: u32,
    /// Transactions in the group, at least one.
    pub transactions: u32,
    /// Recovery epoch.
    pub epoch: u64,
    /// Position in the journal, a multiple of the granule; modulo the ring's size it is a place.
    pub position: u64,
    /// LSN of the first transaction.
    pub first_lsn: u64,
    /// Last LSN known to be durable when the group was issued.
    pub durable_lsn: u64,
    /// Block updates in the payload.
    pub updates: u32,
}

impl GroupHeader {
    /// LSN of the last transaction.
    #[must_use]
    pub fn last_lsn(&self) -> u64 {
        self.first_lsn.saturating_add(u64::from(self.transactions)).saturating_sub(1)
    }

    /// Bytes that the group takes in the ring.
    #[must_use]
    pub fn padded_bytes(&self, granule: u32) -> u64 {
        u64::from(self.length).next_multiple_of(u64::from(granule))
    }

    /// Writes the header over the front of `group` (header, payload, padding) and seals it.
    pub fn seal(&self, store: &StoreId, group: &mut [u8]) {
        if group.len() < GROUP_HEADER_BYTES {
            return;
        }
        group.write_u32_le_at(OFFSETOF_MAGIC, MAGIC);
        group.write_u32_le_at(OFFSETOF_CHECKSUM, 0);
        group.write_u32_le_at(OFFSETOF_LENGTH, self.length);
        group.write_u32_le_at(OFFSETOF_TRANSACTIONS, self.transactions);
        group.write_u64_le_at(OFFSETOF_EPOCH, self.epoch);
        group.write_u64_le_at(OFFSETOF_POSITION, self.position);
        group.write_u64_le_at(OFFSETOF_FIRST_LSN, self.first_lsn);
        group.write_u64_le_at(OFFSETOF_DURABLE_LSN, self.durable_lsn);
        group.write_u32_le_at(OFFSETOF_UPDATES, self.updates);
        let checksum = Self::checksum(store, group);
        group.write_u32_le_at(OFFSETOF_CHECKSUM, checksum);
    }

    /// Makes the group that begins with `front` one that never counts, whatever is written over the rest of it. It still
    /// [resembles](Self::resemblance) a group.
    pub fn void(front: &mut [u8]) {
        if front.len() >= GROUP_HEADER_BYTES {
            front.write_u32_le_at(OFFSETOF_LENGTH, 0);
        }
    }

    /// The position that bytes claim which begin like a group; `None` when they do not.
    #[must_use]
    pub fn claimed_position(front: &[u8]) -> Option<u64> {
        let begins = front.len() >= GROUP_HEADER_BYTES && front.read_u32_le_at(OFFSETOF_MAGIC) == MAGIC;
        begins.then(|| front.read_u64_le_at(OFFSETOF_POSITION))
    }

    fn checksum(store: &StoreId, group: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(store), group)
    }

    /// `front` has a header at least.
    fn read(front: &[u8]) -> Self {
        Self {
            length: front.read_u32_le_at(OFFSETOF_LENGTH),
            transactions: front.read_u32_le_at(OFFSETOF_TRANSACTIONS),
            epoch: front.read_u64_le_at(OFFSETOF_EPOCH),
            position: front.read_u64_le_at(OFFSETOF_POSITION),
            first_lsn: front.read_u64_le_at(OFFSETOF_FIRST_LSN),
            durable_lsn: front.read_u64_le_at(OFFSETOF_DURABLE_LSN),
            updates: front.read_u32_le_at(OFFSETOF_UPDATES),
        }
    }

    /// Reads a header without judging the payload: `None` unless it claims to be a group that could lie at `position`
    /// in a ring of `ring_bytes`.
    #[must_use]
    pub fn peek(front: &[u8], position: u64, ring_bytes: u64) -> Option<Self> {
        if front.len() < GROUP_HEADER_BYTES || front.read_u32_le_at(OFFSETOF_MAGIC) != MAGIC {
            return None;
        }
        let header = Self::read(front);
        let plausible = header.position == position
            && (GROUP_HEADER_BYTES as u64..=ring_bytes).contains(&u64::from(header.length))
            && header.transactions > 0
            && header.durable_lsn < header.first_lsn
            && header.first_lsn < COUNTERS_END;
        plausible.then_some(header)
    }

    /// How many of four fields (magic, epoch, position, LSN) are those of a group that begins here in this epoch, with
    /// LSNs from `expected_lsn` on. Tells a damaged header from a leftover of an earlier lap.
    #[must_use]
    pub fn resemblance(front: &[u8], epoch: u64, position: u64, expected_lsn: u64) -> usize {
        if front.len() < GROUP_HEADER_BYTES {
            return 0;
        }
        let first_lsn = front.read_u64_le_at(OFFSETOF_FIRST_LSN);
        [
            front.read_u32_le_at(OFFSETOF_MAGIC) == MAGIC,
            front.read_u64_le_at(OFFSETOF_EPOCH) == epoch,
            front.read_u64_le_at(OFFSETOF_POSITION) == position,
            (expected_lsn..COUNTERS_END).contains(&first_lsn),
        ]
        .into_iter()
        .filter(|&agrees| agrees)
        .count()
    }

    /// Whether `group` (header, payload, padding) is what was written, by this store, and begins with this header. That may
    /// have been read before the group was, by another read: a device that was wrong once must not be believed.
    #[must_use]
    pub fn verify(&self, store: &StoreId, group: &[u8]) -> bool {
        let (Some(reserved), Some(padding)) = (
            group.get(super::index(OFFSETOF_RESERVED)..GROUP_HEADER_BYTES),
            group.get(self.length as usize..),
        ) else {
            return false;
        };
        let mut front = [0; GROUP_HEADER_BYTES];
        let Some((head, payload)) = group.split_at_checked(GROUP_HEADER_BYTES) else {
            return false;
        };
        front.copy_from_slice(head);
        front[..].write_u32_le_at(OFFSETOF_CHECKSUM, 0);
        let checksum = crc32c::crc32c_append(Self::checksum(store, &front), payload);
        Self::read(head) == *self
            && is_zero(reserved)
            && is_zero(padding)
            && checksum == group.read_u32_le_at(OFFSETOF_CHECKSUM)
    }
}

/// What an update of a block changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum UpdateKind {
    /// Patches to a metadata block; the address is its number.
    Metadata,
    /// Patches to a block of the caller that an earlier group gave whole, or that is whole in place as of the tail.
    CallerDelta,
    /// A whole block of the caller: what the patches leave out is zero. The first touch after a checkpoint is always
    /// one of these, so that a block torn in place can be rebuilt from the journal alone (rule 11).
    CallerImage,
}

impl UpdateKind {
    const fn code(self) -> u64 {
        match self {
            Self::Metadata => 0,
            Self::CallerDelta => 1,
            Self::CallerImage => 2,
        }
    }
}

/// A change of part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch<'a> {
    /// These bytes.
    Bytes {
        /// Offset in the block.
        offset: usize,
        /// New content.
        bytes: &'a [u8],
    },
    /// One byte, repeated.
    Fill {
        /// Offset in the block.
        offset: usize,
        /// How often.
        len: usize,
        /// The byte.
        byte: u8,
    },
}

impl Patch<'_> {
    /// Applies the patch; `false` when it does not fit into the block.
    #[must_use]
    pub fn apply(&self, block: &mut [u8]) -> bool {
        let (offset, len) = match *self {
            Self::Bytes { offset, bytes } => (offset, bytes.len()),
            Self::Fill { offset, len, .. } => (offset, len),
        };
        let target = offset.checked_add(len).and_then(|end| block.get_mut(offset..end));
        let Some(target) = target else { return false };
        match *self {
            Self::Bytes { bytes, .. } => put(target, bytes),
            Self::Fill { byte, .. } => match target.first_chunk_mut::<MIN_FILL>() {
                Some(all) if len == MIN_FILL => *all = [byte; MIN_FILL],
                _ => target.fill(byte),
            },
        }
        true
    }
}

/// Copies a few bytes, as most patches have. As much time goes into a call that copies any number of them as into the rest of
/// a patch.
fn put(target: &mut [u8], bytes: &[u8]) {
    match (target, bytes) {
        ([to], [from]) => *to = *from,
        ([a, b], [c, d]) => (*a, *b) = (*c, *d),
        (target, bytes) => {
            // Two parts that overlap, for what is no longer than both.
            if let (Some(to), Some(from)) = (target.first_chunk_mut::<4>(), bytes.first_chunk::<4>())
                && bytes.len() <= 8
            {
                *to = *from;
                if let (Some(to), Some(from)) = (target.last_chunk_mut::<4>(), bytes.last_chunk::<4>()) {
                    *to = *from;
                }
            } else {
                target.copy_from_slice(bytes);
            }
        }
    }
}

/// One block's changes, as decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockUpdate<'a> {
    /// What is changed.
    pub kind: UpdateKind,
    /// Number of a metadata block, or of a block of the device for the caller's.
    pub address: u64,
    /// The changes, in order of offset.
    pub patches: Vec<Patch<'a>>,
    /// [Checksum](super::content_checksum) of the block's content after the group.
    pub checksum_after: u32,
}

#[cfg(test)]
mod tests;
