//! The CRC-32C of a content after a small change, from the one before: some dozens of instructions in place of a pass over
//! the whole content.
//!
//! CRCs are linear: those of two contents of one length differ by the CRC, without its usual inversions, of the difference
//! of the contents. Zeros in front of a difference do not count, and each bit of the zeros behind it multiplies by x.

/// Contents are carried on up to this length.
pub(crate) const CARRIED_BYTES: usize = 4096;
/// A difference is looked at in words of so many bytes.
pub(crate) const CARRIED_WORD: usize = 8;

/// The generator of CRC-32C. As everywhere here, the highest bit is the one of x^0.
const GENERATOR: u32 = 0x82f6_3b78;

/// By how much so many words of zeros multiply, divided by x^33: a product as [`product`] gives it has one x too many, and
/// [`plain`] multiplies by x^32.
static POWERS: [u32; CARRIED_BYTES / CARRIED_WORD] = powers();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn powers() -> [u32; CARRIED_BYTES / CARRIED_WORD] {
    let mut power = 1_u32 << 31;
    let mut divided = 0;
    while divided < 33 {
        power = if power >> 31 == 1 { (power ^ GENERATOR) << 1 | 1 } else { power << 1 };
        divided += 1;
    }
    let mut powers = [0; CARRIED_BYTES / CARRIED_WORD];
    let mut words = 0;
    while words < powers.len() {
        powers[words] = power;
        let mut bit = 0;
        while bit < u8::BITS as usize * CARRIED_WORD {
            power = if power & 1 == 1 { power >> 1 ^ GENERATOR } else { power >> 1 };
            bit += 1;
        }
        words += 1;
    }
    powers
}

/// Bytes that lie as the processor's instruction for CRCs takes them.
#[repr(align(8))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Aligned<T>(pub(crate) T);

/// The CRC without its inversions, which makes it linear.
#[inline]
fn plain(bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(u32::MAX, bytes)
}

/// The product of two polynomials. There is no carry in it: numbers of which only every fourth bit is used have room for those
/// of a multiplication (as in BearSSL, by Thomas Pornin).
fn product(a: u32, b: u32) -> u64 {
    const FOURTH: u64 = 0x1111_1111_1111_1111;
    let parts = |v: u32| [0, 1, 2, 3].map(|at| u64::from(v) & FOURTH << at);
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (parts(a), parts(b));
    let p0 = (a0 * b0) ^ (a1 * b3) ^ (a2 * b2) ^ (a3 * b1);
    let p1 = (a0 * b1) ^ (a1 * b0) ^ (a2 * b3) ^ (a3 * b2);
    let p2 = (a0 * b2) ^ (a1 * b1) ^ (a2 * b0) ^ (a3 * b3);
    let p3 = (a0 * b3) ^ (a1 * b2) ^ (a2 * b1) ^ (a3 * b0);
    p0 & FOURTH | p1 & FOURTH << 1 | p2 & FOURTH << 2 | p3 & FOURTH << 3
}

/// The CRC-32C of a content that had `crc` before, and differs from what it was by `difference` (exclusive or), with so many
/// words behind it that are as they were. Nothing for more than contents of [`CARRIED_BYTES`] have.
pub(crate) fn carried_crc(crc: u32, difference: &[u8], words_behind: usize) -> Option<u32> {
    let power = *POWERS.get(words_behind)?;
    let moved = Aligned(product(plain(difference), power).to_le_bytes());
    Some(crc ^ plain(&moved.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn a_carried_crc_is_that_of_the_content(seed: u64, len: usize, at: usize, change: Vec<u64>) -> bool {
            let words = 1 + len % (CARRIED_BYTES / CARRIED_WORD);
            let mut content: Vec<u8> =
                (0..words as u64).flat_map(|at| (seed ^ at.wrapping_mul(seed | 1)).to_le_bytes()).collect();
            let before = crc32c::crc32c(&content);
            let first = at % words;
            let difference: Vec<u8> = change.iter().take(words - first).flat_map(|word| word.to_le_bytes()).collect();
            let range = first * CARRIED_WORD..first * CARRIED_WORD + difference.len();
            content[range.clone()].iter_mut().zip(&difference).for_each(|(byte, other)| *byte ^= other);
            let behind = words - range.end / CARRIED_WORD;
            carried_crc(before, &difference, behind).is_none_or(|crc| crc == crc32c::crc32c(&content))
        }
    }

    #[test]
    fn every_place_of_a_block_is_in_reach() {
        let (zeros, difference) = (vec![0; CARRIED_BYTES], [0xA5; CARRIED_WORD]);
        let before = crc32c::crc32c(&zeros);
        for at in 0..CARRIED_BYTES / CARRIED_WORD {
            let mut content = zeros.clone();
            content[at * CARRIED_WORD..][..CARRIED_WORD].copy_from_slice(&difference);
            let behind = CARRIED_BYTES / CARRIED_WORD - 1 - at;
            assert_eq!(carried_crc(before, &difference, behind).unwrap(), crc32c::crc32c(&content));
        }
        assert_eq!(carried_crc(before, &difference, CARRIED_BYTES / CARRIED_WORD), None);
    }
}
