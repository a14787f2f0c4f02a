//! The allocator state: frontier and free-list heads. It is the first metadata block of a store.

use off64::int::{Off64ReadInt, Off64WriteMutInt};

use super::segment::{decode_link, encode_link};
use super::{MAX_ORDER, is_zero};

const OFFSETOF_FRONTIER: u64 = 0;
const OFFSETOF_RESERVED: u64 = OFFSETOF_FRONTIER + 4;
const OFFSETOF_HEADS: u64 = OFFSETOF_RESERVED + 4;
const HEADS: usize = MAX_ORDER as usize + 1;
const END: usize = super::index(OFFSETOF_HEADS) + HEADS * 4;
pub(super) const FIELDS: &[super::Field] = super::fields::fields!("frontier" OFFSETOF_FRONTIER, "reserved" OFFSETOF_RESERVED, "heads" OFFSETOF_HEADS; END as u64);

/// Frontier and free-list heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocatorState {
    /// The first segment never used. Everything from here on is free, and costs nothing.
    pub frontier: u32,
    /// For each order, the first segment whose largest free run is of that order.
    pub heads: [Option<u32>; HEADS],
}

impl AllocatorState {
    /// Bytes of the block in use; the rest is zero.
    pub const ENCODED_BYTES: usize = END;

    /// Decodes a whole block, or says what is wrong with it.
    pub fn decode(block: &[u8]) -> Result<Self, &'static str> {
        let (Some(reserved), Some(rest)) = (block.get(4..8), block.get(END..)) else {
            return Err("short block");
        };
        if !is_zero(reserved) || !is_zero(rest) {
            return Err("reserved bytes are not zero");
        }
        let mut state = Self { frontier: block.read_u32_le_at(OFFSETOF_FRONTIER), ..Self::default() };
        for (order, head) in (0_u64..).zip(&mut state.heads) {
            *head = decode_link(block.read_u32_le_at(OFFSETOF_HEADS + order * 4));
        }
        Ok(state)
    }

    /// Encodes the front of the block.
    #[must_use]
    pub fn encode(&self) -> [u8; END] {
        let mut bytes = [0; END];
        let out = &mut bytes[..];
        out.write_u32_le_at(OFFSETOF_FRONTIER, self.frontier);
        for (order, head) in (0_u64..).zip(self.heads) {
            out.write_u32_le_at(OFFSETOF_HEADS + order * 4, encode_link(head));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_reserved_bytes() {
        let mut state = AllocatorState { frontier: 77, ..AllocatorState::default() };
        state.heads[0] = Some(0);
        state.heads[18] = Some(76);
        let mut block = vec![0; 4096];
        block[..END].copy_from_slice(&state.encode());
        assert_eq!(AllocatorState::decode(&block), Ok(state));
        for at in [4, END, 4095] {
            let mut bad = block.clone();
            bad[at] = 1;
            assert!(AllocatorState::decode(&bad).is_err());
        }
        assert!(AllocatorState::decode(&[0; 8]).is_err());
    }
}
