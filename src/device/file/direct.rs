//! Direct I/O for ranges and buffers of any alignment: bounce buffers, and partial blocks read before written.
#![expect(
    clippy::indexing_slicing,
    reason = "every window covers the part of the range that is copied, see `windows`"
)]

use std::io;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::transfer::{PositionedIo, read_full, write_full};
use crate::device::aligned::{AlignedBuf, is_aligned};

/// Most bytes that a bounce buffer holds; bounds memory, and is large enough to cost no throughput.
const WINDOW_BYTES: u64 = 1 << 20;

/// Keeps writes apart from the read-modify-write of blocks that they share.
///
/// Plain writes pass together. Whoever reads bytes in order to write them back passes alone, because a write in
/// between would be undone.
#[derive(Debug, Default)]
pub(super) struct WriteGate(RwLock<()>);

impl WriteGate {
    /// Passes together with other plain writes.
    pub(super) fn plain(&self) -> RwLockReadGuard<'_, ()> {
        // The lock holds no data that a panicking holder could have left half changed.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes alone.
    pub(super) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An aligned piece of the file, and the part of the wanted range that lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    /// First byte in the file, aligned.
    start: u64,
    /// Length in bytes, aligned.
    len: usize,
    /// Where the wanted bytes start in the window.
    lead: usize,
    /// Where they start in the caller's buffer.
    at: usize,
    /// How many there are.
    count: usize,
}

/// Cuts `offset..offset + len` into windows aligned to `align`, a power of two, of bounded length.
fn windows(offset: u64, len: usize, align: usize) -> impl Iterator<Item = Window> {
    let align = align as u64;
    let end = offset + len as u64;
    let most = WINDOW_BYTES.max(align);
    let mut position = offset;
    std::iter::from_fn(move || {
        if position >= end {
            return None;
        }
        let start = position & !(align - 1);
        let stop = end.next_multiple_of(align).min(start + most);
        let window = Window {
            start,
            len: to_usize(stop - start),
            lead: to_usize(position - start),
            at: to_usize(position - offset),
            count: to_usize(stop.min(end) - position),
        };
        position = stop;
        Some(window)
    })
}

/// Lengths and positions here are bounded by that of a buffer in memory or of a window.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Reads `buf.len()` bytes at `offset` through calls that are aligned to `align` in address, offset and length.
///
/// The aligned range around the wanted one must lie inside the file.
pub(super) fn read(io: &impl PositionedIo, align: usize, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    if fits(align, offset, buf) {
        return read_full(io, offset, buf);
    }
    for window in windows(offset, buf.len(), align) {
        let mut bounce = AlignedBuf::zeroed(window.len, align);
        read_full(io, window.start, &mut bounce)?;
        let wanted = &bounce[window.lead..window.lead + window.count];
        buf[window.at..window.at + window.count].copy_from_slice(wanted);
    }
    Ok(())
}

/// Writes `data` at `offset` through aligned calls. Bytes around it in the same blocks keep what they hold, also when
/// others write them at the same time through the same gate.
pub(super) fn write(
    io: &impl PositionedIo,
    gate: &WriteGate,
    align: usize,
    offset: u64,
    data: &[u8],
) -> io::Result<()> {
    if fits(align, offset, data) {
        let _together = gate.plain();
        return write_full(io, offset, data);
    }
    for window in windows(offset, data.len(), align) {
        let mut bounce = AlignedBuf::zeroed(window.len, align);
        let filled = window.lead + window.count;
        let part = &data[window.at..window.at + window.count];
        if window.lead == 0 && filled == window.len {
            bounce.copy_from_slice(part);
            let _together = gate.plain();
            write_full(io, window.start, &bounce)?;
            continue;
        }

        let _alone = gate.alone();
        let last = window.len - align;
        let tail_is_partial = filled < window.len;
        if window.lead > 0 {
            read_full(io, window.start, &mut bounce[..align])?;
        }
        if tail_is_partial && (last > 0 || window.lead == 0) {
            read_full(io, window.start + last as u64, &mut bounce[last..])?;
        }
        bounce[window.lead..filled].copy_from_slice(part);
        write_full(io, window.start, &bounce)?;
    }
    Ok(())
}

fn fits(align: usize, offset: u64, buf: &[u8]) -> bool {
    offset.is_multiple_of(align as u64) && buf.len().is_multiple_of(align) && is_aligned(buf, align)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::super::transfer::fake::FakeFile;
    use super::*;

    const ALIGN: usize = 512;

    fn fake(len: usize) -> FakeFile {
        let mut file = FakeFile::new((0..=250).cycle().take(len).collect());
        file.align = ALIGN;
        file
    }

    #[test]
    fn windows_cover_the_range_once() {
        for (offset, len) in [(0, 512), (1, 1), (511, 2), (100, 3 << 20), (512, 1 << 20), (7, 0)] {
            let mut expected = 0;
            for window in windows(offset, len, ALIGN) {
                assert_eq!(window.at, expected);
                assert_eq!(window.start + window.lead as u64, offset + expected as u64);
                assert!(window.lead + window.count <= window.len);
                assert!(window.len as u64 <= WINDOW_BYTES);
                assert!(window.start.is_multiple_of(512) && window.len.is_multiple_of(ALIGN));
                expected += window.count;
            }
            assert_eq!(expected, len);
        }
    }

    #[test]
    fn unaligned_writes_keep_their_neighbours() {
        for (offset, len) in
            [(0, 512), (0, 100), (5, 1), (500, 24), (1000, 3000), (512, 700), (700, 1 << 20), (4095, 2)]
        {
            let file = fake(3 << 20);
            let mut expected = file.bytes.lock().unwrap().clone();
            let data = vec![0xEE; len];
            expected[offset..offset + len].copy_from_slice(&data);
            write(&file, &WriteGate::default(), ALIGN, offset as u64, &data).unwrap();
            assert!(*file.bytes.lock().unwrap() == expected, "{len} bytes at {offset}");

            let mut back = vec![0; len + 7];
            read(&file, ALIGN, offset as u64, &mut back).unwrap();
            assert_eq!(back, expected[offset..offset + len + 7]);
        }
    }

    #[test]
    fn an_aligned_buffer_goes_straight_through() {
        let file = fake(4 << 20);
        let data = AlignedBuf::copy_of(&vec![3; 2 << 20], ALIGN);
        write(&file, &WriteGate::default(), ALIGN, 512, &data).unwrap();
        assert_eq!(*file.writes.lock().unwrap(), [(512, 2 << 20)]);
    }

    #[test]
    fn writers_of_one_block_lose_nothing_of_each_other() {
        let file = Arc::new(fake(4096));
        let gate = Arc::new(WriteGate::default());
        thread::scope(|scope| {
            for writer in 0..8_u8 {
                let (file, gate) = (Arc::clone(&file), Arc::clone(&gate));
                scope.spawn(move || {
                    let offset = u64::from(writer) * 64;
                    for round in 0..200_u8 {
                        let data = [writer ^ round; 64];
                        write(&*file, &gate, ALIGN, offset, &data).unwrap();
                        thread::yield_now();
                        let mut back = [0; 64];
                        read(&*file, ALIGN, offset, &mut back).unwrap();
                        assert_eq!(back, data, "only this thread writes these bytes");
                    }
                });
            }
        });
    }
}
