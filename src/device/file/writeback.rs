//! Writing what is in the page cache to the medium before anybody waits for it in a flush.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{SYNC_FILE_RANGE_WAIT_AFTER, SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE, c_uint};
use rustix::io::Errno;

use super::facts;

/// Does as asked, for as long as the system can.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    cannot: AtomicBool,
    /// The same file, opened once more, to wait with. Who waits is told what went wrong since it was told last, with any page of
    /// the file, and each opening is told for itself: waiting on the one that is flushed could take a flush's error away.
    waiting: OnceLock<Option<File>>,
}

impl Writeback {
    /// Starts writing the dirty pages of a range, and does not wait for them. It does what the system does of its own accord when
    /// pages have been dirty for long, so that it changes nothing about what is durable, and what goes wrong later is still
    /// told by the next flush.
    pub(super) fn start(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        self.call(file, offset, len, SYNC_FILE_RANGE_WRITE)
    }

    /// The same, and waits until they are written. Without waiting, if the file cannot be opened once more.
    pub(super) fn finish(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        let wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
        match self.waiting.get_or_init(|| facts::open_again(file).ok()) {
            Some(waiting) => self.call(waiting, offset, len, SYNC_FILE_RANGE_WRITE | wait),
            None => self.start(file, offset, len),
        }
    }

    fn call(&self, file: &File, offset: u64, len: u64, flags: c_uint) -> io::Result<()> {
        if self.cannot.load(Ordering::Relaxed) {
            return Ok(());
        }
        match sync_file_range(file, offset, len, flags) {
            Ok(()) | Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::SPIPE | Errno::PERM) => {
                self.cannot.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn sync_file_range(file: &File, offset: u64, len: u64, flags: c_uint) -> Result<(), Errno> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return Err(Errno::INVAL) };
    #[expect(
        unsafe_code,
        reason = "no crate has it without; several blobs are flushed in a third of the time, and a commit waits for a tenth of a checkpoint"
    )]
    // SAFETY: the descriptor is open for as long as the file is borrowed, and no memory is passed.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn what_cannot_be_started_is_left_to_the_flush_and_not_tried_again() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let writeback = Writeback::default();
        assert_eq!(sync_file_range(&pipe, 0, 4096, SYNC_FILE_RANGE_WRITE), Err(Errno::SPIPE));
        writeback.start(&pipe, 0, 4096).unwrap();
        assert!(writeback.cannot.load(Ordering::Relaxed));
    }

    #[test]
    fn other_errors_are_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writeback = Writeback::default();
        writeback.start(file.as_file(), 0, 4096).unwrap();
        writeback.finish(file.as_file(), 0, 4096).unwrap();
        // A descriptor that is good for nothing but its name.
        let name = rustix::fs::open(file.path(), OFlags::PATH, Mode::empty()).unwrap();
        let error = writeback.start(&File::from(name), 0, 4096).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::BADF));
        assert!(!writeback.cannot.load(Ordering::Relaxed));
    }
}
