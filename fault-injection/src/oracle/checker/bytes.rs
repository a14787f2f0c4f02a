//! Numbers, checksums and hashes of bytes.

use crc32c::{crc32c, crc32c_append};
use freehold::device::Device;

use super::flaw::Flaw;
use crate::rng::mix;

/// Sizes in use here were checked against what fits into memory.
pub(super) fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A part of the bytes; empty if they do not reach so far.
pub(super) fn part(bytes: &[u8], at: usize, len: usize) -> &[u8] {
    bytes.get(at..at.saturating_add(len)).unwrap_or_default()
}

/// What lies from here on.
pub(super) fn rest(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    rest(bytes, at).first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    rest(bytes, at).first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    rest(bytes, at).first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, tail) = bytes.as_chunks::<64>();
    // Whole chunks are folded without a branch, so that the compiler can do many bytes at once.
    chunks.iter().all(|chunk| chunk.iter().fold(0, |sum, byte| sum | byte) == 0)
        && tail.iter().all(|&byte| byte == 0)
}

/// CRC-32C over several pieces, one after the other.
pub(super) fn crc_of(pieces: &[&[u8]]) -> u32 {
    pieces.iter().fold(0, |crc, piece| crc32c_append(crc, piece))
}

/// The block checksum of content in pieces.
pub(super) fn block_checksum(store_id: &[u8; 16], offset: u64, tag: u32, content: &[&[u8]]) -> u32 {
    let crc = crc_of(&[store_id, &offset.to_le_bytes(), &tag.to_le_bytes()]);
    content.iter().fold(crc, |crc, piece| crc32c_append(crc, piece))
}

/// The content checksum.
pub(super) fn content_checksum(content: &[u8]) -> u32 {
    let mut crc = crc32c(content);
    crc ^= crc >> 16;
    crc = crc.wrapping_mul(0x85eb_ca6b);
    crc ^= crc >> 13;
    crc = crc.wrapping_mul(0xc2b2_ae35);
    crc ^ (crc >> 16)
}

/// A sum over the words that are not zero, each hashed with its place; what is zero counts the same however it came
/// about. The first word's place is given, and bytes behind the last whole word are left out.
pub(super) fn hash_words(first: u64, bytes: &[u8]) -> u128 {
    let mut sum = 0u128;
    let (chunks, tail) = bytes.as_chunks::<64>();
    for (chunk, number) in chunks.iter().zip(0u64..) {
        if !is_zero(chunk) {
            sum = sum.wrapping_add(hash_each(first + number * 8, chunk));
        }
    }
    sum.wrapping_add(hash_each(first + chunks.len() as u64 * 8, tail))
}

fn hash_each(first: u64, bytes: &[u8]) -> u128 {
    let mut sum = 0u128;
    for (word, place) in bytes.as_chunks::<8>().0.iter().zip(first..) {
        let word = u64::from_le_bytes(*word);
        if word != 0 {
            let high = mix(word ^ mix(place));
            let low = mix(word.rotate_left(32).wrapping_add(mix(!place)));
            sum = sum.wrapping_add((u128::from(high) << 64) | u128::from(low));
        }
    }
    sum
}

/// Fills the buffer from the device.
pub(super) fn read(device: &dyn Device, offset: u64, buffer: &mut [u8]) -> Result<(), Flaw> {
    device.read_at(offset, buffer).map_err(|_| Flaw::Unreadable { offset })
}
