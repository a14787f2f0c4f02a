//! What a parent knows of a child block: its checksum, the slot that holds it, and when it was written.
//!
//! Every metadata block has two slots on the device. A checkpoint writes into the slot that is not referenced, so a torn
//! write never harms the block that counts (rule 11); the reference in the parent says which slot counts and what must
//! be found there, so a lost write, a misdirected write and a block that was never written are told apart (rule 12).

use off64::int::{Off64ReadInt, Off64WriteMutInt};

/// Encoded size.
pub const BLOCK_REFERENCE_BYTES: usize = 8;

const OFFSETOF_CHECKSUM: u64 = 0;
const OFFSETOF_TAG: u64 = 4;
const END: u64 = 8;
const _: () = assert!(super::index(END) == BLOCK_REFERENCE_BYTES);
pub(super) const FIELDS: &[super::Field] =
    super::fields::fields!("checksum" OFFSETOF_CHECKSUM, "tag" OFFSETOF_TAG; END);

const TAG_PRESENT: u32 = 1 << 31;
const TAG_SLOT: u32 = 1 << 30;
const TAG_GENERATION: u32 = TAG_SLOT - 1;

/// A parent's knowledge of one child block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockReference {
    /// [`block_checksum`](super::block_checksum) over store, slot address, tag and content.
    pub checksum: u32,
    tag: u32,
}

impl BlockReference {
    /// The child was never written; its content is all zeros by definition and nothing is read.
    pub const ABSENT: Self = Self { checksum: 0, tag: 0 };

    /// The tag of a child written to `slot` by the checkpoint number `generation` (kept modulo 2^30).
    #[must_use]
    pub const fn tag_for(slot: u8, generation: u64) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "masked to 30 bits")]
        let generation = (generation & TAG_GENERATION as u64) as u32;
        TAG_PRESENT | generation | if slot == 0 { 0 } else { TAG_SLOT }
    }

    /// A reference with a tag from [`tag_for`](Self::tag_for).
    #[must_use]
    pub const fn new(checksum: u32, tag: u32) -> Self {
        Self { checksum, tag }
    }

    /// Whether the child was ever written.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.tag & TAG_PRESENT != 0
    }

    /// The slot that holds the child: 0 or 1.
    #[must_use]
    pub const fn slot(self) -> u8 {
        if self.tag & TAG_SLOT == 0 { 0 } else { 1 }
    }

    /// The slot that the next checkpoint writes to.
    #[must_use]
    pub const fn unused_slot(self) -> u8 {
        if self.is_present() { 1 - self.slot() } else { 0 }
    }

    /// The tag as stored, part of the child's checksum.
    #[must_use]
    pub const fn tag(self) -> u32 {
        self.tag
    }

    /// Decodes 8 bytes. `None` for an absent child with stray bits.
    #[must_use]
    pub fn decode(bytes: &[u8; BLOCK_REFERENCE_BYTES]) -> Option<Self> {
        let bytes = &bytes[..];
        let reference = Self {
            checksum: bytes.read_u32_le_at(OFFSETOF_CHECKSUM),
            tag: bytes.read_u32_le_at(OFFSETOF_TAG),
        };
        (reference.is_present() || reference == Self::ABSENT).then_some(reference)
    }

    /// Encodes to 8 bytes.
    #[must_use]
    pub fn encode(self) -> [u8; BLOCK_REFERENCE_BYTES] {
        let mut bytes = [0; BLOCK_REFERENCE_BYTES];
        bytes[..].write_u32_le_at(OFFSETOF_CHECKSUM, self.checksum);
        bytes[..].write_u32_le_at(OFFSETOF_TAG, self.tag);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_slots_alternate() {
        let first = BlockReference::new(0xdead_beef, BlockReference::tag_for(1, u64::MAX));
        assert_eq!(BlockReference::decode(&first.encode()), Some(first));
        assert_eq!((first.slot(), first.unused_slot()), (1, 0));
        assert_eq!(BlockReference::ABSENT.unused_slot(), 0);
        assert_eq!(BlockReference::decode(&[0; 8]), Some(BlockReference::ABSENT));
        assert_eq!(BlockReference::decode(&[1, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(BlockReference::decode(&[0, 0, 0, 0, 1, 0, 0, 0]), None);
    }
}
