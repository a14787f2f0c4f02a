//! The allocator state: the frontier. It is the first metadata block of a store.

use off64::int::{Off64ReadInt, Off64WriteMutInt};

use super::is_zero;

const OFFSETOF_FRONTIER: u64 = 0;
const OFFSETOF_RESERVED: u64 = OFFSETOF_FRONTIER + 4;
const END: usize = super::index(OFFSETOF_RESERVED) + 4;
pub(super) const FIELDS: &[super::Field] =
    super::fields::fields!("frontier" OFFSETOF_FRONTIER, "reserved" OFFSETOF_RESERVED; END as u64);

/// The frontier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocatorState {
    /// The first segment never used. Everything from here on is free, and costs nothing.
    pub frontier: u32,
}

impl AllocatorState {
    /// Bytes of the block in use; the rest is zero.
    pub const ENCODED_BYTES: usize = END;

    /// Decodes a whole block, or says what is wrong with it.
    pub fn decode(block: &[u8]) -> Result<Self, &'static str> {
        let Some(rest) = block.get(super::index(OFFSETOF_RESERVED)..).filter(|_| block.len() > END) else {
            return Err("short block");
        };
        if !is_zero(rest) {
            return Err("reserved bytes are not zero");
        }
        Ok(Self { frontier: block.read_u32_le_at(OFFSETOF_FRONTIER) })
    }

    /// Encodes the front of the block.
    #[must_use]
    pub fn encode(&self) -> [u8; END] {
        let mut bytes = [0; END];
        bytes[..].write_u32_le_at(OFFSETOF_FRONTIER, self.frontier);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_reserved_bytes() {
        let state = AllocatorState { frontier: 77 };
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
