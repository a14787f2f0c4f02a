//! Byte buffers that start at an aligned address, as direct I/O wants them.
#![expect(
    clippy::indexing_slicing,
    reason = "`start + len` is at most the length of the storage, from construction on"
)]

use std::fmt;
use std::ops::{Deref, DerefMut};

/// A zeroed byte buffer of fixed length whose first byte lies at a multiple of a power of two.
///
/// Not `Clone`: the copy of a `Vec` may start anywhere, and then the bytes in it would not be aligned.
/// [`copy_of`](Self::copy_of) copies bytes to an aligned place.
pub struct AlignedBuf {
    /// Larger than needed, so that an aligned start can be found in it. Never resized, hence never moved.
    storage: Vec<u8>,
    start: usize,
    len: usize,
    align: usize,
}

impl AlignedBuf {
    /// A buffer of `len` zero bytes at an address that is a multiple of `align` bytes.
    ///
    /// An `align` that is not a power of two is rounded up to one.
    #[must_use]
    pub fn zeroed(len: usize, align: usize) -> Self {
        let align = align.checked_next_power_of_two().unwrap_or(1);
        let slack = align - 1;
        let storage = vec![0_u8; len.saturating_add(slack)];
        // The bound only matters in constant evaluation, where `align_offset` may decline to answer.
        let start = storage.as_ptr().align_offset(align).min(slack);
        Self { storage, start, len, align }
    }

    /// A buffer that holds a copy of `data`, at an address that is a multiple of `align` bytes.
    #[must_use]
    pub fn copy_of(data: &[u8], align: usize) -> Self {
        let mut buf = Self::zeroed(data.len(), align);
        buf.copy_from_slice(data);
        buf
    }

    /// The alignment of the first byte, in bytes.
    #[must_use]
    pub fn align(&self) -> usize {
        self.align
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf")
            .field("len", &self.len)
            .field("align", &self.align)
            .finish_non_exhaustive()
    }
}

/// Whether the first byte of `bytes` lies at a multiple of `align`, a power of two.
pub(super) fn is_aligned(bytes: &[u8], align: usize) -> bool {
    bytes.as_ptr().addr() & align.wrapping_sub(1) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_aligned_zeroed_and_with_the_right_length() {
        for align in [1, 2, 512, 4096, 65_536] {
            for len in [0, 1, 511, 4096, 10_000] {
                let buf = AlignedBuf::zeroed(len, align);
                assert_eq!(buf.len(), len);
                assert!(is_aligned(&buf, align), "{len} bytes at {align}");
                assert_eq!(buf.align(), align);
                assert!(buf.iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn stays_aligned_when_moved_and_keeps_what_is_written() {
        let mut buf = AlignedBuf::copy_of(&[7; 1000], 4096);
        buf[999] = 8;
        let moved = [buf];
        assert!(is_aligned(&moved[0], 4096));
        assert_eq!(moved[0][..999], [7; 999]);
        assert_eq!(moved[0][999], 8);
    }

    #[test]
    fn odd_alignments_are_rounded_up() {
        assert_eq!(AlignedBuf::zeroed(10, 0).align(), 1);
        assert_eq!(AlignedBuf::zeroed(10, 3000).align(), 4096);
    }
}
