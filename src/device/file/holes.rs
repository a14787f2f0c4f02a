//! Giving the holes of a sparse file space of their own, where the file system cannot reserve it.
//!
//! Only holes are written. Bytes that are there already may count, and a power cut may tear or spoil any sector that is
//! being written, with what it held or not.

use std::fs::File;
use std::io;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::direct::WriteGate;
use super::transfer::{PositionedIo, read_full, write_full};
use crate::device::aligned::AlignedBuf;

/// Most bytes that are written at once, with all other writes waiting.
const WINDOW_BYTES: u64 = 1 << 20;

/// Where the holes of a file are.
pub(super) trait Holes {
    /// Where the first hole begins at or behind `from`; none where there is none, or nobody knows.
    fn next_hole(&self, from: u64) -> io::Result<Option<u64>>;

    /// Where the first data begins at or behind `from`; none where there is none.
    fn next_data(&self, from: u64) -> io::Result<Option<u64>>;
}

fn seek(file: &File, to: SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, to) {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Holes for File {
    fn next_hole(&self, from: u64) -> io::Result<Option<u64>> {
        seek(self, SeekFrom::Hole(from))
    }

    fn next_data(&self, from: u64) -> io::Result<Option<u64>> {
        seek(self, SeekFrom::Data(from))
    }
}

/// Writes what is read from the holes in the range, zeros, to where it was read. A hole that shares an aligned block with
/// data is left alone in that block.
pub(super) fn fill(
    file: &(impl PositionedIo + Holes),
    gate: &WriteGate,
    align: usize,
    offset: u64,
    len: u64,
) -> io::Result<()> {
    let end = offset + len;
    let block = align.max(1) as u64;
    let mut position = offset;
    while position < end {
        // Nobody may write into a hole between its being found and its being filled.
        let _alone = gate.alone();
        let Some(start) = file.next_hole(position)?.filter(|&start| start < end) else { return Ok(()) };
        let stop = file.next_data(start)?.unwrap_or(end).min(end).min(start + WINDOW_BYTES);
        let (first, last) = (start.next_multiple_of(block), stop - stop % block);
        if let Some(count) = last.checked_sub(first).filter(|&count| count > 0) {
            let count = usize::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
            let mut bytes = AlignedBuf::zeroed(count, align);
            read_full(file, first, &mut bytes)?;
            write_full(file, first, &bytes)?;
        }
        position = stop.max(position + 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::super::transfer::fake::FakeFile;
    use super::*;

    struct Sparse {
        file: FakeFile,
        holes: Vec<Range<u64>>,
    }

    impl PositionedIo for Sparse {
        fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            self.file.read_some(offset, buf)
        }

        fn write_some(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
            self.file.write_some(offset, data)
        }
    }

    impl Holes for Sparse {
        fn next_hole(&self, from: u64) -> io::Result<Option<u64>> {
            Ok(self.holes.iter().find(|hole| from < hole.end).map(|hole| hole.start.max(from)))
        }

        fn next_data(&self, from: u64) -> io::Result<Option<u64>> {
            let hole = self.holes.iter().find(|hole| hole.contains(&from));
            Ok(Some(hole.map_or(from, |hole| hole.end)))
        }
    }

    fn writes(holes: Vec<Range<u64>>, range: Range<u64>, align: usize) -> Vec<(u64, usize)> {
        let mut file = FakeFile::new((0..=250).cycle().take(64 << 10).collect());
        file.align = align;
        let before = file.bytes.lock().unwrap().clone();
        let sparse = Sparse { file, holes };
        fill(&sparse, &WriteGate::default(), align, range.start, range.end - range.start).unwrap();
        assert_eq!(*sparse.file.bytes.lock().unwrap(), before);
        sparse.file.writes.into_inner().unwrap()
    }

    #[test]
    fn only_holes_are_written() {
        let holes = vec![0..4096, 8192..12288, 20480..24576];
        assert_eq!(writes(holes.clone(), 4096..8192, 1), []);
        assert_eq!(writes(holes.clone(), 1000..9000, 1), [(1000, 3096), (8192, 808)]);
        assert_eq!(writes(holes, 4096..65536, 512), [(8192, 4096), (20480, 4096)]);
        assert_eq!(writes(Vec::new(), 0..65536, 512), []);
    }

    #[test]
    fn blocks_that_hold_data_too_are_left_alone() {
        assert_eq!(writes(vec![100..1500, 1600..1700], 0..4096, 512), [(512, 512)]);
    }

    #[test]
    fn a_sparse_file_gets_its_space() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(256 << 10).unwrap();
        file.write_all_at(&[7; 4096], 64 << 10).unwrap();
        fill(&file, &WriteGate::default(), 1, 0, 256 << 10).unwrap();
        // A file system that does not tell holes has none to fill.
        if file.next_hole(0).unwrap().is_some_and(|hole| hole < 256 << 10) {
            panic!("there is still a hole");
        }
        let mut bytes = [0; 4096];
        file.read_exact_at(&mut bytes, 64 << 10).unwrap();
        assert_eq!(bytes, [7; 4096]);
        assert!(file.metadata().unwrap().blocks() > 0);
    }
}
