//! The least that durable transactions cost: one write and one flush for all tasks together, into a file that exists
//! in full.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, OFlags, fadvise};

use crate::Failure;
use crate::driver::{Load, Subject, Turn};
use crate::measure::Times;

const FILE_BYTES: usize = 64 << 20;
const RECORD_BYTES: usize = 64;
/// Unit of direct writes.
const BLOCK_BYTES: usize = 4096;

/// Makes a file that has all its blocks, and nothing of it in the cache: some file systems cache what was written in
/// large units, and then write the whole unit for each small change in it.
pub(crate) fn write_in_full(path: &Path, bytes: usize) -> Result<File, Failure> {
    let mut file = File::options().read(true).write(true).create_new(true).open(path)?;
    let piece = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(piece.len());
        file.write_all(piece.get(..part).unwrap_or(&piece))?;
        left -= part;
    }
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(file)
}

/// The same file past the page cache; each write is durable when it returns, if that is wanted.
pub(crate) fn open_direct(path: &Path, durable: bool) -> Result<File, Failure> {
    let flags = if durable { OFlags::DIRECT | OFlags::DSYNC } else { OFlags::DIRECT };
    let flags = i32::try_from(flags.bits())?;
    Ok(File::options().read(true).write(true).custom_flags(flags).open(path)?)
}

/// Bytes that direct writes accept.
pub(crate) struct DirectBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl DirectBuffer {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0xAB; len.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES];
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES);
        Self { bytes, start }
    }

    /// At least so many, in whole blocks.
    pub(crate) fn blocks(&self, len: usize) -> Result<&[u8], Failure> {
        let end = self.start + len.next_multiple_of(BLOCK_BYTES);
        Ok(self.bytes.get(self.start..end).ok_or("the buffer is too small")?)
    }
}

/// The file, and the next free byte of it.
pub(crate) struct Floor {
    file: File,
    direct: bool,
    position: usize,
    buffer: DirectBuffer,
}

impl Floor {
    pub(crate) fn new(dir: &Path, direct: bool) -> Result<Self, Failure> {
        let path = dir.join("floor");
        let mut file = write_in_full(&path, FILE_BYTES)?;
        if direct {
            file = open_direct(&path, true)?;
        }
        Ok(Self { file, direct, position: 0, buffer: DirectBuffer::new(1 << 20) })
    }

    fn write(&mut self, tasks: usize) -> Result<(), Failure> {
        let bytes = tasks * RECORD_BYTES;
        let blocks = self.buffer.blocks(bytes)?;
        let bytes = if self.direct { blocks } else { blocks.get(..bytes).unwrap_or(blocks) };
        if self.position + bytes.len() > FILE_BYTES {
            self.position = 0;
        }
        self.file.write_all_at(bytes, u64::try_from(self.position)?)?;
        self.position += bytes.len();
        Ok(())
    }

    /// What is written directly is durable already.
    fn flush(&self) -> Result<(), Failure> {
        if !self.direct {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

impl Subject for Floor {
    fn turn(&mut self, load: Load, time: Duration) -> Result<Option<Turn>, Failure> {
        let tasks = match load {
            Load::Tasks(tasks) => tasks,
            Load::Rush if !self.direct => 1,
            Load::Rush | Load::Reserve | Load::Reads(_) | Load::Early(_) => return Ok(None),
        };
        let started = Instant::now();
        let (mut times, mut operations) = (Times::default(), 0);
        while started.elapsed() < time {
            let began = Instant::now();
            self.write(tasks)?;
            if load != Load::Rush {
                self.flush()?;
                times.record(began.elapsed());
            }
            operations += u64::try_from(tasks)?;
        }
        self.flush()?;
        Ok(Some(Turn::new(operations, started.elapsed(), times)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn each_record_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        for direct in [false, true] {
            let dir = dir.path().join(direct.to_string());
            std::fs::create_dir(&dir).unwrap();
            let mut floor = Floor::new(&dir, direct).unwrap();
            let time = Duration::from_millis(5);
            let turn = floor.turn(Load::Tasks(100), time).unwrap().unwrap();
            let written = std::fs::read(dir.join("floor")).unwrap();
            let found = written.iter().filter(|&&byte| byte == 0xAB).count();
            let unit = if direct { (100 * RECORD_BYTES).next_multiple_of(BLOCK_BYTES) } else { 6400 };
            assert_eq!(found as u64, turn.operations / 100 * unit as u64);
            assert!(turn.operations > 0 && turn.p50() > 0.0);
        }
    }
}
