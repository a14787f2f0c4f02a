//! Whole-range transfers over calls that may do less than they are asked for.
#![expect(
    clippy::indexing_slicing,
    reason = "the count of transferred bytes is bounded by the length of the buffer"
)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;

/// How often in a row a call that answers "try again" is repeated before that becomes the error.
const MAX_REFUSALS: u32 = 64;

/// One positioned system call each; short counts and interruptions are for the caller to handle.
///
/// A backend that can do less than it is asked for implements this, and gets whole transfers from [`read_full`] and
/// [`write_full`].
pub trait PositionedIo {
    /// Reads up to `buf.len()` bytes at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// What the system says; `Interrupted` and `WouldBlock` ask for the call to be made again.
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes up to `data.len()` bytes at `offset`.
    ///
    /// # Errors
    /// As [`read_some`](Self::read_some).
    fn write_some(&self, offset: u64, data: &[u8]) -> io::Result<usize>;
}

impl PositionedIo for File {
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn write_some(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        FileExt::write_at(self, data, offset)
    }
}

/// Fills `buf` from `offset`, over short counts, interruptions and, so many times in a row, "try again".
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] when a call reads nothing; other errors as they come.
pub fn read_full(io: &impl PositionedIo, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    repeat(buf.len(), io::ErrorKind::UnexpectedEof, |done| {
        io.read_some(offset + done as u64, &mut buf[done..])
    })
}

/// Writes all of `data` at `offset`, in the same way.
///
/// # Errors
/// [`io::ErrorKind::WriteZero`] when a call writes nothing; other errors as they come.
pub fn write_full(io: &impl PositionedIo, offset: u64, data: &[u8]) -> io::Result<()> {
    repeat(data.len(), io::ErrorKind::WriteZero, |done| io.write_some(offset + done as u64, &data[done..]))
}

/// Calls `step` with the count of bytes done so far until `total` bytes are done.
fn repeat(
    total: usize,
    no_progress: io::ErrorKind,
    mut step: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    let mut refusals = 0;
    while done < total {
        match step(done) {
            Ok(0) => {
                let message = format!("the transfer stopped after {done} of {total} bytes");
                return Err(io::Error::new(no_progress, message));
            }
            Ok(count) => {
                done = done.saturating_add(count).min(total);
                refusals = 0;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && refusals < MAX_REFUSALS => {
                refusals += 1;
                thread::yield_now();
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod fake {
    //! A file in memory that does as little per call as it may.

    use std::sync::Mutex;

    use super::*;
    use crate::device::aligned::is_aligned;

    /// Bytes, and how the calls on them are made difficult.
    #[derive(Debug, Default)]
    pub(in super::super) struct FakeFile {
        pub(in super::super) bytes: Mutex<Vec<u8>>,
        /// Largest count of bytes per call.
        pub(in super::super) most: usize,
        /// Errors to give before the calls that follow, last first.
        pub(in super::super) errors: Mutex<Vec<io::ErrorKind>>,
        /// Alignment that offset, length and address must have, as under direct I/O.
        pub(in super::super) align: usize,
        /// Start and length of the calls that wrote.
        pub(in super::super) writes: Mutex<Vec<(u64, usize)>>,
    }

    impl FakeFile {
        pub(in super::super) fn new(bytes: Vec<u8>) -> Self {
            Self { bytes: Mutex::new(bytes), most: usize::MAX, align: 1, ..Self::default() }
        }

        fn admit(&self, offset: u64, buf: &[u8]) -> io::Result<usize> {
            if let Some(kind) = self.errors.lock().unwrap().pop() {
                return Err(kind.into());
            }
            let aligned = offset.is_multiple_of(self.align as u64) && buf.len().is_multiple_of(self.align);
            if !aligned || !is_aligned(buf, self.align) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            // Gives other threads the chance to come in between a read and a write.
            thread::yield_now();
            Ok(buf.len().min(self.most))
        }
    }

    impl PositionedIo for FakeFile {
        fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            let count = self.admit(offset, buf)?;
            let bytes = self.bytes.lock().unwrap();
            let rest = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let count = count.min(rest.len());
            buf[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn write_some(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
            let count = self.admit(offset, data)?;
            let mut bytes = self.bytes.lock().unwrap();
            let start = usize::try_from(offset).unwrap();
            let count = count.min(bytes.len().saturating_sub(start));
            bytes[start..start + count].copy_from_slice(&data[..count]);
            self.writes.lock().unwrap().push((offset, count));
            Ok(count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeFile;
    use super::*;
    use io::ErrorKind::{Interrupted, Other, UnexpectedEof, WouldBlock, WriteZero};

    fn pattern(len: usize) -> Vec<u8> {
        (0..=250).cycle().take(len).collect()
    }

    #[test]
    fn short_transfers_and_interruptions_are_carried_on() {
        for most in [1, 3, 7, 100] {
            let mut file = FakeFile::new(vec![0; 100]);
            file.most = most;
            *file.errors.lock().unwrap() = vec![Interrupted, WouldBlock, Interrupted];
            write_full(&file, 10, &pattern(80)).unwrap();
            assert_eq!(file.bytes.lock().unwrap()[10..90], pattern(80));

            *file.errors.lock().unwrap() = vec![WouldBlock, Interrupted];
            let mut buf = vec![0; 80];
            read_full(&file, 10, &mut buf).unwrap();
            assert_eq!(buf, pattern(80));
        }
    }

    #[test]
    fn no_progress_is_an_error_of_its_kind() {
        let file = FakeFile::new(vec![1; 10]);
        let mut buf = [0; 6];
        assert_eq!(read_full(&file, 5, &mut buf).unwrap_err().kind(), UnexpectedEof);
        assert_eq!(write_full(&file, 5, &[2; 6]).unwrap_err().kind(), WriteZero);
        read_full(&file, 100, &mut []).unwrap();
    }

    #[test]
    fn endless_refusals_and_other_errors_come_through() {
        let file = FakeFile::new(vec![1; 10]);
        *file.errors.lock().unwrap() = vec![WouldBlock; 10_000];
        assert_eq!(write_full(&file, 0, &[2; 6]).unwrap_err().kind(), WouldBlock);
        *file.errors.lock().unwrap() = vec![Other, Interrupted];
        assert_eq!(write_full(&file, 0, &[2; 6]).unwrap_err().kind(), Other);
        assert!(file.writes.lock().unwrap().is_empty());
    }
}
