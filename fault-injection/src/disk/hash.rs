//! The content hash: the sum over all chunks of a 128-bit hash of the chunk's number and bytes.
//!
//! A sum does not depend on the order of its terms and can be updated in place, so equal images have equal hashes
//! whichever way they were reached. It is made to tell states apart, not to withstand an attacker.

use crate::rng::mix;

const KEYS: [u64; 4] =
    [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];

/// Multiplies to 128 bits and folds the halves together.
#[expect(clippy::cast_possible_truncation, reason = "the two halves of the product are what is wanted")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of the block are what is wanted")]
const fn step((a, b): (u64, u64), block: u128) -> (u64, u64) {
    let (low, high) = (block as u64, (block >> 64) as u64);
    let [k0, k1, ..] = KEYS;
    // The lanes pair the words with their state crosswise, so that what one lane loses the other keeps.
    (fold(low ^ k0, high ^ a), fold(high ^ k1, low ^ b.rotate_left(29)))
}

/// The hash of one chunk at its place.
pub(super) fn chunk_hash(number: u64, bytes: &[u8]) -> u128 {
    let [.., k2, k3] = KEYS;
    let mut lanes = (mix(number ^ k2), mix(number.wrapping_add(k3)));
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        lanes = step(lanes, u128::from_le_bytes(*block));
    }
    if !tail.is_empty() {
        let mut block = [0; 16];
        for (to, from) in block.iter_mut().zip(tail) {
            *to = *from;
        }
        lanes = step(lanes, u128::from_le_bytes(block));
    }
    let length = bytes.len() as u64;
    let low = mix(lanes.0 ^ lanes.1.rotate_left(32) ^ length);
    let high = mix(lanes.1.wrapping_add(lanes.0.rotate_left(17)) ^ k2 ^ length);
    (u128::from(high) << 64) | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_bit_place_and_length_counts() {
        let mut seen = HashSet::new();
        for number in 0..64 {
            assert!(seen.insert(chunk_hash(number, &[0; 512])));
        }
        for bit in 0..4096 {
            let mut bytes = [0u8; 512];
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(chunk_hash(0, &bytes)));
        }
        for length in 0..512 {
            assert!(seen.insert(chunk_hash(0, &[0; 512][..length])));
        }
    }

    #[test]
    fn swapped_words_differ() {
        let mut bytes = [0u8; 64];
        bytes[0] = 1;
        bytes[63] = 2;
        let forward = chunk_hash(5, &bytes);
        bytes.reverse();
        assert_ne!(chunk_hash(5, &bytes), forward);
    }
}
