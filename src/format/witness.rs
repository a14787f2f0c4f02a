//! The witness: a note, away from the journal, of the last LSN known to be durable.
//!
//! The last group of a journal has nobody after it to say that it was durable; when it is damaged, only the witness can
//! tell rot from a torn tail (rule 7). It is written lazily, when the store is idle, and not flushed then; and,
//! with a flush, before a checkpoint writes blocks of the caller in place.

use off64::int::{Off64ReadInt, Off64WriteMutInt};

use super::{StoreId, block_checksum, is_zero};

const MAGIC: u32 = u32::from_le_bytes(*b"FHWT");

const OFFSETOF_MAGIC: u64 = 0;
const OFFSETOF_CHECKSUM: u64 = OFFSETOF_MAGIC + 4;
const OFFSETOF_EPOCH: u64 = OFFSETOF_CHECKSUM + 4;
const OFFSETOF_LSN: u64 = OFFSETOF_EPOCH + 8;
const OFFSETOF_POSITION: u64 = OFFSETOF_LSN + 8;
const END: usize = super::index(OFFSETOF_POSITION) + 8;
pub(super) const FIELDS: &[super::Field] = super::fields::fields!("magic" OFFSETOF_MAGIC, "checksum" OFFSETOF_CHECKSUM, "epoch" OFFSETOF_EPOCH, "durable_lsn" OFFSETOF_LSN, "position" OFFSETOF_POSITION; END as u64);

/// A note of durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The recovery epoch that the note belongs to; notes of other epochs say nothing.
    pub epoch: u64,
    /// Every transaction up to this LSN was durable when the note was written.
    pub durable_lsn: u64,
    /// Journal position behind the group that holds `durable_lsn`.
    pub position: u64,
}

impl Witness {
    /// Encodes a whole block for `address`.
    #[must_use]
    pub fn encode(&self, store: &StoreId, address: u64, block_bytes: usize) -> Vec<u8> {
        let mut block = vec![0; block_bytes.max(END)];
        block.write_u32_le_at(OFFSETOF_MAGIC, MAGIC);
        block.write_u64_le_at(OFFSETOF_EPOCH, self.epoch);
        block.write_u64_le_at(OFFSETOF_LSN, self.durable_lsn);
        block.write_u64_le_at(OFFSETOF_POSITION, self.position);
        let checksum = block_checksum(store, address, 0, &block);
        block.write_u32_le_at(OFFSETOF_CHECKSUM, checksum);
        block
    }

    /// Whether a block says that it is a witness, of whatever store.
    #[must_use]
    pub fn is_claimed(block: &[u8]) -> bool {
        block.starts_with(&MAGIC.to_le_bytes())
    }

    /// Decodes a block found at `address`; `None` for anything but a witness of this store at this place.
    #[must_use]
    pub fn decode(store: &StoreId, address: u64, block: &[u8]) -> Option<Self> {
        if block.len() < END || block.read_u32_le_at(OFFSETOF_MAGIC) != MAGIC || !is_zero(block.get(END..)?) {
            return None;
        }
        let mut copy = block.to_vec();
        copy.write_u32_le_at(OFFSETOF_CHECKSUM, 0);
        if block_checksum(store, address, 0, &copy) != block.read_u32_le_at(OFFSETOF_CHECKSUM) {
            return None;
        }
        Some(Self {
            epoch: block.read_u64_le_at(OFFSETOF_EPOCH),
            durable_lsn: block.read_u64_le_at(OFFSETOF_LSN),
            position: block.read_u64_le_at(OFFSETOF_POSITION),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flip_is_noticed() {
        let witness = Witness { epoch: 3, durable_lsn: 99, position: 8192 };
        let block = witness.encode(&[7; 16], 4096, 4096);
        assert_eq!(Witness::decode(&[7; 16], 4096, &block), Some(witness));
        assert_eq!(Witness::decode(&[8; 16], 4096, &block), None);
        assert_eq!(Witness::decode(&[7; 16], 0, &block), None);
        assert_eq!(Witness::decode(&[7; 16], 4096, &[]), None);
        for at in 0..block.len() {
            let mut bad = block.clone();
            bad[at] ^= 0x10;
            assert_eq!(Witness::decode(&[7; 16], 4096, &bad), None, "byte {at}");
        }
    }
}
